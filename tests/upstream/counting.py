"""The fake provider's counting of tokens: what it would bill as input, and bills nothing for saying so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from tests.upstream.wires import Chat, Converse, Generate, Messages, Shape

if TYPE_CHECKING:
    from tests.upstream.shapes import Asked


class Counting(Shape):
    """One number under the name that the wire gives it."""

    bills = False
    field = "input_tokens"

    def streams(self, body: dict[str, Any], path: str) -> bool:
        return False

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {self.field: input_tokens}

    def whole(self, asked: Asked) -> bytes:
        return msgspec.json.encode(asked.counts() or {})


class CountMessages(Counting, Messages):
    """Anthropic's."""


class CountResponses(Counting, Chat):
    """OpenAI's."""


class CountGenerate(Counting, Generate):
    """Google's."""

    field = "totalTokens"


class CountConverse(Counting, Converse):
    """Bedrock's."""

    field = "inputTokens"


_BY_PATH: tuple[tuple[re.Pattern[str], Shape], ...] = (
    (re.compile(r"/v1/messages/count_tokens$"), CountMessages()),
    (re.compile(r"/v1/responses/input_tokens$"), CountResponses()),
    (re.compile(r"/models/[^/:]+:countTokens$"), CountGenerate()),
    (re.compile(r"/model/[^/]+/count-tokens$"), CountConverse()),
)


def shape_of(path: str) -> Shape | None:
    return next((shape for pattern, shape in _BY_PATH if pattern.search(path)), None)
