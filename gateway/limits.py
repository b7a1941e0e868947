"""What a limit's refusal and a limit's room look like to a client."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from gateway import metrics
from gateway.errors import ApiError
from gateway.snapshot import LimitInfo, Snapshot
from ledger.money import format_short
from ledger.writer import Refusal

_UNITS = {"usd": "USD", "tokens": "tokens", "requests": "requests", "concurrency": "concurrent calls"}


def resets_at(period: str, *, now: datetime) -> datetime | None:
    """When the period that `now` lies in ends, in UTC; None for a limit that never resets."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case "minute":
            return now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        case "hour":
            return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        case "day":
            return day + timedelta(days=1)
        case "week":
            return day - timedelta(days=day.weekday()) + timedelta(weeks=1)
        case "month":
            return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None


def refused(
    refusal: Refusal, *, snapshot: Snapshot, call_id: str, room: Mapping[str, object] | None = None
) -> ApiError:
    """The 429 (or 402) of a refused hold: which limit, when it resets, and its `room` where it counts what has some."""
    limit = snapshot.limits_by_id.get(refusal.limit) if refusal.limit is not None else None
    if refusal.why == "unpriced":
        return ApiError(
            "unpriced_model", "This model has no price, and a USD limit applies to this call.", call_id=call_id
        )
    if limit is None:
        return ApiError("limit_reached", f"Limit {refusal.limit} is reached.", retry_after_s=1, call_id=call_id)
    metrics.record_refusal(metric=limit.metric, subject=limit.subject)
    now = datetime.now(UTC)
    reset = resets_at(limit.period, now=now)
    amount = f"{format_short(limit.amount)} {_UNITS[limit.metric]}"
    if limit.metric == "concurrency":
        message = f"The limit of {amount} for this {limit.subject} is reached: wait for a call in flight to end."
        wait_s = 1
    elif reset is None:
        message = f"The limit of {amount} in total for this {limit.subject} has no room for this call."
        wait_s = None
    else:
        message = (
            f"The limit of {amount} a {limit.period} for this {limit.subject} has no room for this call "
            f"until {reset:%Y-%m-%dT%H:%M:%SZ}."
        )
        wait_s = math.ceil((reset - now).total_seconds())
    headers = {"X-Tollbook-Limit": str(limit.id), **room_headers(room or {}, [limit])}
    if reset is not None:
        headers["X-Tollbook-Limit-Reset"] = f"{reset:%Y-%m-%dT%H:%M:%SZ}"
    return ApiError("limit_reached", message, retry_after_s=wait_s, headers=headers, call_id=call_id)


def room_headers(room: Mapping[str, object], limits: Iterable[LimitInfo]) -> dict[str, str]:
    """x-ratelimit-* of the tightest request and token limit among `limits`, from what the hold saw."""
    headers: dict[str, str] = {}
    if not room:
        return headers
    now = datetime.now(UTC)
    for metric in ("requests", "tokens"):
        applying = [
            (max(Decimal(0), Decimal(str(room[str(limit.id)]))), limit)
            for limit in limits
            if limit.metric == metric and limit.blocks and str(limit.id) in room
        ]
        if applying:
            left, limit = min(applying, key=lambda pair: pair[0])
            headers[f"x-ratelimit-limit-{metric}"] = format_short(limit.amount)
            headers[f"x-ratelimit-remaining-{metric}"] = str(int(left))
            reset = resets_at(limit.period, now=now)
            if reset is not None:
                headers[f"x-ratelimit-reset-{metric}"] = f"{math.ceil((reset - now).total_seconds())}s"
    return headers
