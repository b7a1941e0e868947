"""Cohere's embeddings wire: POST /v2/embed. https://docs.cohere.com/reference/embed"""

from __future__ import annotations

from providers.embeddings import EmbedAnswer, EmbedRequest
from providers.unified import Answer, Request, Usage
from providers.wire.base import Admitted
from providers.wire.cohere.unstreamed import CohereUnstreamed
from providers.wire.cohere_embed import answer as answers
from providers.wire.cohere_embed import request as requests
from providers.wire.cohere_rerank.request import rewrite

__all__ = ["WIRE", "CohereEmbed"]


class CohereEmbed(CohereUnstreamed):
    """The codec of `providers.wire.base.Wire`."""

    name = requests.NAME

    def admit(self, body: bytes) -> Admitted:
        return requests.admit(body)

    def decode_request(self, body: bytes) -> EmbedRequest:
        return requests.decode_request(body)

    def encode_answer(self, answer: Answer) -> bytes:
        return answers.encode_answer(answer)

    def encode_answer_as_asked(self, answer: Answer, *, admitted: Admitted) -> bytes:
        """Vectors of each type that was asked for, and the texts once more, as Cohere repeats them."""
        return answers.encode_answer(answer, types=requests.asked_types(admitted), texts=admitted.fields.get("texts"))

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        return requests.encode_request(request, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> EmbedAnswer:
        return answers.decode_answer(body)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return rewrite(admitted, model=model)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answers.read_usage(body)


WIRE = CohereEmbed()
