"""Plays recorded exchanges: the bytes a real provider answered to a request like the one that arrived."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tests.upstream import shapes
from tests.upstream.invoice import Invoice
from tests.upstream.steps import Reply, answer, events

if TYPE_CHECKING:
    from tests.upstream.server import Arrival

# The server frames its answers itself, and recordings hold bodies that are already decompressed.
_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})


def load(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        return [msgspec.json.decode(line) for line in file]


def reply_from(record: dict[str, Any], *, chunk_bytes: int | None = None) -> Reply:
    """The recorded answer. A stream goes out event by event, or in chunks of `chunk_bytes`."""
    body = body_of(record)
    headers = {
        name: str(value)
        for name, value in (record.get("response_headers_subset") or {}).items()
        if name.lower() not in _OWN_HEADERS
    }
    if record.get("response_format") in ("sse", "eventstream", "ndjson", "json_stream"):
        return events(_pieces(body, chunk_bytes), headers=headers)
    return answer(body=body, status=record["status"], headers=headers)


def body_of(record: dict[str, Any]) -> bytes:
    """The answer's bytes: recorded as text, as base64, or as JSON."""
    if record.get("response_body_b64"):
        encoded = record["response_body_b64"]
        return base64.b64decode(encoded if isinstance(encoded, str) else record["response_body"])
    body = record["response_body"]
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _pieces(body: bytes, chunk_bytes: int | None) -> Iterator[bytes]:
    if chunk_bytes is not None:
        yield from (body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes))
        return
    *whole, rest = body.split(b"\n\n")
    yield from (frame + b"\n\n" for frame in whole)
    if rest:
        yield rest


class Player:
    """A handler for `Upstream`: the next recording of the same path, model and kind, over and over.

    What was never recorded gets the answer of `shapes`.
    """

    def __init__(self, records: Iterable[dict[str, Any]]) -> None:
        self._records: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
        self._played: dict[tuple[str, str, bool], int] = {}
        self._lock = threading.Lock()
        for record in records:
            key = (_path(record["endpoint"]), str(record.get("model")), bool(record.get("stream")))
            self._records.setdefault(key, []).append(record)

    def __call__(self, arrival: Arrival, invoice: Invoice) -> Reply:
        key = _key(arrival)
        known = self._records.get(key)
        if not known:
            return shapes.reply_to(arrival, invoice)
        with self._lock:
            turn = self._played.get(key, 0)
            self._played[key] = turn + 1
        record = known[turn % len(known)]
        counts = (record.get("expected") or {}).get("usage") or {}
        invoice.add(
            arrival=arrival.number,
            request_id=record["id"],
            path=arrival.path,
            model=key[1],
            stream=key[2],
            status=record["status"],
            billed=bool(counts),
            input_tokens=int(counts.get("input") or 0),
            output_tokens=int(counts.get("output") or 0),
            idempotency_key=arrival.headers.get("idempotency-key", ""),
        )
        return reply_from(record)


def _key(arrival: Arrival) -> tuple[str, str, bool]:
    try:
        body = msgspec.json.decode(arrival.body) if arrival.body else {}
    except msgspec.DecodeError:
        body = {}
    fields = body if isinstance(body, dict) else {}
    return _path(arrival.path), str(fields.get("model")), fields.get("stream") is True


def _path(path: str) -> str:
    return path.partition("?")[0]
