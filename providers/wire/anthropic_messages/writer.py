"""Unified events -> the stream that an Anthropic client reads.

The wire writes one block at a time, so a part that starts while another is open waits for that one's end. Usage comes
at the start there and is repeated at the end: what other providers report only at the end is 0 in `message_start`, and
`message_delta` then overwrites it.
"""

from __future__ import annotations

from providers.sse import encode
from providers.unified import (
    NO_USAGE,
    Event,
    Finished,
    Json,
    OpaquePart,
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
from providers.wire.anthropic_messages import answer, blocks, usage
from providers.wire.anthropic_messages.jsontext import dumps

_PartEvent = PartStarted | PartDelta | PartStopped


class Writer:
    """See `providers.wire.base.StreamWriter`. `model` names the model until a Started event does."""

    def __init__(self, *, model: str) -> None:
        self._model = model
        self._started = False
        self._open: int | None = None  # the unified index of the part being written
        self._part: Part | None = None  # that part, or None when this wire cannot say it
        self._next_index = 0
        self._signature = ""
        self._waiting: dict[int, list[_PartEvent]] = {}
        self._parts: list[Part] = []
        self._reason: StopReason = "unknown"
        self._stop_sequence = ""
        self._usage: Usage = NO_USAGE
        self._ended = False

    def write(self, event: Event) -> bytes:
        """The bytes that `event` completes; often none. Events of a second choice have no place on this wire."""
        match event:
            case Started():
                return self._start(event)
            case PartStarted() | PartDelta() | PartStopped():
                return self._start() + self._take(event) if event.choice == 0 else b""
            case Stopped():
                if event.choice == 0:
                    self._reason, self._stop_sequence = event.reason, event.stop_sequence
                return b""
            case Finished():
                self._usage = event.usage
                return self._start() + self._end()

    def finish(self) -> bytes:
        """Everything still open is closed, and `message_stop`."""
        return self._start() + self._end() + _frame({"type": "message_stop"})

    def _start(self, event: Started | None = None) -> bytes:
        if self._started:
            return b""
        self._started = True
        started = event or Started(id="", model="")
        message = answer.head(id_=started.id, model=started.model or self._model, usage_=usage.write(started.usage))
        return _frame({"type": "message_start", "message": message})

    def _end(self) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        out = self._close() + self._drain(to_end=True)
        delta = {
            "stop_reason": answer.stop_word(self._reason, self._parts),
            "stop_sequence": self._stop_sequence or None,
        }
        return out + _frame({"type": "message_delta", "delta": delta, "usage": usage.write(self._usage)})

    # --- parts --------------------------------------------------------------------------------------------

    def _take(self, event: _PartEvent) -> bytes:
        if self._open is not None and event.index != self._open:
            self._waiting.setdefault(event.index, []).append(event)
            return b""
        out = self._emit(event)
        return out + self._drain() if self._open is None else out

    def _drain(self, *, to_end: bool = False) -> bytes:
        """Writes parts that waited, one after the other, until one is still open (`to_end` closes that too)."""
        out = b""
        while self._waiting and self._open is None:
            for event in self._waiting.pop(next(iter(self._waiting))):
                out += self._emit(event)
            if to_end:
                out += self._close()
        return out

    def _emit(self, event: _PartEvent) -> bytes:
        if isinstance(event, PartStarted):
            return self._close() + self._begin(event.index, event.part)
        if self._open is None:
            return b""  # the part was closed, or never began
        if isinstance(event, PartStopped):
            return self._close()
        return self._continue(event)

    def _begin(self, index: int, part: Part) -> bytes:
        self._open, self._signature = index, ""
        block, pieces = _opening(part)
        if block is None:
            self._part = None
            return b""
        self._part = part
        self._parts.append(part)
        out = _frame({"type": "content_block_start", "index": self._next_index, "content_block": block})
        return out + b"".join(self._continue(piece) for piece in pieces)

    def _continue(self, event: PartDelta) -> bytes:
        # The client replaces a signature by the last delta instead of adding to it: it is sent whole, at the end.
        self._signature += event.signature
        out = b""
        if event.text:
            out += self._delta(_text_delta(self._part, event.text))
        if event.citation is not None and isinstance(self._part, TextPart):
            said = blocks.citation(event.citation)
            out += self._delta({"type": "citations_delta", "citation": said} if said else None)
        return out

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        if self._part is None:
            return b""
        out = b""
        if self._signature and isinstance(self._part, ReasoningPart):
            out = self._delta({"type": "signature_delta", "signature": self._signature})
        out += _frame({"type": "content_block_stop", "index": self._next_index})
        self._next_index += 1
        self._part = None
        return out

    def _delta(self, delta: Json | None) -> bytes:
        if delta is None:
            return b""
        return _frame({"type": "content_block_delta", "index": self._next_index, "delta": delta})


def _opening(part: Part) -> tuple[Json | None, list[PartDelta]]:
    """(the empty block that begins a part, what it already holds as deltas); (None, []) for what cannot be said."""
    match part:
        case TextPart():
            said = [PartDelta(0, text=part.text)] + [PartDelta(0, citation=value) for value in part.citations]
            return {"type": "text", "text": ""}, said
        case RefusalPart():
            return {"type": "text", "text": ""}, [PartDelta(0, text=part.text)]
        case ReasoningPart() if not part.redacted:
            return blocks.reasoning_block(ReasoningPart()), [PartDelta(0, text=part.text, signature=part.signature)]
        case ToolCallPart():
            block = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
            return block, [PartDelta(0, text=part.arguments)]
        case OpaquePart():
            return _opaque_opening(part)
    return answer.answer_block(part), []


def _opaque_opening(part: OpaquePart) -> tuple[Json | None, list[PartDelta]]:
    block = answer.answer_block(part)
    if block is None or not block.get("input"):
        return block, []
    return {**block, "input": {}}, [PartDelta(0, text=dumps(block["input"]).decode())]


def _text_delta(part: Part | None, text: str) -> Json | None:
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text_delta", "text": text}
        case ReasoningPart():
            return {"type": "thinking_delta", "thinking": text}
        case ToolCallPart() | OpaquePart():
            return {"type": "input_json_delta", "partial_json": text}
    return None


def _frame(data: Json) -> bytes:
    return encode(data=dumps(data), event=str(data["type"]))
