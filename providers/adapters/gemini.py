"""Google's Gemini API, with a key. https://ai.google.dev/api"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from providers.adapters.base import ProviderConfig, required_credential
from providers.adapters.google import Google
from providers.wire import gemini, gemini_embed
from providers.wire.base import Operation, Wire


class Gemini(Google):
    """No settings of its own."""

    wires: Mapping[Operation, Wire] = {"embeddings": gemini_embed.BATCH, "count_tokens": gemini.COUNT}
    methods: ClassVar[Mapping[Operation, str]] = {**Google.methods, "embeddings": "batchEmbedContents"}
    base_url = "https://generativelanguage.googleapis.com/v1beta"

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        return {"x-goog-api-key": required_credential(config)}
