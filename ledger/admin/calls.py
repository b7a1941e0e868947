"""What happened, to look at and never to change: calls, corrections, calls in flight, who wrote them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ledger.admin.filters import DayFilter, KeyFilter, ModelFilter, StatedFilter, UserFilter
from ledger.admin.paging import CappedPaginator
from ledger.call_reader import CallDetail, explained
from ledger.models import Adjustment, Batch, Call, Hold, Writer
from ledger.rating import explain
from providers.admin_base import ReadOnlyAdmin, exact, link, number, table


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    paginator = CappedPaginator
    list_display = ["id", "started", "who", "model", "outcome", "input", "output", "cost", "ms"]
    list_filter = [DayFilter, "outcome", UserFilter, KeyFilter, ModelFilter, StatedFilter]
    search_fields = ["id"]
    search_help_text = "A call id, a request id or the provider's request id, exactly."
    ordering = ["-id"]
    sortable_by = ()
    fieldsets = [
        (None, {"fields": ["id", "request_id", "attempt", "outcome", "http_status", "error_code", "attempts"]}),
        ("Cost", {"fields": ["cost", "rating", "price_sheet", "stated", "corrections"]}),
        ("Who", {"fields": ["user", "key", "team", "tags"]}),
        ("What", {"fields": ["model", "provider", "requested_name", "served_name", "surface", "upstream_request_id"]}),
        ("When", {"fields": ["started_at", "finished_at", "first_token_ms", "duration_ms", "streamed"]}),
        ("Usage", {"fields": ["meter_table", "usage_source", "usage_flags", "conditions", "raw"]}),
        ("Books", {"fields": ["writer", "batch_seq", "position"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Call]:
        related = ("user", "key", "team", "model", "provider", "price_sheet__model")
        return Call.objects.select_related(*related).defer("provider__credential_secret")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Exact ids only: each is one look in an index."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if "\x00" in term:
            return queryset.none(), False
        try:
            wanted = UUID(term)
        except ValueError:
            return queryset.filter(upstream_request_id=term).exclude(upstream_request_id=""), False
        if wanted.int & 0xFF:
            return queryset.filter(id=wanted), False
        # A request's id ends in 0, its calls' ids in 1 to 255.
        return queryset.filter(id__gte=wanted, id__lte=UUID(int=wanted.int | 0xFF)), False

    @admin.display(description="started (UTC)")
    def started(self, call: Call) -> str:
        return f"{call.started_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="user / key")
    def who(self, call: Call) -> str:
        return f"{call.user} / {call.key}"

    @admin.display(description="input")
    def input(self, call: Call) -> SafeString:
        return number(f"{call.input_tokens:,}")

    @admin.display(description="output")
    def output(self, call: Call) -> SafeString:
        return number(f"{call.output_tokens:,}")

    @admin.display(description="cost (USD)")
    def cost(self, call: Call) -> SafeString:
        return number(exact(call.cost_usd) if call.cost_usd is not None else f"unknown ({call.unpriced_reason})")

    @admin.display(description="ms")
    def ms(self, call: Call) -> SafeString:
        return number(f"{call.duration_ms:,}")

    @admin.display(description="cost stated by the provider (USD)")
    def stated(self, call: Call) -> str:
        return exact(call.stated_cost_usd) or "none"

    @admin.display(description="rated now")
    def rating(self, call: Call) -> SafeString | str:
        """The lines the cost is made of, computed from the row and its sheet while one looks."""
        detail = _explained(call)
        if not detail.lines:
            return "No lines: nothing was used, or there is no price."
        lines = format_html_join("", "<div>{}</div>", ((explain(line),) for line in detail.lines))
        verdict = "" if detail.adds_up is not False else " - DIFFERS from the cost in the row"
        return format_html("{}<div><b>{} USD{}</b></div>", lines, exact(detail.lines_usd), verdict)

    @admin.display(description="adjustments")
    def corrections(self, call: Call) -> SafeString | str:
        detail = _explained(call)
        if not detail.adjustments:
            return "none"
        rows: list[tuple[object, ...]] = [
            (row.get_reason_display(), row.note, f"{row.created_at:%Y-%m-%d %H:%M}", exact(row.delta_usd))
            for row in detail.adjustments
        ]
        corrected = "unknown" if detail.total_usd is None else f"{exact(detail.total_usd)} USD"
        body = table(head=("reason", "note", "when", "USD"), rows=rows, numbers_from=3)
        return format_html("{}<div><b>corrected: {}</b></div>", body, corrected)

    @admin.display(description="attempts of this request")
    def attempts(self, call: Call) -> SafeString:
        rows: list[tuple[object, ...]] = [
            (
                link(reverse("admin:ledger_call_change", args=[other.pk]), other.attempt),
                other.get_outcome_display(),
                other.http_status or "",
                f"{other.duration_ms:,} ms",
            )
            for other in _attempts(call)
        ]
        return table(head=("attempt", "outcome", "status", "took"), rows=rows, numbers_from=2)

    @admin.display(description="meters")
    def meter_table(self, call: Call) -> SafeString:
        rows: list[tuple[object, ...]] = [(meter, str(quantity)) for meter, quantity in sorted(call.meters.items())]
        return table(head=("meter", "quantity"), rows=rows)

    @admin.display(description="tier, speed, region, variant")
    def conditions(self, call: Call) -> str:
        stated = (call.service_tier, call.speed, call.region, call.variant)
        return ", ".join(word for word in stated if word) or "none"

    @admin.display(description="usage as the provider sent it")
    def raw(self, call: Call) -> SafeString | str:
        if call.raw_usage is None:
            return "none"
        return format_html("<pre>{}</pre>", json.dumps(call.raw_usage, indent=2, ensure_ascii=False, sort_keys=True))


def _explained(call: Call) -> CallDetail:
    """The call, explained once a row: the theme asks each field of a page five times."""
    kept: CallDetail | None = call.__dict__.get("_explained")
    if kept is None:
        kept = call.__dict__["_explained"] = explained(call)
    return kept


def _attempts(call: Call) -> list[Call]:
    """The calls of the same request in order, read once a row: a range of the primary key."""
    kept: list[Call] | None = call.__dict__.get("_attempts")
    if kept is None:
        found = Call.objects.filter(id__gte=call.request_id, id__lte=UUID(int=call.request_id.int | 0xFF))
        kept = list(found.order_by("id").only("attempt", "outcome", "http_status", "duration_ms"))
        call.__dict__["_attempts"] = kept
    return kept


@admin.register(Adjustment)
class AdjustmentAdmin(ReadOnlyAdmin):
    paginator = CappedPaginator
    list_display = ["id", "call_id", "delta", "reason", "note", "actor", "created_at"]
    list_filter = ["reason"]
    list_select_related = ["actor"]
    sortable_by = ()

    @admin.display(description="delta (USD)")
    def delta(self, adjustment: Adjustment) -> SafeString:
        return number(exact(adjustment.delta_usd))


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    paginator = CappedPaginator
    list_display = ["id", "held_at", "deadline", "user", "key", "model", "bound", "bound_tokens", "dispatched"]
    list_filter = ["dispatched"]
    ordering = ["-held_at"]
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Hold]:
        related = ("user", "key", "team", "model", "provider", "writer", "price_sheet__model")
        return Hold.objects.select_related(*related).defer("provider__credential_secret")

    @admin.display(description="bound (USD)")
    def bound(self, hold: Hold) -> SafeString:
        return number(exact(hold.bound_usd) if hold.bound_usd is not None else "unknown (no price)")


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    paginator = CappedPaginator
    list_display = ["writer_id", "seq", "count", "digest", "committed_at"]
    ordering = ["-id"]
    sortable_by = ()
    fields = ["writer", "seq", "count", "previous", "digest", "committed_at"]

    @admin.display(description="SHA-256")
    def digest(self, batch: Batch) -> str:
        return bytes(batch.hash).hex()

    @admin.display(description="previous SHA-256")
    def previous(self, batch: Batch) -> str:
        return bytes(batch.previous_hash).hex()


@admin.register(Writer)
class WriterAdmin(ReadOnlyAdmin):
    list_display = ["id", "host", "pid", "slot", "state", "seq", "batches", "started_at", "lease_until"]
    list_filter = ["state"]
    fields = ["id", "host", "pid", "slot", "state", "seq", "batches", "head_hash", "started_at", "lease_until"]
    sortable_by = ()

    @admin.display(description="head of its chain")
    def head_hash(self, writer: Writer) -> str:
        return bytes(writer.head).hex()
