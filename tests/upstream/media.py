"""OpenAI's images, transcriptions and speech as the fake provider answers them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from providers.sse import encode
from providers.wire import forms
from tests.upstream import wires

if TYPE_CHECKING:
    from tests.upstream.shapes import Asked

IMAGE = base64.b64encode(b"\x89PNG fake").decode()


def fields(body: bytes) -> dict[str, Any]:
    """The texts of a form, which JSON would have as its fields."""
    found: dict[str, Any] = {name: texts[0] for name, texts in forms.parse(body).texts().items()}
    return found | {"stream": found.get("stream") == "true"}


def _event(value: dict[str, Any]) -> bytes:
    return encode(data=msgspec.json.encode(value), event=value["type"])


class _Medium(wires.Shape):
    """No cap, OpenAI's newer usage, and nothing in a stream before the first piece and after the last but its end."""

    def cap(self, body: dict[str, Any]) -> int | None:
        return None

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield from ()

    def finish(self, asked: Asked) -> Iterator[bytes]:
        yield from ()


class Images(_Medium):
    kind = "image_generation"

    def whole(self, asked: Asked) -> bytes:
        made = {"created": 1, "data": [{"b64_json": IMAGE}], "quality": "high", "size": "1024x1024"}
        counts = asked.counts()
        return msgspec.json.encode(made if counts is None else made | {"usage": counts})

    def word(self, asked: Asked, index: int) -> bytes:
        return _event({"type": f"{self.kind}.partial_image", "partial_image_index": index, "b64_json": IMAGE})

    def closing(self, asked: Asked) -> Iterator[bytes]:
        completed = {"type": f"{self.kind}.completed", "b64_json": IMAGE, "quality": "high", "size": "1024x1024"}
        counts = asked.counts()
        yield _event(completed if counts is None else completed | {"usage": counts})


class ImageEdits(Images):
    kind = "image_edit"


class Transcriptions(_Medium):
    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"type": "tokens", **super().usage(input_tokens, output_tokens)}

    def whole(self, asked: Asked) -> bytes:
        return msgspec.json.encode(self._end(asked))

    def word(self, asked: Asked, index: int) -> bytes:
        return _event({"type": "transcript.text.delta", "delta": (" " if index else "") + asked.words[index]})

    def closing(self, asked: Asked) -> Iterator[bytes]:
        yield _event({"type": "transcript.text.done", **self._end(asked)})
        yield b"data: [DONE]\n\n"

    def _end(self, asked: Asked) -> dict[str, Any]:
        text, counts = " ".join(asked.words), asked.counts()
        return {"text": text} if counts is None else {"text": text, "usage": counts}


class Speech(_Medium):
    content_type = "audio/mpeg"

    def streams(self, body: dict[str, Any], path: str) -> bool:
        return body.get("stream_format") == "sse"

    def whole(self, asked: Asked) -> bytes:
        return b"\xff\xf3\x00" + " ".join(asked.words).encode()

    def word(self, asked: Asked, index: int) -> bytes:
        return _event({"type": "speech.audio.delta", "audio": IMAGE})

    def closing(self, asked: Asked) -> Iterator[bytes]:
        done, counts = {"type": "speech.audio.done"}, asked.counts()
        yield _event(done if counts is None else done | {"usage": counts})


_TAILS: dict[str, wires.Shape] = {
    "images/generations": Images(),
    "images/edits": ImageEdits(),
    "audio/transcriptions": Transcriptions(),
    "audio/translations": Transcriptions(),
    "audio/speech": Speech(),
}


def shape_of(path: str) -> wires.Shape | None:
    """By what a path ends in: the model, an Azure deployment too, stands in the body."""
    plain = path.partition("?")[0]
    return next((shape for tail, shape in _TAILS.items() if plain.endswith("/" + tail)), None)
