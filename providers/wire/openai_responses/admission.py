"""What admission must know of a client's body, and the body that goes upstream when nothing is translated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Raw, Struct

from providers.errors import InvalidRequest, Unsupported
from providers.wire import unread
from providers.wire.base import Admitted

_ABSENT = Raw()
_NULL = b"null"
# Tools that the CLIENT runs. Every other one, also one invented tomorrow, is taken to run at the provider, where it
# may add input that the client did not send.
CLIENT_TOOLS = frozenset(
    {"function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use_preview", "tool_search"}
)
# Fields that bring earlier turns along, which the client does not send again.
_REMEMBERED = ("previous_response_id", "conversation", "prompt")
_MEDIA = {"input_image": "image", "computer_screenshot": "image", "input_file": "file", "input_audio": "audio"}
_BASE64 = b";base64,"
_PATH = re.compile(r" - at `(\$[^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")

# Caps beyond this are mistakes, and would overflow what is computed from them.
_Cap = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class _Part(Struct, frozen=True, gc=False):
    type: str = ""
    image_url: Raw = _ABSENT
    file_data: Raw = _ABSENT
    input_audio: Raw = _ABSENT


class _Item(Struct, frozen=True, gc=False):
    type: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[_Part] | None = None
    output: str | list[_Part] | dict[str, Any] | None = None
    call_id: str | None = None


class _Tool(Struct, frozen=True, gc=False):
    type: str = "function"
    name: str | None = None


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    input: str | list[_Item] | None = None
    instructions: str | list[_Item] | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    max_output_tokens: _Cap | None = None
    max_tool_calls: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[_Tool] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: list[str] | None = None
    truncation: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    drop_unsupported: bool | None = None


class _UnreadItem(_Item, frozen=True, gc=False):
    content: Raw = _ABSENT  # type: ignore[assignment]  # read only where it is no text
    output: Raw = _ABSENT  # type: ignore[assignment]


class _UnreadBody(_Body, frozen=True, gc=False):
    input: str | list[_UnreadItem] | None = None  # type: ignore[assignment]


# What is wrong is told by the one that reads all; the other is several times as fast.
_BODY = msgspec.json.Decoder(_Body)
_UNREAD_BODY = msgspec.json.Decoder(_UnreadBody)
_PARTS = msgspec.json.Decoder(list[_Part])
_OUTPUT = msgspec.json.Decoder(list[_Part] | dict[str, Raw])


def admit(body: bytes) -> Admitted:
    """Reads a body once by its known fields. Raises InvalidRequest, `param` the JSON path of what is wrong."""
    try:
        known = _UNREAD_BODY.decode(body)
        items = known.input if isinstance(known.input, list) else []
        media, media_bytes = _media(items)
        ends = (items[0].content, items[-1].content) if items else (_ABSENT, _ABSENT)
        fields = unread.fields(body, "input", first=ends[0], last=ends[1])
    except msgspec.ValidationError as error:
        refuse(unread.told_with_its_path(body, error, reader=_BODY))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse(error)
    _refuse_background(known)
    remembers = any(bytes(fields.get(name, _ABSENT)) not in (b"", _NULL) for name in _REMEMBERED)
    return Admitted(
        model=known.model,
        stream=bool(known.stream),
        fields=fields,
        message_count=max(1, len(items)),
        max_output_tokens=known.max_output_tokens,
        media=media,
        media_bytes=media_bytes,
        server_tools=remembers or _has_server_tools(known, items),
        service_tier=known.service_tier or "",
        user=known.user or "",
        metadata=known.metadata or {},
        drop_unsupported=bool(known.drop_unsupported),
        operation="responses",
    )


def rewrite(admitted: Admitted, *, model: str, max_output_tokens: int | None) -> bytes:
    """The client's fields with the upstream model and, where it is lower than the client's, the cap in tokens."""
    fields: dict[str, Any] = dict(admitted.fields)
    if fields.pop("drop_unsupported", None) is not None and bytes(fields.get("background", _ABSENT)) == b"true":
        del fields["background"]
    fields["model"] = model
    own = admitted.max_output_tokens
    if max_output_tokens is not None and (own is None or max_output_tokens < own):
        fields["max_output_tokens"] = max_output_tokens
    return msgspec.json.encode(fields)


def refuse(error: Exception) -> NoReturn:
    """Raises what msgspec found wrong with a body as InvalidRequest, with the path of the field as its param."""
    if isinstance(error, RecursionError):
        raise InvalidRequest("The body is nested too deep.", param="$") from error
    if not isinstance(error, msgspec.ValidationError):
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param="$") from error
    text = str(error)
    found = _PATH.search(text)
    path = found[1] if found else "$"
    missing = _MISSING.search(text)
    if missing:
        path = f"{path}.{missing[1]}"
    raise InvalidRequest(f"{_PATH.sub('', text)}, at {path!r}.", param=path) from error


def _refuse_background(known: _Body) -> None:
    """A response made in the background is fetched later, past the books: its usage would never be seen."""
    if known.background and not known.drop_unsupported:
        raise Unsupported(
            "'background': responses are answered while the client waits or streams. Leave it out.",
            param="$.background",
        )


def _has_server_tools(known: _UnreadBody, items: list[_UnreadItem]) -> bool:
    """Whether the provider runs tools itself, or remembers what the client only refers to."""
    if any(item.type == "item_reference" for item in items):
        return True
    return any(tool.type not in CLIENT_TOOLS for tool in known.tools or ())


def _media(items: list[_UnreadItem]) -> tuple[dict[str, int], int]:
    """(how many of each kind of media, bytes of inline base64 among them)."""
    media: dict[str, int] = {}
    inline = 0
    for part in _parts(items):
        kind = _MEDIA.get(part.type)
        if kind is not None:
            media[kind] = media.get(kind, 0) + 1
            inline += _inline_bytes(part)
    return media, inline


def _parts(items: list[_UnreadItem]) -> Iterator[_Part]:
    """Raises ValidationError for a content or an output of a wrong type."""
    for item in items:
        if not unread.is_text(item.content) and not unread.is_absent(item.content):
            yield from _PARTS.decode(item.content)
        if item.output is not _ABSENT and not unread.is_text(item.output) and not unread.is_absent(item.output):
            held = _OUTPUT.decode(item.output)
            yield from held if isinstance(held, list) else ()


def _inline_bytes(part: _Part) -> int:
    inline = max(map(len, bytes(part.input_audio).split(b'"')))
    for raw in (part.image_url, part.file_data):
        held = bytes(raw)
        start = held.find(_BASE64)
        if start >= 0:
            inline += held.find(b'"', start) - start - len(_BASE64)
        elif raw is part.file_data and held not in (b"", _NULL):
            inline += len(held) - 2
    return inline
