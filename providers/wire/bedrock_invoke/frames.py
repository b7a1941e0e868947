"""The frames of InvokeModelWithResponseStream -> the events that the model itself would have sent.

    event type "chunk": {"bytes": base64 of the model's own JSON, "p": padding}

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_PayloadPart.html
"""

from __future__ import annotations

import base64

import msgspec
from msgspec import Struct

from providers import eventstream, sse
from providers.errors import MalformedAnswer
from providers.sse import ServerEvent


class _Chunk(Struct, frozen=True, gc=False, rename={"payload": "bytes"}):
    payload: bytes


class _Named(Struct, frozen=True, gc=False):
    type: str = ""


_CHUNK = msgspec.json.Decoder(_Chunk)
_NAMED = msgspec.json.Decoder(_Named)


class Decoder:
    """Bytes of one stream -> events. `raw` is an event as the model's maker streams it, and empty for AWS's own frames
    (exceptions, and kinds of tomorrow), which no client of that maker knows."""

    def __init__(self) -> None:
        self._frames = eventstream.Decoder()

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes. Raises MalformedAnswer for bytes that are not such a stream."""
        return [_unpacked(frame) for frame in self._frames.feed(chunk)]

    def end(self) -> list[ServerEvent]:
        return self._frames.end()


def _unpacked(frame: ServerEvent) -> ServerEvent:
    if frame.event != "chunk":
        return ServerEvent(event=frame.event, data=frame.data if is_exception(frame) else b"", raw=b"")
    try:
        data = _CHUNK.decode(frame.data).payload
    except msgspec.DecodeError:
        raise MalformedAnswer("A chunk of the provider's event stream holds no bytes.") from None
    name = _kind(data)
    return ServerEvent(event=name, data=data, raw=sse.encode(data=data, event=name))


def is_exception(event: ServerEvent) -> bool:
    return event.event == "error" or event.event.endswith("Exception")


def _kind(data: bytes) -> str:
    """The type of Anthropic's events; other makers' chunks have none."""
    try:
        return _NAMED.decode(data).type
    except msgspec.DecodeError:
        return ""


def encode(payload: bytes) -> bytes:
    """One frame of type "chunk" around a model's own JSON."""
    packed = {"bytes": base64.b64encode(payload).decode()}
    return eventstream.encode_event(event="chunk", data=msgspec.json.encode(packed))
