"""JSON in and out, tolerant of what providers really send: NaN, and half of a surrogate pair."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from providers.wire.jsontext import dumps as dumps


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
