"""Unified events -> the events of Cohere's chat stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import msgspec

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


class StreamWriter:
    """Writes one stream. Only the first choice is written, since this wire has no other."""

    def __init__(self) -> None:
        self._id = ""
        # Part index -> the part as it started.
        self._parts: dict[int, Part] = {}
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
                yield {"type": "message-start", "id": self._id, "delta": {"message": {"role": "assistant"}}}
            case PartStarted():
                self._parts[event.index] = event.part
                yield from self._start(event.index, event.part)
            case PartDelta():
                yield from self._piece(event)
            case PartStopped():
                kind = "tool-call-end" if isinstance(self._parts[event.index], ToolCallPart) else "content-end"
                yield {"type": kind, "index": event.index}
            case Stopped():
                self._reason = event.reason
            case Finished():
                delta: Json = {"finish_reason": finish_reason(self._reason)}
                if event.usage.totals:
                    delta["usage"] = usages.encode(event.usage)
                yield {"type": "message-end", "id": self._id, "delta": delta}

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
        match self._parts[event.index]:
            case ToolCallPart():
                call = {"function": {"arguments": event.text}}
                yield _event("tool-call-delta", event.index, {"tool_calls": call})
            case ReasoningPart():
                if event.text:
                    yield _event("content-delta", event.index, {"content": {"thinking": event.text}})
            case _:
                if event.text or event.logprobs:
                    told = encode_logprobs(event.logprobs)
                    value = _event("content-delta", event.index, {"content": {"text": event.text}})
                    yield {**value, "logprobs": told[0]} if told else value
                citation = encode_citation(event.citation) if event.citation else None
                if citation is not None:
                    yield _event("citation-start", self._cited, {"citations": citation})
                    yield {"type": "citation-end", "index": self._cited}
                    self._cited += 1


def _event(kind: str, index: int, message: Json) -> Json:
    return {"type": kind, "index": index, "delta": {"message": message}}


def _frame(value: Json) -> bytes:
    return sse.encode(data=msgspec.json.encode(value), event=str(value["type"]))
