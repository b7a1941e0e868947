"""The rows the writer sends: what `hold_batch` and `settle_batch` read from their JSON, field by field."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import Struct, field

Outcome = Literal["ok", "failed", "refused", "cancelled", "abandoned", "cached"]
Claim = Literal["done", "indeterminate", "release"]
CostSource = Literal["computed", "nothing_used", "unknown"]


class HoldRow(Struct, frozen=True):
    """A call about to be made, and the upper bound of what it can use."""

    id: UUID
    request_id: UUID
    attempt: int
    key: int
    user: int
    team: int | None
    model: int
    provider: int
    sheet: int | None
    surface: str
    name: str
    streamed: bool
    tags: dict[str, str]
    usd: Decimal | None
    tokens: int
    limits: tuple[int, ...]
    deadline_s: float
    dispatched: bool = True
    # SHA-256 of the client's Idempotency-Key and of its body, where it sent one.
    idempotency: str | None = None
    body_sha256: str | None = None


class SettleRow(Struct, frozen=True):
    """How a call ended. Texts are cut to their columns by `settle_row`; money is exact."""

    id: UUID
    outcome: Outcome
    started_at: datetime
    finished_at: datetime
    duration_ms: int
    cost_usd: Decimal | None
    cost_source: CostSource
    unpriced_reason: str = ""
    served_name: str = ""
    upstream_request_id: str = ""
    http_status: int | None = None
    error_code: str = ""
    first_token_ms: int | None = None
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    meters: dict[str, int | Decimal] = field(default_factory=dict)
    raw_usage: dict[str, Any] | None = None
    usage_source: str = "none"
    usage_flags: tuple[str, ...] = ()
    service_tier: str = ""
    speed: str = ""
    region: str = ""
    variant: str = ""
    stated_cost_usd: Decimal | None = None
    # The sheet of the model that was served, where that is not the model that was held for.
    sheet: int | None = None
    # What becomes of the request's idempotency claim; the next attempt's hold takes it up again.
    claim: Claim | None = None
    answer_headers: dict[str, str] | None = None
    answer_encrypted: str | None = None


_WIDTHS = {
    "served_name": 200,
    "upstream_request_id": 200,
    "error_code": 64,
    "unpriced_reason": 200,
    "service_tier": 32,
    "speed": 32,
    "region": 64,
    "variant": 64,
}
# Numbers stay numbers, so that the provider's own object is kept as it came and money is exact.
_encoder = msgspec.json.Encoder(decimal_format="number")
# PostgreSQL's text holds no NUL. An escaped backslash before it is not an escape of ours.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def fit(row: SettleRow) -> SettleRow:
    """The row with every text cut to the width of its column."""
    too_long = {name: getattr(row, name)[:width] for name, width in _WIDTHS.items() if len(getattr(row, name)) > width}
    return msgspec.structs.replace(row, **too_long) if too_long else row


def encode(row: HoldRow | SettleRow) -> bytes:
    """One row as the JSON the SQL functions read."""
    encoded = _encoder.encode(row)
    if b"\\u0000" in encoded:
        encoded = _NUL.sub(rb"\1\\ufffd", encoded)
    return encoded
