"""Content blocks <-> parts. A block that the parts cannot hold whole is kept as an OpaquePart, never cut."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from providers.unified import (
    FilePart,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.wire.anthropic_messages.jsontext import dumps

NAME = "anthropic_messages"

_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,(.*)", re.DOTALL)
# The types of citation this wire knows. Any other with a `url` can be said as a web search result.
_CITATIONS = frozenset(
    {
        "char_location",
        "page_location",
        "content_block_location",
        "search_result_location",
        "web_search_result_location",
    }
)


class _Text(Struct):
    text: str
    cache_control: Json | None = None
    citations: list[Json] = []


class _Thinking(Struct):
    thinking: str
    signature: str = ""


class _Redacted(Struct):
    data: str


class _ToolUse(Struct):
    id: str
    name: str
    input: Json
    caller: Json | None = None
    cache_control: Json | None = None


class _ToolResult(Struct):
    tool_use_id: str
    content: str | list[Json] = []
    is_error: bool = False
    cache_control: Json | None = None


class _Image(Struct):
    source: Json
    cache_control: Json | None = None


class _Document(Struct):
    source: Json
    title: str = ""
    context: str | None = None
    citations: Json | None = None
    cache_control: Json | None = None


# --- block -> part ----------------------------------------------------------------------------------------


def read_parts(content: str | Sequence[Any]) -> tuple[Part, ...]:
    """The parts of a message's `content`. Raises msgspec.ValidationError for a known block with a wrong type."""
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(read_block(_converted(block, Json)) for block in content)


def read_block(block: Json) -> Part:
    """One content block as a part. Raises msgspec.ValidationError for a known block with a wrong type."""
    known = _READERS.get(str(block.get("type")))
    if known is not None:
        fields, read = known
        # Null says the same as absent on this wire, so that a null field is no reason to keep a block opaque.
        given = {key: value for key, value in block.items() if value is not None and key != "type"}
        if given.keys() <= set(fields.__struct_fields__):
            part = read(_converted(given, fields))
            if part is not None:
                return part
    return OpaquePart(wire=NAME, value=block)


def _converted(value: Any, into: Any) -> Any:
    """`value` as `into`. msgspec looks for numbers in a text that should be no text, and stumbles over half a pair."""
    try:
        return msgspec.convert(value, into)
    except UnicodeEncodeError:
        raise msgspec.ValidationError("Half of a surrogate pair where there should be no text") from None


def _read_text(block: Any) -> Part:
    return TextPart(block.text, cache_control=block.cache_control, citations=tuple(block.citations))


def _read_thinking(block: Any) -> Part:
    return ReasoningPart(text=block.thinking, signature=block.signature)


def _read_redacted(block: Any) -> Part:
    return ReasoningPart(redacted=block.data)


def _read_tool_use(block: Any) -> Part | None:
    # {"type": "direct"} is what an absent caller means; any other caller has no place in a ToolCallPart.
    if block.caller is not None and block.caller != {"type": "direct"}:
        return None
    arguments = dumps(block.input).decode()
    return ToolCallPart(id=block.id, name=block.name, arguments=arguments, cache_control=block.cache_control)


def _read_tool_result(block: Any) -> Part | None:
    parts: list[TextPart | ImagePart | FilePart] = []
    for part in read_parts(block.content):
        if not isinstance(part, TextPart | ImagePart | FilePart):
            return None
        parts.append(part)
    return ToolResultPart(
        id=block.tool_use_id, parts=tuple(parts), is_error=block.is_error, cache_control=block.cache_control
    )


def _read_image(block: Any) -> Part | None:
    match block.source:
        case {"type": "base64", "media_type": str(media_type), "data": str(data), **rest} if not rest:
            return ImagePart(data=data, media_type=media_type, cache_control=block.cache_control)
        case {"type": "url", "url": str(url), **rest} if not rest:
            return ImagePart(url=url, cache_control=block.cache_control)
    return None


def _read_document(block: Any) -> Part | None:
    extra: Json = {}
    if block.context is not None:
        extra["context"] = block.context
    if block.citations is not None:
        extra["citations"] = block.citations
    common: dict[str, Any] = {"name": block.title, "cache_control": block.cache_control, "extra": extra}
    match block.source:
        case {"type": "base64", "media_type": str(media_type), "data": str(data), **rest} if not rest:
            return FilePart(data=data, media_type=media_type, **common)
        case {"type": "text", "media_type": "text/plain", "data": str(text), **rest} if not rest:
            encoded = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
            return FilePart(data=encoded, media_type="text/plain", **common)
        case {"type": "url", "url": str(url), **rest} if not rest:
            return FilePart(url=url, **common)
        case {"type": "file", "file_id": str(file_id), **rest} if not rest:
            return FilePart(file_id=file_id, **common)
    return None


