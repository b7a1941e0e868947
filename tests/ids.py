"""Ids as the ledger makes them, at any instant a test needs."""

from __future__ import annotations

import secrets
import uuid
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def call_id(at: datetime, attempt: int = 1) -> tuple[uuid.UUID, uuid.UUID]:
    """(request id, call id): a UUIDv7 of `at` that ends in a zero byte, and the same one ending in the attempt."""
    milliseconds = (at - _EPOCH) // timedelta(milliseconds=1)
    version_and_random = 0x7 << 12 | secrets.randbits(12)
    variant_and_random = 0b10 << 62 | secrets.randbits(54) << 8
    request = milliseconds << 80 | version_and_random << 64 | variant_and_random
    return uuid.UUID(int=request), uuid.UUID(int=request | attempt)
