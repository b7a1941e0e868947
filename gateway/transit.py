"""An answer on its way from the provider's wire to the client's: passed through where they are the same."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from providers.errors import StreamInterrupted
from providers.sse import ServerEvent
from providers.unified import Answer, Event, Finished, Usage
from providers.wire.base import Admitted, StreamMeter, StreamReader, StreamWriter, Wire


class Piece(NamedTuple):
    """Bytes for the client. `last`: they end the answer, so the call must be settled before they go."""

    data: bytes
    last: bool


class Transit(Protocol):
    """`see` each event; `end` when the provider's bytes have ended (raises StreamInterrupted if too early)."""

    def see(self, event: ServerEvent) -> Piece: ...
    def end(self) -> Piece: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def output_bytes(self) -> int: ...
    @property
    def model(self) -> str: ...


class PassThrough:
    """The provider's own bytes, watched."""

    def __init__(self, meter: StreamMeter) -> None:
        self._meter = meter

    def see(self, event: ServerEvent) -> Piece:
        verdict = self._meter.see(event)
        if verdict == "drop":
            return Piece(b"", False)
        return Piece(event.raw, verdict == "last")

    def end(self) -> Piece:
        if not self._meter.complete:
            raise StreamInterrupted("The provider's stream ended before its last event.")
        return Piece(b"", True)

    @property
    def usage(self) -> Usage:
        return self._meter.usage

    @property
    def output_bytes(self) -> int:
        return self._meter.output_bytes

    @property
    def model(self) -> str:
        return self._meter.model


class Translation:
    """The provider's events, read into unified ones and written as the client's."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def see(self, event: ServerEvent) -> Piece:
        return self._written(self._reader.feed(event))

    def end(self) -> Piece:
        return self._written(self._reader.end())

    def _written(self, events: list[Event]) -> Piece:
        data = []
        last = False
        for event in events:
            data.append(self._writer.write(event))
            if isinstance(event, Finished):
                data.append(self._writer.finish())
                last = True
        return Piece(b"".join(data), last)

    @property
    def usage(self) -> Usage:
        return self._reader.usage

    @property
    def output_bytes(self) -> int:
        return self._reader.output_bytes

    @property
    def model(self) -> str:
        return self._reader.model


def transit(*, client: Wire, provider: Wire, admitted: Admitted) -> Transit:
    if client.name == provider.name:
        return PassThrough(provider.stream_meter(admitted=admitted))
    return Translation(provider.stream_reader(), client.stream_writer(admitted=admitted))


def output_bytes(answer: Answer) -> int:
    """UTF-8 bytes of everything a model wrote in a whole answer."""
    return sum(
        len(text.encode())
        for choice in answer.choices
        for part in choice.parts
        for text in (getattr(part, "text", ""), getattr(part, "arguments", ""))
        if text
    )
