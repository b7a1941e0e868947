"""A provider's stream: the meter that watches it pass through, and the reader that turns it into unified events.

Each chunk is an answer of its own, with more parts. There is no last event: a stream is whole when each candidate has
its finish reason, and it is over when the bytes end, because sources and counts may come in a chunk after that. The
last `usageMetadata` counts as a whole. Without `alt=sse` the chunks are the entries of one JSON array.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from providers.counts import decode
from providers.errors import MalformedAnswer, StreamInterrupted
from providers.sse import MAX_FRAME_BYTES, ServerEvent
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
from providers.wire.base import Verdict
from providers.wire.gemini import answer, grounding, parts, usage
from providers.wire.gemini.errors import error_from
from providers.wire.gemini.names import camel, obj, objects, string

# A chunk that begins an answer has one of these.
_BEGINS = ("candidates", "responseId", "modelVersion", "usageMetadata")


class _Array:
    """The entries of a JSON array, as its bytes arrive."""

    def __init__(self) -> None:
        self._pending = b""
        self._reader = json.JSONDecoder()

    def feed(self, data: bytes) -> list[Any]:
        """The entries that `data` completes. Raises MalformedAnswer when one grows too large."""
        self._pending += data
        if len(self._pending) > MAX_FRAME_BYTES:
            raise MalformedAnswer(f"An entry of the provider's stream is larger than {MAX_FRAME_BYTES} bytes.")
        text = self._pending.decode("utf-8", "surrogateescape")
        found: list[Any] = []
        at = _next_entry(text, 0)
        while at < len(text):
            try:
                value, end = self._reader.raw_decode(text, at)
            except (ValueError, RecursionError):
                break
            found.append(value)
            at = _next_entry(text, end)
        self._pending = text[at:].encode("utf-8", "surrogateescape")
        return found

    @property
    def rest(self) -> bytes:
        return self._pending.strip(b"\r\n\t ,[]")


def _next_entry(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,[]":
        at += 1
    return at


class Watch:
    """What both sides must know of a stream: its usage, model, bytes and end. Feed it every event in order."""

    def __init__(self) -> None:
        self.model = ""
        self.output_bytes = 0
        self._array = _Array()
        self._in_array = False
        self._searches = grounding.Searches()
        self._usage: Any = None
        self._usage_final = False
        # Candidate -> whether its finish reason was seen.
        self._finished: dict[int, bool] = {}
        self._blocked = False

    @property
    def complete(self) -> bool:
        return self._blocked or (bool(self._finished) and all(self._finished.values()))

    @property
    def usage(self) -> Usage:
        """The last usage seen; "partial" until the stream is complete and has reported since."""
        read = usage.read(self._usage, searches=self._searches.web(self.model), maps=self._searches.maps)
        return read if self.complete and self._usage_final else usage.partial(read)

    def chunks(self, event: ServerEvent) -> list[Json]:
        """The answers in one event, taken note of. Raises MalformedAnswer, or the error that a chunk is."""
        found = [camel(value) for value in self._values(event)]
        for value in found:
            self._note(value)
        return found

    def _values(self, event: ServerEvent) -> Iterator[Json]:
        for value in self._decoded(event):
            if not isinstance(value, dict):
                raise MalformedAnswer("An event of the provider's stream is not a JSON object.")
            if value.get("error"):
                raise error_from(value, status=None)
            yield value

    def _decoded(self, event: ServerEvent) -> list[Any]:
        data = event.data.strip()
        if not data:
            self._in_array = self._in_array or event.raw.lstrip().startswith(b"[")
            return self._array.feed(event.raw) if self._in_array else []
        if data == b"[DONE]":
            return []
        try:
            value = decode(data)
        except ValueError as error:
            raise MalformedAnswer("An event of the provider's stream is not JSON.") from error
        # Some errors come as a list that holds the one.
        return value if isinstance(value, list) else [value]

    def _note(self, value: Json) -> None:
        self.model = answer.served(value) or self.model
        for number, candidate in numbered(value):
            finished = bool(candidate.get("finishReason"))
            self._finished[number] = finished or self._finished.get(number, False)
            self._searches.note(candidate)
            for part in objects(obj(candidate.get("content")).get("parts")):
                self.output_bytes += _part_bytes(part)
        if obj(value.get("promptFeedback")).get("blockReason") and not self._finished:
            self._blocked = True
        said = value.get("usageMetadata")
        if isinstance(said, dict) and (self._usage is None or usage.has_counts(camel(said))):
            self._usage = camel(said)
            self._usage_final = self.complete and usage.has_counts(self._usage)


class Meter(Watch):
    """Pass-through: see `providers.wire.base.StreamMeter`. `candidates`: how many the client asked for."""

    def __init__(self, *, candidates: int = 1) -> None:
        super().__init__()
        self._candidates = candidates
        self._ended = False

    def see(self, event: ServerEvent) -> Verdict:
        """The last event is the one that has every finish reason and the counts; nothing is dropped."""
        self.chunks(event)
        over = self._blocked or (self.complete and self._usage_final and len(self._finished) >= self._candidates)
        if over and not self._ended:
            self._ended = True
            return "last"
        return "forward"


class Reader(Watch):
    """Turns a stream into unified events: see `providers.wire.base.StreamReader`."""

    def __init__(self) -> None:
        super().__init__()
        self._id = ""
        self._started = False
        self._closed = False
        self._choices: dict[int, _Choice] = {}

    def feed(self, event: ServerEvent) -> list[Event]:
        """The events of one frame. Raises the provider's error, ContentRefused, or MalformedAnswer."""
        return [said for value in self.chunks(event) for said in self._read(value)]

    def end(self) -> list[Event]:
        """The bytes ended. Raises StreamInterrupted unless every candidate had said why it stopped."""
        if self._array.rest:
            raise StreamInterrupted("The provider's stream broke off within an entry.")
        if not self.complete:
            raise StreamInterrupted("The provider's stream ended before its finish reason.")
        if self._closed:
            return []
        self._closed = True
        events = [said for _, choice in sorted(self._choices.items()) for said in choice.close()]
        return [*events, Finished(usage=self.usage)]

    def _read(self, value: Json) -> Iterator[Event]:
        answer.refused(value)
        # What nobody knows yet does not begin the answer.
        if not self._started and any(name in value for name in _BEGINS):
            self._started = True
            self._id = string(value.get("responseId"))
            yield Started(id=self._id, model=self.model, created=answer.created_at(value))
        for number, candidate in numbered(value):
            choice = self._choices.get(number)
            if choice is None:
                choice = self._choices[number] = _Choice(number, seed=f"{self._id}/{number}")
            yield from choice.read(candidate)


