"""Ranked results <-> the unified RerankAnswer, and what was billed for them: search units, or tokens."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.counts import Counts, decode_exact
from providers.errors import MalformedAnswer
from providers.rerank import Ranked, RerankAnswer
from providers.unified import NO_USAGE, Answer, Json, Usage
from providers.wire.cohere_rerank.request import NAME
from providers.wire.openai_chat.parts import string
from providers.wire.openai_embeddings.answer import usage_from
from providers.wire.unstreamed import answer_object

_READ = frozenset({"id", "model", "results", "data", "object", "meta", "usage"})


def read_usage(body: bytes) -> tuple[Usage, str]:
    """Usage and served model of a whole answer."""
    value = answer_object(body)
    return usage_of(value, body), string(value.get("model"))


def usage_of(value: Json, body: bytes) -> Usage:
    """`meta.billed_units` as Cohere states it; servers of the same shape count in `usage`: tokens, or as OpenRouter
    for Cohere's models the search units that are billed in their place."""
    meta, usage = value.get("meta"), value.get("usage")
    if isinstance(meta, dict) and isinstance(meta.get("billed_units"), dict):
        exact = decode_exact(body)["meta"]
        return billed(raw=_known_meta(meta), exact=exact)
    if usage is None:
        return NO_USAGE
    told = usage_from(raw=usage, exact=decode_exact(body).get("usage"))
    units = Counts(usage).get("search_units")
    return msgspec.structs.replace(told, totals={"search_units": units}, source="reported") if units else told


def _known_meta(meta: Json) -> Json:
    return {key: item for key, item in meta.items() if key in ("billed_units", "tokens", "cached_tokens")}


def billed(*, raw: Json, exact: Any) -> Usage:
    """Usage of Cohere's `billed_units`: what it bills, which is less than the tokens that the model read.

    Image tokens stand beside `input_tokens` where `text_tokens` are counted apart or are all there is.
    """
    counts = Counts(exact)
    units = "billed_units"
    totals: dict[str, Any] = {}
    images = counts.get(units, "image_tokens") or 0
    texts, whole = counts.get(units, "text_tokens"), counts.get(units, "input_tokens")
    if whole is None and (texts is not None or images):
        whole = (texts or 0) + images
    elif whole is not None and images:
        whole = max(whole, (texts if texts is not None else whole) + images)
    for meter, quantity in (
        ("input", whole),
        ("input_image", images or None),
        ("output", counts.get(units, "output_tokens")),
        ("images", counts.get(units, "images") or None),
        ("search_units", counts.get(units, "search_units") or None),
    ):
        if quantity is not None:
            totals[meter] = quantity
    return Usage(totals=totals, source="reported" if totals else "none", raw=raw, flags=counts.flags)


# --- answers ----------------------------------------------------------------------------------------------


def decode_answer(body: bytes) -> RerankAnswer:
    """Results in `results`, or in `data` as Voyage has them. Raises MalformedAnswer, or the error that a 200 holds."""
    value = answer_object(body)
    results = value.get("results", value.get("data"))
    if not isinstance(results, list):
        raise MalformedAnswer("The provider's answer has no 'results'.")
    return RerankAnswer(
        id=string(value.get("id")),
        model=string(value.get("model")),
        results=tuple(_ranked(item) for item in results),
        usage=usage_of(value, body),
        extra={key: item for key, item in value.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def _ranked(item: Any) -> Ranked:
    held = item if isinstance(item, dict) else {}
    index, score, document = held.get("index"), held.get("relevance_score"), held.get("document")
    if isinstance(index, bool) or not isinstance(index, int) or not isinstance(score, int | float):
        raise MalformedAnswer("A result of the provider's answer has no index and relevance_score.")
    text = document.get("text") if isinstance(document, dict) else document
    return Ranked(index=index, score=float(score), text=string(text))


def encode_answer(answer: Answer) -> bytes:
    """The answer as Cohere's own client types accept it."""
    if not isinstance(answer, RerankAnswer):
        raise MalformedAnswer("The provider's answer holds no ranked documents.")
    body: Json = dict(answer.extra) if answer.wire == NAME else {}
    if answer.id:
        body["id"] = answer.id
    if answer.model:
        body["model"] = answer.model
    body["results"] = [_encode_ranked(item) for item in answer.results]
    totals, units = answer.usage.totals, {}
    for meter, name in (("search_units", "search_units"), ("input", "input_tokens")):
        if totals.get(meter):
            units[name] = int(totals[meter])
    body["meta"] = {"api_version": {"version": "2"}, "billed_units": units}
    return msgspec.json.encode(body)


def _encode_ranked(item: Ranked) -> Json:
    document = {"document": {"text": item.text}} if item.text else {}
    return {"index": item.index, "relevance_score": item.score, **document}
