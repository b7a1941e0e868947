"""Content blocks of the Converse API <-> unified parts.

A block is an object with one key that names its kind. A cache point is a block of its own, behind what is to be kept;
in the unified types it is a mark on that part.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import msgspec

from providers.unified import (
    AudioPart,
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
from providers.wire.jsontext import dumps

NAME = "bedrock_converse"
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]+=[^;,]+)*;base64,(.*)", re.DOTALL)
_DOCUMENTS = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
_FORMATS = {media_type: word for word, media_type in _DOCUMENTS.items()} | {"": "pdf"}
# What a document's name may hold: letters, digits, single spaces, hyphens, parentheses and square brackets.
_NOT_IN_NAME = re.compile(r"[^0-9A-Za-z\-()\[\] ]+")
_SPACES = re.compile(r" {2,}")
_FILE_EXTRA = ("context", "citations")


def string(value: Any) -> str:
    """`value` if it is text; anything else is no text."""
    return value if isinstance(value, str) else ""


# --- block -> part ------------------------------------------------------------------------------------------


def read_parts(content: Any) -> list[Part]:
    """The parts of a `content` list; what the unified types cannot hold stays whole as an OpaquePart of this wire."""
    parts: list[Part] = []
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        mark = read_mark(block)
        if mark is not None and parts and getattr(parts[-1], "cache_control", mark) is None:
            parts[-1] = msgspec.structs.replace(parts[-1], cache_control=mark)
        else:
            parts.append(read_part(block))
    return parts


def read_mark(block: Json) -> Json | None:
    """The cache point in a block, as a mark of the unified types; None for any other block."""
    point = block.get("cachePoint")
    if not isinstance(point, dict) or len(block) != 1 or point.keys() - {"type", "ttl"}:
        return None
    return {"type": "ephemeral", **({"ttl": point["ttl"]} if point.get("ttl") else {})}


def read_part(block: Json) -> Part:
    kind = next(iter(block), "")
    reader = _READERS.get(kind)
    part = reader(block[kind]) if reader and len(block) == 1 else None
    return part if part is not None else OpaquePart(wire=NAME, value=block)


def _read_text(value: Any) -> Part | None:
    return TextPart(text=value) if isinstance(value, str) else None


def _read_cited(value: Any) -> Part | None:
    if not isinstance(value, dict) or value.keys() - {"content", "citations"}:
        return None
    pieces = value.get("content") or []
    if not all(isinstance(piece, dict) and isinstance(piece.get("text"), str) for piece in pieces):
        return None
    citations = tuple(read_citation(item) for item in value.get("citations") or [] if isinstance(item, dict))
    return TextPart(text="".join(piece["text"] for piece in pieces), citations=citations)


def read_citation(value: Json) -> Json:
    """A citation with the address of a web page where other wires look for it."""
    location = value.get("location")
    web = location.get("web") if isinstance(location, dict) else None
    return {**value, "url": web["url"]} if isinstance(web, dict) and string(web.get("url")) else value


def _read_image(value: Any) -> Part | None:
    match value:
        case {"format": str(word), "source": {"bytes": str(data), **rest}, **more} if not rest and not more:
            return ImagePart(data=data, media_type=f"image/{word}")
        case {"format": str(word), "source": {"s3Location": {"uri": str(uri), **rest}}, **more} if not (rest or more):
            return ImagePart(url=uri, media_type=f"image/{word}")
    return None


def _read_audio(value: Any) -> Part | None:
    match value:
        case {"format": str(word), "source": {"bytes": str(data)}, **more} if not more:
            return AudioPart(data=data, format=word)
    return None


def _read_document(value: Any) -> Part | None:
    if not isinstance(value, dict) or value.keys() - {"format", "name", "source", *_FILE_EXTRA}:
        return None
    media_type = _DOCUMENTS.get(string(value.get("format")), "")
    extra = {key: value[key] for key in _FILE_EXTRA if value.get(key) is not None}
    common: dict[str, Any] = {"name": string(value.get("name")), "extra": extra}
    match value.get("source"):
        case {"bytes": str(data)}:
            return FilePart(data=data, media_type=media_type, **common)
        case {"text": str(text)}:
            encoded = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
            return FilePart(data=encoded, media_type=media_type or "text/plain", **common)
        case {"s3Location": {"uri": str(uri), **rest}} if not rest:
            return FilePart(url=uri, media_type=media_type, **common)
    return None


def _read_tool_use(value: Any) -> Part | None:
    if not isinstance(value, dict) or value.get("type"):
        return None
    arguments = dumps(value.get("input") if value.get("input") is not None else {}).decode()
    return ToolCallPart(id=string(value.get("toolUseId")), name=string(value.get("name")), arguments=arguments)


def _read_tool_result(value: Any) -> Part | None:
    if not isinstance(value, dict) or value.get("type"):
        return None
    parts: list[TextPart | ImagePart | FilePart] = []
    for part in read_parts(value.get("content")):
        if not isinstance(part, TextPart | ImagePart | FilePart):
            return None
        parts.append(part)
    return ToolResultPart(
        id=string(value.get("toolUseId")), parts=tuple(parts), is_error=value.get("status") == "error"
    )


def _read_reasoning(value: Any) -> Part | None:
    match value:
        case {"reasoningText": {"text": str(text), **rest}} if not rest.keys() - {"signature"}:
            return ReasoningPart(text=text, signature=string(rest.get("signature")))
        case {"redactedContent": str(data)}:
            return ReasoningPart(redacted=data)
    return None


_READERS: dict[str, Callable[[Any], Part | None]] = {
    "text": _read_text,
    "citationsContent": _read_cited,
    "image": _read_image,
    "audio": _read_audio,
    "document": _read_document,
    "toolUse": _read_tool_use,
    "toolResult": _read_tool_result,
    "reasoningContent": _read_reasoning,
}


# --- part -> block ------------------------------------------------------------------------------------------


def cache_point(mark: Json) -> Json:
    """The block behind what is to be cached. A lifetime is said where it is one of this wire's words."""
    ttl = mark.get("ttl")
    return {"cachePoint": {"type": "default", **({"ttl": ttl} if ttl in ("5m", "1h") else {})}}


