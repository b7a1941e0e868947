"""A stream of Cohere's chat: watched on its way through (`Meter`), or read into unified events (`Reader`).

https://docs.cohere.com/docs/streaming: message-start, then content-*, tool-plan-delta, tool-call-* and citation-*, and
message-end with the finish reason and the usage. It is over as meant at message-end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

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
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.base import Verdict
from providers.wire.cohere import usage as usages
from providers.wire.cohere.answer import decode_logprobs, failed, stop_reason
from providers.wire.cohere.errors import failed_generation
from providers.wire.cohere.parts import decode_citation
from providers.wire.openai_chat.errors import error_from
from providers.wire.openai_chat.parts import string
from providers.wire.openai_chat.request_in import arguments_text

_WRITTEN = ("text", "thinking")


class Watch:
    """What both sides must know of a stream: its usage, bytes and end. Feed it every event in order."""

    def __init__(self) -> None:
        self.complete = False
        self.output_bytes = 0
        self.model = ""
        self._over = False
        self._usage: Usage = NO_USAGE

    @property
    def usage(self) -> Usage:
        """The usage of message-end, also of one that says the generation failed; "partial" before it."""
        if self._usage.source == "reported" and not self._over:
            return msgspec.structs.replace(self._usage, source="partial")
        return self._usage

    def event(self, event: ServerEvent) -> tuple[str, Json]:
        """(type, event), taken note of; ("", {}) for comments, pings and [DONE].

        Raises MalformedAnswer, or the error that the provider put into its stream.
        """
        data = event.data
        if not data or data.isspace() or data.strip() == b"[DONE]":
            return "", {}
        try:
            value = decode(data)
        except ValueError as error:
            raise MalformedAnswer("An event of the provider's stream is not JSON.") from error
        if not isinstance(value, dict):
            raise MalformedAnswer("An event of the provider's stream is not a JSON object.")
        kind = string(value.get("type")) or event.event
        if kind == "error" or ("type" not in value and isinstance(value.get("message"), str)):
            raise error_from(value, status=None)
        self._note(kind, value, data)
        return kind, value

    def _note(self, kind: str, value: Json, data: bytes) -> None:
        message = _message(value)
        if kind in ("content-start", "content-delta"):
            content = _object(message.get("content"))
            self.output_bytes += sum(_size(content.get(name)) for name in _WRITTEN)
        elif kind == "tool-plan-delta":
            self.output_bytes += _size(message.get("tool_plan"))
        elif kind in ("tool-call-start", "tool-call-delta"):
            function = _object(_call(message).get("function"))
            self.output_bytes += _size(function.get("name")) + _size(arguments_text(function.get("arguments")))
        elif kind == "message-end":
            self._end(_object(value.get("delta")), data)

    def _end(self, delta: Json, data: bytes) -> None:
        self._over = True
        if isinstance(delta.get("usage"), dict):
            exact = _object(decode_exact(data)["delta"]).get("usage")
            self._usage = usages.read(raw=delta["usage"], exact=exact)
        if delta.get("error") or failed(delta.get("finish_reason")):
            raise failed_generation(delta)
        self.complete = True


class Meter(Watch):
    """Pass-through: everything is forwarded while the usage is watched."""

    def see(self, event: ServerEvent) -> Verdict:
        kind, _ = self.event(event)
        return "last" if kind == "message-end" else "forward"


class Reader(Watch):
    """Stream events -> unified events. At most one part is open: the next one closes it.

    A text stays open beyond its content-end, because its citations may follow.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._closed = False
        self._next = 0
        self._open = ""

    def feed(self, event: ServerEvent) -> list[Event]:
        kind, value = self.event(event)
        return list(self._read(kind, value)) if kind and not self._closed else []

    def end(self) -> list[Event]:
        if not self.complete:
            raise StreamInterrupted("The provider's stream broke off before its end.")
        return []

    def _read(self, kind: str, value: Json) -> Iterator[Event]:
        said = list(self._said_by(kind, value))
        # What nobody knows yet does not begin the answer.
        if not self._started and (said or kind == "message-start"):
            self._started = True
            yield Started(id=string(value.get("id")), model=self.model)
        yield from said

    def _said_by(self, kind: str, value: Json) -> Iterator[Event]:
        message = _message(value)
        match kind:
            case "content-start":
                yield from self._content_start(_object(message.get("content")))
            case "content-delta":
                yield from self._content(_object(message.get("content")), value.get("logprobs"))
            case "tool-plan-delta":
                yield from self._append("plan", TextPart(text=""), string(message.get("tool_plan")))
            case "tool-call-start":
                yield from self._call_start(_call(message))
            case "tool-call-delta":
                arguments = arguments_text(_object(_call(message).get("function")).get("arguments"))
                if arguments and self._open == "call":
                    yield PartDelta(index=self._next - 1, text=arguments)
            case "tool-call-end":
                yield from self._stop()
            case "citation-start":
                yield from self._cite(message.get("citations"))
            case "message-end":
                yield from self._finish(_object(value.get("delta")))

    def _content_start(self, content: Json) -> Iterator[Event]:
        thinks = content.get("type") == "thinking" or isinstance(content.get("thinking"), str)
        yield from self._start("thinking" if thinks else "text", ReasoningPart() if thinks else TextPart(text=""))
        yield from self._content(content, None)

    def _content(self, content: Json, logprobs: Any) -> Iterator[Event]:
        thought, text = string(content.get("thinking")), string(content.get("text"))
        if thought:
            yield from self._append("thinking", ReasoningPart(), thought)
        told = decode_logprobs([logprobs] if isinstance(logprobs, dict) else logprobs)
        if text or told:
            yield from self._append("text", TextPart(text=""), text, logprobs=told)

    def _call_start(self, call: Json) -> Iterator[Event]:
        function = _object(call.get("function"))
        call_id = string(call.get("id")) or f"call_{self._next}"
        yield from self._start("call", ToolCallPart(id=call_id, name=string(function.get("name")), arguments=""))
        arguments = arguments_text(function.get("arguments"))
        if arguments:
            yield PartDelta(index=self._next - 1, text=arguments)

    def _cite(self, citations: Any) -> Iterator[Event]:
        """One citation, or a list of them; a text is opened for it where none is open."""
        for citation in citations if isinstance(citations, list) else [citations]:
            if isinstance(citation, dict):
                kind = self._open if self._open in ("text", "plan") else "text"
                yield from self._append(kind, TextPart(text=""), "", citation=decode_citation(citation))

    def _finish(self, delta: Json) -> Iterator[Event]:
        yield from self._stop()
        self._closed = True
        yield Stopped(reason=stop_reason(delta.get("finish_reason")))
        yield Finished(usage=self.usage)

    def _append(
        self, kind: str, empty: Part, text: str, *, logprobs: Json | None = None, citation: Json | None = None
    ) -> Iterator[Event]:
        if self._open != kind:
            yield from self._start(kind, empty)
        yield PartDelta(index=self._next - 1, text=text, logprobs=logprobs, citation=citation)

    def _start(self, kind: str, part: Part) -> Iterator[Event]:
        yield from self._stop()
        self._open = kind
        self._next += 1
        yield PartStarted(index=self._next - 1, part=part)

    def _stop(self) -> Iterator[Event]:
        if self._open:
            self._open = ""
            yield PartStopped(index=self._next - 1)


def _message(value: Json) -> Json:
    return _object(_object(value.get("delta")).get("message"))


def _call(message: Json) -> Json:
    """`tool_calls` holds one call, by itself or in a list of one."""
    calls = message.get("tool_calls")
    return _object(calls[0] if isinstance(calls, list) and calls else calls)


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _size(value: Any) -> int:
    # Half of a surrogate pair may end a piece: it has a size, though no encoding.
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0
