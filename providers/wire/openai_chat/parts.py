"""Content parts of the chat wire <-> unified parts: text, images, files, audio, refusals, reasoning."""

from __future__ import annotations

import re
from typing import Any

from providers.errors import Unsupported
from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    named,
)

NAME = "openai_chat"
_YEAR_10000_S = 253_402_300_800
_DATA_URL = re.compile(r"data:([^;,]*(?:;[^;,]+=[^;,]+)*);base64,(.*)", re.DOTALL)


def decode_content(content: Any) -> list[Part]:
    """A message's `content`: a string, a list of parts, or null. An empty string holds no part."""
    if isinstance(content, str):
        return [TextPart(text=content)] if content else []
    parts: list[Part] = []
    for value in content if isinstance(content, list) else ():
        parts += decode_part(value) if isinstance(value, dict) else decode_content(value)
    return parts


def decode_part(value: Json) -> list[Part]:
    """One content part; what the unified types cannot hold stays whole as an OpaquePart of this wire."""
    kept = {key: item for key, item in value.items() if item is not None}
    kind = string(kept.pop("type", ""))
    if kind == "thinking":
        return decode_thinking(value)
    decoder = _DECODERS.get(kind)
    marked_well = isinstance(kept.get("cache_control", {}), dict)
    part = decoder(kept) if decoder and marked_well else None
    return [part if part is not None else OpaquePart(wire=NAME, value=value)]


def decode_thinking(value: Json) -> list[Part]:
    """Mistral's {"type": "thinking", "thinking": [{"type": "text", "text": ...}]}, or a plain string inside."""
    inner = value.get("thinking")
    pieces = inner if isinstance(inner, list) else [inner]
    text = "".join(text_of(piece) for piece in pieces)
    return [ReasoningPart(text=text, signature=string(value.get("signature")))] if text else []


def text_of(value: Any) -> str:
    return string(value.get("text") if isinstance(value, dict) else value)


def string(value: Any) -> str:
    """`value` if it is text; anything else is no text."""
    return value if isinstance(value, str) else ""


def epoch_s(value: Any) -> int:
    """`value` as seconds since 1970; 0 where it says no second that a calendar knows."""
    return int(value) if isinstance(value, int | float) and 0 <= value < _YEAR_10000_S else 0


def _text(value: Json) -> Part | None:
    if not isinstance(value.get("text"), str) or value.keys() - {"text", "cache_control"}:
        return None
    return TextPart(text=value["text"], cache_control=value.get("cache_control"))


def _image(value: Json) -> Part | None:
    image = value.get("image_url")
    image = {"url": image} if isinstance(image, str) else image
    if not isinstance(image, dict) or value.keys() - {"image_url", "cache_control"} or image.keys() - {"url", "detail"}:
        return None
    url = string(image.get("url"))
    media_type, data = split_data_url(url)
    return ImagePart(
        url="" if data else url,
        data=data,
        media_type=media_type,
        detail=string(image.get("detail")),
        cache_control=value.get("cache_control"),
    )


def _file(value: Json) -> Part | None:
    file = value.get("file")
    if not isinstance(file, dict) or value.keys() - {"file", "cache_control"}:
        return None
    held = string(file.get("file_data"))
    media_type, data = split_data_url(held)
    is_url = held.startswith(("http://", "https://"))
    known = {"file_data", "file_id", "filename"}
    return FilePart(
        url=held if is_url else "",
        file_id=string(file.get("file_id")),
        data=data or ("" if is_url else held),
        media_type=media_type,
        name=string(file.get("filename")),
        cache_control=value.get("cache_control"),
        extra={key: item for key, item in file.items() if key not in known},
    )


def _audio(value: Json) -> Part | None:
    audio = value.get("input_audio")
    if not isinstance(audio, dict) or value.keys() - {"input_audio"} or audio.keys() - {"data", "format"}:
        return None
    return AudioPart(data=string(audio.get("data")), format=string(audio.get("format")))


