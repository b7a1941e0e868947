"""Counting tokens on this wire: `POST /v1/messages/count_tokens`, a message without a cap in, one number out.

https://platform.claude.com/docs/en/api/messages-count-tokens
"""

from __future__ import annotations

import msgspec

from providers.unified import Answer, Request
from providers.wire.anthropic_messages import admission, request
from providers.wire.base import Admitted, Wire
from providers.wire.counting import Counting, number_answer
from providers.wire.jsontext import dumps
from providers.wire.unstreamed import refuse_stream

NAME = "anthropic_count_tokens"
_READ = frozenset({"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "mcp_servers"})
_FIELD = "input_tokens"


class AnthropicCounting(Counting):
    """Both sides: what Anthropic's clients ask and what Anthropic answers."""

    def __init__(self, *, chat: Wire) -> None:
        super().__init__(name=NAME, chat=chat, read=_READ, field=_FIELD)

    def admit(self, body: bytes) -> Admitted:
        """As a message's, but that no cap is needed and nothing streams."""
        admitted = admission.admit_count(body)
        if admitted.stream:
            refuse_stream()
        return msgspec.structs.replace(admitted, max_output_tokens=None, operation="count_tokens")

    def decode_request(self, body: bytes) -> Request:
        return request.decode_request(body)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return admission.rewrite(admitted, model=model)

    def encode_answer(self, answer: Answer) -> bytes:
        return dumps(number_answer(answer, field=_FIELD))
