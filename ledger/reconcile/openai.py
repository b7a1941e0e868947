"""OpenAI's exports: costs and completions usage, as the admin API's JSON and as the dashboard's CSV.

https://platform.openai.com/docs/api-reference/usage - amounts are floats written out with up to 17 digits, counts in
CSV end in ".0", a day without use has a row without values, and a cost's model and meter are words of its line item.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from ledger.reconcile.export import Export, ExportError, Line, Problem, Row, bucket_days, buckets

COSTS_CSV = {"start_time", "end_time", "amount_value", "amount_currency"}
USAGE_CSV = {"start_time", "end_time", "input_tokens", "output_tokens", "num_model_requests"}
EMPTY_CSV = {"start_time", "end_time", "start_time_iso", "end_time_iso"}
COSTS_OBJECT = "organization.costs.result"
USAGE_OBJECT = "organization.usage.completions.result"

# The words after the model in a line item -> our meter. Modality words stand before the direction.
_DIRECTIONS = {
    "input": "input", "input tokens": "input", "cached input": "cache_read", "input cached tokens": "cache_read",
    "cached input tokens": "cache_read", "cached tokens": "cache_read", "cache write": "cache_write_30m",
    "output": "output", "output tokens": "output",
}  # fmt: skip
_MODALITIES = {"text": "", "audio": "audio", "image": "image", "video": "video"}
# Line items without a model.
_TOOLS = {
    "web search": "web_searches", "file search": "file_searches", "code interpreter": "code_sessions",
    "container": "code_sessions",
}  # fmt: skip
# A prefix such as "batch | " or "priority | ", and what may follow the direction: "long context".
_PREFIX = re.compile(r"^[\w ]+\|\s*")
_CREDIT_WORDS = re.compile(r"\b(credit|discount|refund|grant|promotion|tax)s?\b", re.IGNORECASE)

# Each of our meters -> the fields that say it; the first that is there.
_PARTS = {
    "cache_read": ("input_cached_text_tokens", "input_cached_tokens"),
    "input_audio": ("input_audio_tokens",),
    "cache_read_audio": ("input_cached_audio_tokens",),
    "input_image": ("input_image_tokens",),
    "cache_read_image": ("input_cached_image_tokens",),
    "output_audio": ("output_audio_tokens",),
    "output_image": ("output_image_tokens",),
}


def costs_json(pages: Any, *, now: datetime) -> Export:
    """`GET /v1/organization/costs`, one page or a list of them."""
    return _walk(pages, now=now, format="OpenAI costs", read=_cost, object_name=COSTS_OBJECT)


def usage_json(pages: Any, *, now: datetime) -> Export:
    """`GET /v1/organization/usage/completions`, one page or a list of them."""
    return _walk(pages, now=now, format="OpenAI completions usage", read=_usage, object_name=USAGE_OBJECT)


def costs_csv(rows: Iterable[Mapping[str, str]], *, now: datetime) -> Export:
    """The dashboard's costs; a row without an amount is a day without costs."""
    return _table(rows, now=now, format="OpenAI costs (CSV)", read=_cost, empty="amount_value")


def usage_csv(rows: Iterable[Mapping[str, str]], *, now: datetime) -> Export:
    """The dashboard's completions usage; a row without counts is a day without use."""
    return _table(rows, now=now, format="OpenAI completions usage (CSV)", read=_usage, empty="input_tokens")


def line_item(words: str) -> tuple[str, str | None]:
    """(model, meter) of "gpt-4o-2024-08-06, cached input"; meter '' when not said, None when it is no word we know."""
    head, comma, rest = _PREFIX.sub("", words.strip()).partition(",")
    if not comma:
        tool = next((meter for name, meter in _TOOLS.items() if name in words.lower()), None)
        if tool is not None:
            return "", tool
        return ("", "") if not words else ("", None)
    model, _, modality = head.strip().partition(" ")
    direction = rest.partition(",")[0].strip().lower().replace("_", " ")
    meter = _DIRECTIONS.get(direction)
    kind = _MODALITIES.get(modality.strip().lower() or "text")
    if meter is None or kind is None:
        return model, None
    return model, f"{meter}_{kind}" if kind else meter