def _refusal(value: Json) -> Part | None:
    return RefusalPart(text=value["refusal"]) if isinstance(value.get("refusal"), str) else None


_DECODERS = {"text": _text, "image_url": _image, "file": _file, "input_audio": _audio, "refusal": _refusal}


def split_data_url(url: str) -> tuple[str, str]:
    """(media type, base64) of a data URL; ("", "") for any other."""
    match = _DATA_URL.fullmatch(url) if url.startswith("data:") else None
    return (match[1], match[2]) if match else ("", "")


def encode_part(part: Part, *, keep_cache_control: bool, param: str) -> Json:
    """A unified part as a content part. Raises Unsupported(param) for one that this wire has no words for."""
    value = _encode(part, param)
    mark = getattr(part, "cache_control", None)
    return {**value, "cache_control": mark} if mark and keep_cache_control else value


def _encode(part: Part, param: str) -> Json:
    match part:
        case TextPart():
            return {"type": "text", "text": part.text}
        case ImagePart():
            if not part.url and not part.data:
                raise unsupported("an image without a URL or data", param)
            url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
            return {"type": "image_url", "image_url": {"url": url, **({"detail": part.detail} if part.detail else {})}}
        case FilePart():
            return {"type": "file", "file": _encode_file(part, param)}
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format or "wav"}}
        case RefusalPart():
            return {"type": "refusal", "refusal": part.text}
        case OpaquePart() if part.wire == NAME:
            return part.value
        case OpaquePart():
            raise unsupported(f"a part of type {part.value.get('type', '?')!r}", param)
        case _:
            raise unsupported(f"{named(part)} here", param)


def _encode_file(part: FilePart, param: str) -> Json:
    if part.file_id:
        return {"file_id": part.file_id, **({"filename": part.name} if part.name else {}), **part.extra}
    if part.url:
        return {"file_data": part.url, **({"filename": part.name} if part.name else {}), **part.extra}
    if not part.data:
        raise unsupported("a file without an id, a URL or data", param)
    media_type = part.media_type or "application/pdf"
    name = part.name or ("document.pdf" if media_type == "application/pdf" else "document.txt")
    return {"filename": name, "file_data": f"data:{media_type};base64,{part.data}", **part.extra}


def plain_tool(tool: Tool) -> Json:
    """A tool as other servers take it that borrowed this wire's words for it: its schema is required by them."""
    function: Json = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def unsupported(what: str, param: str) -> Unsupported:
    where = "" if repr(param) in what else f" ({param!r})"
    return Unsupported(
        f'This model\'s provider cannot be sent {what}{where}. Leave it out, or set "drop_unsupported": true.',
        param=param,
    )


# --- reasoning --------------------------------------------------------------------------------------------


def decode_reasoning(message: Json) -> list[Part]:
    """Earlier or fresh reasoning of a message: details with signatures where given, else the plain text."""
    details = message.get("reasoning_details")
    parts: list[Part] = []
    for detail in details if isinstance(details, list) else ():
        parts += decode_detail(detail) if isinstance(detail, dict) else []
    if parts:
        return parts
    text = message.get("reasoning_content") or message.get("reasoning")
    return [ReasoningPart(text=text)] if isinstance(text, str) and text else []


def decode_detail(detail: Json) -> list[Part]:
    """One of OpenRouter's reasoning details: text with a signature, a summary, or encrypted data."""
    text, data = string(detail.get("text")) or string(detail.get("summary")), string(detail.get("data"))
    signature = string(detail.get("signature"))
    return [ReasoningPart(text=text, signature=signature, redacted=data)] if text or data or signature else []


def encode_details(parts: list[ReasoningPart]) -> list[Json]:
    details: list[Json] = []
    for index, part in enumerate(parts):
        if part.redacted:
            details.append({"type": "reasoning.encrypted", "data": part.redacted, "index": index})
        else:
            signature = {"signature": part.signature} if part.signature else {}
            details.append({"type": "reasoning.text", "text": part.text, **signature, "index": index})
    return details
