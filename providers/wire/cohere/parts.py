"""Content blocks, tool calls and documents of Cohere's chat <-> unified parts."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from providers.errors import InvalidRequest, Unsupported
from providers.unified import (
    FilePart,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    named,
)
from providers.wire.openai_chat.parts import split_data_url, string, unsupported
from providers.wire.openai_chat.request_in import arguments_text

NAME = "cohere_chat"
_DOCUMENT_TYPE = "application/json"


def decode_content(content: Any) -> list[Part]:
    """A message's `content`: a string, a list of blocks, or null. An empty string holds no part."""
    if isinstance(content, str):
        return [TextPart(text=content)] if content else []
    return [decode_block(block) for block in (content if isinstance(content, list) else ()) if isinstance(block, dict)]


def decode_block(block: Json) -> Part:
    """One block; what the unified types cannot hold stays whole as an OpaquePart of this wire."""
    image, document = block.get("image_url"), block.get("document")
    match block.get("type"):
        case "text" if isinstance(block.get("text"), str):
            return TextPart(text=block["text"])
        case "thinking" if isinstance(block.get("thinking"), str):
            return ReasoningPart(text=block["thinking"])
        case "image_url" if isinstance(image, dict) and not image.keys() - {"url", "detail"}:
            url = string(image.get("url"))
            media_type, data = split_data_url(url)
            detail = string(image.get("detail"))
            return ImagePart(url="" if data else url, data=data, media_type=media_type, detail=detail)
        case "document" if isinstance(document, dict) and isinstance(document.get("data"), dict):
            if not document.keys() - {"data", "id"}:
                return document_part(document)
    return OpaquePart(wire=NAME, value=block)


def document_part(document: Json) -> FilePart:
    """A document is a small JSON object: other wires see it as a file with that object in it."""
    data = base64.b64encode(msgspec.json.encode(document["data"])).decode()
    return FilePart(data=data, media_type=_DOCUMENT_TYPE, name=string(document.get("id")))


def encode_block(part: Part, path: str) -> Json:
    """A part of a user's or system's message. Raises Unsupported(param) for one that has no words here."""
    match part:
        case TextPart() | RefusalPart():
            return {"type": "text", "text": part.text}
        case ReasoningPart():
            return {"type": "thinking", "thinking": part.text}
        case ImagePart() if part.url or part.data:
            url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
            return {"type": "image_url", "image_url": {"url": url, **({"detail": part.detail} if part.detail else {})}}
        case OpaquePart() if part.wire == NAME:
            return part.value
        case OpaquePart():
            raise unsupported(f"a part of type {part.value.get('type', '?')!r}", path)
        case _:
            raise unsupported(f"{named(part)} here", path)


def encode_document(part: FilePart, path: str) -> Json:
    """A file as a document of this wire. Raises Unsupported(param) for what is not text."""
    if not part.data or not (part.media_type.startswith("text/") or part.media_type == _DOCUMENT_TYPE):
        raise unsupported("a file that is not inline text", path)
    named = {"id": part.name} if part.name else {}
    try:
        text = base64.b64decode(part.data, validate=True).decode()
    except ValueError:
        raise Unsupported(f"The file at {path!r} is not base64 of UTF-8 text.", param=path) from None
    return {"data": _document_data(text, part), **named}


def _document_data(text: str, part: FilePart) -> Json:
    if part.media_type == _DOCUMENT_TYPE:
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            value = None
        if isinstance(value, dict):
            return value
    return {"text": text, **({"title": part.name} if part.name else {})}


def decode_tool_call(call: Any, path: str) -> ToolCallPart:
    """Raises InvalidRequest for a call without a function."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest(f"A tool call needs a 'function' object, at {path!r}.", param=f"{path}.function")
    return ToolCallPart(
        id=string(call.get("id")),
        name=string(function.get("name")),
        arguments=arguments_text(function.get("arguments")),
    )


def encode_tool_call(part: ToolCallPart) -> Json:
    return {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}}


# --- citations --------------------------------------------------------------------------------------------


def decode_citation(value: Json) -> Json:
    """A citation as it came, and beside it where it points in the words of other wires: url, title, place."""
    added: Json = {}
    sources: Any = value.get("sources")
    for source in sources if isinstance(sources, list) else ():
        held = (source.get("document") or source.get("tool_output")) if isinstance(source, dict) else None
        if isinstance(held, dict) and string(held.get("url")):
            added = {"url": held["url"], "title": string(held.get("title"))}
            break
    places = {"start_index": value.get("start"), "end_index": value.get("end")}
    return {**value, **added, **{name: place for name, place in places.items() if isinstance(place, int)}}


def encode_citation(value: Json) -> Json | None:
    """A citation of this wire as it came; None for that of another, whose source is none of our documents."""
    if not isinstance(value.get("sources"), list):
        return None
    return {key: item for key, item in value.items() if key not in ("url", "title", "start_index", "end_index")}


def cited(parts: list[Part], citations: Any) -> list[Part]:
    """Each citation goes to the block it names, or else to the last text."""
    texts = [at for at, part in enumerate(parts) if isinstance(part, TextPart)]
    found: dict[int, list[Json]] = {}
    for value in citations if isinstance(citations, list) else ():
        if not isinstance(value, dict) or not texts:
            continue
        named = value.get("content_index")
        at = named if isinstance(named, int) and named in texts else texts[-1]
        found.setdefault(at, []).append(decode_citation(value))
    return [_with(part, found.get(at)) for at, part in enumerate(parts)]


def _with(part: Part, citations: list[Json] | None) -> Part:
    if citations and isinstance(part, TextPart):
        return msgspec.structs.replace(part, citations=tuple(citations))
    return part
