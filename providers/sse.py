"""Server-sent events: bytes to frames and back, keeping every byte for pass-through.

A frame ends at a blank line. Providers end lines with LF or CRLF, rarely CR, and the network splits them anywhere.
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re

from msgspec import Struct

from providers.errors import MalformedAnswer

MAX_FRAME_BYTES = 16 * 1024 * 1024

# A lone CR as the second line end waits for one more byte, because an LF may still come. After CR CR nothing is
# waited for: a server that ends lines with CR alone would have its last event held back for ever.
_BLANK_LINE = re.compile(rb"\n\n|\n\r\n|\r\r|\n\r(?=[^\n])")
_LINE_END = re.compile(rb"\r\n|\r|\n")
# How far back the longest terminator can begin before the bytes that complete it.
_OVERLAP = 2
_BOM = b"\xef\xbb\xbf"


class ServerEvent(Struct, frozen=True, gc=False):
    """One frame: its event name, its joined data lines, and its exact bytes with the blank line that ends it.

    A comment or an empty frame has no `data` and is forwarded by its `raw`.
    """

    event: str
    data: bytes
    raw: bytes


class Decoder:
    """Bytes of one stream -> frames. The `raw` of all frames, in order, add up to the bytes that were fed."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._scanned = 0
        self._has_cr = False

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The frames that `chunk` completes. Raises MalformedAnswer when a frame grows above MAX_FRAME_BYTES."""
        if not self._has_cr and b"\r" in chunk:
            self._has_cr = True
        if not self._pending:
            return self._cut(chunk, 0)
        self._pending += chunk
        if self._end_of_frame(self._pending, self._scanned) < 0:
            self._mark(self._pending)
            return []
        data, start = bytes(self._pending), self._scanned
        self._pending.clear()
        return self._cut(data, start)

    def end(self) -> list[ServerEvent]:
        """What stands after the last blank line, as a frame of its own; nothing when nothing is left."""
        rest = bytes(self._pending)
        self._pending.clear()
        return [_frame(rest)] if rest else []

    def _cut(self, data: bytes, scan_from: int) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        start, end = 0, self._end_of_frame(data, scan_from)
        while end >= 0:
            if end - start > MAX_FRAME_BYTES:
                raise _too_large()
            events.append(_frame(data[start:end]))
            start, end = end, self._end_of_frame(data, end)
        if start < len(data):
            self._pending += data[start:]
            self._mark(self._pending)
        return events

    def _end_of_frame(self, data: bytes | bytearray, start: int) -> int:
        """The offset just after the first blank line at or after `start`; -1 for none."""
        if self._has_cr:
            match = _BLANK_LINE.search(data, start)
            return match.end() if match else -1
        found = data.find(b"\n\n", start)
        return found + 2 if found >= 0 else -1

    def _mark(self, pending: bytearray) -> None:
        if len(pending) > MAX_FRAME_BYTES:
            raise _too_large()
        self._scanned = max(0, len(pending) - _OVERLAP)


def encode(*, data: bytes, event: str = "") -> bytes:
    """One frame with LF line ends. Each line of `data` becomes a data line of its own."""
    head = b"event: " + event.encode() + b"\n" if event else b""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return head + b"data: " + data + b"\n\n"


def _frame(raw: bytes) -> ServerEvent:
    body = raw.strip(b"\r\n")
    if body.startswith(b"data:") and b"\n" not in body and b"\r" not in body:
        return ServerEvent(event="", data=_value(body, 5), raw=raw)
    return _frame_of_lines(body, raw)


def _frame_of_lines(body: bytes, raw: bytes) -> ServerEvent:
    event = ""
    lines: list[bytes] = []
    for line in _LINE_END.split(body.removeprefix(_BOM)):
        if line.startswith(b"data:"):
            lines.append(_value(line, 5))
        elif line.startswith(b"event:"):
            event = _value(line, 6).decode("utf-8", "replace")
        elif line == b"data":
            lines.append(b"")
    return ServerEvent(event=event, data=b"\n".join(lines), raw=raw)


def _value(line: bytes, start: int) -> bytes:
    """The value of a field after its colon: one leading space is not part of it."""
    return line[start + 1 :] if line[start : start + 1] == b" " else line[start:]


def _too_large() -> MalformedAnswer:
    return MalformedAnswer(f"An event of the provider's stream is larger than {MAX_FRAME_BYTES} bytes.")
