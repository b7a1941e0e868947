"""What admission must know of a client's body, and the body that goes upstream when nothing is translated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct

from providers.errors import InvalidRequest
from providers.wire import unread
from providers.wire.base import Admitted

# Fields of the body that are for the gateway alone.
OWN_FIELDS = frozenset({"drop_unsupported"})

# Tools of Anthropic's own types that the CLIENT runs. Every other typed tool, also one invented tomorrow, is taken to
# run at the provider, where it may add input that the client did not send.
_CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_", "browser_")

_MEDIA = {"image": "image", "document": "file"}
_PATH = re.compile(r" - at `(\$[^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")


class _Source(Struct, gc=False):
    type: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    content: str | list[_Block] | None = None


class _Block(Struct, gc=False):
    type: str = ""
    source: _Source | str | None = None
    content: str | list[_Block] | _Block | None = None


class _Message(Struct, gc=False):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block]


class _Metadata(Struct, gc=False):
    user_id: str | None = None


class _Tool(Struct, gc=False):
    type: str | None = None


class _Body(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1)]
    messages: Annotated[list[_Message], Meta(min_length=1)]
    stream: bool | None = None
    system: str | list[_Block] | None = None
    tools: list[_Tool] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    output_config: dict[str, Any] | None = None
    mcp_servers: list[dict[str, Any]] | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    drop_unsupported: bool | None = None


class _Counted(_Body, kw_only=True, gc=False):
    """What is only counted writes nothing, and so needs no cap."""

    max_tokens: Annotated[int, Meta(ge=1)] | None = None  # type: ignore[assignment]  # optional here, required there


class _Unread(_Message, kw_only=True, gc=False):
    content: msgspec.Raw  # type: ignore[assignment]  # read only where it is no text


class _UnreadBody(_Body, kw_only=True, gc=False):
    messages: Annotated[list[_Unread], Meta(min_length=1)]  # type: ignore[assignment]


class _UnreadCounted(_Counted, kw_only=True, gc=False):
    messages: Annotated[list[_Unread], Meta(min_length=1)]  # type: ignore[assignment]


# What is wrong is told by the one that reads all; the other is several times as fast.
_BODY = msgspec.json.Decoder(_Body), msgspec.json.Decoder(_UnreadBody)
_COUNTED = msgspec.json.Decoder(_Counted), msgspec.json.Decoder(_UnreadCounted)
_BLOCKS = msgspec.json.Decoder(list[_Block])


def admit(body: bytes) -> Admitted:
    """Reads a client's body. Raises InvalidRequest whose param is the JSON path of what is wrong."""
    return _admit(body, _BODY)


def admit_count(body: bytes) -> Admitted:
    """Reads the body of a count of tokens, which has no cap. Raises as `admit`."""
    return _admit(body, _COUNTED)


def _admit(body: bytes, decoders: tuple[msgspec.json.Decoder[Any], msgspec.json.Decoder[Any]]) -> Admitted:
    reader, unreader = decoders
    try:
        known = unreader.decode(body)
        media, media_bytes = _media(known.messages)
        ends = known.messages[0].content, known.messages[-1].content
        fields = unread.fields(body, "messages", first=ends[0], last=ends[1])
    except msgspec.ValidationError as error:
        refuse(unread.told_with_its_path(body, error, reader=reader))
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(error)
    metadata, user = _metadata(known.metadata)
    return Admitted(
        model=known.model,
        stream=bool(known.stream),
        fields=fields,
        message_count=len(known.messages),
        max_output_tokens=known.max_tokens,
        media=media,
        media_bytes=media_bytes,
        server_tools=bool(known.mcp_servers) or any(_runs_at_provider(tool) for tool in known.tools or ()),
        service_tier=known.service_tier or "",
        user=user,
        metadata=metadata,
        drop_unsupported=bool(known.drop_unsupported),
    )


def rewrite(admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
    """The client's body with the upstream `model` and, where it is lower than the client's, the cap in tokens."""
    fields: dict[str, Any] = {name: raw for name, raw in admitted.fields.items() if name not in OWN_FIELDS}
    fields["model"] = model
    own = admitted.max_output_tokens
    if max_output_tokens is not None and (own is None or max_output_tokens < own):
        fields["max_tokens"] = max_output_tokens
    return msgspec.json.encode(fields)


def refuse(error: msgspec.DecodeError | UnicodeDecodeError | RecursionError) -> NoReturn:
    """Raises what msgspec found wrong with a body as InvalidRequest, with the path of the field as its param."""
    if isinstance(error, RecursionError):
        raise InvalidRequest("The request body is nested too deep.", param="$") from error
    if not isinstance(error, msgspec.ValidationError):
        raise InvalidRequest(f"The request body is not valid JSON: {error}.", param="$") from error
    text = str(error)
    found = _PATH.search(text)
    path = found[1] if found else "$"
    missing = _MISSING.search(text)
    if missing:
        path = f"{path}.{missing[1]}"
    message = _PATH.sub("", text)
    raise InvalidRequest(f"{path}: {message[:1].lower()}{message[1:]}.", param=path) from error


def _runs_at_provider(tool: _Tool) -> bool:
    return bool(tool.type) and not str(tool.type).startswith(_CLIENT_TOOLS)


def _metadata(metadata: dict[str, Any] | None) -> tuple[dict[str, str], str]:
    """(tags, user id): every text value but `user_id` is a tag."""
    if not metadata:
        return {}, ""
    try:
        user = msgspec.convert(metadata, _Metadata).user_id or ""
    except msgspec.ValidationError as error:
        raise InvalidRequest("$.metadata.user_id: expected a string or null.", param="$.metadata.user_id") from error
    return {key: value for key, value in metadata.items() if isinstance(value, str) and key != "user_id"}, user


def _media(messages: list[_Unread]) -> tuple[dict[str, int], int]:
    """(kind -> how many, bytes of inline base64). A document given as plain text is text, not media."""
    media: dict[str, int] = {}
    inline = 0
    for message in messages:
        if unread.is_text(message.content):
            continue
        for kind, source in _sources(_BLOCKS.decode(message.content)):
            media[kind] = media.get(kind, 0) + 1
            if source.type == "base64":
                inline += max(0, len(bytes(source.data)) - 2)
    return media, inline


def _sources(blocks: list[_Block]) -> Iterator[tuple[str, _Source]]:
    """The media of blocks, of tool results and of documents made of blocks."""
    for block in blocks:
        kind = _MEDIA.get(block.type, "")
        source = block.source
        if isinstance(source, _Source):
            if isinstance(source.content, list):
                yield from _sources(source.content)
            elif kind and source.type not in ("text", "content"):
                yield kind, source
        if isinstance(block.content, list):
            yield from _sources(block.content)
        elif isinstance(block.content, _Block):
            # A fetched page: {"type": "web_fetch_result", "content": {"type": "document", "source": ...}}.
            yield from _sources([block.content])
