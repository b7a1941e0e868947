"""Unified events -> the chunks that a client of this wire reads."""

from __future__ import annotations

from providers.sse import encode
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
from providers.wire.gemini import answer, usage
from providers.wire.gemini.names import dumps

# Stands for a thought whose text was begun: the text itself is not kept.
_THOUGHT = ReasoningPart(text="...")


class Writer:
    """See `providers.wire.base.StreamWriter`. A function call goes out whole, when its arguments are."""

    def __init__(self, *, model: str) -> None:
        self._head: Json = {"modelVersion": model}
        # (choice, index) -> the part so far; texts are written on and not kept.
        self._parts: dict[tuple[int, int], Part] = {}
        self._signatures: dict[int, str] = {}
        self._sources: dict[int, list[Json]] = {}
        self._stopped: dict[int, StopReason] = {}
        self._ended = False

    def write(self, event: Event) -> bytes:
        match event:
            case Started():
                self._head = {"modelVersion": event.model or self._head["modelVersion"], "responseId": event.id}
                return b""
            case PartStarted():
                return self._start(event)
            case PartDelta():
                return self._continue(event)
            case PartStopped():
                return self._stop(event)
            case Stopped():
                self._stopped[event.choice] = event.reason
                return b""
            case Finished():
                return self._end(usage.write(event.usage))

    def finish(self) -> bytes:
        """The wire has no mark for the end of a stream; finish reasons that still wait go out here."""
        return self._end(None)

    def _start(self, event: PartStarted) -> bytes:
        part = event.part
        key = (event.choice, event.index)
        self._parts[key] = part
        match part:
            case ReasoningPart() if part.redacted:
                pass
            case TextPart() | RefusalPart() | ReasoningPart():
                signature = part.signature if isinstance(part, ReasoningPart) else ""
                return self._continue(PartDelta(event.index, part.text, signature, choice=event.choice))
            case ToolCallPart():
                return b""
        value = answer.answer_part(part, own=False)
        return b"" if value is None else self._chunk(event.choice, self._signed(event.choice, value))

    def _continue(self, event: PartDelta) -> bytes:
        key = (event.choice, event.index)
        part = self._parts.get(key)
        if isinstance(part, ToolCallPart):
            arguments = part.arguments + event.text
            self._parts[key] = ToolCallPart(id=part.id, name=part.name, arguments=arguments)
            return b""
        if isinstance(part, ReasoningPart):
            if event.text:
                self._parts[key] = _THOUGHT
            return self._think(event, told=part is _THOUGHT)
        if event.citation is not None:
            cited = answer.grounding_metadata([TextPart("", citations=(event.citation,))])
            self._sources.setdefault(event.choice, []).extend(cited.get("groundingChunks", ()))
        if not event.text:
            return self._chunk(event.choice, None, logprobs=event.logprobs) if event.logprobs else b""
        said = self._signed(event.choice, {"text": event.text})
        return self._chunk(event.choice, said, logprobs=event.logprobs)

    def _think(self, event: PartDelta, *, told: bool) -> bytes:
        """A signature ends the thought whose text was `told` before it; one of no text waits for the next part."""
        signature = answer.signature_of(ReasoningPart(signature=event.signature), own=False)
        if event.text or (told and signature):
            signed = {"thoughtSignature": signature} if signature else {}
            return self._chunk(event.choice, {"text": event.text, "thought": True, **signed})
        if signature:
            self._signatures[event.choice] = signature
        return b""

    def _stop(self, event: PartStopped) -> bytes:
        part = self._parts.pop((event.choice, event.index), None)
        if not isinstance(part, ToolCallPart):
            return b""
        value = answer.answer_part(part, own=False)
        return b"" if value is None else self._chunk(event.choice, self._signed(event.choice, value))

    def _signed(self, choice: int, value: Json) -> Json:
        signature = self._signatures.pop(choice, "")
        return {**value, "thoughtSignature": signature} if signature else value

    def _end(self, counts: Json | None) -> bytes:
        if self._ended:
            return b""
        self._ended = True
        candidates = []
        for choice, reason in sorted((self._stopped or {0: "unknown"}).items()):
            left = self._signatures.pop(choice, "")
            parts: list[Json] = [{"text": "", "thoughtSignature": left}] if left else []
            candidate: Json = {"content": {"role": "model", "parts": parts}, "index": choice}
            candidate["finishReason"] = answer.finish_reason(reason)
            if self._sources.get(choice):
                candidate["groundingMetadata"] = {"groundingChunks": self._sources[choice]}
            candidates.append(candidate)
        said = {} if counts is None else {"usageMetadata": counts}
        return encode(data=dumps({"candidates": candidates, **said, **self._head}))

    def _chunk(self, choice: int, part: Json | None, *, logprobs: Json | None = None) -> bytes:
        parts = [] if part is None else [part]
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": choice}
        likely = answer.logprobs_result(logprobs)
        if likely:
            candidate["logprobsResult"] = likely
        return encode(data=dumps({"candidates": [candidate], **self._head}))
