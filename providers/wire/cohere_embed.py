"""Cohere's embeddings: POST /v2/embed. A provider's wire only; clients speak OpenAI's."""

from __future__ import annotations

from typing import Any

import msgspec

from providers.counts import decode_exact
from providers.embeddings import EmbedAnswer, EmbedInput, Purpose
from providers.errors import MalformedAnswer
from providers.unified import NO_USAGE, ImagePart, Json, Request, Usage
from providers.wire.cohere_rerank.answer import billed
from providers.wire.openai_chat.parts import encode_part, string, unsupported
from providers.wire.openai_embeddings.answer import vector_of
from providers.wire.openai_embeddings.request import embed_request, own_extra
from providers.wire.unstreamed import ProviderSide, answer_object

# Required from version 3 of the models on. A client of OpenAI's wire most often indexes, so documents are the default.
_INPUT_TYPES: dict[Purpose, str] = {
    "": "search_document",
    "document": "search_document",
    "query": "search_query",
    "classification": "classification",
    "clustering": "clustering",
    "similarity": "clustering",
}


class CohereEmbed(ProviderSide):
    name = "cohere_embed"

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        """Raises Unsupported(param) for tokens instead of text, and for `user`."""
        asked = embed_request(request)
        body: Json = {
            "model": asked.model,
            "input_type": _INPUT_TYPES[asked.purpose],
            "embedding_types": ["base64" if asked.encoding == "base64" else "float"],
            **_inputs(asked.inputs),
        }
        if asked.dimensions is not None:
            body["output_dimension"] = asked.dimensions
        if asked.user and not drop_unsupported:
            raise unsupported("'user'", "user")
        body.update(own_extra(asked, wire=self.name, drop_unsupported=drop_unsupported))
        return msgspec.json.encode(body)

    def decode_answer(self, body: bytes) -> EmbedAnswer:
        value = answer_object(body)
        return EmbedAnswer(
            id=string(value.get("id")),
            model="",
            vectors=tuple(vector_of(item) for item in _vectors(value.get("embeddings"))),
            usage=_usage_of(value, body),
            wire=self.name,
        )

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return _usage_of(answer_object(body), body), ""


def _inputs(inputs: tuple[EmbedInput, ...]) -> Json:
    """Plain texts as `texts`; with an image among them, each input as a list of content."""
    for at, item in enumerate(inputs):
        if item.tokens:
            raise unsupported("tokens instead of text", f"input[{at}]")
    texts = [item.text for item in inputs]
    if all(text is not None for text in texts):
        return {"texts": texts}
    contents: list[Json] = []
    for at, item in enumerate(inputs):
        for part in item.parts:
            # https://docs.cohere.com/reference/embed: images come inline only.
            if isinstance(part, ImagePart) and not part.data:
                raise unsupported("an image by its URL", f"input[{at}]")
        content = [encode_part(part, keep_cache_control=False, param=f"input[{at}]") for part in item.parts]
        contents.append({"content": content})
    return {"inputs": contents}


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


WIRE = CohereEmbed()
