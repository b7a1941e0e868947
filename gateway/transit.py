"""An answer on its way from the provider's wire to the client's: passed through where they are the same."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from providers.errors import StreamInterrupted
from providers.http import Exchange
from providers.sse import ServerEvent
from providers.unified import Answer, Event, Finished, Started, Usage
from providers.wire.base import (
    Admitted,
    AnswersAsAsked,
    CountsInHeaders,
    StreamMeter,
    StreamReader,
    StreamWriter,
    Wire,
)
from providers.wire.media import MediaWire


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
        self._held = b""

    def see(self, event: ServerEvent) -> Piece:
        verdict = self._meter.see(event)
        if verdict == "drop":
            return Piece(b"", False)
        if verdict == "hold":
            self._held += event.raw
            return Piece(b"", False)
        if self._held:
            held, self._held = self._held, b""
            return Piece(held + event.raw, verdict == "last")
        return Piece(event.raw, verdict == "last")

    def end(self) -> Piece:
        if not self._meter.complete:
            raise StreamInterrupted("The provider's stream ended before its last event.")
        return Piece(self._held, True)

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


# What an answer in a type of its own may be: anything else is bytes, which no browser runs.
_TYPES = ("audio/", "application/json", "text/event-stream", "text/plain", "text/vtt", "application/x-subrip")


def type_of_answer(exchange: Exchange) -> str:
    """The content type that the provider gave its answer."""
    stated = exchange.headers.get("content-type", "")
    return stated if stated.lower().startswith(_TYPES) else "application/octet-stream"


def read_usage(answer: bytes, *, wire: Wire, admitted: Admitted) -> tuple[Usage, str]:
    """Usage and served model of an answer that passes through."""
    if isinstance(wire, MediaWire):
        return wire.read_usage_as_asked(answer, admitted=admitted)
    return wire.read_usage(answer)


def or_of_headers(usage: Usage, *, wire: Wire, exchange: Exchange) -> Usage:
    """The usage of a whole answer, by its headers where its body does not tell."""
    if usage.source == "reported" or not isinstance(wire, CountsInHeaders):
        return usage
    told = wire.usage_of_headers(exchange.headers)
    return told if told.source == "reported" else usage


def encoded(answer: Answer, *, wire: Wire, admitted: Admitted) -> bytes:
    """A translated answer for the client, in the form that its request asked for."""
    if not answer.model:
        # As in a stream: some providers do not say which model answered.
        answer = msgspec.structs.replace(answer, model=admitted.model)
    if isinstance(wire, AnswersAsAsked):
        return wire.encode_answer_as_asked(answer, admitted=admitted)
    return wire.encode_answer(answer)


def output_bytes(answer: Answer) -> int:
    """UTF-8 bytes of everything a model wrote in a whole answer; half of a surrogate pair has a size, too."""
    return sum(
        len(text.encode("utf-8", "surrogatepass"))
        for choice in answer.choices
        for part in choice.parts
        for text in (getattr(part, "text", ""), getattr(part, "arguments", ""))
        if text
    )
