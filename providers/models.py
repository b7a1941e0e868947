"""The catalog: which upstream accounts there are, which models they offer, and under which public names."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q, TextChoices

from providers.fields import EncryptedTextField
from providers.history import kept

PUBLIC_NAME = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z",
    "A name starts with a letter or digit and holds letters, digits and . _ : / @ + - only.",
)


# The secret stays out of the history, encrypted or not.
@kept(without=["credential_secret", "updated_at"])
class Provider(models.Model):
    """One configured upstream account: an adapter, where it is, and the credential that opens it."""

    class DisconnectPolicy(TextChoices):
        CANCEL = "cancel", "cancel: close upstream, settle what was reported or estimate"
        DRAIN = "drain", "drain: read on to the usage event, within bounds"

    name = models.SlugField(max_length=64, unique=True)
    adapter = models.CharField(max_length=64, help_text="A name from the adapter registry: openai, anthropic...")
    base_url = models.CharField(max_length=500, blank=True, help_text="Empty: the adapter's own address.")
    credential_ref = models.CharField(
        max_length=500,
        blank=True,
        help_text="Where the credential is: env:NAME or file:PATH. Empty: the encrypted credential below, or none.",
    )
    credential_secret = EncryptedTextField(blank=True, help_text="Kept encrypted; never shown again.")
    enabled = models.BooleanField(default=True)
    allow_plain_http = models.BooleanField(default=False, help_text="Allow http:// (loopback and private models).")
    allow_private_address = models.BooleanField(default=False, help_text="Allow loopback and private addresses.")
    timeout_s = models.FloatField(default=30, validators=[MinValueValidator(0.1), MaxValueValidator(3600)])
    connect_timeout_s = models.FloatField(default=5, validators=[MinValueValidator(0.1)])
    first_byte_timeout_s = models.FloatField(null=True, blank=True, help_text="Empty: the total timeout.")
    idle_timeout_s = models.FloatField(default=30, validators=[MinValueValidator(0.1)])
    stream_timeout_s = models.FloatField(default=600, validators=[MinValueValidator(0.1)])
    max_retries = models.PositiveSmallIntegerField(default=3, validators=[MaxValueValidator(10)])
    disconnect_policy = models.CharField(
        max_length=8, choices=DisconnectPolicy.choices, default=DisconnectPolicy.CANCEL
    )
    settings = models.JSONField(default=dict, blank=True, help_text="What only this adapter reads.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(disconnect_policy__in=["cancel", "drain"]),
                name="provider_disconnect_policy_known",
            ),
            models.CheckConstraint(
                condition=Q(timeout_s__gt=0) & Q(connect_timeout_s__gt=0) & Q(idle_timeout_s__gt=0)
                & Q(stream_timeout_s__gt=0) & (Q(first_byte_timeout_s__isnull=True) | Q(first_byte_timeout_s__gt=0)),
                name="provider_timeouts_positive",
                violation_error_message="Timeouts are seconds above zero.",
            ),
            models.CheckConstraint(
                condition=Q(credential_ref="")
                | Q(credential_ref__startswith="env:")
                | Q(credential_ref__startswith="file:"),
                name="provider_credential_ref_form",
                violation_error_message="A credential reference is env:NAME or file:PATH.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


@kept(without=["updated_at"])
class Model(models.Model):
    """What can be called and priced: one upstream name at one provider, under one public name."""

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="models")
    name = models.CharField(max_length=200, unique=True, validators=[PUBLIC_NAME], help_text="What clients ask for.")
    upstream_name = models.CharField(max_length=200, help_text="What the provider calls it.")
    display_name = models.CharField(max_length=200, blank=True)
    enabled = models.BooleanField(default=True)
    deprecated = models.BooleanField(default=False)
    capabilities = ArrayField(
        models.CharField(max_length=32),
        default=list,
        blank=True,
        help_text="Known: chat, streaming, tools, vision, documents, audio, structured_output, reasoning, embeddings, "
        "rerank, images, transcriptions, speech. Where one says what the model is for, anything else is refused.",
    )
    context_window = models.PositiveIntegerField(null=True, blank=True, help_text="Tokens.")
    max_output_tokens = models.PositiveIntegerField(null=True, blank=True)
    default_max_output_tokens = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="Sent when the client names no maximum and a USD or token limit applies. Empty: max_output_tokens.",
    )
    timeout_s = models.FloatField(null=True, blank=True, help_text="Empty: the provider's.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "upstream_name"],
                name="model_upstream_name_once",
                violation_error_message="This provider already has a model with this upstream name.",
            ),
            models.CheckConstraint(
                condition=(Q(max_output_tokens__isnull=True) | Q(max_output_tokens__gt=0))
                & (Q(default_max_output_tokens__isnull=True) | Q(default_max_output_tokens__gt=0)),
                name="model_output_tokens_positive",
            ),
            models.CheckConstraint(
                condition=Q(max_output_tokens__isnull=True)
                | Q(default_max_output_tokens__isnull=True)
                | Q(default_max_output_tokens__lte=F("max_output_tokens")),
                name="model_default_output_within_max",
                violation_error_message="The default output maximum exceeds the model's maximum.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


@kept()
class Alias(models.Model):
    """Another public name of one model. A name is a model's or an alias, never both (by trigger)."""

    name = models.CharField(max_length=200, unique=True, validators=[PUBLIC_NAME])
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"

    def __str__(self) -> str:
        return self.name


class Route(models.Model):
    """A public name for several models: which is called is decided for each request by the strategy."""

    class Strategy(models.TextChoices):
        PRIORITY = "priority", "priority: the first that works"
        WEIGHTED = "weighted", "weighted: by chance, in proportion to the weights"
        CHEAPEST = "cheapest", "cheapest for this request, by today's prices"
        FASTEST = "fastest", "fastest to its first byte lately"

    name = models.CharField(max_length=200, unique=True, validators=[PUBLIC_NAME])
    strategy = models.CharField(max_length=8, choices=Strategy.choices, default=Strategy.PRIORITY)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(strategy__in=["priority", "weighted", "cheapest", "fastest"]), name="route_strategy_known"
            )
        ]

    def __str__(self) -> str:
        return self.name


class RouteTarget(models.Model):
    """One model of a route. On a retryable error the next one is tried."""

    route = models.ForeignKey(Route, on_delete=models.CASCADE, related_name="targets")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="+")
    priority = models.PositiveSmallIntegerField(default=1, help_text="Lower is tried first; it also breaks ties.")
    weight = models.PositiveSmallIntegerField(default=1, help_text="For the weighted strategy; 0: never drawn.")
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["route", "priority", "id"]
        constraints = [models.UniqueConstraint(fields=["route", "model"], name="routetarget_once")]

    def __str__(self) -> str:
        return f"{self.route}: {self.model}"


class HealthCheck(models.Model):
    """What one health check of a provider found, kept for a month for charts."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="health_checks")
    checked_at = models.DateTimeField()
    healthy = models.BooleanField()
    latency_ms = models.FloatField()
    error = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["-checked_at", "-id"]
        indexes = [models.Index(fields=["provider", "-checked_at"], name="healthcheck_newest")]
        constraints = [
            models.CheckConstraint(condition=Q(latency_ms__gte=0), name="healthcheck_latency_not_negative"),
            models.CheckConstraint(
                condition=Q(healthy=True, error="") | Q(healthy=False) & ~Q(error=""),
                name="healthcheck_unhealthy_has_error",
                violation_error_message="A provider is healthy, or there is an error that says why not.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {'healthy' if self.healthy else 'unhealthy'}"
