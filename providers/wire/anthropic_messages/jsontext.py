"""JSON in and out, tolerant of what providers really send: NaN, and half of a surrogate pair."""

from __future__ import annotations

import json
from typing import Any

import msgspec


def loads(body: bytes) -> Any:
    """Any JSON value. Raises ValueError for what is none, or for nesting too deep to read."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        try:
            return json.loads(body)
        except RecursionError as error:
            raise ValueError("JSON nested too deep") from error
    except RecursionError as error:
        raise ValueError("JSON nested too deep") from error


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
