"""Which wires the servers have that speak OpenAI's images, transcriptions and speech."""

from __future__ import annotations

from collections.abc import Container

from providers.wire import openai_images, openai_speech, openai_transcriptions
from providers.wire.base import Operation, Wire

# Where OpenAI has them, and all who speak as it does.
PATHS: dict[Operation, str] = {
    "images": "/images/generations",
    "image_edits": "/images/edits",
    "transcriptions": "/audio/transcriptions",
    "translations": "/audio/translations",
    "speech": "/audio/speech",
}
_JSON_EDITS = openai_images.OpenAIImages(edits=True, json_edits=True)
_WIRES: dict[Operation, Wire] = {
    "images": openai_images.GENERATIONS,
    "image_edits": openai_images.EDITS,
    "transcriptions": openai_transcriptions.TRANSCRIPTIONS,
    "translations": openai_transcriptions.TRANSLATIONS,
    "speech": openai_speech.WIRE,
}


def media_wires(operations: Container[Operation] = PATHS, *, json_edits: bool = False) -> dict[Operation, Wire]:
    """The wires of those media that are among `operations`. `json_edits`: the server takes no forms for edits."""
    wires = {operation: wire for operation, wire in _WIRES.items() if operation in operations}
    return {**wires, "image_edits": _JSON_EDITS} if json_edits and "image_edits" in wires else wires
