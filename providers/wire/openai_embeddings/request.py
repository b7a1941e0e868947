"""An embeddings body: admitted, rewritten for pass-through, and <-> the unified EmbedRequest."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from providers.embeddings import EmbedInput, EmbedRequest, Encoding, Purpose
from providers.errors import InvalidRequest, Unsupported
from providers.unified import ImagePart, Json, Request, TextPart
from providers.wire.base import Admitted, json_object
from providers.wire.openai_chat.parts import decode_part, encode_part, unsupported
from providers.wire.openai_embeddings.dialect import EmbedDialect
from providers.wire.unstreamed import admitted_fields, raw, refuse_stream

NAME = "openai_embeddings"
MAX_INPUTS = 2048

_Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Text = Annotated[str, Meta(min_length=1)]
_Tokens = Annotated[list[_Token], Meta(min_length=1)]


class _Multimodal(Struct, frozen=True, gc=False):
    """Several parts for one vector, as OpenRouter and Cohere take them."""

    content: Annotated[list[dict[str, Any]], Meta(min_length=1)]


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    input: _Text | Annotated[list[_Text | _Token | _Tokens | _Multimodal], Meta(min_length=1)]
    dimensions: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    # The same in the words of Mistral's and Voyage's clients.
    output_dimension: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    encoding_format: str | None = None
    input_type: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    stream: bool | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)
_READ = frozenset(_Body.__struct_fields__)
_ENCODINGS: dict[str, Encoding] = {"float": "float", "base64": "base64"}
_PURPOSES: dict[str, Purpose] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "classification": "classification",
    "clustering": "clustering",
    "similarity": "similarity",
}


def admit(body: bytes) -> Admitted:
    """Raises InvalidRequest, `param` the JSON path of what is wrong."""
    known, fields = admitted_fields(body, _BODY)
    if known.stream:
        refuse_stream()
    return msgspec.structs.replace(
        admitted_inputs(_inputs(known), model=known.model, fields=fields),
        user=known.user or "",
        metadata=known.metadata or {},
        drop_unsupported=bool(known.drop_unsupported),
    )


def admitted_inputs(inputs: tuple[EmbedInput, ...], *, model: str, fields: dict[str, Raw]) -> Admitted:
    """What admission must know of inputs that are to become vectors, in whichever words they came."""
    images = [part for item in inputs for part in item.parts if isinstance(part, ImagePart)]
    return Admitted(
        model=model,
        stream=False,
        fields=fields,
        message_count=len(inputs),
        media={"image": len(images)} if images else {},
        media_bytes=sum(len(part.data) for part in images),
        operation="embeddings",
        fees={"images": len(images)} if images else {},
    )


def rewrite(admitted: Admitted, *, model: str, dialect: EmbedDialect) -> bytes:
    """The client's fields with the upstream model, in the server's words; all else as it came."""
    fields = dict(admitted.fields)
    fields.pop("drop_unsupported", None)
    fields["model"] = raw(model)
    if dialect.dimensions_field != "dimensions" and "dimensions" in fields:
        fields.setdefault(dialect.dimensions_field, fields.pop("dimensions"))
    if not dialect.knows_float and bytes(fields.get("encoding_format", b"")) == b'"float"':
        del fields["encoding_format"]
    for name in dialect.refused:
        if name in fields:
            if not admitted.drop_unsupported:
                raise unsupported(f"{name!r}", name)
            del fields[name]
    return msgspec.json.encode(fields)


def decode_request(body: bytes) -> EmbedRequest:
    """Raises InvalidRequest for what `admit` refuses."""
    admitted = admit(body)
    known = _BODY.decode(body)
    extra: Json = {key: item for key, item in json_object(body).items() if key not in _READ and item is not None}
    purpose = _PURPOSES.get((known.input_type or "").lower(), "")
    if known.input_type and not purpose:
        extra["input_type"] = known.input_type
    encoding = _ENCODINGS.get(known.encoding_format or "", "")
    if known.encoding_format and not encoding:
        extra["encoding_format"] = known.encoding_format
    return EmbedRequest(
        model=admitted.model,
        inputs=_inputs(known),
        dimensions=known.dimensions or known.output_dimension,
        encoding=encoding,
        purpose=purpose,
        user=admitted.user,
        metadata=dict(admitted.metadata),
        extra=extra,
        wire=NAME,
    )


def _inputs(known: _Body) -> tuple[EmbedInput, ...]:
    if isinstance(known.input, str):
        return (EmbedInput(parts=(TextPart(text=known.input),)),)
    tokens = tuple(item for item in known.input if isinstance(item, int))
    if tokens:
        if len(tokens) != len(known.input):
            raise InvalidRequest("Tokens and texts cannot stand in one list, at '$.input'.", param="$.input")
        return (EmbedInput(tokens=tokens),)
    if len(known.input) > MAX_INPUTS:
        raise InvalidRequest(f"There are more than {MAX_INPUTS} inputs, at '$.input'.", param="$.input")
    return tuple(_input(item, f"$.input[{at}]") for at, item in enumerate(known.input))


def _input(item: Any, path: str) -> EmbedInput:
    if isinstance(item, str):
        return EmbedInput(parts=(TextPart(text=item),))
    if isinstance(item, _Multimodal):
        parts = [part for value in item.content for part in decode_part(value)]
        known = [part for part in parts if isinstance(part, TextPart | ImagePart)]
        if len(known) != len(parts):
            raise InvalidRequest(f"An input holds text and images only, at {path!r}.", param=f"{path}.content")
        return EmbedInput(parts=tuple(known))
    return EmbedInput(tokens=tuple(item))


# --- encode -----------------------------------------------------------------------------------------------


def encode_request(request: Request, *, dialect: EmbedDialect, drop_unsupported: bool) -> bytes:
    """Raises Unsupported(param) for what a server of this dialect cannot be told, unless `drop_unsupported`."""
    asked = embed_request(request)
    same_wire = asked.wire == NAME
    body: Json = {"model": asked.model, "input": _encode_inputs(asked.inputs)}
    if asked.dimensions is not None:
        body[dialect.dimensions_field] = asked.dimensions
    if asked.encoding == "base64" or (asked.encoding and dialect.knows_float):
        body["encoding_format"] = asked.encoding
    if asked.purpose:
        word = dialect.purposes.get(asked.purpose) or (asked.purpose if same_wire else "")
        if word:
            body["input_type"] = word
        else:
            refuse_purpose(asked, drop_unsupported=drop_unsupported)
    if asked.user:
        body["user"] = asked.user
    if asked.metadata and same_wire:
        body["metadata"] = asked.metadata
    body.update(own_extra(asked, wire=NAME, drop_unsupported=drop_unsupported))
    for name in dialect.refused:
        if body.pop(name, None) is not None and not drop_unsupported:
            raise unsupported(f"{name!r}", name)
    return msgspec.json.encode(body)


def embed_request(request: Request) -> EmbedRequest:
    """The request of an embeddings wire. Raises Unsupported for a chat request."""
    if not isinstance(request, EmbedRequest):
        raise Unsupported("This model makes embeddings: it cannot be sent messages.", param="model")
    return request


def refuse_purpose(asked: EmbedRequest, *, drop_unsupported: bool) -> None:
    """For a wire without a word for it. Raises Unsupported for a purpose that the client need not have stated."""
    if asked.purpose and asked.purpose_field and not drop_unsupported:
        raise unsupported(f"{asked.purpose_field!r}", asked.purpose_field)


def own_extra(request: Request, *, wire: str, drop_unsupported: bool) -> Json:
    """Fields without a unified place go back to their own wire. Raises Unsupported for those of another."""
    if request.wire == wire:
        return request.extra
    for name in request.extra:
        if not drop_unsupported:
            raise unsupported(f"{name!r}", name)
    return {}


def _encode_inputs(inputs: tuple[EmbedInput, ...]) -> Any:
    values: list[Any] = []
    for at, item in enumerate(inputs):
        if item.tokens:
            values.append(list(item.tokens))
        elif item.text is not None:
            values.append(item.text)
        else:
            path = f"input[{at}]"
            content = [encode_part(part, keep_cache_control=False, param=path) for part in item.parts]
            values.append({"content": content})
    return values


