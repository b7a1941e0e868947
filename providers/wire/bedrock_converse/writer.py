"""Unified events -> the frames of a ConverseStream."""

from __future__ import annotations

from providers import eventstream
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
    RefusalPart,
    Started,
    Stopped,
    StopReason,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.bedrock_converse import usage as usages
from providers.wire.bedrock_converse.answer import stop_word
from providers.wire.bedrock_converse.blocks import write_citation
from providers.wire.jsontext import dumps


class StreamWriter:
    """See `providers.wire.base.StreamWriter`. Parts that the wire cannot stream are left out."""

    def __init__(self) -> None:
        self._started = False
        self._open: dict[int, Part] = {}
        self._parts: list[Part] = []
        self._reason: StopReason = "unknown"
        self._usage: Usage = NO_USAGE
        self._ended = False

    def write(self, event: Event) -> bytes:
        """The frames that `event` completes. Events of a second choice have no place on this wire."""
        match event:
            case Started():
                return self._start()
            case PartStarted(choice=0):
                return self._start() + self._begin(event)
            case PartDelta(choice=0) if event.index in self._open:
                return self._delta(event)
            case PartStopped(choice=0) if self._open.pop(event.index, None) is not None:
                return _frame("contentBlockStop", {"contentBlockIndex": event.index})
            case Stopped(choice=0):
                self._reason = event.reason
            case Finished():
                self._usage = event.usage
                return self._end()
        return b""

    def finish(self) -> bytes:
        """Nothing follows the metadata; where they did not come, they are written now."""
        return b"" if self._ended else self._end()

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        return _frame("messageStart", {"role": "assistant"})

    def _begin(self, event: PartStarted) -> bytes:
        part = event.part
        if not isinstance(part, TextPart | RefusalPart | ReasoningPart | ToolCallPart):
            return b""
        self._open[event.index] = part
        self._parts.append(part)
        out = b""
        if isinstance(part, ToolCallPart):
            start = {"toolUse": {"toolUseId": part.id, "name": part.name}}
            out = _frame("contentBlockStart", {"contentBlockIndex": event.index, "start": start})
        text = part.arguments if isinstance(part, ToolCallPart) else part.text
        signature = part.signature if isinstance(part, ReasoningPart) else ""
        if text or signature:
            out += self._delta(PartDelta(index=event.index, text=text, signature=signature))
        if isinstance(part, ReasoningPart) and part.redacted:
            out += _delta(event.index, {"reasoningContent": {"redactedContent": part.redacted}})
        for citation in part.citations if isinstance(part, TextPart) else ():
            out += self._delta(PartDelta(index=event.index, citation=citation))
        return out

    def _delta(self, event: PartDelta) -> bytes:
        out = b""
        match self._open[event.index]:
            case ReasoningPart():
                if event.text:
                    out += _delta(event.index, {"reasoningContent": {"text": event.text}})
                if event.signature:
                    out += _delta(event.index, {"reasoningContent": {"signature": event.signature}})
            case ToolCallPart():
                out += _delta(event.index, {"toolUse": {"input": event.text}})
            case _:
                if event.text:
                    out += _delta(event.index, {"text": event.text})
                if event.citation is not None and "location" in event.citation:
                    out += _delta(event.index, {"citation": write_citation(event.citation)})
        return out

    def _end(self) -> bytes:
        self._ended = True
        out = self._start()
        for index in list(self._open):
            del self._open[index]
            out += _frame("contentBlockStop", {"contentBlockIndex": index})
        out += _frame("messageStop", {"stopReason": stop_word(self._reason, tuple(self._parts))})
        return out + _frame("metadata", {"metrics": {"latencyMs": 0}, **usages.write(self._usage)})


def _delta(index: int, delta: Json) -> bytes:
    return _frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def _frame(event: str, value: Json) -> bytes:
    return eventstream.encode_event(event=event, data=dumps(value))
