"""OpenAI. https://platform.openai.com/docs/api-reference"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from providers.adapters import media
from providers.adapters.base import Capabilities, HttpAdapter, Operation, ProviderConfig, bearer, text_setting
from providers.adapters.responses import responses_wire
from providers.wire import openai_chat, openai_completions, openai_responses


class OpenAI(HttpAdapter):
    """Settings: `organization` and `project`, the ids that bill; `meter_tool_calls` (see `responses_wire`)."""

    wire = openai_chat.WIRE
    capabilities = Capabilities(
        documents=True, audio=True, embeddings=True, responses=True, completions=True, count_tokens=True, images=True,
        transcriptions=True, speech=True,
    )  # fmt: skip
    base_url = "https://api.openai.com/v1"
    paths: ClassVar[Mapping[Operation, str]] = {
        "chat": "/chat/completions",
        "responses": "/responses",
        "completions": "/completions",
        "embeddings": "/embeddings",
        "count_tokens": "/responses/input_tokens",
        **media.PATHS,
    }
    idempotency_header = "Idempotency-Key"

    def __init__(self, config: ProviderConfig) -> None:
        self.wires = {
            **self.wires,
            "responses": responses_wire(config),
            "completions": openai_completions.WIRE,
            "count_tokens": openai_responses.COUNT,
            **media.media_wires(),
        }
        super().__init__(config)

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        owner = {
            "OpenAI-Organization": text_setting(config, "organization"),
            "OpenAI-Project": text_setting(config, "project"),
        }
        return bearer(config) | {name: value for name, value in owner.items() if value}
