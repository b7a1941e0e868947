"""The client's body on its way in: what admission must know, and the few fields that pass-through rewrites."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from providers.errors import InvalidRequest
from providers.wire import unread
from providers.wire.base import Admitted
from providers.wire.openai_chat.dialect import Dialect
from providers.wire.openai_chat.parts import unsupported

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
# Caps and counts beyond these are mistakes, and would overflow what is computed from them.
_Cap = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_N = Annotated[int, Meta(ge=1, le=128)]


_ABSENT = Raw()
_NULL = b"null"


class _Part(Struct, frozen=True, gc=False):
    type: str
    text: str | None = None
    image_url: Raw = _ABSENT
    input_audio: Raw = _ABSENT
    file: Raw = _ABSENT
    document_url: Raw = _ABSENT
    video_url: Raw = _ABSENT


class _Function(Struct, frozen=True, gc=False):
    name: str | None = None


class _Call(Struct, frozen=True, gc=False):
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Spoken(Struct, frozen=True, gc=False, kw_only=True):
    role: Role
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[_Call] | None = None


class _Message(_Spoken, frozen=True, gc=False, kw_only=True):
    content: str | list[_Part] | None = None


class _Unread(_Spoken, frozen=True, gc=False, kw_only=True):
    content: Raw = _ABSENT


class _Tool(Struct, frozen=True, gc=False):
    type: str = "function"
    function: _Function | None = None


class _StreamOptions(Struct, frozen=True, gc=False):
    include_usage: bool | None = None


class _Settings(Struct, frozen=True, gc=False, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Cap | None = None
    max_completion_tokens: _Cap | None = None
    n: _N | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[_Tool] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    web_search_options: Raw = _ABSENT
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    drop_unsupported: bool | None = None


class _Body(_Settings, frozen=True, gc=False, kw_only=True):
    messages: Annotated[list[_Message], Meta(min_length=1)]


class _UnreadBody(_Settings, frozen=True, gc=False, kw_only=True):
    messages: Annotated[list[_Unread], Meta(min_length=1)]


# What is wrong is told by the one that reads all; the other is several times as fast.
_BODY = msgspec.json.Decoder(_Body)
_UNREAD_BODY = msgspec.json.Decoder(_UnreadBody)
_PARTS = msgspec.json.Decoder(list[_Part])
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `([^`]+)`")
_TRUE = Raw(b"true")
_KINDS = {
    "image_url": "image",
    "image": "image",
    "input_image": "image",
    "input_audio": "audio",
    "audio": "audio",
    "file": "file",
    "input_file": "file",
    "document_url": "file",
    "document": "file",
    "video_url": "file",
}
_BASE64 = b";base64,"
_CLIENT_TOOLS = ("function", "custom")


def admit(body: bytes) -> Admitted:
    """Reads a chat body once by its known fields. Raises InvalidRequest, `param` the JSON path of what is wrong."""
    try:
        known = _UNREAD_BODY.decode(body)
        media, media_bytes = _media(known.messages)
        ends = known.messages[0].content, known.messages[-1].content
        fields = unread.fields(body, "messages", first=ends[0], last=ends[1])
    except msgspec.ValidationError as error:
        error = unread.told_with_its_path(body, error, reader=_BODY)
        raise invalid_field(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param="$") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deep.", param="$") from error
    stream = bool(known.stream)
    caps = [cap for cap in (known.max_tokens, known.max_completion_tokens) if cap is not None]
    return Admitted(
        model=known.model,
        stream=stream,
        fields=fields,
        message_count=len(known.messages),
        max_output_tokens=max(caps) if caps else None,
        n=known.n or 1,
        wants_usage=not stream or bool(known.stream_options and known.stream_options.include_usage),
        media=media,
        media_bytes=media_bytes,
        server_tools=_has_server_tools(known, fields),
        service_tier=known.service_tier or "",
        user=known.user or "",
        metadata=known.metadata or {},
        drop_unsupported=bool(known.drop_unsupported),
    )


def invalid_field(error: msgspec.ValidationError) -> InvalidRequest:
    """msgspec says "Expected `str`, got `int` - at `$.model`": the path becomes `param`."""
    match = _PATH.match(str(error))
    what, path = (match["what"], match["path"] or "$") if match else (str(error), "$")
    missing = _MISSING.search(what)
    if missing:
        path, what = f"{path}.{missing[1]}", "This field is required"
    return InvalidRequest(f"{what}, at {path!r}.", param=path)


def rewrite(admitted: Admitted, *, model: str, max_output_tokens: int | None, dialect: Dialect) -> bytes:
    """The client's fields with the upstream model, the cap, and the usage event switched on; all else as it came."""
    fields = dict(admitted.fields)
    fields.pop("drop_unsupported", None)
    fields["model"] = _raw(model)
    _set_cap(fields, admitted, max_output_tokens, dialect)
    if not dialect.stream_usage:
        # The server tells its usage unasked, and does not know the field.
        fields.pop("stream_options", None)
    elif admitted.stream:
        fields["stream_options"] = with_usage(fields.get("stream_options"))
    if dialect.renamed or dialect.refused:
        _adapt(fields, admitted, dialect)
    return msgspec.json.encode(fields)


