"""A provider's stream of response events: watched on its way through (`Meter`), or read into unified ones (`Reader`).

The stream is over at response.completed or response.incomplete (OpenRouter: response.done), whose response object alone
has the usage; after response.failed or an error event nothing is good any more. https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from providers.counts import decode, decode_exact
from providers.errors import MalformedAnswer, StreamInterrupted
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
    RefusalPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.base import Verdict
from providers.wire.openai_chat.parts import epoch_s
from providers.wire.openai_responses import usage as usages
from providers.wire.openai_responses.answer import stop_reason
from providers.wire.openai_responses.errors import error_of_event, error_of_response
from providers.wire.openai_responses.items import decode_made, decode_reasoning
from providers.wire.openai_responses.parts import string
from providers.wire.openai_responses.usage import Dialect

_TERMINAL = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done"}
)


class Watch:
    """What both sides must know of a stream: its usage, model, bytes and end. Feed it every event in order."""

    def __init__(self, *, dialect: Dialect) -> None:
        self._dialect = dialect
        self._usage: Usage = NO_USAGE
        self._complete = False
        self._model = ""
        self._output_bytes = 0

    @property
    def usage(self) -> Usage:
        return self._usage

    @property
    def complete(self) -> bool:
        return self._complete

    @property
    def output_bytes(self) -> int:
        return self._output_bytes

    @property
    def model(self) -> str:
        return self._model

    def event(self, event: ServerEvent) -> Json | None:
        """The JSON object of a data event, taken note of; None for comments, pings and [DONE].

        Raises MalformedAnswer, or the error that the provider put into its stream; the usage is read before.
        """
        data = event.data.strip()
        if not data or data == b"[DONE]":
            return None
        try:
            value = decode(data)
        except ValueError as error:
            raise MalformedAnswer("An event of the provider's stream is not JSON.") from error
        if not isinstance(value, dict):
            raise MalformedAnswer("An event of the provider's stream is not a JSON object.")
        if not isinstance(value.get("type"), str):
            value["type"] = event.event
        self._note(value, data)
        return value

    def _note(self, value: Json, data: bytes) -> None:
        kind = value["type"]
        response = value.get("response")
        if isinstance(response, dict):
            self._model = string(response.get("model")) or self._model
        if kind.endswith(".delta"):
            delta = value.get("delta")
            self._output_bytes += len(delta.encode("utf-8", "surrogatepass")) if isinstance(delta, str) else 0
        elif kind in _TERMINAL:
            self._end(response, data)
        elif kind == "error" or (value.get("error") and not isinstance(response, dict)):
            raise error_of_event(value)

    def _end(self, response: Any, data: bytes) -> None:
        if not isinstance(response, dict):
            raise MalformedAnswer("The last event of the provider's stream holds no response.")
        exact = decode_exact(data)["response"]
        self._usage = usages.read(response, exact=exact, dialect=self._dialect)
        if response.get("status") in ("failed", "cancelled"):
            raise error_of_response(response)
        self._complete = True


class Meter(Watch):
    """Pass-through: every event goes on as it came."""

    def see(self, event: ServerEvent) -> Verdict:
        was_complete = self._complete
        self.event(event)
        return "last" if self._complete and not was_complete else "forward"


class Reader(Watch):
    """Stream events -> unified events. Types that mean nothing to a client of another wire are passed over."""

    def __init__(self, *, dialect: Dialect) -> None:
        super().__init__(dialect=dialect)
        self._started = False
        self._next = 0
        # (item, which of its pieces) -> index of the part; those that are still open.
        self._open: dict[tuple[object, str], int] = {}
        # Items of which something was given out, and those of which pieces came.
        self._said: set[object] = set()
        self._in_pieces: set[object] = set()

    def feed(self, event: ServerEvent) -> list[Event]:
        if self._complete:
            return []
        value = self.event(event)
        return list(self._read(value)) if value is not None else []

    def end(self) -> list[Event]:
        if not self._complete:
            raise StreamInterrupted("The provider's stream broke off before its end.")
        return []

    def _read(self, value: Json) -> Iterator[Event]:
        said = list(self._said_by(value))
        # What nobody knows yet does not begin the answer.
        if not self._started and (said or isinstance(value.get("response"), dict)):
            self._started = True
            yield _started(value.get("response"), self._model)
        yield from said

    def _said_by(self, value: Json) -> Iterator[Event]:
        kind = value["type"]
        if self._complete:
            yield from self._close(value["response"])
        elif kind == "response.output_item.added":
            yield from self._item_added(value)
        elif kind == "response.output_item.done":
            yield from self._item_done(value)
        elif kind == "response.output_text.annotation.added" and isinstance(value.get("annotation"), dict):
            at = yield from self._part(value, "text", TextPart(text=""))
            yield PartDelta(index=at, citation=value["annotation"])
        elif kind == "response.reasoning_summary_part.added" and value.get("summary_index"):
            yield from self._piece(value, "summary", ReasoningPart(), "\n\n")
        elif kind in _PIECES:
            piece, empty = _PIECES[kind]
            yield from self._piece(value, piece, empty, string(value.get("delta")))

    def _item_added(self, value: Json) -> Iterator[Event]:
        item = value.get("item")
        if isinstance(item, dict) and item.get("type") == "function_call":
            call = ToolCallPart(
                id=string(item.get("call_id")) or string(item.get("id")), name=string(item.get("name")), arguments=""
            )
            yield from self._part(value, "call", call)

    def _item_done(self, value: Json) -> Iterator[Event]:
        """Ends the parts of an item. One that came in no pieces is given out whole."""
        item, key = value.get("item"), _key(value)
        if not isinstance(item, dict):
            return
        if item.get("type") == "reasoning" and key in self._said:
            signature = decode_reasoning(item).signature
            at = next((index for (held, _), index in self._open.items() if held == key), None)
            if signature and at is not None:
                yield PartDelta(index=at, signature=signature)
        elif item.get("type") == "function_call" and (key, "call") in self._open and key not in self._in_pieces:
            yield PartDelta(index=self._open[key, "call"], text=string(item.get("arguments")))
        elif key not in self._said:
            yield from self._whole(item, key)
        yield from self._stop(key)

    def _whole(self, item: Json, key: object) -> Iterator[Event]:
        self._said.add(key)
        for part in decode_made(item):
            yield PartStarted(index=self._next, part=part)
            yield PartStopped(index=self._next)
            self._next += 1

    def _piece(self, value: Json, piece: str, empty: Part, text: str) -> Iterator[Event]:
        logprobs = value.get("logprobs")
        at = yield from self._part(value, piece, empty)
        self._in_pieces.add(_key(value))
        if text or logprobs:
            yield PartDelta(index=at, text=text, logprobs={"content": logprobs} if logprobs else None)

    def _part(self, value: Json, piece: str, empty: Part) -> Generator[Event, None, int]:
        """Opens the part that a piece belongs to, unless it is open; returns its index."""
        key = _key(value)
        content = value.get("content_index") if piece in ("text", "refusal") else None
        name = (key, f"{piece}{content or ''}")
        if name not in self._open:
            self._said.add(key)
            if isinstance(empty, TextPart | RefusalPart):
                yield from self._stop(key)
            self._open[name] = self._next
            self._next += 1
            yield PartStarted(index=self._open[name], part=empty)
        return self._open[name]

    def _stop(self, key: object) -> Iterator[Event]:
        for name in [name for name in self._open if name[0] == key]:
            yield PartStopped(index=self._open.pop(name))

    def _close(self, response: Json) -> Iterator[Event]:
        for key in dict.fromkeys(name[0] for name in self._open):
            yield from self._stop(key)
        output = response.get("output")
        if not self._said:
            # A server may send nothing but the end.
            for at, item in enumerate(output if isinstance(output, list) else ()):
                if isinstance(item, dict):
                    yield from self._whole(item, at)
        yield Stopped(reason=stop_reason(response))
        yield Finished(usage=self.usage)


_PIECES: dict[str, tuple[str, Part]] = {
    "response.output_text.delta": ("text", TextPart(text="")),
    "response.refusal.delta": ("refusal", RefusalPart(text="")),
    "response.reasoning_text.delta": ("reasoning", ReasoningPart()),
    "response.reasoning.delta": ("reasoning", ReasoningPart()),
    "response.reasoning_summary_text.delta": ("summary", ReasoningPart()),
    "response.function_call_arguments.delta": ("call", ToolCallPart(id="", name="", arguments="")),
}


def _started(response: Any, model: str) -> Started:
    response = response if isinstance(response, dict) else {}
    return Started(id=string(response.get("id")), model=model, created=epoch_s(response.get("created_at")))


def _key(value: Json) -> object:
    """Which item an event is about: by its place, or by its id where a server gives no place."""
    place = value.get("output_index")
    if isinstance(place, int):
        return place
    item = value.get("item")
    return string(value.get("item_id")) or (string(item.get("id")) if isinstance(item, dict) else "")
