"""The Converse wire of AWS Bedrock: one API for the models of many makers, streamed as AWS event streams.

request_in.py    body -> unified request          request_out.py   unified request -> body
blocks.py        content blocks <-> parts         answer.py        whole answers
stream.py        a provider's stream: meter and reader             writer.py     the stream for a client
usage.py         counts                           errors.py        error bodies and exception frames
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers import eventstream
from providers.errors import ProviderError
from providers.unified import Answer, Request, Usage
from providers.wire.base import Admitted, StreamMeter, StreamReader, StreamWriter, Wire
from providers.wire.bedrock_converse import answer, errors, request_in, request_out, stream, writer
from providers.wire.bedrock_converse.blocks import NAME
from providers.wire.counting import Counting
from providers.wire.jsontext import dumps

__all__ = ["COUNT", "WIRE", "BedrockConverse"]


class BedrockConverse:
    """The functions of this package in the shape of `providers.wire.base.Wire`, with frames of its own."""

    name: str = NAME
    content_type: str = "application/json"

    def stream_decoder(self) -> eventstream.Decoder:
        return eventstream.Decoder()

    def admit(self, body: bytes) -> Admitted:
        return request_in.admit(body)

    def decode_request(self, body: bytes) -> Request:
        return request_in.decode_request(body)

    def encode_answer(self, answer_: Answer) -> bytes:
        return answer.encode_answer(answer_)

    def stream_writer(self, *, admitted: Admitted) -> StreamWriter:
        return writer.StreamWriter()

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        """An exception frame, of the type that AWS's own clients know for the status."""
        kind = {429: "throttlingException", 503: "serviceUnavailableException"}.get(status, "modelStreamErrorException")
        headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
        said = {"message": f"{message} ({code}, call {call_id or request_id})"}
        return eventstream.encode(data=dumps(said), headers=headers)

    def encode_request(self, request_: Request, *, drop_unsupported: bool = False) -> bytes:
        return request_out.encode_request(request_, drop_unsupported=drop_unsupported)

    def decode_answer(self, body: bytes) -> Answer:
        return answer.decode_answer(body)

    def stream_reader(self) -> StreamReader:
        return stream.Reader()

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return request_in.rewrite(admitted, max_output_tokens=max_output_tokens)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answer.read_usage(body)

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter:
        return stream.Meter()


class BedrockCounting(Counting):
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html"""

    def enclosed(self, fields: dict[str, Any], *, model: str) -> dict[str, Any]:
        return {"input": {"converse": fields}}


WIRE: Wire = BedrockConverse()
COUNT: Wire = BedrockCounting(
    name="bedrock_count_tokens",
    chat=WIRE,
    read=frozenset({"messages", "system", "toolConfig", "additionalModelRequestFields"}),
    field="inputTokens",
)
