"""A client's chat body in Cohere's words: what admission must know, and the few fields that pass-through rewrites."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from providers.wire.base import Admitted
from providers.wire.unstreamed import admitted_fields, raw

_Cap = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_BASE64 = b";base64,"


class _Part(Struct, frozen=True, gc=False):
    type: str
    image_url: Raw = Raw()


class _Message(Struct, frozen=True, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_call_id: str | None = None
    tool_plan: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Function(Struct, frozen=True, gc=False):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct, frozen=True, gc=False):
    function: _Function
    type: Literal["function"] = "function"


class _Thinking(Struct, frozen=True, gc=False):
    type: Literal["enabled", "disabled"]
    token_budget: Annotated[int, Meta(ge=1)] | None = None


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    max_tokens: _Cap | None = None
    temperature: float | None = None
    p: float | None = None
    k: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop_sequences: list[str] | None = None
    logprobs: bool | None = None
    tools: list[_Tool] | None = None
    strict_tools: bool | None = None
    tool_choice: Literal["REQUIRED", "NONE"] | None = None
    thinking: _Thinking | None = None
    response_format: dict[str, Any] | None = None
    documents: list[str | dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)


def admit(body: bytes) -> Admitted:
    """Reads a chat body once by its known fields. Raises InvalidRequest, `param` the JSON path of what is wrong."""
    known, fields = admitted_fields(body, _BODY)
    images = [
        bytes(part.image_url)
        for message in known.messages
        if isinstance(message.content, list)
        for part in message.content
        if part.type == "image_url"
    ]
    return Admitted(
        model=known.model,
        stream=bool(known.stream),
        fields=fields,
        message_count=len(known.messages),
        max_output_tokens=known.max_tokens,
        media={"image": len(images)} if images else {},
        media_bytes=sum(_inline_bytes(image) for image in images),
        metadata=known.metadata or {},
        drop_unsupported=bool(known.drop_unsupported),
    )


def _inline_bytes(image: bytes) -> int:
    start = image.find(_BASE64)
    return image.find(b'"', start) - start - len(_BASE64) if start >= 0 else 0


def rewrite(admitted: Admitted, *, model: str, max_output_tokens: int | None) -> bytes:
    """The client's fields with the upstream model and the cap, which lowers its own but never raises it.

    Cohere knows no `metadata`: it is the gateway's own, and stands in the books.
    """
    fields = {name: value for name, value in admitted.fields.items() if name not in ("drop_unsupported", "metadata")}
    fields["model"] = raw(model)
    if max_output_tokens is not None:
        fields["max_tokens"] = raw(min(admitted.max_output_tokens or max_output_tokens, max_output_tokens))
    return msgspec.json.encode(fields)
