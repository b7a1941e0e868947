"""The Anthropic messages wire: `POST /v1/messages` as a client speaks it and as Anthropic answers it.

admission.py   what admission reads of a body, and the pass-through rewrite
request.py     body -> unified request          encode.py   unified request -> body
blocks.py      content blocks <-> parts         answer.py   whole answers
stream.py      a provider's stream: meter and reader
writer.py      the stream for our client        usage.py    counts     errors.py   error bodies
counting.py    POST /v1/messages/count_tokens
https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping

from providers.errors import ProviderError
from providers.unified import Answer, Request, Usage
from providers.wire.anthropic_messages import admission, answer, encode, errors, request, stream, writer
from providers.wire.anthropic_messages.blocks import NAME
from providers.wire.anthropic_messages.counting import AnthropicCounting
from providers.wire.base import Admitted, StreamMeter, StreamReader, StreamWriter, Wire


class AnthropicMessages:
    """The functions of this package in the shape of `providers.wire.base.Wire`."""

    name: str = NAME
    content_type: str = "application/json"

    def admit(self, body: bytes) -> Admitted:
        return admission.admit(body)

    def decode_request(self, body: bytes) -> Request:
        return request.decode_request(body)

    def encode_answer(self, answer_: Answer) -> bytes:
        return answer.encode_answer(answer_)

    def stream_writer(self, *, admitted: Admitted) -> StreamWriter:
        return writer.Writer(model=admitted.model)

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        return errors.encode_stream_error(
            status=status, code=code, message=message, request_id=request_id, call_id=call_id
        )

    def encode_request(self, request_: Request, *, drop_unsupported: bool = False) -> bytes:
        return encode.encode_request(request_, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> Answer:
        return answer.decode_answer(body)

    def stream_reader(self) -> StreamReader:
        return stream.Reader()

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return admission.rewrite(admitted, model=model, max_output_tokens=max_output_tokens)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answer.read_usage(body)

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter:
        return stream.Meter()


WIRE: Wire = AnthropicMessages()
COUNT: Wire = AnthropicCounting(chat=WIRE)

__all__ = ["COUNT", "WIRE", "AnthropicMessages"]
