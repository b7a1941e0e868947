"""Embeddings in unified form: what every embeddings wire can be translated to and from.

They are a Request and an Answer like chat's, with inputs in the place of messages and vectors in that of choices, so
that whatever relays, settles and retries a call does so with both alike. Frozen, no Django, no I/O.
"""

from __future__ import annotations

import base64
import struct
from typing import Literal

from msgspec import Struct

from providers.errors import MalformedAnswer
from providers.unified import Answer, Choice, ImagePart, Message, Request, TextPart

Purpose = Literal["", "query", "document", "classification", "clustering", "similarity"]
Encoding = Literal["", "float", "base64"]
# One vector: its numbers, or the base64 text of little-endian 32-bit floats.
Vector = tuple[float, ...] | str


class EmbedInput(Struct, frozen=True):
    """What one vector is made of: text and images, or the tokens of a text."""

    parts: tuple[TextPart | ImagePart, ...] = ()
    tokens: tuple[int, ...] = ()

    @property
    def text(self) -> str | None:
        """The text, where it is nothing but one."""
        if len(self.parts) == 1 and isinstance(self.parts[0], TextPart):
            return self.parts[0].text
        return None


class EmbedRequest(Request, frozen=True, kw_only=True):
    """`purpose` is what the vectors are for, which some models want to know; `dimensions` how long they should be.

    `purpose_field` is the client's name for the purpose: what a refusal names where a provider cannot be told it. Empty
    where the client's wire demands one of every request, so that it may be no wish at all: then it is told to those who
    ask for it, and is no reason to refuse elsewhere.
    """

    messages: tuple[Message, ...] = ()
    inputs: tuple[EmbedInput, ...]
    dimensions: int | None = None
    encoding: Encoding = ""
    purpose: Purpose = ""
    purpose_field: str = "input_type"


class EmbedAnswer(Answer, frozen=True, kw_only=True):
    """A vector for each input, in their order."""

    choices: tuple[Choice, ...] = ()
    vectors: tuple[Vector, ...]


def floats(vector: Vector) -> tuple[float, ...]:
    """A vector as numbers. Raises MalformedAnswer for base64 that holds no 32-bit floats."""
    if not isinstance(vector, str):
        return vector
    try:
        raw = base64.b64decode(vector, validate=True)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    except (ValueError, struct.error):
        raise MalformedAnswer("A vector of the provider's answer is not base64 of 32-bit floats.") from None


def base64_text(vector: Vector) -> str:
    """A vector as base64 of little-endian 32-bit floats, as OpenAI's. Raises MalformedAnswer beyond their range."""
    if isinstance(vector, str):
        return vector
    try:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    except (OverflowError, struct.error):
        raise MalformedAnswer("A vector of the provider's answer does not fit into 32-bit floats.") from None
