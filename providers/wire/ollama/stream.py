"""A stream of Ollama's chat: watched on its way through (`Meter`), or read into unified events (`Reader`).

Each line is an answer with a piece of its message; the last one has `done`, the reason and the counts.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from providers.errors import StreamInterrupted
from providers.sse import ServerEvent
from providers.unified import (
    NO_USAGE,
    Event,
    Finished,
    Json,
    Part,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.base import Verdict
from providers.wire.ollama import usage as usages
from providers.wire.ollama.answer import created_of, logprobs_of, stop_reason
from providers.wire.ollama.parts import read_parts
from providers.wire.openai_chat.parts import string
from providers.wire.unstreamed import answer_object


class Watch:
    """What both sides must know of a stream: its usage, model, bytes and end. Feed it every line in order."""

    def __init__(self) -> None:
        self.complete = False
        self.output_bytes = 0
        self.model = ""
        self.usage: Usage = NO_USAGE

    def line(self, event: ServerEvent) -> tuple[Json, list[Part]]:
        """(a line, what it holds of the message), taken note of; ({}, []) for an empty one and after the last.

        Raises MalformedAnswer, or the error that the server put into its stream.
        """
        if not event.data or self.complete:
            return {}, []
        value = answer_object(event.data)
        message = value.get("message")
        parts = list(read_parts(message)) if isinstance(message, dict) else []
        # Half of a surrogate pair may end a piece: it has a size, though no encoding.
        self.output_bytes += sum(len(_text_of(part).encode("utf-8", "surrogatepass")) for part in parts)
        self.model = string(value.get("model")) or self.model
        if value.get("done") is True:
            self.complete = True
            self.usage = usages.read(value)
        return value, parts


class Meter(Watch):
    """Pass-through: every line goes on as it came."""

    def see(self, event: ServerEvent) -> Verdict:
        was_complete = self.complete
        self.line(event)
        return "last" if self.complete and not was_complete else "forward"


class Reader(Watch):
    """Lines -> unified events. At most one part is open: the next one closes it."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._called = False
        self._next = 0
        self._open: type[Part] | None = None

    def feed(self, event: ServerEvent) -> list[Event]:
        value, parts = self.line(event)
        return list(self._read(value, parts))

    def end(self) -> list[Event]:
        if not self.complete:
            raise StreamInterrupted("The provider's stream broke off before its end.")
        return []

    def _read(self, value: Json, parts: list[Part]) -> Iterator[Event]:
        ends = value.get("done") is True
        if not self._started and ("message" in value or ends):
            self._started = True
            yield Started(id="", model=self.model, created=created_of(value))
        logprobs = logprobs_of(value)
        for part in parts:
            yield from self._piece(part, logprobs)
        if ends:
            yield from self._stop()
            yield Stopped(reason=stop_reason(value.get("done_reason"), called_tools=self._called))
            yield Finished(usage=self.usage)

    def _piece(self, part: Part, logprobs: Json | None) -> Iterator[Event]:
        match part:
            case ToolCallPart():
                self._called = True
                yield from self._start(msgspec.structs.replace(part, arguments=""))
                yield from self._append(part.arguments)
                yield from self._stop()
            case ReasoningPart():
                yield from self._start(ReasoningPart())
                yield from self._append(part.text)
            case TextPart():
                yield from self._start(TextPart(text=""))
                yield from self._append(part.text, logprobs=logprobs)

    def _append(self, text: str, *, logprobs: Json | None = None) -> Iterator[Event]:
        yield PartDelta(index=self._next - 1, text=text, logprobs=logprobs)

    def _start(self, part: Part) -> Iterator[Event]:
        """Opens a part, unless one of its kind is open: a call is always one of its own."""
        if self._open is not type(part):
            yield from self._stop()
            self._open = type(part)
            self._next += 1
            yield PartStarted(index=self._next - 1, part=part)

    def _stop(self) -> Iterator[Event]:
        if self._open is not None:
            self._open = None
            yield PartStopped(index=self._next - 1)


def _text_of(part: Part) -> str:
    return part.name + part.arguments if isinstance(part, ToolCallPart) else string(getattr(part, "text", ""))
