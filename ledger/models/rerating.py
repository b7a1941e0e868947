"""Re-ratings that were asked for: which calls, with which price, and how far each has come."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from ledger.models.prices import PriceSheet
from providers.models import Model


class RerateRun(models.Model):
    """One pass over the calls of a model in a period. `cursor` moves in the transaction that writes the adjustments.

    A run that does not apply is a preview: it counts and writes nothing else.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="+")
    sheet = models.ForeignKey(
        PriceSheet,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: for each call the sheet that is now known to have been in force then.",
    )
    start = models.DateTimeField(help_text="Calls from this instant (UTC)...")
    end = models.DateTimeField(help_text="...and before this one.")
    applies = models.BooleanField(default=False, help_text="Whether it writes adjustments, or only counts.")
    reason = models.CharField(max_length=500, blank=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    state = models.CharField(max_length=7, choices=State.choices, default=State.WAITING)
    cursor = models.UUIDField(null=True, help_text="The last call looked at.")
    calls = models.BigIntegerField(default=0, help_text="Looked at so far.")
    corrected = models.BigIntegerField(default=0, help_text="Their known cost changes.")
    settled = models.BigIntegerField(default=0, help_text="Their unknown cost becomes known.")
    unpriced = models.BigIntegerField(default=0, help_text="The price has no rate for them: they are left as they are.")
    delta_usd = models.DecimalField(max_digits=24, decimal_places=12, default=0)
    spenders = models.JSONField(default=dict, help_text="user/team -> [calls changed, delta in USD].")
    problem = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "re-rating"
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "running", "done", "failed"]), name="reraterun_state_known"
            ),
            models.CheckConstraint(
                condition=Q(end__gt=F("start")),
                name="reraterun_period_not_empty",
                violation_error_message="The period ends before it begins.",
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=False) | ~Q(state__in=["done", "failed"]),
                name="reraterun_ended_has_time",
            ),
        ]

    def __str__(self) -> str:
        return f"re-rating {self.pk} of {self.model}"
