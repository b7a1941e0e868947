"""A provider's chat stream: watched on its way through (`Meter`), or read into unified events (`Reader`).

A stream is over as meant at `data: [DONE]`, which Perplexity replaces by an object "chat.completion.done" - or where
the bytes end after a finish reason and the usage. Snowflake sends no finish reason at all, only [DONE].
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from providers.counts import decode
from providers.errors import MalformedAnswer, StreamInterrupted
from providers.sse import ServerEvent
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
from providers.wire.base import Verdict
from providers.wire.openai_chat.answer import (
    citations_of,
    find_usage,
    logprobs_of,
    media_of,
    search_results,
    stop_reason,
    usage_of,
)
from providers.wire.openai_chat.dialect import Dialect
from providers.wire.openai_chat.errors import error_from
from providers.wire.openai_chat.parts import NAME, decode_content, decode_reasoning, epoch_s, string
from providers.wire.openai_chat.request_in import arguments_text

_DONE = b"[DONE]"


class Watch:
    """What both sides must know of a stream: its usage, model, bytes and end. Feed it every event in order."""

    def __init__(self, *, dialect: Dialect) -> None:
        self._dialect = dialect
        self._done = False
        self._finished = False
        self._usage_after_finish = False
        self._usage: Usage = NO_USAGE
        # The chunk with the last usage, read only when asked for: Perplexity repeats a running total in every chunk.
        self._usage_chunk: tuple[Json, bytes] | None = None
        self._tier = ""
        self._model = ""
        self._output_bytes = 0

    @property
    def complete(self) -> bool:
        return self._done or (self._finished and self._usage_after_finish)

    @property
    def output_bytes(self) -> int:
        return self._output_bytes

    @property
    def model(self) -> str:
        return self._model

    @property
    def usage(self) -> Usage:
        """The last usage seen; "partial" until the stream is complete."""
        if self._usage_chunk is not None:
            chunk, body = self._usage_chunk
            self._usage = usage_of(chunk, body, dialect=self._dialect)
            self._usage_chunk = None
        usage = self._usage
        if self._tier and not usage.service_tier:
            usage = msgspec.structs.replace(usage, service_tier=self._tier)
        if usage.source == "reported" and not self.complete:
            usage = msgspec.structs.replace(usage, source="partial")
        return usage

    def chunk(self, event: ServerEvent) -> Json | None:
        """The JSON object of a data event, taken note of; None for comments, pings and [DONE].

        Raises MalformedAnswer, or the error that the provider put into its stream.
        """
        data = event.data
        if not data or data.isspace():
            return None
        if data.strip() == _DONE:
            self._done = True
            return None
        try:
            value = decode(data)
        except ValueError as error:
            raise MalformedAnswer("An event of the provider's stream is not JSON.") from error
        if not isinstance(value, dict):
            raise MalformedAnswer("An event of the provider's stream is not a JSON object.")
        if value.get("error") or (event.event == "error" and "choices" not in value):
            raise error_from(value, status=None)
        self._note(value, data)
        return value

    def _note(self, value: Json, data: bytes) -> None:
        self._model = string(value.get("model")) or self._model
        self._tier = string(value.get("service_tier")) or self._tier
        for choice in choices_of(value):
            self._output_bytes += _delta_bytes(delta_of(choice))
            if choice.get("finish_reason"):
                self._finished = True
        # An empty object, as some servers put into every chunk, takes back nothing that was told before.
        if find_usage(value):
            self._usage_chunk = (value, data)
            self._usage_after_finish = self._finished
        if value.get("object") == "chat.completion.done" and self._finished:
            self._done = True


class Meter(Watch):
    """Pass-through: which events the client gets, while the usage is watched."""

    def __init__(self, *, dialect: Dialect, wants_usage: bool) -> None:
        super().__init__(dialect=dialect)
        self._wants_usage = wants_usage

    def see(self, event: ServerEvent) -> Verdict:
        was_done = self._done
        value = self.chunk(event)
        if self._done and not was_done:
            return "last"
        if value is None or self._wants_usage or find_usage(value) is None:
            return "forward"
        # We asked for the usage event; only where it stands alone can it be kept from a client that did not.
        return "forward" if value.get("choices") else "drop"


class Reader(Watch):
    """Stream events -> unified events."""

    def __init__(self, *, dialect: Dialect) -> None:
        super().__init__(dialect=dialect)
        self._started = False
        self._closed = False
        self._choices: dict[int, _Choice] = {}
        self._sources: list[Json] = []

    def feed(self, event: ServerEvent) -> list[Event]:
        value = self.chunk(event)
        events = list(self._read(value)) if value is not None else []
        return events + self._close() if self._done else events

    def end(self) -> list[Event]:
        if not self.complete:
            raise StreamInterrupted("The provider's stream broke off before its end.")
        return self._close()

    def _read(self, value: Json) -> Iterator[Event]:
        choices = list(choices_of(value))
        # Azure begins with a chunk about the prompt that has neither model nor choices.
        if not self._started and (choices or value.get("model")):
            self._started = True
            yield Started(id=string(value.get("id")), model=self._model, created=epoch_s(value.get("created")))
        self._sources = search_results(value) or self._sources
        for at, choice in enumerate(choices):
            index = choice.get("index")
            number = index if isinstance(index, int) else at
            state = self._choices.setdefault(number, _Choice(number))
            yield from state.read(choice)

    def _close(self) -> list[Event]:
        if self._closed:
            return []
        self._closed = True
        events: list[Event] = [] if self._started else [Started(id="", model=self._model)]
        for _, state in sorted(self._choices.items()):
            events += state.close(self._sources)
        return [*events, Finished(usage=self.usage)]


class _Choice:
    """The parts of one choice. The next part closes the one that is open, but a call stays open beside other calls:
    their pieces may come in turns."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._next = 0
        self._open: str = ""
        self._open_parts: list[int] = []
        self._calls: dict[object, tuple[str, int]] = {}
        self._last_call: object = None
        self._signed = False
        self._cited = False
        self._reason: StopReason = "unknown"

    def read(self, choice: Json) -> Iterator[Event]:
        delta = delta_of(choice)
        for part in decode_reasoning(delta):
            yield from self._piece(part)
        logprobs = logprobs_of(choice)
        for part in decode_content(delta.get("content")):
            yield from self._piece(part, logprobs=logprobs)
            logprobs = None if isinstance(part, TextPart) else logprobs
        refusal = string(delta.get("refusal"))
        if refusal:
            yield from self._append("refusal", RefusalPart(text=""), text=refusal)
        yield from self._citations(citations_of(delta))
        calls = delta.get("tool_calls")
        for at, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                yield from self._call(call, at)
        for part in media_of(delta):
            yield from self._whole(part)
        if logprobs:
            yield from self._append("text", TextPart(text=""), logprobs=logprobs)
        if choice.get("finish_reason"):
            self._reason = stop_reason(choice["finish_reason"])

    def close(self, sources: list[Json]) -> Iterator[Event]:
        if sources and not self._cited and self._open == "text":
            yield from self._citations(sources)
        yield from self._stop()
        yield Stopped(reason=self._reason, choice=self._number)

    def _piece(self, part: Part, *, logprobs: Json | None = None) -> Iterator[Event]:
        if isinstance(part, TextPart):
            yield from self._append("text", TextPart(text=""), text=part.text, logprobs=logprobs)
        elif isinstance(part, ReasoningPart) and not part.redacted:
            # A signature ends the thought it signs: what follows is another one.
            if self._signed and part.text:
                yield from self._stop()
            yield from self._append("reasoning", ReasoningPart(), text=part.text, signature=part.signature)
            self._signed = bool(part.signature)
        else:
            yield from self._whole(part)

    def _append(
        self, kind: str, empty: Part, *, text: str = "", signature: str = "", logprobs: Json | None = None
    ) -> Iterator[Event]:
        if self._open != kind:
            yield from self._start(kind, empty)
        yield PartDelta(index=self._next - 1, text=text, signature=signature, logprobs=logprobs, choice=self._number)

    def _call(self, call: Json, at: int) -> Iterator[Event]:
        """Pieces of one call share an index; some servers give none, or the same one to calls with other ids."""
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        call_id, arguments = string(call.get("id")), arguments_text(function.get("arguments"))
        key: object = call.get("index")
        if not isinstance(key, int | str):
            key = call_id or self._last_call or at
        known = self._calls.get(key)
        if known is None or (call_id and known[0] and call_id != known[0]):
            yield from self._start(
                "call",
                ToolCallPart(id=call_id or f"call_{self._next}", name=string(function.get("name")), arguments=""),
            )
            known = self._calls[key] = (call_id, self._next - 1)
        self._last_call = key
        if arguments:
            yield PartDelta(index=known[1], text=arguments, choice=self._number)

    def _citations(self, citations: list[Json]) -> Iterator[Event]:
        for citation in citations:
            self._cited = True
            if self._open != "text":
                yield from self._start("text", TextPart(text=""))
            yield PartDelta(index=self._next - 1, citation=citation, choice=self._number)

    def _whole(self, part: Part) -> Iterator[Event]:
        """A part that comes in one piece."""
        yield from self._start("whole", part)
        yield from self._stop()

    def _start(self, kind: str, part: Part) -> Iterator[Event]:
        if not (kind == self._open == "call"):
            yield from self._stop()
        self._open, self._signed = kind, False
        self._open_parts.append(self._next)
        self._next += 1
        yield PartStarted(index=self._next - 1, part=part, choice=self._number)

    def _stop(self) -> Iterator[Event]:
        self._open = ""
        for index in self._open_parts:
            yield PartStopped(index=index, choice=self._number)
        self._open_parts = []


def choices_of(value: Json) -> Iterator[Json]:
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            yield choice


def delta_of(choice: Json) -> Json:
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else {}


def _delta_bytes(delta: Json) -> int:
    """UTF-8 bytes of what the model wrote in this piece: text, reasoning, refusal, arguments of tools."""
    size = 0
    content = delta.get("content")
    if isinstance(content, str):
        size += _bytes(content)
    elif content:
        size += sum(_part_bytes(part) for part in decode_content(content))
    if len(delta) > 1 or "content" not in delta:
        size += sum(_part_bytes(part) for part in decode_reasoning(delta))
        size += _bytes(string(delta.get("refusal")))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                size += _bytes(string(function.get("name"))) + _bytes(arguments_text(function.get("arguments")))
    return size


def _part_bytes(part: Part) -> int:
    if isinstance(part, OpaquePart):
        return 0 if part.wire != NAME else _bytes(string(part.value.get("text")))
    return _bytes(string(getattr(part, "text", "")))


def _bytes(text: str) -> int:
    # Half of a surrogate pair may end a piece: it has a size, though no encoding.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
