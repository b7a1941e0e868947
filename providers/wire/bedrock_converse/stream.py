"""A provider's ConverseStream: watched on its way through (`Meter`), or read into unified events (`Reader`).

messageStart, then blocks (a start only for tools and images, deltas, a stop), messageStop, and last the `metadata` with
the usage. Exceptions are frames of their own. Keys named "p" are padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from providers.counts import decode
from providers.errors import MalformedAnswer, StreamInterrupted
from providers.sse import ServerEvent
from providers.unified import (
    NO_USAGE,
    Event,
    Finished,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    Started,
    Stopped,
    StopReason,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.base import Verdict
from providers.wire.bedrock_converse import usage as usages
from providers.wire.bedrock_converse.answer import served, stop_reason
from providers.wire.bedrock_converse.blocks import NAME, read_citation, string
from providers.wire.bedrock_converse.errors import error_of_frame


class Watch:
    """What both sides must know of a stream: its usage, model, bytes and end. Feed it every frame in order."""

    def __init__(self) -> None:
        self._usage: Usage = NO_USAGE
        self._stopped = False
        self._told_usage = False
        self._model = ""
        self._output_bytes = 0

    @property
    def usage(self) -> Usage:
        """What was reported; "partial" until the stream is complete."""
        if self._usage.source == "reported" and not self.complete:
            return msgspec.structs.replace(self._usage, source="partial")
        return self._usage

    @property
    def complete(self) -> bool:
        return self._stopped and self._told_usage

    @property
    def output_bytes(self) -> int:
        return self._output_bytes

    @property
    def model(self) -> str:
        return self._model

    def frame(self, event: ServerEvent) -> Json:
        """The JSON object of a frame, taken note of. Raises MalformedAnswer, or the provider's error."""
        if event.event == "error" or event.event.endswith("Exception"):
            raise error_of_frame(event=event.event, data=event.data)
        try:
            value = decode(event.data) if event.data else {}
        except ValueError as error:
            raise MalformedAnswer("A frame of the provider's stream is not JSON.") from error
        if not isinstance(value, dict):
            raise MalformedAnswer("A frame of the provider's stream is not a JSON object.")
        if event.event == "contentBlockDelta":
            self._output_bytes += _delta_bytes(_dict(value.get("delta")))
        elif event.event == "messageStop":
            self._stopped = True
        elif event.event == "metadata":
            self._usage = usages.read(value)
            self._model = served(value)
            self._told_usage = True
        return value


class Meter(Watch):
    """Pass-through: every frame goes on as it came."""

    def see(self, event: ServerEvent) -> Verdict:
        was_complete = self.complete
        self.frame(event)
        return "last" if self.complete and not was_complete else "forward"


class Reader(Watch):
    """Frames -> unified events."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._closed = False
        self._next = 0
        # Index of a block -> index of its part, while it is open; and the image of a block that holds one.
        self._open: dict[int, int] = {}
        self._images: dict[int, tuple[str, list[str]]] = {}
        self._reason: StopReason = "unknown"

    def feed(self, event: ServerEvent) -> list[Event]:
        return [] if self._closed else list(self._read(event))

    def end(self) -> list[Event]:
        if not self._closed:
            raise StreamInterrupted("The provider's stream broke off before its end.")
        return []

    def _read(self, event: ServerEvent) -> Iterator[Event]:
        value = self.frame(event)
        if not self._started:
            self._started = True
            yield Started(id="", model="")
        match event.event:
            case "contentBlockStart":
                yield from self._begin(_index(value), _dict(value.get("start")))
            case "contentBlockDelta":
                yield from self._delta(_index(value), _dict(value.get("delta")))
            case "contentBlockStop":
                yield from self._stop(_index(value))
            case "messageStop":
                self._reason = stop_reason(value.get("stopReason"))
        if self.complete:
            yield from self._close()

    def _begin(self, block: int, start: Json) -> Iterator[Event]:
        image = start.get("image")
        if isinstance(image, dict):
            self._images[block] = (string(image.get("format")), [])
            return
        tool = _dict(start.get("toolUse"))
        if tool and not tool.get("type"):
            call = ToolCallPart(id=string(tool.get("toolUseId")), name=string(tool.get("name")), arguments="")
            yield from self._start(block, call)
        elif start:
            yield from self._start(block, OpaquePart(wire=NAME, value=start))

    def _delta(self, block: int, delta: Json) -> Iterator[Event]:
        thought = _dict(delta.get("reasoningContent"))
        image = delta.get("image")
        if thought:
            yield from self._thought(block, thought)
        elif isinstance(image, dict) and block in self._images:
            self._images[block][1].append(string(_dict(image.get("source")).get("bytes")))
        elif isinstance(delta.get("toolUse"), dict):
            empty = ToolCallPart(id="", name="", arguments="")
            yield from self._piece(block, empty, string(delta["toolUse"].get("input")))
        elif isinstance(delta.get("text"), str):
            yield from self._piece(block, TextPart(text=""), delta["text"])
        elif isinstance(delta.get("citation"), dict):
            yield from self._start(block, TextPart(text=""))
            yield PartDelta(index=self._open[block], citation=read_citation(delta["citation"]))

    def _thought(self, block: int, thought: Json) -> Iterator[Event]:
        redacted = string(thought.get("redactedContent"))
        if redacted:
            yield PartStarted(index=self._next, part=ReasoningPart(redacted=redacted))
            yield PartStopped(index=self._next)
            self._next += 1
            return
        yield from self._start(block, ReasoningPart())
        text, signature = string(thought.get("text")), string(thought.get("signature"))
        if text or signature:
            yield PartDelta(index=self._open[block], text=text, signature=signature)

    def _piece(self, block: int, empty: Part, text: str) -> Iterator[Event]:
        yield from self._start(block, empty)
        if text:
            yield PartDelta(index=self._open[block], text=text)

    def _start(self, block: int, part: Part) -> Iterator[Event]:
        """Opens the part of a block, unless it is open: text begins with its first delta."""
        if block not in self._open:
            self._open[block] = self._next
            self._next += 1
            yield PartStarted(index=self._open[block], part=part)

    def _stop(self, block: int) -> Iterator[Event]:
        if block in self._images:
            word, pieces = self._images.pop(block)
            part = ImagePart(data="".join(pieces), media_type=f"image/{word or 'png'}")
            yield from self._start(block, part)
        if block in self._open:
            yield PartStopped(index=self._open.pop(block))

    def _close(self) -> Iterator[Event]:
        self._closed = True
        for block in list(self._open):
            yield from self._stop(block)
        yield Stopped(reason=self._reason)
        yield Finished(usage=self.usage)


def _index(value: Json) -> int:
    index = value.get("contentBlockIndex")
    if isinstance(index, int) and not isinstance(index, bool) and index >= 0:
        return index
    raise MalformedAnswer(f"The provider's stream names a block {index!r}.")


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _delta_bytes(delta: Json) -> int:
    """UTF-8 bytes of what the model wrote in this piece: text, thoughts, arguments of tools."""
    texts = (
        delta.get("text"),
        _dict(delta.get("reasoningContent")).get("text"),
        _dict(delta.get("toolUse")).get("input"),
    )
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts if isinstance(text, str))
