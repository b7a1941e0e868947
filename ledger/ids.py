"""Request and call ids: a UUIDv7 whose last byte is the attempt (0 in the request's own id)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils import uuid7

MAX_ATTEMPTS = 255
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MOST_AHEAD_MS = 1000


def new_request_id() -> UUID:
    """A new request id: now, random, last byte 0. Ids of one process ascend, unless its clock is set back."""
    made = uuid7().bytes
    now_ns = time.time_ns()
    if int.from_bytes(made[:6], "big") - now_ns // 1_000_000 > _MOST_AHEAD_MS:
        # The clock was ahead and is right again. The generator would stay there, so that its ids ascend: in months to
        # come, where no partition is. The random half keeps these apart.
        made = uuid7(nanoseconds=now_ns).bytes
    return UUID(bytes=made[:15] + b"\0")


def call_id(*, request_id: UUID, attempt: int) -> UUID:
    """The id of attempt 1 to 255 of a request."""
    if not 1 <= attempt <= MAX_ATTEMPTS:
        raise ValueError(f"attempt {attempt!r} is not within 1 to {MAX_ATTEMPTS}")
    return UUID(int=request_id.int | attempt)


def time_of(identifier: UUID) -> datetime:
    """The instant in an id, to the millisecond."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, tz=UTC)


def floor(at: datetime) -> UUID:
    """The smallest id of an instant: ids of calls since `at` are not below it."""
    return UUID(int=(at - _EPOCH) // _MILLISECOND << 80)
