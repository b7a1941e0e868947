"""Cohere's embeddings by type <-> the unified EmbedAnswer, and what was billed for them."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from msgspec import Raw

from providers.counts import decode_exact
from providers.embeddings import EmbedAnswer, base64_text, floats
from providers.errors import MalformedAnswer
from providers.unified import NO_USAGE, Answer, Json, Usage
from providers.wire.cohere_embed.request import NAME
from providers.wire.cohere_rerank.answer import billed
from providers.wire.openai_chat.parts import string
from providers.wire.openai_embeddings.answer import vector_of
from providers.wire.unstreamed import answer_object

# Meter -> its name among the billed units.
_UNITS = (("input", "input_tokens"), ("images", "images"))


def read_usage(body: bytes) -> tuple[Usage, str]:
    """Usage of a whole answer; Cohere does not say which model it served."""
    return _usage_of(answer_object(body), body), ""


def decode_answer(body: bytes) -> EmbedAnswer:
    """Raises MalformedAnswer, or the provider's own error where a 200 holds one."""
    value = answer_object(body)
    return EmbedAnswer(
        id=string(value.get("id")),
        model="",
        vectors=tuple(vector_of(item) for item in _vectors(value.get("embeddings"))),
        usage=_usage_of(value, body),
        wire=NAME,
    )


def _vectors(embeddings: Any) -> list[Any]:
    """The lists by type hold one type, the one that was asked for; version 1 answers with the bare list."""
    if isinstance(embeddings, dict):
        embeddings = next((item for item in embeddings.values() if isinstance(item, list) and item), None)
    if not isinstance(embeddings, list):
        raise MalformedAnswer("The provider's answer has no 'embeddings'.")
    return embeddings


def _usage_of(value: Json, body: bytes) -> Usage:
    meta = value.get("meta")
    if not isinstance(meta, dict) or not isinstance(meta.get("billed_units"), dict):
        return NO_USAGE
    known = {key: item for key, item in meta.items() if key in ("billed_units", "tokens")}
    return billed(raw=known, exact=decode_exact(body)["meta"])


# --- encode -----------------------------------------------------------------------------------------------


def encode_answer(answer: Answer, *, types: tuple[str, ...] = ("float",), texts: Raw | None = None) -> bytes:
    """Embeddings by type ("float", "base64"), as Cohere's own client types accept them; `texts` stand beside them."""
    if not isinstance(answer, EmbedAnswer):
        raise MalformedAnswer("The provider's answer holds no embeddings.")
    embeddings: Json = {}
    if "float" in types:
        embeddings["float"] = [floats(vector) for vector in answer.vectors]
    if "base64" in types:
        embeddings["base64"] = [base64_text(vector) for vector in answer.vectors]
    totals = answer.usage.totals
    units = {name: int(totals[meter]) for meter, name in _UNITS if meter in totals}
    body: Json = {
        "id": answer.id or str(uuid.uuid4()),
        "embeddings": embeddings,
        "texts": texts if texts is not None and bytes(texts) != b"null" else [],
        "meta": {"api_version": {"version": "2"}, **({"billed_units": units} if units else {})},
        "response_type": "embeddings_by_type",
    }
    return msgspec.json.encode(body)
