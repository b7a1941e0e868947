"""The OpenAI embeddings wire: POST /v1/embeddings, as OpenAI and the servers compatible with it speak it."""

from __future__ import annotations

import msgspec

from providers.embeddings import EmbedAnswer, EmbedRequest
from providers.unified import Answer, Request, Usage
from providers.wire.base import Admitted
from providers.wire.openai_embeddings import answer as answers
from providers.wire.openai_embeddings import request as requests
from providers.wire.openai_embeddings.dialect import OPENAI, EmbedDialect
from providers.wire.unstreamed import Unstreamed

__all__ = ["WIRE", "EmbedDialect", "OpenAIEmbeddings"]


class OpenAIEmbeddings(Unstreamed):
    """The codec of `providers.wire.base.Wire` for one dialect."""

    name = requests.NAME

    def __init__(self, *, dialect: EmbedDialect = OPENAI) -> None:
        self.dialect = dialect

    def admit(self, body: bytes) -> Admitted:
        return requests.admit(body)

    def decode_request(self, body: bytes) -> EmbedRequest:
        return requests.decode_request(body)

    def encode_answer(self, answer: Answer) -> bytes:
        return answers.encode_answer(answer, encoding="float")

    def encode_answer_as_asked(self, answer: Answer, *, admitted: Admitted) -> bytes:
        """OpenAI's own clients ask for base64 unless told otherwise, and some read nothing else then."""
        stated = admitted.fields.get("encoding_format")
        wants_base64 = stated is not None and msgspec.json.decode(stated) == "base64"
        return answers.encode_answer(answer, encoding="base64" if wants_base64 else "float")

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        return requests.encode_request(request, dialect=self.dialect, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> EmbedAnswer:
        return answers.decode_answer(body)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return requests.rewrite(admitted, model=model, dialect=self.dialect)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answers.read_usage(body)


WIRE = OpenAIEmbeddings()
