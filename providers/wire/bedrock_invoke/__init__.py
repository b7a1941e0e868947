"""Bedrock's InvokeModel with Anthropic's models: the body is Anthropic's own, so nothing of it is lost.

The Converse API knows less than a message says. Here the model and the stream stand in the path, `anthropic_version` in
the body, and the events of a stream are packed into AWS's frames: unpacked, they are what Anthropic's clients read.
frames.py   AWS's frames -> Anthropic's events      stream.py   what AWS adds to a stream: exceptions, counts of its own
usage.py    the counts of every model's own shape, and those in headers
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from providers.errors import ProviderError
from providers.unified import Request, Usage
from providers.wire.anthropic_messages import AnthropicMessages
from providers.wire.anthropic_messages import answer as answers
from providers.wire.base import Admitted, StreamMeter, StreamReader
from providers.wire.bedrock_converse import errors
from providers.wire.bedrock_invoke import frames, stream, usage

__all__ = ["WIRE", "AnthropicOnBedrock"]

VERSION = "bedrock-2023-05-31"
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


class AnthropicOnBedrock(AnthropicMessages):
    """Anthropic's wire under its own name: what a client of /v1/messages sent passes through. `betas` are the features
    to turn on where the body does not say (`anthropic_beta`)."""

    def __init__(self, *, betas: tuple[str, ...] = ()) -> None:
        self.betas = betas

    def stream_decoder(self) -> frames.Decoder:
        return frames.Decoder()

    def encode_request(self, request_: Request, *, drop_unsupported: bool = False) -> bytes:
        return self._placed(_FIELDS.decode(super().encode_request(request_, drop_unsupported=drop_unsupported)))

    def stream_reader(self) -> StreamReader:
        return stream.Reader()

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        body = super().rewrite(admitted, model=model, max_output_tokens=max_output_tokens)
        return self._placed(_FIELDS.decode(body))

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        told, served = answers.read_usage(body)
        return (told, served) if told.source == "reported" else (usage.of_answer(body), served)

    def usage_of_headers(self, headers: Mapping[str, str]) -> Usage:
        return usage.of_headers(headers)

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter:
        return stream.Meter()

    def _placed(self, fields: dict[str, Raw]) -> bytes:
        """The body without what stands in the path; Bedrock refuses a body that names its model."""
        for name in ("model", "stream"):
            fields.pop(name, None)
        fields.setdefault("anthropic_version", Raw(msgspec.json.encode(VERSION)))
        if self.betas:
            fields.setdefault("anthropic_beta", Raw(msgspec.json.encode(self.betas)))
        return msgspec.json.encode(fields)


WIRE = AnthropicOnBedrock()
