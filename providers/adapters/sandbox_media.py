"""What the sandbox makes of images and audio: the smallest valid files, and usage by rules as plain as its tokens'.

`sandbox-image` makes grey pixels: 1,056 tokens each, the prompt a token for each 4 bytes and 100 for each image it is
given. `sandbox-transcribe` says how long the recording is and bills its seconds. `sandbox-speech` says nothing, for
100 ms; as events it tells tokens, 20 written ones for each read.
"""

from __future__ import annotations

import base64
import io
import re
import wave
import zlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from providers.sse import encode
from providers.wire import audio_length, forms
from providers.wire.base import Operation

IMAGE_TOKENS, INPUT_IMAGE_TOKENS, BYTES_PER_TOKEN = 1_056, 100, 4
# Where a recording does not say how long it is: that of 64 kbit/s.
_BYTES_A_SECOND = 8_000
_PIECES = re.compile(r"\S+\s*")


class Answered(NamedTuple):
    pieces: list[bytes]
    content_type: str


def answered(operation: Operation, body: bytes) -> Answered:
    """The answer to a body that a client's wire has admitted."""
    if operation in ("images", "image_edits"):
        return _images(_fields(body), edits=operation == "image_edits")
    if operation == "speech":
        return _speech(_fields(body))
    return _transcript(_fields(body), _recording(body))


def _fields(body: bytes) -> dict[str, Any]:
    """The fields of JSON, or the texts of a form and how many images it holds."""
    if not forms.is_form(body):
        fields: dict[str, Any] = msgspec.json.decode(body)
        return fields
    form = forms.parse(body)
    images = [part for part in form.files() if part.name.startswith("image")]
    return {name: values[0] for name, values in form.texts().items()} | {"images": images}


def _recording(body: bytes) -> bytes:
    if forms.is_form(body):
        return forms.parse(body).file("file") or b""
    return base64.b64decode(msgspec.json.decode(body)["input_audio"]["data"])


def _asks_for_stream(fields: dict[str, Any]) -> bool:
    return fields.get("stream") in (True, "true", "True", "1")


def _tokens(text: Any) -> int:
    return -(-len(str(text or "").encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _events(events: list[dict[str, Any]]) -> Answered:
    return Answered([encode(data=msgspec.json.encode(event)) for event in events], "text/event-stream")


def _json(value: dict[str, Any]) -> Answered:
    return Answered([msgspec.json.encode(value)], "application/json")


# --- images -----------------------------------------------------------------------------------------------


def _images(fields: dict[str, Any], *, edits: bool) -> Answered:
    made, given = int(fields.get("n") or 1), fields.get("images") or fields.get("image") or ()
    read = len(given) if isinstance(given, list) else int(bool(given))
    told = {
        "quality": _stated(fields.get("quality"), "medium"),
        "size": _stated(fields.get("size"), "1024x1024"),
        "output_format": "png",
    }
    usage = _image_usage(_tokens(fields.get("prompt")), read=read * INPUT_IMAGE_TOKENS, made=made)
    image = base64.b64encode(_png()).decode()
    if not _asks_for_stream(fields):
        return _json({"created": 0, "data": [{"b64_json": image}] * made, **told, "usage": usage})
    kind = "image_edit" if edits else "image_generation"
    common = {"b64_json": image, "created_at": 0, "background": "opaque", **told}
    partial = [
        {"type": f"{kind}.partial_image", "partial_image_index": index, **common}
        for index in range(int(fields.get("partial_images") or 0))
    ]
    return _events([*partial, {"type": f"{kind}.completed", **common, "usage": usage}])


def _stated(value: Any, usual: str) -> str:
    return value if isinstance(value, str) and value not in ("", "auto") else usual


def _image_usage(text: int, *, read: int, made: int) -> dict[str, Any]:
    written = IMAGE_TOKENS * made
    return {
        "input_tokens": text + read,
        "input_tokens_details": {"text_tokens": text, "image_tokens": read},
        "output_tokens": written,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": written},
        "total_tokens": text + read + written,
    }


def _png() -> bytes:
    """One grey pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = b"\0\0\0\1\0\0\0\1\x08\0\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0\x80")), chunk(b"IEND", b""))
    )


# --- audio ------------------------------------------------------------------------------------------------


def _transcript(fields: dict[str, Any], recording: bytes) -> Answered:
    seconds = audio_length.stated_s(recording) or Decimal(-(-len(recording) // _BYTES_A_SECOND))
    text = f"The recording is {seconds:f} seconds long."
    usage = {"type": "duration", "seconds": float(seconds)}
    if _asks_for_stream(fields):
        deltas = [{"type": "transcript.text.delta", "delta": piece} for piece in _PIECES.findall(text)]
        return _events([*deltas, {"type": "transcript.text.done", "text": text, "usage": usage}])
    match fields.get("response_format"):
        case "text":
            return Answered([text.encode() + b"\n"], "text/plain; charset=utf-8")
        case "srt":
            return Answered([f"1\n00:00:00,000 --> 00:00:01,000\n{text}\n\n".encode()], "text/plain; charset=utf-8")
        case "vtt":
            return Answered(
                [f"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n{text}\n\n".encode()], "text/plain; charset=utf-8"
            )
        case "verbose_json":
            more = {"task": "transcribe", "language": "english", "duration": float(seconds), "segments": []}
            return _json({**more, "text": text, "usage": usage})
    return _json({"text": text, "usage": usage})


def _speech(fields: dict[str, Any]) -> Answered:
    recording = _silence()
    if fields.get("stream_format") != "sse":
        return Answered([recording[:400], recording[400:]], "audio/wav")
    audio = [recording[:400], recording[400:]]
    deltas: Iterator[dict[str, Any]] = (
        {"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()} for piece in audio
    )
    read = _tokens(fields.get("input"))
    usage = {"input_tokens": read, "output_tokens": 20 * read, "total_tokens": 21 * read}
    return _events([*deltas, {"type": "speech.audio.done", "usage": usage}])


def _silence() -> bytes:
    """A tenth of a second."""
    out = io.BytesIO()
    with wave.open(out, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(1)
        recording.setframerate(8_000)
        recording.writeframes(b"\x80" * 800)
    return out.getvalue()
