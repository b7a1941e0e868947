"""Streams of one JSON object a line (application/x-ndjson): bytes to lines, keeping every byte."""

from __future__ import annotations

from providers.errors import MalformedAnswer
from providers.sse import ServerEvent

MAX_LINE_BYTES = 16 * 1024 * 1024


class Decoder:
    """Bytes of one stream -> lines. The `raw` of all of them, in order, add up to the bytes that were fed.

    `data` is the line without its end. Lines end with LF or CRLF; an empty one has no `data`.
    """

    def __init__(self) -> None:
        self._pending: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The lines that `chunk` completes. Raises MalformedAnswer when one grows above MAX_LINE_BYTES."""
        *ended, rest = chunk.split(b"\n")
        events: list[ServerEvent] = []
        for piece in ended:
            self._keep(piece + b"\n")
            events += self.end()
        self._keep(rest)
        return events

    def end(self) -> list[ServerEvent]:
        """What stands after the last line end, as a line of its own; nothing when nothing is left."""
        raw = b"".join(self._pending)
        self._pending, self._size = [], 0
        return [ServerEvent(event="", data=raw.strip(), raw=raw)] if raw else []

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_LINE_BYTES:
            raise MalformedAnswer(f"A line of the provider's stream is larger than {MAX_LINE_BYTES} bytes.")
        if piece:
            self._pending.append(piece)
