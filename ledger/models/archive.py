"""Months whose calls were written to a file, and what the books keep of a month once its calls are dropped."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class ArchivedMonth(models.Model):
    """One month of calls in one Parquet file that was read back and compared row by row. Fixed once dropped."""

    month = models.DateField(primary_key=True, help_text="Its first day.")
    path = models.CharField(max_length=500, help_text="Where the file was written.")
    sha256 = models.CharField(max_length=64)
    bytes = models.BigIntegerField()
    calls = models.BigIntegerField()
    archived_at = models.DateTimeField()
    dropped_at = models.DateTimeField(null=True, help_text="NULL: the calls are still in the database.")

    class Meta:
        ordering = ["-month"]
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="archivedmonth_sha256"),
            models.CheckConstraint(condition=Q(month__day=1), name="archivedmonth_first_day"),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m}"


class ArchivedRollup(models.Model):
    """The sums of the dropped calls of one rollup group, adjustments included: what DailySpend must still equal."""

    month = models.DateField()
    day = models.DateField()
    user_id = models.BigIntegerField()
    team_id = models.BigIntegerField(null=True)
    key_id = models.BigIntegerField()
    model_id = models.BigIntegerField()
    provider_id = models.BigIntegerField()
    outcome = models.CharField(max_length=9)
    calls = models.BigIntegerField()
    unpriced_calls = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    cost_usd = models.DecimalField(max_digits=24, decimal_places=12)
    adjustments_usd = models.DecimalField(max_digits=24, decimal_places=12)

    class Meta:
        indexes = [models.Index(fields=["day"], name="archivedrollup_day")]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "user_id", "team_id", "key_id", "model_id", "provider_id", "outcome"],
                nulls_distinct=False,
                name="archivedrollup_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} user {self.user_id} model {self.model_id}"


class ArchivedWindow(models.Model):
    """What the dropped calls of one month count for in one limit window."""

    month = models.DateField()
    window_id = models.BigIntegerField()
    used = models.DecimalField(max_digits=36, decimal_places=12)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["month", "window_id"], name="archivedwindow_once")]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} window {self.window_id}"


class ArchivedBatch(models.Model):
    """How many calls of one batch were dropped with one month.

    Where the batch has calls in other months too, their places and bytes are kept, so that its hash can still be
    recomputed; where all of it went, the hash was recomputed when the month was archived.
    """

    month = models.DateField()
    writer_id = models.UUIDField()
    seq = models.BigIntegerField()
    count = models.IntegerField()
    positions = ArrayField(models.IntegerField(), null=True)
    rows = ArrayField(models.BinaryField(), null=True)

    class Meta:
        verbose_name_plural = "archived batches"
        constraints = [
            models.UniqueConstraint(fields=["writer_id", "seq", "month"], name="archivedbatch_once"),
            models.CheckConstraint(
                # Without "not NULL" a row with one of the two would make this unknown, and unknown passes.
                condition=Q(positions__isnull=True, rows__isnull=True)
                | Q(positions__isnull=False, rows__isnull=False)
                & Q(positions__len=models.F("count"), rows__len=models.F("count")),
                name="archivedbatch_rows_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.month:%Y-%m} {self.writer_id} {self.seq}"
