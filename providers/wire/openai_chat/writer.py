"""Unified events -> the chunks of a chat stream, as OpenAI's own clients read them."""

from __future__ import annotations

import time
from collections.abc import Iterator

from providers import sse
from providers.unified import (
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
    RefusalPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
)
from providers.wire.jsontext import dumps
from providers.wire.openai_chat.answer import (
    TIERS,
    encode_citation,
    encode_image,
    encode_usage,
    finish_reason,
    new_id,
)
from providers.wire.openai_chat.parts import NAME, encode_details

_DONE = b"data: [DONE]\n\n"


class StreamWriter:
    """Writes one stream; every event gives the bytes to send, often one chunk, sometimes none."""

    def __init__(self, *, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._head: Json = {}
        # (choice, part index) -> the part as it started, and for a tool call its index among the calls of its choice.
        self._parts: dict[tuple[int, int], tuple[Part, int]] = {}
        self._calls: dict[int, int] = {}
        self._roles: set[int] = set()
        self._text_chars: dict[int, int] = {}

    def write(self, event: Event) -> bytes:
        return b"".join(self._write(event))

    def finish(self) -> bytes:
        return _DONE

    def _write(self, event: Event) -> Iterator[bytes]:
        match event:
            case Started():
                self._begin(event)
                yield self._delta(0, {"content": ""})
            case PartStarted():
                yield from self._start(event)
            case PartDelta():
                yield from self._piece(event)
            case PartStopped():
                return
            case Stopped():
                reason = finish_reason(event.reason, called_tools=bool(self._calls.get(event.choice)))
                yield self._delta(event.choice, {}, finish=reason)
            case Finished():
                yield from self._end(event)

    def _begin(self, event: Started) -> None:
        self._head = {
            "id": event.id or new_id(),
            "object": "chat.completion.chunk",
            "created": event.created or int(time.time()),
            "model": event.model,
        }

    def _start(self, event: PartStarted) -> Iterator[bytes]:
        part, choice = event.part, event.choice
        at = 0
        match part:
            case ToolCallPart():
                at = self._calls.get(choice, 0)
                self._calls[choice] = at + 1
                function = {"name": part.name, "arguments": part.arguments}
                call = {"index": at, "id": part.id, "type": "function", "function": function}
                yield self._delta(choice, {"tool_calls": [call]})
            case ImagePart():
                yield self._delta(choice, {"images": [encode_image(part)]})
            case ReasoningPart() if part.redacted:
                yield self._delta(choice, {"reasoning_details": encode_details([part])})
            case OpaquePart() if part.wire == NAME and part.value.get("type") == "audio":
                yield self._delta(choice, {"audio": part.value["audio"]})
        self._parts[choice, event.index] = (part, at)
        if isinstance(part, TextPart | RefusalPart | ReasoningPart):
            signature = part.signature if isinstance(part, ReasoningPart) else ""
            if part.text or signature:
                yield from self._piece(PartDelta(index=event.index, text=part.text, signature=signature, choice=choice))
            for citation in part.citations if isinstance(part, TextPart) else ():
                yield from self._piece(PartDelta(index=event.index, citation=citation, choice=choice))

    def _piece(self, event: PartDelta) -> Iterator[bytes]:
        part, at = self._parts[event.choice, event.index]
        delta: Json = {}
        match part:
            case TextPart():
                delta = self._text(event)
            case RefusalPart():
                delta = {"refusal": event.text}
            case ReasoningPart():
                delta = {"reasoning_content": event.text} if event.text else {}
                if event.signature:
                    signed = {"type": "reasoning.text", "signature": event.signature, "index": event.index}
                    delta["reasoning_details"] = [signed]
            case ToolCallPart():
                delta = {"tool_calls": [{"index": at, "function": {"arguments": event.text}}]}
        if delta or event.logprobs:
            yield self._delta(event.choice, delta, logprobs=event.logprobs)

    def _text(self, event: PartDelta) -> Json:
        chars = self._text_chars.get(event.choice, 0) + len(event.text)
        self._text_chars[event.choice] = chars
        delta: Json = {"content": event.text} if event.text else {}
        if event.citation is not None:
            annotation = encode_citation(event.citation, start=0, end=chars)
            if annotation:
                delta["annotations"] = [annotation]
        return delta

    def _end(self, event: Finished) -> Iterator[bytes]:
        if self._wants_usage and event.usage.totals:
            tier = {"service_tier": event.usage.service_tier} if event.usage.service_tier in TIERS else {}
            yield _chunk({**self._head, **tier, "choices": [], "usage": encode_usage(event.usage)})

    def _delta(self, choice: int, delta: Json, *, finish: str | None = None, logprobs: Json | None = None) -> bytes:
        """One chunk; the first of each choice names the role."""
        if choice not in self._roles:
            self._roles.add(choice)
            delta = {"role": "assistant", **delta}
        value = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        # With the usage event asked for, OpenAI's other chunks say that theirs is null.
        usage: Json = {"usage": None} if self._wants_usage else {}
        return _chunk({**self._head, "choices": [value], **usage})


def _chunk(value: Json) -> bytes:
    return sse.encode(data=dumps(value))
