"""Content parts of the responses wire <-> unified parts: text, images, files, audio, refusals, citations."""

from __future__ import annotations

from typing import Any

from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    RefusalPart,
    TextPart,
    named,
)
from providers.wire.openai_chat.parts import split_data_url
from providers.wire.openai_chat.parts import string as string
from providers.wire.openai_chat.parts import unsupported as unsupported

NAME = "openai_responses"
# A mark on a part says: keep what stands up to here in the cache. The mark of other wires in this one's words.
_BREAKPOINT = {"mode": "explicit"}
MARK = {"type": "ephemeral"}
CITATIONS = frozenset({"url_citation", "file_citation", "container_file_citation", "file_path"})


# --- decode -------------------------------------------------------------------------------------------------


def decode_content(content: Any) -> list[Part]:
    """A message's `content`: a string, or a list of parts. An empty string holds no part."""
    if isinstance(content, str):
        return [TextPart(text=content)] if content else []
    return [decode_part(value) for value in (content if isinstance(content, list) else ()) if isinstance(value, dict)]


def decode_part(value: Json) -> Part:
    """One content part; what the unified types cannot hold stays whole as an OpaquePart of this wire."""
    kept = {key: item for key, item in value.items() if item is not None}
    decoder = _DECODERS.get(string(kept.pop("type", "")))
    part = decoder(kept) if decoder else None
    return part if part is not None else OpaquePart(wire=NAME, value=value)


def _input_text(value: Json) -> Part | None:
    mark = value.pop("prompt_cache_breakpoint", None)
    if not isinstance(value.get("text"), str) or value.keys() - {"text"} or mark not in (None, _BREAKPOINT):
        return None
    return TextPart(text=value["text"], cache_control=dict(MARK) if mark else None)


def _output_text(value: Json) -> Part | None:
    if not isinstance(value.get("text"), str) or value.keys() - {"text", "annotations", "logprobs"}:
        return None
    return TextPart(text=value["text"], citations=citations_of(value))


def citations_of(value: Json) -> tuple[Json, ...]:
    found = value.get("annotations")
    return tuple(item for item in (found if isinstance(found, list) else ()) if isinstance(item, dict))


def _image(value: Json) -> Part | None:
    url = value.get("image_url")
    if not isinstance(url, str) or value.keys() - {"image_url", "detail"}:
        return None
    media_type, data = split_data_url(url)
    return ImagePart(url="" if data else url, data=data, media_type=media_type, detail=string(value.get("detail")))


def _file(value: Json) -> Part | None:
    held = string(value.pop("file_data", ""))
    media_type, data = split_data_url(held)
    return FilePart(
        url=string(value.pop("file_url", "")),
        file_id=string(value.pop("file_id", "")),
        data=data or held,
        media_type=media_type,
        name=string(value.pop("filename", "")),
        extra=value,
    )


def _audio(value: Json) -> Part | None:
    audio = value.get("input_audio")
    if not isinstance(audio, dict) or value.keys() - {"input_audio"} or audio.keys() - {"data", "format"}:
        return None
    return AudioPart(data=string(audio.get("data")), format=string(audio.get("format")))


def _refusal(value: Json) -> Part | None:
    return RefusalPart(text=value["refusal"]) if isinstance(value.get("refusal"), str) else None


_DECODERS = {
    "input_text": _input_text,
    "text": _input_text,
    "output_text": _output_text,
    "input_image": _image,
    "input_file": _file,
    "input_audio": _audio,
    "refusal": _refusal,
}


# --- encode -------------------------------------------------------------------------------------------------


def encode_input(part: Part, *, own: bool, param: str) -> Json:
    """A part of what the model is given. Raises Unsupported(param) for one that this wire has no words for."""
    match part:
        case TextPart():
            value: Json = {"type": "input_text", "text": part.text}
            if part.cache_control and own:
                value["prompt_cache_breakpoint"] = _BREAKPOINT
            return value
        case ImagePart():
            return _encode_image(part, param)
        case FilePart():
            return _encode_file(part, own, param)
        case AudioPart():
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format or "wav"}}
        case OpaquePart() if part.wire == NAME:
            return part.value
        case OpaquePart():
            raise unsupported(f"a part of type {part.value.get('type', '?')!r}", param)
        case _:
            raise unsupported(f"{named(part)} here", param)


def encode_output_text(part: TextPart) -> Json:
    """Text that the model wrote, with those citations that this wire can say."""
    end = len(part.text)
    said = [encode_citation(value, start=0, end=end) for value in part.citations]
    return {"type": "output_text", "text": part.text, "annotations": [value for value in said if value is not None]}


def encode_citation(value: Json, *, start: int, end: int) -> Json | None:
    """A citation in this wire's words; None for one that cites no URL and is of another wire."""
    inner = value.get("url_citation")
    if isinstance(inner, dict):
        value = {"type": "url_citation", **inner}
    kind = string(value.get("type"))
    if kind in CITATIONS and not (kind == "url_citation" and "url" not in value):
        first, last = value.get("start_index"), value.get("end_index")
        if kind != "url_citation" or (isinstance(first, int) and isinstance(last, int) and "title" in value):
            return value
    url = string(value.get("url")) or string(value.get("uri"))
    if not url:
        return None
    first, last = value.get("start_index"), value.get("end_index")
    return {
        "type": "url_citation",
        "url": url,
        "title": string(value.get("title")),
        "start_index": first if isinstance(first, int) else start,
        "end_index": last if isinstance(last, int) else end,
    }


def _encode_image(part: ImagePart, param: str) -> Json:
    if not part.url and not part.data:
        raise unsupported("an image without a URL or data", param)
    url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
    return {"type": "input_image", "image_url": url, **({"detail": part.detail} if part.detail else {})}


def _encode_file(part: FilePart, own: bool, param: str) -> Json:
    named = {"filename": part.name} if part.name else {}
    if part.extra and not own:
        raise unsupported(f"the field {next(iter(part.extra))!r} of a file", param)
    if part.file_id:
        if not own:
            raise unsupported("a file id of another provider", param)
        return {"type": "input_file", "file_id": part.file_id, **named, **part.extra}
    if part.url:
        return {"type": "input_file", "file_url": part.url, **named, **part.extra}
    if not part.data:
        raise unsupported("a file without an id, a URL or data", param)
    media_type = part.media_type or "application/pdf"
    name = part.name or ("document.pdf" if media_type == "application/pdf" else "document.txt")
    data_url = f"data:{media_type};base64,{part.data}"
    return {"type": "input_file", "filename": name, "file_data": data_url, **part.extra}