def text_block(part: TextPart) -> Json:
    """Text, with the citations that came with it from this wire."""
    own = [write_citation(value) for value in part.citations if "location" in value]
    if not own:
        return {"text": part.text}
    return {"citationsContent": {"content": [{"text": part.text}], "citations": own}}


def write_citation(value: Json) -> Json:
    location = value.get("location")
    is_web = isinstance(location, dict) and "web" in location
    return {key: item for key, item in value.items() if key != "url" or not is_web}


def split_inline(url: str, data: str, media_type: str) -> tuple[str, str, str]:
    """(url, data, media type), a data URL taken apart."""
    found = _DATA_URL.fullmatch(url) if url.startswith("data:") else None
    return ("", found[2], found[1]) if found else (url, data, media_type)


def image_block(part: ImagePart) -> Json | None:
    """An image inline or from S3; None for one by any other address, which this wire does not fetch."""
    url, data, media_type = split_inline(part.url, part.data, part.media_type)
    word = media_type.removeprefix("image/") or "png"
    source = _source(url, data)
    return {"image": {"format": "jpeg" if word == "jpg" else word, "source": source}} if source else None


def document_block(part: FilePart) -> Json | None:
    """A document inline or from S3; None for one by any other address or of a kind that the wire does not know."""
    url, data, media_type = split_inline(part.url, part.data, part.media_type)
    word = _FORMATS.get(media_type.partition(";")[0]) or _format_of_name(part.name)
    if not word and media_type.startswith("text/"):
        word = "txt"
    source = _source(url, data)
    if not word or not source:
        return None
    return {"document": {"format": word, "name": document_name(part.name), "source": source, **part.extra}}


def document_name(name: str) -> str:
    """A name that the wire accepts, made from the file's."""
    return _SPACES.sub(" ", _NOT_IN_NAME.sub(" ", name)).strip() or "document"


def _format_of_name(name: str) -> str:
    word = name.rpartition(".")[2].lower()
    return word if word in _DOCUMENTS else ""


def _source(url: str, data: str) -> Json | None:
    if data:
        return {"bytes": data}
    return {"s3Location": {"uri": url}} if url.startswith("s3://") else None


def reasoning_block(part: ReasoningPart) -> Json:
    if part.redacted:
        return {"reasoningContent": {"redactedContent": part.redacted}}
    signed = {"signature": part.signature} if part.signature else {}
    return {"reasoningContent": {"reasoningText": {"text": part.text, **signed}}}


def tool_use_block(part: ToolCallPart) -> Json:
    """A tool call. Arguments that are no JSON object (a model may write such) are kept as text under one key."""
    return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": tool_input(part.arguments)}}


def tool_input(arguments: str) -> Json | msgspec.Raw:
    if not arguments.strip():
        return {}
    try:
        text = arguments.encode()
        msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return {"INVALID_JSON": arguments}
    return msgspec.Raw(text)