_READERS: dict[str, tuple[type[Struct], Callable[[Any], Part | None]]] = {
    "text": (_Text, _read_text),
    "thinking": (_Thinking, _read_thinking),
    "redacted_thinking": (_Redacted, _read_redacted),
    "tool_use": (_ToolUse, _read_tool_use),
    "tool_result": (_ToolResult, _read_tool_result),
    "image": (_Image, _read_image),
    "document": (_Document, _read_document),
}


# --- part -> block ----------------------------------------------------------------------------------------


def text_block(part: TextPart) -> Json:
    """A text block with those citations that this wire can say."""
    block: Json = {"type": "text", "text": part.text}
    citations = [said for said in map(citation, part.citations) if said is not None]
    if citations:
        block["citations"] = citations
    return _marked(block, part.cache_control)


def citation(value: Json) -> Json | None:
    """A citation as this wire says it; None when it cannot. A link of another wire becomes a web search result."""
    if says_citation(value):
        return value
    nested = value.get("url_citation")
    link = nested if isinstance(nested, dict) else value
    if not isinstance(link.get("url"), str):
        return None
    return {
        "type": "web_search_result_location",
        "url": link["url"],
        "title": link.get("title"),
        "cited_text": str(link.get("cited_text") or ""),
        "encrypted_index": "",
    }


def says_citation(value: Json) -> bool:
    """Whether a citation is one of this wire's own, that its provider accepts back."""
    kind = value.get("type")
    return isinstance(kind, str) and kind in _CITATIONS


def image_block(part: ImagePart) -> Json:
    """An image block by URL or inline; a `data:` URL is sent inline, since this wire fetches only http URLs."""
    inline = _DATA_URL.match(part.url)
    if inline:
        source: Json = {"type": "base64", "media_type": inline[1], "data": inline[2]}
    elif part.url:
        source = {"type": "url", "url": part.url}
    else:
        source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    return _marked({"type": "image", "source": source}, part.cache_control)


def document_block(part: FilePart) -> Json | None:
    """A document block; None for inline data that is neither a PDF nor text."""
    source = _document_source(part)
    if source is None:
        return None
    block: Json = {"type": "document", "source": source}
    if part.name:
        block["title"] = part.name
    block |= {key: part.extra[key] for key in ("context", "citations") if key in part.extra}
    return _marked(block, part.cache_control)


def _document_source(part: FilePart) -> Json | None:
    if part.file_id:
        return {"type": "file", "file_id": part.file_id}
    inline = _DATA_URL.match(part.url)
    if part.url and not inline:
        return {"type": "url", "url": part.url}
    media_type, data = (inline[1], inline[2]) if inline else (part.media_type, part.data)
    if media_type.startswith("text/"):
        return _text_source(data)
    if media_type not in ("", "application/pdf"):
        return None
    return {"type": "base64", "media_type": "application/pdf", "data": data}


def _text_source(data: str) -> Json | None:
    try:
        text = base64.b64decode(data, validate=True).decode("utf-8", "surrogatepass")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"type": "text", "media_type": "text/plain", "data": text}


def reasoning_block(part: ReasoningPart) -> Json:
    """A thinking block with its signature, or a redacted one."""
    if part.redacted:
        return {"type": "redacted_thinking", "data": part.redacted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def tool_use_block(part: ToolCallPart) -> Json:
    """A tool call. Arguments that are no JSON object (a model may write such) are kept as text under one key."""
    block: Json = {"type": "tool_use", "id": part.id, "name": part.name, "input": tool_input(part.arguments)}
    return _marked(block, part.cache_control)


def tool_input(arguments: str) -> Json | msgspec.Raw:
    """The `input` object of a tool call, byte for byte where `arguments` is one."""
    if not arguments.strip():
        return {}
    try:
        text = arguments.encode()
        msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        # The shape Anthropic's guide to fine-grained tool streaming gives for input that is not valid JSON.
        return {"INVALID_JSON": arguments}
    return msgspec.Raw(text)


def tool_result_block(part: ToolResultPart, content: list[Json]) -> Json:
    """A tool result around its already written `content`."""
    block: Json = {"type": "tool_result", "tool_use_id": part.id}
    if content:
        block["content"] = short(content)
    if part.is_error:
        block["is_error"] = True
    return _marked(block, part.cache_control)


def short(content: list[Json]) -> str | list[Json]:
    """`content` as the plain string that one bare text block stands for, as clients usually write it."""
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        return str(content[0]["text"])
    return content


def _marked(block: Json, cache_control: Json | None) -> Json:
    if cache_control is not None:
        block["cache_control"] = cache_control
    return block
