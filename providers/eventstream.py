"""AWS event streams (application/vnd.amazon.eventstream): bytes to frames and back, every check sum verified.

    | total length 4 | headers length 4 | CRC of these 4 | headers | payload | CRC of all before 4 |

A header is a name (1 byte of length), the type of its value, and the value. Frames of the message type "event" carry
`:event-type`, those of "exception" `:exception-type`; an "error" has a code and a message in headers alone.
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

import msgspec

from providers.errors import MalformedAnswer
from providers.sse import ServerEvent

MAX_FRAME_BYTES = 16 * 1024 * 1024
_PRELUDE_BYTES = 12
_CRC_BYTES = 4
_LEAST_BYTES = _PRELUDE_BYTES + _CRC_BYTES
_STRING = 7
# The value types of a header -> bytes of a value; those of bytes and text (6, 7) say their own length.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Decoder:
    """Bytes of one stream -> frames. The `raw` of all frames, in order, add up to the bytes that were fed.

    `event` is the frame's event or exception type, and "error" for a bare error, whose code and message are then the
    JSON in `data`.
    """

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The frames that `chunk` completes. Raises MalformedAnswer for bytes that are not such a stream."""
        self._pending += chunk
        events: list[ServerEvent] = []
        start = 0
        while len(self._pending) - start >= _PRELUDE_BYTES:
            length = self._checked_length(start)
            if len(self._pending) - start < length:
                break
            events.append(_frame(bytes(self._pending[start : start + length])))
            start += length
        del self._pending[:start]
        return events

    def end(self) -> list[ServerEvent]:
        """Nothing: what is left is a piece of a frame, and its stream has not come to its end."""
        return []

    def _checked_length(self, start: int) -> int:
        prelude = bytes(self._pending[start : start + _PRELUDE_BYTES])
        length, headers, check = struct.unpack(">III", prelude)
        if crc32(prelude[:8]) != check:
            raise _broken("a check sum at its beginning is wrong")
        if not _LEAST_BYTES <= length <= MAX_FRAME_BYTES or headers > length - _LEAST_BYTES:
            raise _broken(f"it says to be {length} bytes long")
        return int(length)


def encode(*, data: bytes, headers: Mapping[str, str]) -> bytes:
    """One frame with text headers around a payload."""
    held = b"".join(
        bytes([len(name.encode())]) + name.encode() + struct.pack(">BH", _STRING, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", _LEAST_BYTES + len(held) + len(data), len(held))
    body = prelude + struct.pack(">I", crc32(prelude)) + held + data
    return body + struct.pack(">I", crc32(body))


def encode_event(*, event: str, data: bytes) -> bytes:
    """One frame of the message type "event" with a JSON payload."""
    headers = {":event-type": event, ":content-type": "application/json", ":message-type": "event"}
    return encode(data=data, headers=headers)


def _frame(raw: bytes) -> ServerEvent:
    (check,) = struct.unpack_from(">I", raw, len(raw) - _CRC_BYTES)
    if crc32(raw[:-_CRC_BYTES]) != check:
        raise _broken("its check sum is wrong")
    (size,) = struct.unpack_from(">I", raw, 4)
    payload_at = _PRELUDE_BYTES + size
    headers = _headers(raw[_PRELUDE_BYTES:payload_at])
    payload = raw[payload_at:-_CRC_BYTES]
    kind = headers.get(":message-type", "event")
    if kind == "error":
        said = {"code": headers.get(":error-code", ""), "message": headers.get(":error-message", "")}
        return ServerEvent(event="error", data=msgspec.json.encode(said), raw=raw)
    return ServerEvent(event=headers.get(f":{kind}-type", ""), data=payload, raw=raw)


def _headers(held: bytes) -> dict[str, str]:
    """The headers whose values are text; those of other types are stepped over."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(held):
            name_end = at + 1 + held[at]
            name, kind = held[at + 1 : name_end].decode(), held[name_end]
            at = name_end + 1
            if kind in _FIXED:
                at += _FIXED[kind]
                continue
            if kind not in (6, _STRING):
                raise _broken(f"a header has a value of the unknown type {kind}")
            (size,) = struct.unpack_from(">H", held, at)
            value = held[at + 2 : at + 2 + size]
            at += 2 + size
            if kind == _STRING:
                found[name] = value.decode()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise _broken("its headers cannot be read") from None
    if at != len(held):
        raise _broken("its headers cannot be read")
    return found


def _broken(why: str) -> MalformedAnswer:
    return MalformedAnswer(f"A frame of the provider's event stream is broken: {why}.")
