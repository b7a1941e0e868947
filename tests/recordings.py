"""Real provider exchanges, where a checkout has them beside it: one JSON object a line."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[1].parent / "shared" / "recordings" / "exchanges.jsonl"
REASON = "no recorded exchanges beside the checkout (shared/recordings/exchanges.jsonl)"

Exchange = dict[str, Any]


@functools.cache
def _all() -> tuple[Exchange, ...]:
    if not PATH.exists():
        return ()
    with PATH.open(encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines if line.strip())


def exchanges(
    *,
    api: str = "",
    provider: str = "",
    stream: bool | None = None,
    status: int | None = None,
    failed: bool | None = None,
    where: Callable[[Exchange], bool] | None = None,
) -> list[Exchange]:
    """The exchanges that fit every filter given; an empty list where there are no recordings."""
    return [
        exchange
        for exchange in _all()
        if (not api or exchange["api"] == api)
        and (not provider or exchange["provider"] == provider)
        and (stream is None or bool(exchange["stream"]) is stream)
        and (status is None or exchange["status"] == status)
        and (failed is None or (exchange["status"] >= 400) is failed)
        and (where is None or where(exchange))
    ]


def cases(found: list[Exchange]) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`, one a record; a single skipped one, with the reason, for none."""
    if not found:
        return [pytest.param({}, marks=pytest.mark.skip(reason=REASON), id="no-recordings")]
    return [pytest.param(item, id=f"{item['provider']}-{item['model']}-{item['id']}") for item in found]


def answer_bytes(exchange: Exchange) -> bytes:
    """The answer's body as it came over the wire."""
    body, encoded = exchange["response_body"], exchange.get("response_body_b64")
    if encoded:
        return base64.b64decode(encoded if isinstance(encoded, str) else body)
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def request_bytes(exchange: Exchange) -> bytes:
    return json.dumps(exchange["request_body"]).encode()
