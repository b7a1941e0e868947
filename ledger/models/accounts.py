"""Who calls: teams, users (Django's own) and their API keys."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from providers.history import kept


@kept()
class Team(models.Model):
    name = models.CharField(max_length=100, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


# The secret's hash stays out of the history; when a key was used is not a change of it.
@kept(without=["secret_sha256", "last_used_at"])
class ApiKey(models.Model):
    """A secret that may call. Rows are never deleted (by trigger): revoke them.

    The text a client sends is `tb_live_<public_id>_<secret>`; only the SHA-256 of the secret is stored.
    """

    class Scope(models.TextChoices):
        CALL = "call", "call models"
        READ_SPEND = "read-spend", "read everyone's spend and calls"
        ADMIN = "admin", "manage keys, limits and prices"

    public_id = models.CharField(max_length=16, unique=True, editable=False)
    secret_sha256 = models.CharField(max_length=64, editable=False)
    name = models.CharField(max_length=100, blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="api_keys")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="api_keys", null=True, blank=True)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices), default=list)
    allowed_models = ArrayField(
        models.CharField(max_length=200),
        default=list,
        blank=True,
        help_text="Public model names and aliases this key may call. Empty: all.",
    )
    reads_cache = models.BooleanField(
        "reads the response cache",
        default=False,
        help_text="Equal requests of the same team get the answer given before, unless a header says otherwise.",
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    replaces = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(secret_sha256__regex=r"^[0-9a-f]{64}$"),  # noqa: S106  # a pattern, not a secret
                name="apikey_secret_hashed",
            ),
            models.CheckConstraint(
                condition=Q(scopes__contained_by=["call", "read-spend", "admin"]), name="apikey_scopes_known"
            ),
        ]

    def __str__(self) -> str:
        return f"tb_live_{self.public_id} {self.name}".strip()
