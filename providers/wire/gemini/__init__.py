"""The Gemini wire: `models/NAME:generateContent` and `:streamGenerateContent?alt=sse`, of Google's API and of Vertex.

admission.py   what admission reads of a body, and the pass-through rewrite
names.py       the two spellings of every field       models.py    what differs between generations of models
parts.py       content parts <-> unified parts        schema.py    Google's schemas -> JSON schema
request.py     body -> unified request                encode.py    unified request -> body: tools and the rest,
               history.py its messages, settings.py its generationConfig, refusal.py what cannot be said
answer.py      whole answers                          grounding.py sources -> citations and billed searches
stream.py      a provider's stream: meter and reader
writer.py      the stream for a client                usage.py     counts       errors.py    error bodies
counting.py    countTokens                             signatures.py other providers' signatures, carried by clients

The model and the choice to stream stand in the path, not in the body: `encode_request` leaves them to the adapter. On
the client's side a surface puts them into the body as "model" and "stream"; `rewrite` takes them out again.
https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

from collections.abc import Mapping

from providers.errors import ProviderError
from providers.unified import Answer, Request, Usage
from providers.wire.base import Admitted, StreamMeter, StreamReader, StreamWriter, Wire
from providers.wire.gemini import admission, answer, encode, errors, request, stream, writer
from providers.wire.gemini.counting import GeminiCounting, VertexCounting
from providers.wire.gemini.names import NAME


class Gemini:
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
        return admission.rewrite(admitted, max_output_tokens=max_output_tokens)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answer.read_usage(body)

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter:
        return stream.Meter(candidates=admitted.n)


WIRE: Wire = Gemini()
COUNT: Wire = GeminiCounting(chat=WIRE)
VERTEX_COUNT: Wire = VertexCounting(chat=WIRE)

__all__ = ["COUNT", "VERTEX_COUNT", "WIRE", "Gemini"]
