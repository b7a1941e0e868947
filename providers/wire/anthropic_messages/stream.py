"""A provider's stream: the meter that watches it pass through, and the reader that turns it into unified events."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.errors import MalformedAnswer, StreamInterrupted
from providers.sse import ServerEvent
from providers.unified import (
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
from providers.wire.anthropic_messages import answer, usage
from providers.wire.anthropic_messages.blocks import read_block
from providers.wire.anthropic_messages.errors import error_of
from providers.wire.anthropic_messages.jsontext import dumps, loads
from providers.wire.base import Verdict

_DELTA_TEXTS = ("text", "thinking", "partial_json")


class _Tally:
    """What a stream reported so far. Raises the provider's error when an event is one."""

    def __init__(self) -> None:
        self.model = ""
        self.complete = False
        self.output_bytes = 0
        self._usage: Json = {}
        self._seen = False
        self._final = False

    @property
    def usage(self) -> Usage:
        read = usage.read(self._usage if self._seen else None, model=self.model)
        if read.source == "reported" and not (self._final and self.complete):
            return msgspec.structs.replace(read, source="partial")
        return read

    def take(self, kind: str, data: Json) -> None:
        if kind == "content_block_delta":
            delta = _dict(data.get("delta"))
            self.output_bytes += sum(_size(delta.get(name)) for name in _DELTA_TEXTS)
        elif kind == "content_block_start":
            block = _dict(data.get("content_block"))
            self.output_bytes += _size(block.get("text")) + _size(block.get("thinking"))
        elif kind == "message_start":
            message = _dict(data.get("message"))
            self.model = answer.served(message)
            self._merge(message.get("usage"))
        elif kind == "message_delta":
            self._final = self._merge(data.get("usage")) or self._final
            self.complete = self.complete or _dict(data.get("delta")).get("stop_reason") is not None
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error":
            raise error_of(data)

    def _merge(self, said: Any) -> bool:
        if not isinstance(said, dict):
            return False
        self._usage = usage.merge(self._usage, said)
        self._seen = True
        return True


class Meter:
    """Watches a stream on its way to a client of the same wire: see `providers.wire.base.StreamMeter`."""

    def __init__(self) -> None:
        self._tally = _Tally()

    def see(self, event: ServerEvent) -> Verdict:
        """Everything is forwarded, pings and unknown events too. Raises the provider's error of an error event."""
        if not event.data:
            return "forward"
        try:
            kind, data = _parse(event)
        except ValueError:
            return "forward"  # not ours to repair: the client sees what the provider sent
        self._tally.take(kind, data)
        return "last" if kind == "message_stop" else "forward"

    @property
    def usage(self) -> Usage:
        return self._tally.usage

    @property
    def complete(self) -> bool:
        return self._tally.complete

    @property
    def output_bytes(self) -> int:
        return self._tally.output_bytes

    @property
    def model(self) -> str:
        return self._tally.model