class _Choice:
    """The parts of one candidate. At most one is open: the next one closes it."""

    def __init__(self, number: int, *, seed: str) -> None:
        self._number = number
        self._calls = parts.Calls(seed)
        self._next = 0
        self._open = ""
        self._signed = False
        self._called = False
        self._text = ""
        self._cited: set[str] = set()
        self._word: Any = None

    def read(self, candidate: Json) -> Iterator[Event]:
        logprobs = answer.logprobs(candidate)
        for value in objects(obj(candidate.get("content")).get("parts")):
            for part in parts.decode_part(value, self._calls):
                yield from self._piece(part)
        if logprobs:
            yield from self._append("text", TextPart(text=""), PartDelta(0, logprobs=logprobs))
        # Chunks repeat the sources that earlier ones named.
        for citation in grounding.citations(candidate, [grounding.Text(0, self._text, 0)]):
            key = json.dumps(citation, sort_keys=True)
            if key not in self._cited:
                self._cited.add(key)
                yield from self._append("text", TextPart(text=""), PartDelta(0, citation=citation))
        self._word = candidate.get("finishReason") or self._word

    def close(self) -> Iterator[Event]:
        yield from self._stop()
        yield Stopped(reason=answer.stop_reason(self._word, called=self._called), choice=self._number)

    def _piece(self, part: Part) -> Iterator[Event]:
        if isinstance(part, TextPart):
            self._text += part.text
            yield from self._append("text", TextPart(text=""), PartDelta(0, text=part.text))
        elif isinstance(part, ReasoningPart):
            # A signature ends the thought that it signs, and one without text stands for itself.
            if self._signed or not part.text:
                yield from self._stop()
            yield from self._append("reasoning", ReasoningPart(), PartDelta(0, part.text, part.signature))
            self._signed = bool(part.signature)
        elif isinstance(part, ToolCallPart):
            self._called = True
            yield from self._start("call", ToolCallPart(id=part.id, name=part.name, arguments=""))
            yield PartDelta(self._next - 1, text=part.arguments, choice=self._number)
            yield from self._stop()
        else:
            yield from self._start("whole", part)
            yield from self._stop()

    def _append(self, kind: str, empty: Part, delta: PartDelta) -> Iterator[Event]:
        if self._open != kind:
            yield from self._start(kind, empty)
        yield PartDelta(
            self._next - 1,
            text=delta.text,
            signature=delta.signature,
            citation=delta.citation,
            logprobs=delta.logprobs,
            choice=self._number,
        )

    def _start(self, kind: str, part: Part) -> Iterator[Event]:
        yield from self._stop()
        self._open, self._signed = kind, False
        self._next += 1
        yield PartStarted(index=self._next - 1, part=part, choice=self._number)

    def _stop(self) -> Iterator[Event]:
        if self._open:
            self._open = ""
            yield PartStopped(index=self._next - 1, choice=self._number)


def numbered(value: Json) -> Iterator[tuple[int, Json]]:
    """(number, candidate) of each candidate in a chunk; Vertex leaves a lone number out."""
    for at, candidate in enumerate(objects(value.get("candidates"))):
        index = candidate.get("index")
        yield (index if isinstance(index, int) and not isinstance(index, bool) else at), candidate


def _part_bytes(part: Json) -> int:
    """UTF-8 bytes of what the model wrote in one part: text, thoughts, the name and arguments of a call, code."""
    call, code = obj(part.get("functionCall")), obj(part.get("executableCode"))
    size = _size(part.get("text")) + _size(call.get("name")) + _size(code.get("code"))
    return size + (len(json.dumps(call["args"])) if call.get("args") else 0)


def _size(value: Any) -> int:
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0
