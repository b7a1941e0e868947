"""Ollama's embeddings: POST /api/embed. A provider's wire only; clients speak OpenAI's.

https://docs.ollama.com/api/embed
"""

from __future__ import annotations

import msgspec

from providers.embeddings import EmbedAnswer
from providers.errors import MalformedAnswer
from providers.unified import Json, Request, Usage
from providers.wire.ollama.usage import read_embedding
from providers.wire.openai_chat.parts import string, unsupported
from providers.wire.openai_embeddings.answer import vector_of
from providers.wire.openai_embeddings.request import embed_request, own_extra, refuse_purpose
from providers.wire.unstreamed import ProviderSide, answer_object


class OllamaEmbed(ProviderSide):
    name = "ollama_embed"

    def __init__(self, *, defaults: Json | None = None) -> None:
        self.defaults = defaults or {}

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        """Raises Unsupported(param) for anything but texts, for `user` and for a purpose."""
        asked = embed_request(request)
        texts: list[str] = []
        for at, item in enumerate(asked.inputs):
            if item.text is None:
                raise unsupported("anything but text", f"input[{at}]")
            texts.append(item.text)
        if asked.user and not drop_unsupported:
            raise unsupported("'user'", "user")
        refuse_purpose(asked, drop_unsupported=drop_unsupported)
        body: Json = {**self.defaults, "model": asked.model, "input": texts}
        if asked.dimensions is not None:
            body["dimensions"] = asked.dimensions
        body.update(own_extra(asked, wire=self.name, drop_unsupported=drop_unsupported))
        return msgspec.json.encode(body)

    def decode_answer(self, body: bytes) -> EmbedAnswer:
        value = answer_object(body)
        vectors = value.get("embeddings")
        if not isinstance(vectors, list):
            raise MalformedAnswer("The provider's answer has no 'embeddings'.")
        return EmbedAnswer(
            id="",
            model=string(value.get("model")),
            vectors=tuple(vector_of(vector) for vector in vectors),
            usage=read_embedding(value),
            wire=self.name,
        )

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        value = answer_object(body)
        return read_embedding(value), string(value.get("model"))


WIRE = OllamaEmbed()
