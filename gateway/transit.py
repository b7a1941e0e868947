"""An answer on its way from the provider's wire to the client's: passed through where they are the same."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from providers.errors import StreamInterrupted
from providers.sse import ServerEvent
from providers.unified import Answer, Event, Finished, Started, Usage
from providers.wire.base import Admitted, AnswersAsAsked, StreamMeter, StreamReader, StreamWriter, Wire


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

    def __init__(self, reader: StreamReader, writer: StreamWriter, *, asked_model: str) -> None:
        self._reader = reader
        self._writer = writer
        self._asked_model = asked_model

    def see(self, event: ServerEvent) -> Piece:
        return self._written(self._reader.feed(event))

    def end(self) -> Piece:
        return self._written(self._reader.end())

    def _written(self, events: list[Event]) -> Piece:
        data = []
        last = False
        for event in events:
            if isinstance(event, Started) and not event.model:
                # Some providers do not say which model answered (Bedrock); a client's types want a name.
                event = msgspec.structs.replace(event, model=self._asked_model)
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
    return Translation(
        provider.stream_reader(), client.stream_writer(admitted=admitted), asked_model=admitted.model
    )


def encoded(answer: Answer, *, wire: Wire, admitted: Admitted) -> bytes:
    """A translated answer for the client, in the form that its request asked for."""
    if isinstance(wire, AnswersAsAsked):
        return wire.encode_answer_as_asked(answer, admitted=admitted)
    if not answer.model:
        # As in a stream: some providers do not say which model answered.
        answer = msgspec.structs.replace(answer, model=admitted.model)
    return wire.encode_answer(answer)


def output_bytes(answer: Answer) -> int:
    """UTF-8 bytes of everything a model wrote in a whole answer."""
    return sum(
        len(text.encode())
        for choice in answer.choices
        for part in choice.parts
        for text in (getattr(part, "text", ""), getattr(part, "arguments", ""))
        if text
    )
