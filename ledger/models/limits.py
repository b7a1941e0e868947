"""How much of what whom may use per which period, and what has been used and is held now."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from ledger.models.accounts import ApiKey, Team
from ledger.models.amounts import are_numbers
from providers.history import kept
from providers.models import Model

_SUBJECTS = ("key", "user", "team", "model")


def _names_its_subject() -> Q:
    """Exactly the foreign key that `subject` names is set."""
    condition = Q()
    for subject in (*_SUBJECTS, "everyone"):
        condition |= Q(subject=subject, **{f"{name}__isnull": name != subject for name in _SUBJECTS})
    return condition


@kept(without=["updated_at"])
class Limit(models.Model):
    class Subject(models.TextChoices):
        KEY = "key", "key"
        USER = "user", "user"
        TEAM = "team", "team"
        MODEL = "model", "model"
        EVERYONE = "everyone", "everyone"

    class Metric(models.TextChoices):
        USD = "usd", "USD"
        TOKENS = "tokens", "tokens"
        REQUESTS = "requests", "requests"
        CONCURRENCY = "concurrency", "concurrent calls"

    class Period(models.TextChoices):
        MINUTE = "minute", "minute (sliding)"
        HOUR = "hour", "hour"
        DAY = "day", "day (UTC)"
        WEEK = "week", "week (from Monday, UTC)"
        MONTH = "month", "month (UTC)"
        TOTAL = "total", "total"

    class Action(models.TextChoices):
        BLOCK = "block", "block"
        ALERT = "alert", "alert only"

    class Mode(models.TextChoices):
        STRICT = "strict", "strict: hold an upper bound"
        EXPECTED = "expected", "expected: hold the recent average"

    subject = models.CharField(max_length=8, choices=Subject.choices)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, null=True, blank=True, related_name="limits")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="limits"
    )
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, blank=True, related_name="limits")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, null=True, blank=True, related_name="limits")
    metric = models.CharField(max_length=11, choices=Metric.choices)
    period = models.CharField(max_length=6, choices=Period.choices)
    amount = models.DecimalField(max_digits=24, decimal_places=12, help_text="USD, tokens, requests or calls.")
    action = models.CharField(max_length=5, choices=Action.choices, default=Action.BLOCK)
    mode = models.CharField(max_length=8, choices=Mode.choices, default=Mode.STRICT)
    alert_thresholds = ArrayField(
        models.PositiveSmallIntegerField(), default=list, blank=True, help_text="Per cent: 80, 95."
    )
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.CheckConstraint(
                condition=_names_its_subject(),
                name="limit_names_its_subject",
                violation_error_message="Set exactly the key, user, team or model that the subject names.",
            ),
            models.UniqueConstraint(
                fields=["subject", "key", "user", "team", "model", "metric", "period", "action"],
                nulls_distinct=False,
                name="limit_once",
                violation_error_message="This subject already has a limit on this metric and period.",
            ),
            models.CheckConstraint(
                condition=Q(amount__gte=0),
                name="limit_amount_not_negative",
                violation_error_message="A limit cannot be negative.",
            ),
            models.CheckConstraint(
                condition=Q(metric__in=["usd", "tokens", "requests", "concurrency"]), name="limit_metric_known"
            ),
            models.CheckConstraint(
                condition=Q(period__in=["minute", "hour", "day", "week", "month", "total"]), name="limit_period_known"
            ),
            models.CheckConstraint(
                condition=~Q(metric="concurrency") | Q(period="total"),
                name="limit_concurrency_has_no_period",
                violation_error_message="A limit on concurrent calls has the period 'total'.",
            ),
            models.CheckConstraint(condition=Q(action__in=["block", "alert"]), name="limit_action_known"),
            models.CheckConstraint(condition=Q(mode__in=["strict", "expected"]), name="limit_mode_known"),
            are_numbers("amount", name="limit_amount_is_a_number"),
        ]

    def __str__(self) -> str:
        whom = self.key or self.user or self.team or self.model or "everyone"
        return f"{whom}: {self.amount.normalize():f} {self.metric} per {self.period}"


class LimitWindow(models.Model):
    """One limit in one period. `used` + `held` never exceeds the limit's amount at the moment a hold is admitted."""

    limit = models.ForeignKey(Limit, on_delete=models.CASCADE, related_name="windows")
    starts_at = models.DateTimeField()
    used = models.DecimalField(max_digits=24, decimal_places=12, default=0, db_default=0)
    held = models.DecimalField(max_digits=24, decimal_places=12, default=0, db_default=0)

    class Meta:
        ordering = ["limit", "-starts_at"]
        constraints = [
            models.UniqueConstraint(fields=["limit", "starts_at"], name="limitwindow_once"),
            models.CheckConstraint(condition=Q(used__gte=0), name="limitwindow_used_not_negative"),
            models.CheckConstraint(condition=Q(held__gte=0), name="limitwindow_held_not_negative"),
            are_numbers("used", "held", name="limitwindow_amounts_are_numbers"),
        ]

    def __str__(self) -> str:
        return f"{self.limit} from {self.starts_at:%Y-%m-%d %H:%M}"
