"""Anthropic's reports: costs (cents, as decimal strings) and the usage of messages.

https://platform.claude.com/docs/en/api/admin/cost_report
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from ledger.reconcile.export import Export, ExportError, Line, Problem, Row, bucket_days, buckets, shown

_CENTS = 100
_TOKEN_TYPES = {
    "uncached_input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
}
_USAGE_FIELDS = {**_TOKEN_TYPES, "server_tool_use.web_search_requests": "web_searches"}
_COST_TYPES = {"web_search": "web_searches", "code_execution": "code_seconds"}


def cost_report(pages: Any, *, now: datetime) -> Export:
    """`GET /v1/organizations/cost_report`, one page or a list of them."""
    return _walk(pages, now=now, format="Anthropic cost report", read=_cost)


def usage_report(pages: Any, *, now: datetime) -> Export:
    """`GET /v1/organizations/usage_report/messages`, one page or a list of them."""
    return _walk(pages, now=now, format="Anthropic usage report", read=_usage)


def _cost(row: Row, day: date) -> list[Line]:
    if not isinstance(row.raw("amount"), str):
        row.refuse("amount", f"{shown(row.raw('amount'))} is not a text of cents")
        return []
    cents = row.usd("amount", currency="currency", per_usd=_CENTS)
    if cents is None:
        if not row.says("amount"):
            row.refuse("amount", "has no amount")
        return []
    label = row.text("description")
    return [
        Line(
            row=row.number, day=day, model=row.text("model"), meter=_meter(row), accounts=_accounts(row),
            amount_usd=cents, is_credit=cents < 0, label=label or row.text("cost_type"),
        )
    ]  # fmt: skip


def _meter(row: Row) -> str | None:
    """'' when the report is not split by description, None for a kind of cost we have no meter for."""
    kind, token_type = row.text("cost_type"), row.text("token_type")
    if not kind:
        return ""
    return _TOKEN_TYPES.get(token_type) if kind == "tokens" else _COST_TYPES.get(kind)


def _usage(row: Row, day: date) -> list[Line]:
    model = row.text("model")
    counts = {meter: row.count(field) or Decimal(0) for field, meter in _USAGE_FIELDS.items()}
    return [
        Line(
            row=row.number, day=day, model=model, meter=meter, key=row.text("api_key_id"), accounts=_accounts(row),
            quantity=quantity, label=f"{model} {meter}",
        )
        for meter, quantity in counts.items()
        if quantity
    ]  # fmt: skip


def _accounts(row: Row) -> tuple[str, ...]:
    return tuple(filter(None, (row.text(name) for name in ("workspace_id", "api_key_id"))))


def _walk(pages: Any, *, now: datetime, format: str, read: Any) -> Export:
    problems: list[Problem] = []
    lines: list[Line] = []
    days: set[date] = set()
    today: list[date] = []

    def result(row: Row, fields: dict[str, Any]) -> None:
        for day in today:
            lines.extend(read(row, day))

    for bucket in buckets(pages, read=result, problems=problems):
        today[:] = bucket_days(bucket, start="starting_at", end="ending_at", now=now)
        days.update(today)
    if problems:
        raise ExportError(problems)
    return Export(format=format, lines=tuple(lines), days=frozenset(days))
