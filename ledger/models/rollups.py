"""Sums of the calls, kept in the transaction that writes them: reports never read the calls."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from ledger.models.accounts import ApiKey, Team
from ledger.models.amounts import are_numbers
from providers.models import Model, Provider


class DailySpend(models.Model):
    """One day (UTC, of the request's id) x user x team x key x model x provider x outcome x writer slot.

    The foreign keys here are the ones that keep users, keys, teams and models of recorded calls from being deleted:
    every call has such a row, and a row is inserted (and checked) once a day rather than once a call.
    Slot 0 belongs to adjustments.
    """

    day = models.DateField()
    # Their indexes are those below, with the day: who spent lately, and since when, is one look for each of them.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, db_index=False, related_name="+")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, db_index=False, related_name="+")
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, db_index=False, related_name="+")
    model = models.ForeignKey(Model, on_delete=models.PROTECT, db_index=False, related_name="+")
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, db_index=False, related_name="+")
    outcome = models.CharField(max_length=9)
    slot = models.PositiveSmallIntegerField()
    calls = models.BigIntegerField(default=0, db_default=0)
    unpriced_calls = models.BigIntegerField(
        default=0, db_default=0, help_text="Calls whose cost is unknown to this day."
    )
    input_tokens = models.BigIntegerField(default=0, db_default=0)
    cache_read_tokens = models.BigIntegerField(default=0, db_default=0)
    cache_write_tokens = models.BigIntegerField(default=0, db_default=0)
    output_tokens = models.BigIntegerField(default=0, db_default=0)
    reasoning_tokens = models.BigIntegerField(default=0, db_default=0)
    cost_usd = models.DecimalField(max_digits=24, decimal_places=12, default=0, db_default=0)
    adjustments_usd = models.DecimalField(max_digits=24, decimal_places=12, default=0, db_default=0)

    class Meta:
        verbose_name_plural = "daily spend"
        indexes = [
            models.Index(fields=["user", "day"], name="dailyspend_user_day"),
            models.Index(fields=["team", "day"], name="dailyspend_team_day"),
            models.Index(fields=["key", "day"], name="dailyspend_key_day"),
            models.Index(fields=["model", "day"], name="dailyspend_model_day"),
            models.Index(fields=["provider", "day"], name="dailyspend_provider_day"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "user", "team", "key", "model", "provider", "outcome", "slot"],
                nulls_distinct=False,
                name="dailyspend_once",
            ),
            models.CheckConstraint(
                condition=Q(calls__gte=0)
                # Slot 0 takes back what a late adjustment settled.
                & (Q(unpriced_calls__gte=0) | Q(slot=0))
                & Q(input_tokens__gte=0)
                & Q(cache_read_tokens__gte=0)
                & Q(cache_write_tokens__gte=0)
                & Q(output_tokens__gte=0)
                & Q(reasoning_tokens__gte=0)
                & Q(cost_usd__gte=0),
                name="dailyspend_not_negative",
            ),
            are_numbers("cost_usd", "adjustments_usd", name="dailyspend_amounts_are_numbers"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.user} {self.model}"
