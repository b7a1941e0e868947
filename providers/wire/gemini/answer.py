"""Whole answers: `GenerateContentResponse` <-> the unified answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from providers.counts import decode
from providers.errors import ContentRefused, MalformedAnswer
from providers.scrub import scrub
from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    FilePart,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    StopReason,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from providers.wire.gemini import grounding, parts, signatures, usage
from providers.wire.gemini.errors import error_from
from providers.wire.gemini.history import arguments
from providers.wire.gemini.names import NAME, camel, dumps, obj, objects, string

_STOP_REASONS: dict[str, StopReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
# With enums asked for as numbers (`$alt=json;enum-encoding=int`).
_BY_NUMBER = ("", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")
_WORDS: dict[StopReason, str] = {
    "length": "MAX_TOKENS",
    "context_window": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "refusal": "SAFETY",
    "unknown": "OTHER",
}
_KNOWN = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "createTime"})


def read_usage(body: bytes) -> tuple[Usage, str]:
    """(usage, served model) of a whole answer. MalformedAnswer when the body is no JSON object."""
    value = answer_object(body)
    return usage_of(value), served(value)


def decode_answer(body: bytes) -> Answer:
    """The unified answer. Raises MalformedAnswer, ContentRefused for a prompt that was blocked, or the error inside."""
    value = answer_object(body)
    refused(value)
    candidates = value.get("candidates")
    if not isinstance(candidates, list):
        raise MalformedAnswer("The provider's answer has no candidates.")
    response_id = string(value.get("responseId"))
    return Answer(
        id=response_id,
        model=served(value),
        choices=tuple(_choice(candidate, at, response_id) for at, candidate in enumerate(objects(candidates))),
        usage=usage_of(value),
        created=created_at(value),
        extra={name: item for name, item in value.items() if name not in _KNOWN},
        wire=NAME,
    )


def answer_object(body: bytes) -> Json:
    """The JSON object of a 200, its names in camelCase. Raises MalformedAnswer, or the error that it holds."""
    try:
        value = decode(body)
    except ValueError as error:
        raise MalformedAnswer("The provider's answer is not JSON.") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    if value.get("error") and not value.get("candidates"):
        raise error_from(value, status=None)
    return camel(value)


def refused(value: Json) -> None:
    """Raises ContentRefused where the prompt was blocked before any candidate was made."""
    feedback = obj(value.get("promptFeedback"))
    reason = feedback.get("blockReason")
    if reason and not value.get("candidates"):
        said = string(feedback.get("blockReasonMessage")) or "The provider blocked the prompt"
        raise ContentRefused(f"{scrub(said)} ({scrub(str(reason))}).", upstream_code=scrub(str(reason)))


def usage_of(value: Json) -> Usage:
    searches = grounding.Searches()
    for candidate in objects(value.get("candidates")):
        searches.note(candidate)
    return usage.read(value.get("usageMetadata"), searches=searches.web(served(value)), maps=searches.maps)


def served(value: Json) -> str:
    return string(value.get("modelVersion"))


def created_at(value: Json) -> int:
    """Vertex says when; 0 where nothing is said. Seconds since 1970."""
    try:
        return int(datetime.fromisoformat(string(value.get("createTime"))).timestamp())
    except ValueError:
        return 0


def stop_reason(word: Any, *, called: bool) -> StopReason:
    """A turn that ends in function calls is a STOP here, too."""
    if isinstance(word, int) and not isinstance(word, bool):
        word = _BY_NUMBER[word] if 0 <= word < len(_BY_NUMBER) else ""
    reason = _STOP_REASONS.get(string(word), "unknown")
    return "tool_calls" if called and reason in ("stop", "unknown") else reason


def _choice(candidate: Json, at: int, response_id: str) -> Choice:
    index = candidate.get("index")
    number = index if isinstance(index, int) else at
    calls = parts.Calls(f"{response_id}/{number}")
    said: list[Part] = []
    texts: list[grounding.Text] = []
    offset = 0
    for place, value in enumerate(objects(obj(candidate.get("content")).get("parts"))):
        for part in parts.decode_part(value, calls):
            if isinstance(part, TextPart):
                texts.append(grounding.Text(place, part.text, offset))
                offset += len(part.text)
            said.append(part)
    called = any(isinstance(part, ToolCallPart) for part in said)
    return Choice(
        parts=tuple(_cited(said, grounding.citations(candidate, texts))),
        stop_reason=stop_reason(candidate.get("finishReason"), called=called),
        index=number,
        logprobs=logprobs(candidate),
    )


def _cited(said: list[Part], citations: list[Json]) -> list[Part]:
    """Citations count from the beginning of all text, and go to the last part of it."""
    for at in reversed(range(len(said))):
        part = said[at]
        if citations and isinstance(part, TextPart):
            return [*said[:at], TextPart(text=part.text, citations=tuple(citations)), *said[at + 1 :]]
    return said


def logprobs(candidate: Json) -> Json | None:
    """`logprobsResult` in the words of the chat wire, which is what clients of every surface know."""
    result = obj(candidate.get("logprobsResult"))
    chosen, tops = objects(result.get("chosenCandidates")), result.get("topCandidates")
    if not chosen:
        return None
    content = []
    for at, token in enumerate(chosen):
        listed = obj(tops[at]) if isinstance(tops, list) and at < len(tops) else {}
        alternatives = [_token(other) for other in objects(listed.get("candidates"))]
        content.append({**_token(token), "top_logprobs": alternatives})
    return {"content": content, "refusal": None}


def logprobs_result(value: Json | None) -> Json:
    """`logprobsResult` of log probabilities in the words of the chat wire; {} for none."""
    tokens = objects((value or {}).get("content"))
    if not tokens:
        return {}
    tops = [{"candidates": [_candidate(top) for top in objects(token.get("topLogprobs"))]} for token in tokens]
    result: Json = {"chosenCandidates": [_candidate(token) for token in tokens]}
    return result | ({"topCandidates": tops} if any(top["candidates"] for top in tops) else {})


def _candidate(token: Json) -> Json:
    return {"token": string(token.get("token")), "logProbability": token.get("logprob")}


def _token(value: Json) -> Json:
    text, number = string(value.get("token")), value.get("logProbability")
    said = number if isinstance(number, int | float) and not isinstance(number, bool) else 0.0
    return {"token": text, "logprob": said, "bytes": list(text.encode("utf-8", "surrogatepass"))}


# --- to a client ------------------------------------------------------------------------------------------


def encode_answer(answer: Answer) -> bytes:
    """A `GenerateContentResponse`."""
    own = answer.wire == NAME
    body: Json = {"candidates": [_encode_choice(choice, own=own) for choice in answer.choices]}
    raw = answer.usage.raw if own else None
    body["usageMetadata"] = usage.write(answer.usage) if raw is None else raw
    body |= {"modelVersion": answer.model, "responseId": answer.id}
    if answer.created:
        body["createTime"] = datetime.fromtimestamp(answer.created, UTC).isoformat().replace("+00:00", "Z")
    return dumps(body | (answer.extra if own else {}))


def finish_reason(reason: StopReason) -> str:
    return _WORDS.get(reason, "STOP")


def _encode_choice(choice: Choice, *, own: bool) -> Json:
    candidate: Json = {"content": {"role": "model", "parts": answer_parts(choice.parts, own=own)}}
    candidate |= {"finishReason": finish_reason(choice.stop_reason), "index": choice.index}
    sources = grounding_metadata(choice.parts)
    if sources:
        candidate["groundingMetadata"] = sources
    likely = logprobs_result(choice.logprobs)
    return candidate | ({"logprobsResult": likely} if likely else {})


def answer_parts(said: Iterable[Part], *, own: bool) -> list[Json]:
    """Content parts; a signature goes onto the part after it, or onto an empty text at the end.

    `own`: the answer is Google's, and so are its signatures.
    """
    values: list[Json] = []
    signature = ""
    for part in said:
        if isinstance(part, ReasoningPart) and not part.text and not part.redacted:
            signature = signature_of(part, own=own) or signature
            continue
        value = answer_part(part, own=own)
        if value is None:
            continue
        if signature and not isinstance(part, ReasoningPart):
            value, signature = {**value, "thoughtSignature": signature}, ""
        values.append(value)
    return [*values, {"text": "", "thoughtSignature": signature}] if signature else values


def signature_of(part: ReasoningPart, *, own: bool) -> str:
    return part.signature if own and not part.redacted else signatures.carried(part)


def answer_part(part: Part, *, own: bool) -> Json | None:
    """A part of an answer; None for what a client of this wire could not have asked for."""
    match part:
        case TextPart() | RefusalPart():
            return {"text": part.text} if part.text else None
        case ReasoningPart():
            signature = signature_of(part, own=own)
            signed = {"thoughtSignature": signature} if signature else {}
            return {"text": part.text, "thought": True, **signed} if part.text or part.redacted else None
        case ToolCallPart():
            return parts.call_part(part, arguments(part.arguments))
        case ImagePart() | FilePart():
            return parts.media_part(part)
        case AudioPart():
            return parts.audio_part(part)
        case OpaquePart():
            return part.value if part.wire == NAME else None
        case ToolResultPart():
            return None


def grounding_metadata(said: Iterable[Part]) -> Json:
    """The sources of all text, as chunks of the web."""
    found: list[Json] = []
    for part in said:
        for citation in part.citations if isinstance(part, TextPart) else ():
            link = citation["url_citation"] if isinstance(citation.get("url_citation"), dict) else citation
            if string(link.get("url")):
                found.append({"web": {"uri": link["url"], "title": string(link.get("title"))}})
    return {"groundingChunks": found} if found else {}
