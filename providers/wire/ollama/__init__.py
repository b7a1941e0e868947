"""Ollama's own chat wire: POST /api/chat, streamed as one JSON object a line.

admission.py    what admission reads of a body      parts.py     messages <-> parts
request_in.py   body -> unified request             request_out.py   unified request -> body
answer.py       whole answers                       usage.py     counts, of /api/generate and /api/embed too
stream.py       a provider's stream                 writer.py    the stream for a client
https://docs.ollama.com/api/chat
"""

from __future__ import annotations

from collections.abc import Mapping

from providers import ndjson
from providers.errors import ProviderError
from providers.unified import Answer, Json, Request, Usage
from providers.wire.base import Admitted
from providers.wire.jsontext import dumps
from providers.wire.ollama import admission, answer, request_in, request_out, stream, writer
from providers.wire.ollama.parts import NAME
from providers.wire.openai_chat import errors

__all__ = ["WIRE", "OllamaChat"]


class OllamaChat:
    """The codec of `providers.wire.base.Wire`, with lines for frames. `defaults` are fields that every translated body
    gets unless its request has them: `keep_alive`, and `options` such as {"num_ctx": 16384}, merged one by one."""

    name = NAME
    content_type = "application/json"

    def __init__(self, *, defaults: Json | None = None) -> None:
        self.defaults = defaults or {}

    def stream_decoder(self) -> ndjson.Decoder:
        return ndjson.Decoder()

    # --- client side ---

    def admit(self, body: bytes) -> Admitted:
        return admission.admit(body)

    def decode_request(self, body: bytes) -> Request:
        return request_in.decode_request(body)

    def encode_answer(self, answer_: Answer) -> bytes:
        return answer.encode_answer(answer_)

    def stream_writer(self, *, admitted: Admitted) -> writer.StreamWriter:
        return writer.StreamWriter()

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        """{"error": text} as Ollama writes it, with our code, field and ids beside it."""
        said = {"error": message, "code": code, "param": param, "request_id": request_id, "call_id": call_id}
        return dumps({key: value for key, value in said.items() if value})

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        said = self.encode_error(status=status, code=code, message=message, request_id=request_id, call_id=call_id)
        return said + b"\n"

    # --- provider side ---

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        return request_out.encode_request(request, defaults=self.defaults, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> Answer:
        return answer.decode_answer(body)

    def stream_reader(self) -> stream.Reader:
        return stream.Reader()

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    # --- pass-through ---

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return admission.rewrite(admitted, model=model, max_output_tokens=max_output_tokens)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answer.read_usage(body)

    def stream_meter(self, *, admitted: Admitted) -> stream.Meter:
        return stream.Meter()


WIRE = OllamaChat()