def _adapt(fields: dict[str, Raw], admitted: Admitted, dialect: Dialect) -> None:
    """The server's own names for the client's fields. Raises Unsupported(param) for those that it refuses."""
    for name in dialect.refused:
        if bytes(fields.pop(name, Raw(_NULL))) != _NULL and not admitted.drop_unsupported:
            raise unsupported(f"{name!r}", name)
    for name, other in dialect.renamed.items():
        if name in fields:
            fields.setdefault(other, fields[name])
            del fields[name]


def _set_cap(fields: dict[str, Raw], admitted: Admitted, cap: int | None, dialect: Dialect) -> None:
    """Every cap the client named is lowered, never raised; a name the server does not know is replaced by its own."""
    named = [name for name in ("max_completion_tokens", "max_tokens") if bytes(fields.get(name, _NULL)) != _NULL]
    if dialect.cap_field == "max_tokens" and "max_completion_tokens" in named:
        del fields["max_completion_tokens"]
        named = ["max_tokens"]
        fields["max_tokens"] = _raw(admitted.max_output_tokens)
    if cap is None:
        return
    for name in named or [dialect.cap_field]:
        own = msgspec.json.decode(fields[name], type=int) if name in named else cap
        fields[name] = _raw(min(own, cap))


def with_usage(options: Raw | None) -> Raw:
    kept = _FIELDS.decode(options) if options is not None and bytes(options) != _NULL else {}
    kept["include_usage"] = _TRUE
    return _raw(kept)


def _raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


def _has_server_tools(known: _Settings, fields: dict[str, Raw]) -> bool:
    """Tools that the provider runs itself, and whose results it counts as input."""
    if bytes(known.web_search_options) not in (b"", _NULL) or "plugins" in fields:
        return True
    return any(tool.type not in _CLIENT_TOOLS for tool in known.tools or ())


def _media(messages: list[_Unread]) -> tuple[dict[str, int], int]:
    """(how many of each kind of media, bytes of inline base64 among them). Raises ValidationError."""
    media: dict[str, int] = {}
    inline = 0
    for message in messages:
        if unread.is_text(message.content) or unread.is_absent(message.content):
            continue
        for part in _PARTS.decode(message.content):
            kind = _KINDS.get(part.type)
            if kind is not None:
                media[kind] = media.get(kind, 0) + 1
                inline += _inline_bytes(part)
    return media, inline


def _inline_bytes(part: _Part) -> int:
    inline = _longest_string(bytes(part.input_audio))
    for raw in (part.image_url, part.file, part.document_url, part.video_url):
        held = bytes(raw)
        start = held.find(_BASE64)
        if start >= 0:
            inline += held.find(b'"', start) - start - len(_BASE64)
        elif b'"file_data"' in held:
            inline += _longest_string(held)
    return inline


def _longest_string(held: bytes) -> int:
    """Base64 without a data URL around it is by far the longest string of its object."""
    return max(map(len, held.split(b'"')))
