"""Cohere's chat wire: POST /v2/chat. Its embeddings and rerank are wires of their own."""

from __future__ import annotations

from collections.abc import Mapping

from providers.errors import ProviderError
from providers.unified import Answer, Request, Usage
from providers.wire.base import Admitted
from providers.wire.cohere import admission, errors, request_in, request_out, stream, writer
from providers.wire.cohere import answer as answers
from providers.wire.cohere.parts import NAME

__all__ = ["WIRE", "CohereChat"]


class CohereChat:
    """The codec of `providers.wire.base.Wire`."""

    name = NAME
    content_type = "application/json"

    # --- client side ---

    def admit(self, body: bytes) -> Admitted:
        return admission.admit(body)

    def decode_request(self, body: bytes) -> Request:
        return request_in.decode_request(body)

    def encode_answer(self, answer: Answer) -> bytes:
        return answers.encode_answer(answer)

    def stream_writer(self, *, admitted: Admitted) -> writer.StreamWriter:
        return writer.StreamWriter()

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        return errors.encode_stream_error(code=code, message=message, request_id=request_id, call_id=call_id)

    # --- provider side ---

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        return request_out.encode_request(request, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> Answer:
        return answers.decode_answer(body)

    def stream_reader(self) -> stream.Reader:
        return stream.Reader()

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    # --- pass-through ---

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return admission.rewrite(admitted, model=model, max_output_tokens=max_output_tokens)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answers.read_usage(body)

    def stream_meter(self, *, admitted: Admitted) -> stream.Meter:
        return stream.Meter()


WIRE = CohereChat()
