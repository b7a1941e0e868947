"""Unified events -> the lines of a chat stream of Ollama."""

from __future__ import annotations

from collections.abc import Iterator

from providers.unified import (
    Event,
    Finished,
    Json,
    Part,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    RefusalPart,
    Started,
    Stopped,
    StopReason,
    TextPart,
    ToolCallPart,
)
from providers.wire.jsontext import dumps
from providers.wire.ollama.answer import head, tail
from providers.wire.ollama.parts import encode_call


class StreamWriter:
    """Writes one stream. Only the first choice is written, and a call of a tool when it is whole."""

    def __init__(self) -> None:
        self._head: Json = {}
        # Index of a part -> the part as it started; and the pieces of a call's arguments.
        self._parts: dict[int, Part] = {}
        self._arguments: dict[int, str] = {}
        self._reason: StopReason = "unknown"

    def write(self, event: Event) -> bytes:
        if getattr(event, "choice", 0):
            return b""
        return b"".join(dumps(self._head | line) + b"\n" for line in self._lines(event))

    def finish(self) -> bytes:
        """The line with `done` is the last, and `write` has given it."""
        return b""

    def _lines(self, event: Event) -> Iterator[Json]:
        match event:
            case Started():
                self._head = head(model=event.model, created=event.created)
            case PartStarted():
                self._parts[event.index] = event.part
                text = event.part.arguments if isinstance(event.part, ToolCallPart) else getattr(event.part, "text", "")
                yield from self._piece(PartDelta(index=event.index, text=text))
            case PartDelta():
                yield from self._piece(event)
            case PartStopped():
                yield from self._stop(event.index)
            case Stopped():
                self._reason = event.reason
            case Finished():
                yield _message({"content": ""}) | tail(self._reason, event.usage)

    def _piece(self, event: PartDelta) -> Iterator[Json]:
        match self._parts.get(event.index):
            case ToolCallPart():
                self._arguments[event.index] = self._arguments.get(event.index, "") + event.text
            case ReasoningPart() if event.text:
                yield _message({"content": "", "thinking": event.text}) | {"done": False}
            case TextPart() | RefusalPart() if event.text or event.logprobs:
                told = {"logprobs": event.logprobs.get("content")} if event.logprobs else {}
                yield _message({"content": event.text}) | told | {"done": False}

    def _stop(self, index: int) -> Iterator[Json]:
        part = self._parts.pop(index, None)
        if isinstance(part, ToolCallPart):
            whole = ToolCallPart(id=part.id, name=part.name, arguments=self._arguments.pop(index, ""))
            yield _message({"content": "", "tool_calls": [encode_call(whole)]}) | {"done": False}


def _message(said: Json) -> Json:
    return {"message": {"role": "assistant", **said}}
