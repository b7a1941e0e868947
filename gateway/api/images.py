"""POST /v1/images/generations and /v1/images/edits: OpenAI's images."""

from __future__ import annotations

from typing import Any

from gateway.api import parsing
from gateway.api.surface import SurfaceView
from providers.wire import openai_images


class ImageGenerationsView(SurfaceView):
    wire = openai_images.GENERATIONS
    surface = "images"


class ImageEditsView(SurfaceView):
    """A form, or JSON with its images inside."""

    wire = openai_images.EDITS
    surface = "image_edits"

    def read(self, meta: dict[str, Any]) -> bytes:
        return parsing.read_body_or_form(meta)
