"""An embeddings body in Cohere's words: admitted, rewritten for pass-through, and <-> the unified EmbedRequest."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from providers.embeddings import EmbedInput, EmbedRequest, Encoding, Purpose
from providers.errors import InvalidRequest
from providers.unified import ImagePart, Json, Request, TextPart
from providers.wire.base import Admitted, json_object
from providers.wire.cohere.parts import decode_block
from providers.wire.openai_chat.parts import encode_part, split_data_url, unsupported
from providers.wire.openai_embeddings.request import admitted_inputs, embed_request, own_extra
from providers.wire.unstreamed import admitted_fields, refuse_stream

NAME = "cohere_embed"
# What every provider's vectors can be turned into; the others are Cohere's own roundings.
_EXACT_TYPES = ("float", "base64")
# Required from version 3 of the models on. A client of OpenAI's wire most often indexes, so documents are the default.
_INPUT_TYPES: dict[Purpose, str] = {
    "": "search_document",
    "document": "search_document",
    "query": "search_query",
    "classification": "classification",
    "clustering": "clustering",
    "similarity": "clustering",
}
# "image" says what the inputs are, which they say themselves.
_PURPOSES: dict[str, Purpose] = {
    "search_document": "document",
    "search_query": "query",
    "classification": "classification",
    "clustering": "clustering",
    "image": "",
}


class _Input(Struct, frozen=True, gc=False):
    """Several blocks for one vector."""

    content: Annotated[list[dict[str, Any]], Meta(min_length=1)]


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    texts: list[Annotated[str, Meta(min_length=1)]] | None = None
    images: list[Annotated[str, Meta(min_length=1)]] | None = None
    inputs: list[_Input] | None = None
    input_type: str | None = None
    embedding_types: list[str] | None = None
    output_dimension: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    truncate: str | None = None
    metadata: dict[str, str] | None = None
    stream: bool | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)
_READ = frozenset(_Body.__struct_fields__)
_TYPES = msgspec.json.Decoder(list[str] | None)


def admit(body: bytes) -> Admitted:
    """Raises InvalidRequest, `param` the JSON path of what is wrong."""
    known, fields = admitted_fields(body, _BODY)
    if known.stream:
        refuse_stream()
    return msgspec.structs.replace(
        admitted_inputs(_inputs(known), model=known.model, fields=fields),
        metadata=known.metadata or {},
        drop_unsupported=bool(known.drop_unsupported),
    )


def decode_request(body: bytes) -> EmbedRequest:
    """Raises InvalidRequest for what `admit` refuses."""
    admitted = admit(body)
    known = _BODY.decode(body)
    extra: Json = {key: item for key, item in json_object(body).items() if key not in _READ and item is not None}
    if known.input_type and known.input_type not in _PURPOSES:
        extra["input_type"] = known.input_type
    # Others refuse what is too long, which is "NONE" here.
    if known.truncate and known.truncate != "NONE":
        extra["truncate"] = known.truncate
    types = known.embedding_types or []
    if not set(types) <= set(_EXACT_TYPES):
        extra["embedding_types"] = types
    return EmbedRequest(
        model=admitted.model,
        inputs=_inputs(known),
        dimensions=known.output_dimension,
        encoding=_encoding(types),
        purpose=_PURPOSES.get(known.input_type or "", ""),
        purpose_field="",
        metadata=dict(admitted.metadata),
        extra=extra,
        wire=NAME,
    )


def asked_types(admitted: Admitted) -> tuple[str, ...]:
    """The types of vectors that a client asked for, of those that any provider's can be given as; at least one."""
    stated = admitted.fields.get("embedding_types")
    types = (_TYPES.decode(stated) if stated is not None else None) or []
    return tuple(name for name in _EXACT_TYPES if name in types) or ("float",)


def _encoding(types: list[str]) -> Encoding:
    """Numbers where they are asked for, or nothing else that can be had: base64 is made of them."""
    return "base64" if "base64" in types and "float" not in types else "float"


def _inputs(known: _Body) -> tuple[EmbedInput, ...]:
    named = [name for name in ("texts", "images", "inputs") if getattr(known, name)]
    if len(named) != 1:
        told = " and ".join(repr(name) for name in named)
        wrong = f"{told} cannot stand beside each other" if named else "There is nothing to embed"
        path = f"$.{named[-1] if named else 'texts'}"
        raise InvalidRequest(f"{wrong}: give 'texts', 'images' or 'inputs', at {path!r}.", param=path)
    if known.texts:
        return tuple(EmbedInput(parts=(TextPart(text=text),)) for text in known.texts)
    if known.images:
        return tuple(EmbedInput(parts=(_image(text),)) for text in known.images)
    return tuple(_input(item, f"$.inputs[{at}].content") for at, item in enumerate(known.inputs or ()))


def _image(url: str) -> ImagePart:
    media_type, data = split_data_url(url)
    return ImagePart(url="" if data else url, data=data, media_type=media_type)


def _input(item: _Input, path: str) -> EmbedInput:
    parts = [decode_block(block) for block in item.content]
    known = [part for part in parts if isinstance(part, TextPart | ImagePart)]
    if len(known) != len(parts):
        raise InvalidRequest(f"An input holds text and images only, at {path!r}.", param=path)
    return EmbedInput(parts=tuple(known))


# --- encode -----------------------------------------------------------------------------------------------


def encode_request(request: Request, *, drop_unsupported: bool) -> bytes:
    """Raises Unsupported(param) for tokens instead of text, and for `user`."""
    asked = embed_request(request)
    body: Json = {
        "model": asked.model,
        "input_type": _INPUT_TYPES[asked.purpose],
        "embedding_types": ["base64" if asked.encoding == "base64" else "float"],
        **_encode_inputs(asked.inputs),
    }
    if asked.dimensions is not None:
        body["output_dimension"] = asked.dimensions
    if asked.user and not drop_unsupported:
        raise unsupported("'user'", "user")
    body.update(own_extra(asked, wire=NAME, drop_unsupported=drop_unsupported))
    return msgspec.json.encode(body)


def _encode_inputs(inputs: tuple[EmbedInput, ...]) -> Json:
    """Plain texts as `texts`; with an image among them, each input as a list of content."""
    for at, item in enumerate(inputs):
        if item.tokens:
            raise unsupported("tokens instead of text", f"input[{at}]")
    texts = [item.text for item in inputs]
    if all(text is not None for text in texts):
        return {"texts": texts}
    contents: list[Json] = []
    for at, item in enumerate(inputs):
        for part in item.parts:
            # https://docs.cohere.com/reference/embed: images come inline only.
            if isinstance(part, ImagePart) and not part.data:
                raise unsupported("an image by its URL", f"input[{at}]")
        content = [encode_part(part, keep_cache_control=False, param=f"input[{at}]") for part in item.parts]
        contents.append({"content": content})
    return {"inputs": contents}
