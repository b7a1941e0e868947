"""What happened: holds for calls in flight, calls that ended, corrections of them, and who wrote which batch."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from ledger.models.accounts import ApiKey, Team
from ledger.models.amounts import are_numbers
from ledger.models.prices import PriceSheet
from providers.models import Model, Provider

# The rows of DailySpend and ApiKey keep what calls point at (see rollups.py): no look-up a call, none a hold.
_NO_CHECK: dict[str, Any] = {
    "on_delete": models.PROTECT,
    "db_constraint": False,
    # Holds are few and found by id; a call's indexes are named below. One index more is one write more for each call.
    "db_index": False,
    "related_name": "+",
}


class Writer(models.Model):
    """One incarnation of a process that writes the ledger: its fence, lease and head of the chain in one row."""

    class State(models.TextChoices):
        LIVE = "live", "live"
        CLOSED = "closed", "closed"
        FENCED = "fenced", "fenced"

    id = models.UUIDField(primary_key=True)
    slot = models.PositiveSmallIntegerField(help_text="Which row of each rollup this writer adds to.")
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    state = models.CharField(max_length=6, choices=State.choices, default=State.LIVE)
    # seq counts write transactions; last_digest and last_answer make the newest one repeatable.
    seq = models.BigIntegerField(default=0, db_default=0)
    last_digest = models.BinaryField(null=True)
    last_answer = models.JSONField(null=True)
    # The chain over the calls: how many batches, and the hash of the last.
    batches = models.BigIntegerField(default=0, db_default=0)
    head = models.BinaryField()

    class Meta:
        ordering = ["-started_at"]
        constraints = [
            models.CheckConstraint(condition=Q(state__in=["live", "closed", "fenced"]), name="writer_state_known"),
            models.UniqueConstraint(fields=["slot"], condition=Q(state="live"), name="writer_slot_of_one_live"),
        ]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid} ({self.state})"


class Batch(models.Model):
    """The calls one transaction inserted, chained: hash = SHA-256(version, previous hash, its rows). Immutable."""

    writer = models.ForeignKey(Writer, on_delete=models.PROTECT, db_index=False, related_name="chain")
    seq = models.BigIntegerField()
    count = models.IntegerField()
    previous_hash = models.BinaryField()
    hash = models.BinaryField()
    committed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "batches"
        constraints = [
            models.UniqueConstraint(fields=["writer", "seq"], name="batch_seq_once"),
            models.CheckConstraint(condition=Q(count__gt=0) & Q(seq__gt=0), name="batch_not_empty"),
        ]

    def __str__(self) -> str:
        return f"{self.writer_id} {self.seq}"


class Hold(models.Model):
    """What is reserved for a call in flight. Inserted before dispatch, deleted by the settle or the sweep."""

    id = models.UUIDField(primary_key=True, help_text="The call's id.")
    request_id = models.UUIDField()
    attempt = models.PositiveSmallIntegerField()
    writer = models.ForeignKey(Writer, on_delete=models.PROTECT, related_name="holds")
    key = models.ForeignKey(ApiKey, **_NO_CHECK)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, **_NO_CHECK)
    team = models.ForeignKey(Team, null=True, **_NO_CHECK)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, db_index=False, related_name="+")
    provider = models.ForeignKey(Provider, **_NO_CHECK)
    price_sheet = models.ForeignKey(PriceSheet, null=True, **_NO_CHECK)
    surface = models.CharField(max_length=16)
    requested_name = models.CharField(max_length=200)
    streamed = models.BooleanField()
    tags = models.JSONField(default=dict)
    bound_usd = models.DecimalField(max_digits=24, decimal_places=12, null=True, help_text="NULL: no price.")
    bound_tokens = models.BigIntegerField()
    windows = ArrayField(models.BigIntegerField(), help_text="The limit windows this hold reserves in.")
    dispatched = models.BooleanField(help_text="Whether the request may have gone upstream.")
    held_at = models.DateTimeField()
    deadline = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request_id", "attempt"], name="hold_attempt_once"),
            models.CheckConstraint(
                condition=(Q(bound_usd__isnull=True) | Q(bound_usd__gte=0)) & Q(bound_tokens__gte=0),
                name="hold_bounds_not_negative",
            ),
            are_numbers("bound_usd", name="hold_bound_is_a_number"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Call(models.Model):
    """One attempt at one provider, inserted once and immutable (by trigger).

    Partitioned by month on `id` itself: a UUIDv7 whose last byte is the attempt, so that one primary key also makes
    (request, attempt) unique and keeps the attempts of a request together.
    """

    class Outcome(models.TextChoices):
        OK = "ok", "ok"
        FAILED = "failed", "failed"
        REFUSED = "refused", "refused by the provider"
        CANCELLED = "cancelled", "cancelled by the client"
        ABANDONED = "abandoned", "abandoned by a process that died"
        CACHED = "cached", "answered from the cache"

    class UsageSource(models.TextChoices):
        REPORTED = "reported", "reported by the provider"
        PARTIAL = "partial", "reported in part"
        ESTIMATED = "estimated", "estimated from the text"
        NONE = "none", "none"

    class CostSource(models.TextChoices):
        COMPUTED = "computed", "computed from the price sheet"
        NOTHING_USED = "nothing_used", "nothing was used"
        UNKNOWN = "unknown", "unknown"

    id = models.UUIDField(primary_key=True)
    request_id = models.UUIDField()
    attempt = models.PositiveSmallIntegerField()
    writer = models.ForeignKey(Writer, **_NO_CHECK)
    batch_seq = models.BigIntegerField()
    position = models.IntegerField(help_text="Place in the batch, from 1.")
    key = models.ForeignKey(ApiKey, **_NO_CHECK)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, **_NO_CHECK)
    team = models.ForeignKey(Team, null=True, **_NO_CHECK)
    model = models.ForeignKey(Model, **_NO_CHECK)
    provider = models.ForeignKey(Provider, **_NO_CHECK)
    tags = models.JSONField(default=dict)
    surface = models.CharField(max_length=16)
    requested_name = models.CharField(max_length=200)
    served_name = models.CharField(max_length=200, blank=True, help_text="The model the provider says it served.")
    upstream_request_id = models.CharField(max_length=200, blank=True)
    outcome = models.CharField(max_length=9, choices=Outcome.choices)
    http_status = models.PositiveSmallIntegerField(null=True, help_text="The provider's; NULL: it gave none.")
    error_code = models.CharField(max_length=64, blank=True)
    streamed = models.BooleanField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    first_token_ms = models.IntegerField(null=True)
    duration_ms = models.IntegerField()
    input_tokens = models.BigIntegerField(help_text="All, cache reads and writes included.")
    cache_read_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField(help_text="All, reasoning included.")
    reasoning_tokens = models.BigIntegerField()
    meters = models.JSONField(help_text="Every meter and its quantity; disjoint, so that they add up.")
    raw_usage = models.JSONField(null=True, help_text="The provider's own object.")
    usage_source = models.CharField(max_length=9, choices=UsageSource.choices)
    usage_flags = ArrayField(models.CharField(max_length=64), default=list)
    service_tier = models.CharField(max_length=32, blank=True)
    speed = models.CharField(max_length=32, blank=True)
    region = models.CharField(max_length=64, blank=True)
    variant = models.CharField(max_length=64, blank=True)
    price_sheet = models.ForeignKey(PriceSheet, null=True, **_NO_CHECK)
    cost_usd = models.DecimalField(max_digits=24, decimal_places=12, null=True, help_text="NULL: unknown, see why.")
    unpriced_reason = models.CharField(max_length=200, blank=True)
    cost_source = models.CharField(max_length=12, choices=CostSource.choices)
    stated_cost_usd = models.DecimalField(max_digits=24, decimal_places=12, null=True)
    # What this call counts for against its limits: the cost, or the held bound while the cost is unknown.
    counted_usd = models.DecimalField(max_digits=24, decimal_places=12)
    counted_tokens = models.BigIntegerField()
    windows = ArrayField(models.BigIntegerField())

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["user", "-id"], name="call_user"),
            models.Index(fields=["key", "-id"], name="call_key"),
            models.Index(fields=["model", "-id"], name="call_model"),
            models.Index(fields=["upstream_request_id"], condition=~Q(upstream_request_id=""), name="call_upstream"),
            models.Index(fields=["-id"], condition=Q(cost_usd__isnull=True), name="call_unpriced"),
            models.Index(fields=["-id"], condition=Q(stated_cost_usd__isnull=False), name="call_stated"),
            models.Index(fields=["outcome", "-id"], condition=~Q(outcome="ok"), name="call_outcome"),
            # What went wrong for one user: few calls go wrong, so few inserts pay for it.
            models.Index(fields=["user", "outcome", "-id"], condition=~Q(outcome="ok"), name="call_user_outcome"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(outcome__in=["ok", "failed", "refused", "cancelled", "abandoned", "cached"]),
                name="call_outcome_known",
            ),
            models.CheckConstraint(
                condition=Q(usage_source__in=["reported", "partial", "estimated", "none"]),
                name="call_usage_source_known",
            ),
            models.CheckConstraint(
                condition=Q(cost_source__in=["computed", "nothing_used", "unknown"]), name="call_cost_source_known"
            ),
            models.CheckConstraint(
                condition=Q(cost_usd__isnull=True, cost_source="unknown") & ~Q(unpriced_reason="")
                | Q(cost_usd__isnull=False, unpriced_reason="") & ~Q(cost_source="unknown"),
                name="call_unknown_cost_has_reason",
                violation_error_message="A cost is known, or it is NULL with a reason; never both, never neither.",
            ),
            models.CheckConstraint(
                condition=Q(cost_usd__isnull=True) | Q(cost_usd__gte=0), name="call_cost_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(input_tokens__gte=0)
                & Q(cache_read_tokens__gte=0)
                & Q(cache_write_tokens__gte=0)
                & Q(output_tokens__gte=0)
                & Q(reasoning_tokens__gte=0)
                & Q(duration_ms__gte=0)
                & (Q(first_token_ms__isnull=True) | Q(first_token_ms__gte=0))
                & Q(counted_usd__gte=0)
                & Q(counted_tokens__gte=0),
                name="call_numbers_not_negative",
            ),
            are_numbers("cost_usd", "stated_cost_usd", "counted_usd", name="call_amounts_are_numbers"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Adjustment(models.Model):
    """A later signed correction of one call, inserted once and immutable. Its trigger moves rollups and windows."""

    class Reason(models.TextChoices):
        RERATE = "rerate", "re-rated"
        RECONCILE = "reconcile", "reconciled with the provider"
        LATE_SETTLEMENT = "late_settlement", "settled late"
        MANUAL = "manual", "by hand"

    call = models.ForeignKey(Call, on_delete=models.PROTECT, db_constraint=False, related_name="adjustments")
    delta_usd = models.DecimalField(max_digits=24, decimal_places=12, help_text="Signed.")
    # Whether this turns an unknown cost into a known one; then `delta_usd` is the whole cost.
    settles_unknown = models.BooleanField(default=False)
    counted_delta_usd = models.DecimalField(max_digits=24, decimal_places=12, help_text="Change against the limits.")
    counted_delta_tokens = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=15, choices=Reason.choices)
    note = models.CharField(max_length=500, blank=True)
    reference = models.CharField(max_length=200, blank=True, help_text="A run, an invoice line.")
    details = models.JSONField(default=dict, help_text="For a late settlement: the usage that came late.")
    price_sheet = models.ForeignKey(PriceSheet, on_delete=models.PROTECT, null=True, related_name="+")
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(reason__in=["rerate", "reconcile", "late_settlement", "manual"]),
                name="adjustment_reason_known",
            ),
            models.UniqueConstraint(
                fields=["call"], condition=Q(reason="late_settlement"), name="adjustment_one_late_settlement"
            ),
            models.UniqueConstraint(
                fields=["call"], condition=Q(settles_unknown=True), name="adjustment_settles_once"
            ),
            models.UniqueConstraint(
                fields=["call", "reference"], condition=~Q(reference=""), name="adjustment_reference_once"
            ),
            are_numbers("delta_usd", "counted_delta_usd", name="adjustment_amounts_are_numbers"),
        ]

    def __str__(self) -> str:
        return f"{self.delta_usd} on {self.call_id}"
