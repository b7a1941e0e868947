"""A client's chat body in Ollama's words: what admission must know, and the few fields that pass-through rewrites."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from providers.wire.base import Admitted
from providers.wire.unstreamed import admitted_fields, raw

# -1 and -2 are this wire's words for no cap at all.
_Cap = Annotated[int, Meta(ge=-2, le=2**31 - 1)]


class _Function(Struct, frozen=True, gc=False):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None


class _Call(Struct, frozen=True, gc=False):
    function: _Function
    id: str | None = None


class _Tool(Struct, frozen=True, gc=False):
    function: _Function
    type: Literal["function"] = "function"


class _Message(Struct, frozen=True, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Options(Struct, frozen=True, gc=False):
    num_predict: _Cap | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: list[str] | None = None


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    options: _Options | None = None
    tools: list[_Tool] | None = None
    think: bool | str | None = None
    format: str | dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)


def admit(body: bytes) -> Admitted:
    """Reads a chat body once by its known fields. Raises InvalidRequest, `param` the JSON path of what is wrong."""
    known, fields = admitted_fields(body, _BODY)
    images = [image for message in known.messages for image in message.images or ()]
    cap = known.options.num_predict if known.options else None
    return Admitted(
        model=known.model,
        # Streaming is what a client of this wire gets unless it says no.
        stream=known.stream is not False,
        fields=fields,
        message_count=len(known.messages),
        max_output_tokens=cap if cap and cap > 0 else None,
        media={"image": len(images)} if images else {},
        media_bytes=sum(map(len, images)),
        drop_unsupported=bool(known.drop_unsupported),
    )


def rewrite(admitted: Admitted, *, model: str, max_output_tokens: int | None) -> bytes:
    """The client's fields with the upstream model and the cap, which lowers its own but never raises it."""
    fields = dict(admitted.fields)
    fields.pop("drop_unsupported", None)
    fields["model"] = raw(model)
    if max_output_tokens is not None:
        options = msgspec.json.decode(fields["options"], type=dict[str, Raw] | None) if "options" in fields else None
        cap = min(admitted.max_output_tokens or max_output_tokens, max_output_tokens)
        fields["options"] = raw((options or {}) | {"num_predict": raw(cap)})
    return msgspec.json.encode(fields)
