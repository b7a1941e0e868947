"""The OpenAI responses wire: `POST /v1/responses`, as OpenAI and the servers compatible with it speak it.

admission.py     what admission reads of a body, and the pass-through rewrite
request_in.py    body -> unified request          request_out.py   unified request -> body
items.py         items <-> messages               parts.py         content parts <-> parts
answer.py        whole responses                  usage.py         counts           errors.py   error bodies
stream.py        a provider's stream: meter and reader             writer.py        the stream for our client
https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Mapping

from providers.errors import ProviderError
from providers.unified import Answer, Request, Usage
from providers.wire.base import Admitted, StreamMeter, StreamReader, StreamWriter, Wire
from providers.wire.counting import Counting
from providers.wire.openai_responses import admission, answer, errors, request_in, request_out, stream, writer
from providers.wire.openai_responses.parts import NAME
from providers.wire.openai_responses.usage import Dialect

__all__ = ["COUNT", "WIRE", "Dialect", "OpenAIResponses"]


class OpenAIResponses:
    """The functions of this package in the shape of `providers.wire.base.Wire`, for one dialect."""

    name: str = NAME
    content_type: str = "application/json"

    def __init__(self, *, dialect: Dialect | None = None) -> None:
        self.dialect = dialect or Dialect()

    def admit(self, body: bytes) -> Admitted:
        return admission.admit(body)

    def decode_request(self, body: bytes) -> Request:
        return request_in.decode_request(body)

    def encode_answer(self, answer_: Answer) -> bytes:
        return answer.encode_answer(answer_)

    def stream_writer(self, *, admitted: Admitted) -> StreamWriter:
        return writer.StreamWriter(model=admitted.model)

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
        return request_out.encode_request(request_, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> Answer:
        return answer.decode_answer(body, dialect=self.dialect)

    def stream_reader(self) -> StreamReader:
        return stream.Reader(dialect=self.dialect)

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return admission.rewrite(admitted, model=model, max_output_tokens=max_output_tokens)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answer.read_usage(body, dialect=self.dialect)

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter:
        return stream.Meter(dialect=self.dialect)


WIRE: Wire = OpenAIResponses()
# POST /v1/responses/input_tokens: https://platform.openai.com/docs/api-reference/responses/input-tokens
COUNT: Wire = Counting(
    name="openai_input_tokens",
    chat=WIRE,
    read=frozenset(
        {"model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"}
    ),
    field="input_tokens",
)
