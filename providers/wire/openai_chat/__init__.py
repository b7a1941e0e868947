"""The OpenAI chat wire: POST /v1/chat/completions, as OpenAI and the many servers compatible with it speak it.

`WIRE` is the codec in OpenAI's own dialect; an adapter whose server differs makes its own `OpenAIChat(dialect=...)`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from providers import sse
from providers.errors import ProviderError
from providers.unified import Answer, Request, Usage
from providers.wire.base import Admitted
from providers.wire.openai_chat import admit, errors, request_in, request_out, stream, writer
from providers.wire.openai_chat import answer as answers
from providers.wire.openai_chat.dialect import OPENAI, CapField, Dialect
from providers.wire.openai_chat.parts import NAME

__all__ = ["WIRE", "Dialect", "OpenAIChat"]


class OpenAIChat:
    """The codec of `providers.wire.base.Wire` for one dialect. `cap_field` is a short way to name just that."""

    name = NAME
    content_type = "application/json"

    def __init__(self, *, dialect: Dialect | None = None, cap_field: CapField | None = None) -> None:
        dialect = dialect or Dialect()
        self.dialect = msgspec.structs.replace(dialect, cap_field=cap_field) if cap_field else dialect

    # --- client side ---

    def admit(self, body: bytes) -> Admitted:
        return admit.admit(body)

    def decode_request(self, body: bytes) -> Request:
        return request_in.decode_request(body)

    def encode_answer(self, answer: Answer) -> bytes:
        return answers.encode_answer(answer)

    def stream_writer(self, *, admitted: Admitted) -> writer.StreamWriter:
        return writer.StreamWriter(wants_usage=admitted.wants_usage)

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        """The clients of this wire look for "error" in a data event; [DONE] never follows it."""
        return sse.encode(
            data=errors.encode_error(status=status, code=code, message=message, request_id=request_id, call_id=call_id)
        )

    # --- provider side ---

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        return request_out.encode_request(request, dialect=self.dialect, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> Answer:
        return answers.decode_answer(body, dialect=self.dialect)

    def stream_reader(self) -> stream.Reader:
        return stream.Reader(dialect=self.dialect)

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    # --- pass-through ---

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return admit.rewrite(admitted, model=model, max_output_tokens=max_output_tokens, dialect=self.dialect)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answers.read_usage(body, dialect=self.dialect)

    def stream_meter(self, *, admitted: Admitted) -> stream.Meter:
        return stream.Meter(dialect=self.dialect, wants_usage=admitted.wants_usage)


WIRE = OpenAIChat(dialect=OPENAI)
