"""The rerank wire: POST /v2/rerank as Cohere speaks it, and after it Together, OpenRouter, Jina, vLLM and llama.cpp.

`V2` is the same wire with Cohere's own errors; those of `WIRE`, which is POST /v1/rerank, are in OpenAI's shape.
`VOYAGE` is the same operation in Voyage's words (`top_k`, results in `data`): it has no client side.
"""

from __future__ import annotations

import msgspec

from providers.rerank import RerankAnswer, RerankRequest
from providers.unified import Answer, Json, Request, Usage
from providers.wire.base import Admitted
from providers.wire.cohere.unstreamed import CohereUnstreamed
from providers.wire.cohere_rerank import answer as answers
from providers.wire.cohere_rerank import request as requests
from providers.wire.openai_embeddings.request import own_extra
from providers.wire.unstreamed import ProviderSide, Unstreamed

__all__ = ["V2", "VOYAGE", "WIRE", "CohereRerank", "CohereRerankV2", "VoyageRerank"]


class CohereRerank(Unstreamed):
    """The codec of `providers.wire.base.Wire`."""

    name = requests.NAME

    def admit(self, body: bytes) -> Admitted:
        return requests.admit(body)

    def decode_request(self, body: bytes) -> RerankRequest:
        return requests.decode_request(body)

    def encode_answer(self, answer: Answer) -> bytes:
        return answers.encode_answer(answer)

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        return requests.encode_request(request, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> RerankAnswer:
        return answers.decode_answer(body)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return requests.rewrite(admitted, model=model)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answers.read_usage(body)


class CohereRerankV2(CohereUnstreamed, CohereRerank):
    """Cohere's own: its errors around the same bodies."""


class VoyageRerank(ProviderSide):
    """https://docs.voyageai.com/reference/reranker-api"""

    name = "voyage_rerank"

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        asked = requests.rerank_request(request)
        body: Json = {"model": asked.model, "query": asked.query, "documents": list(asked.documents)}
        if asked.top_n is not None:
            body["top_k"] = asked.top_n
        if asked.return_documents is not None:
            body["return_documents"] = asked.return_documents
        body.update(own_extra(asked, wire=self.name, drop_unsupported=drop_unsupported))
        return msgspec.json.encode(body)

    def decode_answer(self, body: bytes) -> RerankAnswer:
        return msgspec.structs.replace(answers.decode_answer(body), wire=self.name)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answers.read_usage(body)


WIRE = CohereRerank()
V2 = CohereRerankV2()
VOYAGE = VoyageRerank()