def _cost(row: Row, day: date) -> list[Line]:
    flat = row.says("amount_value")
    value, currency = ("amount_value", "amount_currency") if flat else ("amount.value", "amount.currency")
    amount = row.usd(value, currency=currency)
    if amount is None:
        if not row.says(value):
            row.refuse(value, "has no amount")
        return []
    words = row.text("line_item")
    model, meter = line_item(words)
    return [
        Line(
            row=row.number, day=day, model=model, meter=meter, key=row.text("api_key_id"), accounts=_accounts(row),
            quantity=row.count("quantity"), amount_usd=amount, label=words,
            is_credit=amount < 0 or bool(_CREDIT_WORDS.search(words) and not model),
        )
    ]  # fmt: skip


def _usage(row: Row, day: date) -> list[Line]:
    counts = _quantities(row)
    model = row.text("model")
    return [
        Line(
            row=row.number, day=day, model=model, meter=meter, key=row.text("api_key_id"), accounts=_accounts(row),
            quantity=quantity, label=f"{model} {meter}",
        )
        for meter, quantity in counts.items()
        if quantity
    ]  # fmt: skip


def _quantities(row: Row) -> dict[str, Decimal]:
    """Disjoint meters: the whole input holds what was read from the cache and what was written to it."""
    found = {meter: _first(row, fields) for meter, fields in _PARTS.items()}
    text = row.count("input_text_tokens")
    written = row.count("input_cache_write_tokens") or Decimal(0)
    whole = row.count("input_tokens") or Decimal(0)
    cached = row.count("input_cached_tokens") or Decimal(0)
    found["cache_write_30m"] = written
    found["input"] = text if text is not None else whole - cached - written
    output_text = row.count("output_text_tokens")
    found["output"] = output_text if output_text is not None else row.count("output_tokens") or Decimal(0)
    if found["input"] < 0:
        row.refuse("input_cached_tokens", f"{cached} cached of {whole} input tokens")
    return found


def _first(row: Row, fields: Iterable[str]) -> Decimal:
    return next((count for count in map(row.count, fields) if count is not None), Decimal(0))


def _accounts(row: Row) -> tuple[str, ...]:
    return tuple(filter(None, (row.text(name) for name in ("project_id", "api_key_id", "user_id", "organization_id"))))


def _walk(pages: Any, *, now: datetime, format: str, read: Any, object_name: str) -> Export:
    problems: list[Problem] = []
    lines: list[Line] = []
    days: set[date] = set()
    today: list[date] = []

    def result(row: Row, fields: dict[str, Any]) -> None:
        if fields.get("object", object_name) != object_name:
            row.refuse("object", f"{fields.get('object')!r} among results of {object_name!r}")
        for day in today:
            lines.extend(read(row, day))

    for bucket in buckets(pages, read=result, problems=problems):
        today[:] = bucket_days(bucket, start="start_time", end="end_time", now=now)
        days.update(today)
    if problems:
        raise ExportError(problems)
    return Export(format=format, lines=tuple(lines), days=frozenset(days))


def _table(rows: Iterable[Mapping[str, str]], *, now: datetime, format: str, read: Any, empty: str) -> Export:
    problems: list[Problem] = []
    lines: list[Line] = []
    days: set[date] = set()
    for number, fields in enumerate(rows, start=2):
        row = Row(number, fields, problems)
        for day in bucket_days(row, start="start_time", end="end_time", now=now):
            days.add(day)
            if row.text(empty):
                lines.extend(read(row, day))
    if problems:
        raise ExportError(problems)
    return Export(format=format, lines=tuple(lines), days=frozenset(days))
