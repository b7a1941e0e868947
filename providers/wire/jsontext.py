"""JSON for what a provider wrote: half of a surrogate pair, which some streams cut in two, must not end an answer."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def dumps(value: Any) -> bytes:
    """JSON bytes. Half a surrogate pair, which UTF-8 cannot hold, is written as the escape it came as."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, default=_raw, separators=(",", ":")).encode()


def _raw(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
