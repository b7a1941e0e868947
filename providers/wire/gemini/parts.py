"""Parts of a content <-> unified parts. What the unified types cannot hold stays whole as an OpaquePart.

A `thoughtSignature` stands on the part that follows the thought: a text or a function call. In unified parts it comes
before that part as a ReasoningPart without text, which other wires carry to their clients and back.
https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    Json,
    OpaquePart,
    Part,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from providers.wire.gemini import signatures
from providers.wire.gemini.names import NAME, camel, dumps, objects, string

Result = TextPart | ImagePart | FilePart
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^,]*)?;base64,(.*)", re.DOTALL)


class Calls:
    """The ids of function calls: Google gives one or leaves it out, and answers a call without one by its name.

    A made-up id depends on nothing but `seed` (the answer's id, or where the request's contents stand) and the place
    of the call, so that it is the same in a stream and in a whole answer.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._made = 0
        # Calls that no response has answered yet, oldest first: (name, id).
        self._open: list[tuple[str, str]] = []

    def called(self, call: Json) -> str:
        name, call_id = string(call.get("name")), string(call.get("id"))
        if not call_id:
            self._made += 1
            seed = f"{self._seed}/{self._made}/{name}".encode("utf-8", "surrogatepass")
            call_id = "call_" + hashlib.sha256(seed).hexdigest()[:24]
        self._open.append((name, call_id))
        return call_id

    def answered(self, response: Json) -> str:
        """The id of the call that a function response answers: its own, or that of the oldest call of its name."""
        name, call_id = string(response.get("name")), string(response.get("id"))
        for at, (called, known) in enumerate(self._open):
            if known == call_id or (not call_id and called == name):
                del self._open[at]
                return known
        return call_id or f"call_{name}"


def decode_part(value: Json, calls: Calls) -> list[Part]:
    """The unified parts of one content part; none for an empty text."""
    said = camel(value)
    signature = string(said.pop("thoughtSignature", None))
    thought = said.pop("thought", None) is True
    part = _decode(said, calls)
    if thought and isinstance(part, TextPart):
        return [signatures.read(part.text, signature)] if part.text or signature else []
    signed: list[Part] = [signatures.read("", signature)] if signature else []
    if part is None or (thought and not isinstance(part, TextPart)):
        return [OpaquePart(wire=NAME, value=value)]
    if isinstance(part, TextPart) and not part.text:
        return signed
    return [*signed, part]


def _decode(said: Json, calls: Calls) -> Part | None:
    if len(said) != 1:
        return None
    ((kind, inner),) = said.items()
    if kind == "text":
        return TextPart(text=inner) if isinstance(inner, str) else None
    reader = _READERS.get(kind)
    return reader(camel(inner), calls) if reader is not None and isinstance(inner, dict) else None


def _inline(inner: Json, calls: Calls) -> Part | None:
    if not inner.keys() <= {"mimeType", "data", "displayName"} or not isinstance(inner.get("data"), str):
        return None
    media_type, data, name = string(inner.get("mimeType")), inner["data"], string(inner.get("displayName"))
    if media_type.startswith("image/") and not name:
        return ImagePart(data=data, media_type=media_type)
    if media_type.startswith("audio/") and not name:
        return AudioPart(data=data, format=media_type.removeprefix("audio/"))
    return FilePart(data=data, media_type=media_type, name=name)


def _file(inner: Json, calls: Calls) -> Part | None:
    if not inner.keys() <= {"mimeType", "fileUri", "displayName"}:
        return None
    media_type, url, name = (string(inner.get(key)) for key in ("mimeType", "fileUri", "displayName"))
    if media_type.startswith("image/") and not name:
        return ImagePart(url=url, media_type=media_type)
    return FilePart(url=url, media_type=media_type, name=name)


def _call(inner: Json, calls: Calls) -> Part | None:
    if not inner.keys() <= {"id", "name", "args"}:
        return None
    args = inner.get("args")
    arguments = dumps(args if isinstance(args, dict) else {}).decode()
    return ToolCallPart(id=calls.called(inner), name=string(inner.get("name")), arguments=arguments)


def _response(inner: Json, calls: Calls) -> Part | None:
    """`{"output": text}` and `{"error": text}` are Google's own words for a result; any other object is its JSON."""
    if not inner.keys() <= {"id", "name", "response", "parts"}:
        return None
    parts: list[Result] = []
    error = False
    match inner.get("response"):
        case {"output": str(text), **rest} if not rest:
            parts.append(TextPart(text=text))
        case {"error": str(text), **rest} if not rest:
            parts.append(TextPart(text=text))
            error = True
        case dict(response) if response:
            parts.append(TextPart(text=dumps(response).decode()))
    for media in objects(inner.get("parts")):
        part = _decode(media, calls)
        if not isinstance(part, TextPart | ImagePart | FilePart):
            return None
        parts.append(part)
    return ToolResultPart(id=calls.answered(inner), parts=tuple(parts), is_error=error)


_READERS: dict[str, Callable[[Json, Calls], Part | None]] = {
    "inlineData": _inline,
    "fileData": _file,
    "functionCall": _call,
    "functionResponse": _response,
}


# --- unified part -> content part -------------------------------------------------------------------------


def media_part(part: ImagePart | FilePart) -> Json:
    """Inline data, or a file by its address; a `data:` URL is sent inline."""
    inline = _DATA_URL.match(part.url)
    media_type, data = (inline[1], inline[2]) if inline else (part.media_type, part.data)
    if part.url and not inline:
        media_type = media_type or guessed_type(part.url)
        return {"fileData": {"fileUri": part.url, **({"mimeType": media_type} if media_type else {})}}
    usual = "image/png" if isinstance(part, ImagePart) else "application/pdf"
    return {"inlineData": {"mimeType": media_type or usual, "data": data}}


def audio_part(part: AudioPart) -> Json:
    return {"inlineData": {"mimeType": f"audio/{part.format or 'wav'}", "data": part.data}}


_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "mp4": "video/mp4",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
}


def guessed_type(url: str) -> str:
    """The media type that the name in a URL promises; "" for none. Vertex wants one with every file."""
    name = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return _TYPES.get(name.rpartition(".")[2].lower(), "") if "." in name else ""


def call_part(part: ToolCallPart, arguments: Any) -> Json:
    identity = {"id": part.id} if part.id else {}
    return {"functionCall": {**identity, "name": part.name, "args": arguments}}


def response_part(part: ToolResultPart, *, name: str, media: list[Json]) -> Json:
    """What a tool returned. Its texts are joined: the wire has one object for them."""
    text = "\n".join(piece.text for piece in part.parts if isinstance(piece, TextPart))
    said: Json = {"id": part.id} if part.id else {}
    said |= {"name": name, "response": {"error" if part.is_error else "output": text}}
    if media:
        said["parts"] = media
    return {"functionResponse": said}
