"""A list of embeddings <-> the unified EmbedAnswer, and its usage: everything that was read, nothing written."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

from providers.counts import Counts, decode_exact
from providers.embeddings import EmbedAnswer, Encoding, Vector, base64_text, floats
from providers.errors import MalformedAnswer
from providers.unified import NO_USAGE, Answer, Json, Usage
from providers.wire.openai_chat.parts import string
from providers.wire.openai_chat.usage import stated_cost
from providers.wire.openai_embeddings.request import NAME
from providers.wire.unstreamed import answer_object

_READ = frozenset({"id", "object", "data", "model", "usage"})


def read_usage(body: bytes) -> tuple[Usage, str]:
    """Usage and served model of a whole answer."""
    value = answer_object(body)
    return _usage_of(value, body), string(value.get("model"))


def decode_answer(body: bytes) -> EmbedAnswer:
    """Raises MalformedAnswer, or the provider's own error where a 200 holds one."""
    value = answer_object(body)
    entries = value.get("data")
    if not isinstance(entries, list):
        raise MalformedAnswer("The provider's answer has no 'data'.")
    placed = [(_index(entry, at), vector_of(_object(entry).get("embedding"))) for at, entry in enumerate(entries)]
    return EmbedAnswer(
        id=string(value.get("id")),
        model=string(value.get("model")),
        vectors=tuple(vector for _, vector in sorted(placed, key=lambda pair: pair[0])),
        usage=_usage_of(value, body),
        extra={key: item for key, item in value.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def _object(entry: Any) -> Json:
    if not isinstance(entry, dict):
        raise MalformedAnswer("An embedding of the provider's answer is not a JSON object.")
    return entry


def _index(entry: Any, at: int) -> int:
    index = entry.get("index") if isinstance(entry, dict) else None
    return index if isinstance(index, int) else at


def vector_of(value: Any) -> Vector:
    """A vector as a provider sends it. Raises MalformedAnswer for what is no list of numbers and no text."""
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, list) or not value:
        raise MalformedAnswer("An embedding of the provider's answer holds no vector.")
    try:
        return msgspec.convert(value, tuple[float, ...])
    except msgspec.ValidationError:
        raise MalformedAnswer("An embedding of the provider's answer is not a list of numbers.") from None


def _usage_of(value: Json, body: bytes) -> Usage:
    if value.get("usage") is None:
        return NO_USAGE
    exact = decode_exact(body)
    return usage_from(raw=value["usage"], exact=exact.get("usage"))


def usage_from(*, raw: Any, exact: Any) -> Usage:
    """Usage of an object with prompt_tokens, or total_tokens where (as at Voyage) there is nothing else."""
    counts = Counts(exact)
    tokens = counts.first(("prompt_tokens",), ("input_tokens",), ("total_tokens",))
    kept = raw if isinstance(raw, dict) else None
    cost = stated_cost(counts.raw)
    if tokens is None:
        return Usage(raw=kept, flags=counts.flags, stated_cost_usd=cost)
    totals: dict[str, Any] = {"input": tokens}
    for meter, name in (("input_image", "image_tokens"), ("input_audio", "audio_tokens")):
        part = counts.within(counts.get("prompt_tokens_details", name) or 0, tokens, meter)
        if part:
            totals[meter] = part
    # Voyage bills what it sees by the pixel; its total takes 560 of them for a token.
    if counts.get("image_pixels") or counts.get("video_pixels"):
        counts.flag("unmetered:pixels")
    return Usage(totals=totals, source="reported", raw=kept, flags=counts.flags, stated_cost_usd=cost)


# --- encode -----------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, *, encoding: Encoding) -> bytes:
    """The list as OpenAI's own client types accept it, its vectors as numbers unless base64 is asked for."""
    if not isinstance(answer, EmbedAnswer):
        raise MalformedAnswer("The provider's answer holds no embeddings.")
    written = base64_text if encoding == "base64" else floats
    tokens = int(answer.usage.totals.get("input", 0))
    body: Json = dict(answer.extra) if answer.wire == NAME else {}
    body |= {
        # OpenAI sends none; Mistral's client reads no answer without.
        "id": answer.id or f"embd-{uuid.uuid4().hex}",
        "object": "list",
        "data": [
            {"object": "embedding", "index": at, "embedding": written(vector)}
            for at, vector in enumerate(answer.vectors)
        ],
        "model": answer.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return msgspec.json.encode(body)
