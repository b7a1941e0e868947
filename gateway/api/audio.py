"""POST /v1/audio/transcriptions, /v1/audio/translations and /v1/audio/speech: OpenAI's audio."""

from __future__ import annotations

from typing import Any

from gateway.api import parsing
from gateway.api.surface import SurfaceView
from providers.wire import openai_speech, openai_transcriptions


class TranscriptionsView(SurfaceView):
    wire = openai_transcriptions.TRANSCRIPTIONS
    surface = "transcriptions"

    def read(self, meta: dict[str, Any]) -> bytes:
        return parsing.read_body_or_form(meta)


class TranslationsView(TranscriptionsView):
    wire = openai_transcriptions.TRANSLATIONS
    surface = "translations"


class SpeechView(SurfaceView):
    wire = openai_speech.WIRE
    surface = "speech"