class Reader:
    """Turns a stream into unified events: see `providers.wire.base.StreamReader`.

    Blocks that no part can hold come as one OpaquePart when they end, because only then they are whole.
    """

    def __init__(self) -> None:
        self._tally = _Tally()
        self._streamed: set[int] = set()
        self._held: dict[int, Json] = {}
        self._held_input: dict[int, str] = {}
        self._stopped = False
        self._finished = False

    def feed(self, event: ServerEvent) -> list[Event]:
        """The events of one frame. Raises the provider's error, or MalformedAnswer."""
        if not event.data:
            return []
        try:
            kind, data = _parse(event)
        except ValueError as error:
            raise MalformedAnswer("An event of the provider's stream is not a JSON object.") from error
        self._tally.take(kind, data)
        match kind:
            case "message_start":
                message = _dict(data.get("message"))
                return [Started(id=str(message.get("id") or ""), model=self.model, usage=self.usage)]
            case "content_block_start":
                return self._start(_index(data), _dict(data.get("content_block")))
            case "content_block_delta":
                return self._delta(_index(data), _dict(data.get("delta")))
            case "content_block_stop":
                return self._stop(_index(data))
            case "message_delta":
                return self._ended(_dict(data.get("delta")))
            case "message_stop":
                return self._finish()
        return []

    def end(self) -> list[Event]:
        """The bytes ended. Raises StreamInterrupted unless the provider had said why it stopped."""
        if not self._tally.complete:
            raise StreamInterrupted("The provider's stream ended before its last event.")
        return self._finish()

    @property
    def usage(self) -> Usage:
        return self._tally.usage

    @property
    def complete(self) -> bool:
        return self._tally.complete

    @property
    def output_bytes(self) -> int:
        return self._tally.output_bytes

    @property
    def model(self) -> str:
        return self._tally.model

    def _start(self, index: int, block: Json) -> list[Event]:
        part = _streamed_part(block)
        if part is None:
            self._held[index] = block
            return []
        self._streamed.add(index)
        return [PartStarted(index, part)]

    def _delta(self, index: int, delta: Json) -> list[Event]:
        if index in self._held:
            self._hold(index, delta)
            return []
        if index not in self._streamed:
            raise MalformedAnswer(f"The provider's stream continues block {index}, which it never started.")
        match delta.get("type"):
            case "text_delta":
                return [PartDelta(index, text=_text(delta, "text"))]
            case "thinking_delta":
                return [PartDelta(index, text=_text(delta, "thinking"))]
            case "input_json_delta":
                return [PartDelta(index, text=_text(delta, "partial_json"))]
            case "signature_delta":
                return [PartDelta(index, signature=_text(delta, "signature"))]
            case "citations_delta":
                return [PartDelta(index, citation=_dict(delta.get("citation")))]
        return []

    def _hold(self, index: int, delta: Json) -> None:
        """Adds a delta to a block that waits for its end. Each kind of delta names the field that it continues."""
        if delta.get("type") == "input_json_delta":
            self._held_input[index] = self._held_input.get(index, "") + _text(delta, "partial_json")
            return
        block = dict(self._held[index])
        for name, value in delta.items():
            if name == "type" or value is None:
                continue
            before = block.get(name)
            block[name] = before + value if isinstance(before, str) and isinstance(value, str) else value
        self._held[index] = block

    def _stop(self, index: int) -> list[Event]:
        block = self._held.pop(index, None)
        if block is None:
            if index not in self._streamed:
                return []
            self._streamed.remove(index)
            return [PartStopped(index)]
        written = self._held_input.pop(index, "")
        if written:
            block = {**block, "input": _input(written)}
        return [PartStarted(index, _whole_part(block)), PartStopped(index)]

    def _ended(self, delta: Json) -> list[Event]:
        word = delta.get("stop_reason")
        if word is None or self._stopped:
            return []
        self._stopped = True
        reason, _ = answer.read_stop(word)
        return [Stopped(reason, stop_sequence=str(delta.get("stop_sequence") or ""))]

    def _finish(self) -> list[Event]:
        if self._finished:
            return []
        self._finished = True
        stopped: list[Event] = [] if self._stopped else [Stopped("unknown")]
        return [*stopped, Finished(self.usage)]


def _parse(event: ServerEvent) -> tuple[str, Json]:
    """(kind, data). Raises ValueError for what is no JSON object."""
    data = loads(event.data)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    kind = data.get("type")
    return (kind if isinstance(kind, str) else event.event), data


def _streamed_part(block: Json) -> Part | None:
    """The part that a block starts, when its deltas can continue it; None for one that must be whole first."""
    if block.get("type") == "tool_use":
        # The input stands empty here and comes as text; read_block would give its empty object as the first piece.
        part = _whole_part({**block, "input": {}})
        if not isinstance(part, ToolCallPart):
            return None
        given = block.get("input")
        return msgspec.structs.replace(part, arguments=dumps(given).decode() if given else "")
    part = _whole_part(block)
    return part if isinstance(part, TextPart | ReasoningPart) else None


def _whole_part(block: Json) -> Part:
    try:
        return read_block(block)
    except msgspec.ValidationError as error:
        raise MalformedAnswer(f"The provider's stream has a malformed content block: {error}.") from error


def _input(text: str) -> Any:
    try:
        return loads(text.encode())
    except ValueError:
        return {"INVALID_JSON": text}


def _index(data: Json) -> int:
    index = data.get("index")
    if isinstance(index, int) and index >= 0:
        return index
    raise MalformedAnswer(f"The provider's stream names a block {index!r}.")


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(delta: Json, name: str) -> str:
    value = delta.get(name)
    return value if isinstance(value, str) else ""


def _size(value: Any) -> int:
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0
