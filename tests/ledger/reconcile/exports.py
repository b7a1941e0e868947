"""Exports in the true shapes of the providers, made from a few numbers."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = date(2026, 10, 5)


def seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def openai_page(buckets: dict[date, list[dict[str, Any]]], *, has_more: bool = False) -> bytes:
    """One page of the costs or the usage API."""
    data = [
        {"object": "bucket", "start_time": seconds(day), "end_time": seconds(day) + 86_400, "results": results}
        for day, results in buckets.items()
    ]
    return json.dumps({"object": "page", "data": data, "has_more": has_more, "next_page": None}).encode()


def openai_cost(line_item: str | None, value: Any, *, currency: str = "usd", **fields: Any) -> dict[str, Any]:
    return {
        "object": "organization.costs.result", "amount": {"value": value, "currency": currency},
        "line_item": line_item, "project_id": None, **fields,
    }  # fmt: skip


def openai_usage(model: str, **counts: Any) -> dict[str, Any]:
    return {
        "object": "organization.usage.completions.result", "model": model, "input_tokens": 0, "output_tokens": 0,
        "input_cached_tokens": 0, "num_model_requests": 1, "project_id": None, "api_key_id": None, **counts,
    }  # fmt: skip


def anthropic_page(buckets: dict[date, list[dict[str, Any]]]) -> bytes:
    data = [
        {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{day + timedelta(days=1)}T00:00:00Z", "results": rows}
        for day, rows in buckets.items()
    ]
    return json.dumps({"data": data, "has_more": False, "next_page": None}).encode()


def anthropic_cost(cents: Any, *, model: str | None = "claude-sonnet-4-5", **fields: Any) -> dict[str, Any]:
    return {
        "amount": cents, "currency": "USD", "cost_type": "tokens", "token_type": "uncached_input_tokens",
        "model": model, "workspace_id": None, "description": "", "service_tier": "standard", "context_window": "0-200k",
        **fields,
    }  # fmt: skip


COSTS_CSV = "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id\n"
USAGE_CSV = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens\n"
)


def csv_times(day: date) -> str:
    after = day + timedelta(days=1)
    return f"{seconds(day)},{seconds(after)},{day}T00:00:00+00:00,{after}T00:00:00+00:00"
