"""Unified events -> the events of Cohere's chat stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from providers import sse
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
from providers.wire.cohere import usage as usages
from providers.wire.cohere.answer import encode_logprobs, finish_reason
from providers.wire.cohere.parts import encode_citation
from providers.wire.jsontext import dumps

_EMPTY_MESSAGE: Json = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}


class StreamWriter:
    """Writes one stream. Only the first choice is written, since this wire has no other."""

    def __init__(self) -> None:
        self._id = ""
        # Part index -> the part as it started, and its place among those of its kind.
        self._parts: dict[int, Part] = {}
        self._places: dict[int, int] = {}
        self._called = 0
        self._cited = 0
        self._reason: StopReason = "unknown"

    def write(self, event: Event) -> bytes:
        if getattr(event, "choice", 0):
            return b""
        return b"".join(_frame(value) for value in self._events(event))

    def finish(self) -> bytes:
        """message-end is the last event, and `write` has given it."""
        return b""

    def _events(self, event: Event) -> Iterator[Json]:
        match event:
            case Started():
                self._id = event.id or str(uuid.uuid4())
                yield {"type": "message-start", "id": self._id, "delta": {"message": dict(_EMPTY_MESSAGE)}}
            case PartStarted():
                self._parts[event.index] = event.part
                self._places[event.index] = self._place(event.part)
                yield from self._start(self._places[event.index], event.part)
            case PartDelta():
                yield from self._piece(event)
            case PartStopped():
                kind = "tool-call-end" if isinstance(self._parts[event.index], ToolCallPart) else "content-end"
                yield {"type": kind, "index": self._places[event.index]}
            case Stopped():
                self._reason = event.reason
            case Finished():
                delta: Json = {"finish_reason": finish_reason(self._reason)}
                if event.usage.totals:
                    delta["usage"] = usages.encode(event.usage)
                yield {"type": "message-end", "id": self._id, "delta": delta}

    def _place(self, part: Part) -> int:
        """Calls of tools are counted by themselves, and so is what is said."""
        said = len(self._places) - self._called
        if not isinstance(part, ToolCallPart):
            return said
        self._called += 1
        return self._called - 1

    def _start(self, index: int, part: Part) -> Iterator[Json]:
        match part:
            case ToolCallPart():
                call = {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
                yield _event("tool-call-start", index, {"tool_calls": call})
            case ReasoningPart():
                yield _event("content-start", index, {"content": {"type": "thinking", "thinking": part.text}})
            case TextPart() | RefusalPart():
                yield _event("content-start", index, {"content": {"type": "text", "text": part.text}})
            case _:
                yield _event("content-start", index, {"content": {"type": "text", "text": ""}})

    def _piece(self, event: PartDelta) -> Iterator[Json]:
        place = self._places[event.index]
        match self._parts[event.index]:
            case ToolCallPart():
                call = {"function": {"arguments": event.text}}
                yield _event("tool-call-delta", place, {"tool_calls": call})
            case ReasoningPart():
                if event.text:
                    yield _event("content-delta", place, {"content": {"thinking": event.text}})
            case _:
                if event.text or event.logprobs:
                    told = encode_logprobs(event.logprobs)
                    value = _event("content-delta", place, {"content": {"text": event.text}})
                    yield {**value, "logprobs": told[0]} if told else value
                citation = encode_citation(event.citation) if event.citation else None
                if citation is not None:
                    yield _event("citation-start", self._cited, {"citations": citation})
                    yield {"type": "citation-end", "index": self._cited}
                    self._cited += 1


def _event(kind: str, index: int, message: Json) -> Json:
    return {"type": kind, "index": index, "delta": {"message": message}}


def _frame(value: Json) -> bytes:
    return sse.encode(data=dumps(value), event=str(value["type"]))
