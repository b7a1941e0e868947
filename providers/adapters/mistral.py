"""Mistral. https://docs.mistral.ai/api"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from providers.adapters.base import Capabilities, HttpAdapter, Operation, ProviderConfig, bearer
from providers.adapters.media import media_wires
from providers.wire.base import Wire
from providers.wire.openai_chat import Dialect, OpenAIChat
from providers.wire.openai_embeddings import OpenAIEmbeddings
from providers.wire.openai_embeddings.dialect import MISTRAL as MISTRAL_EMBEDDINGS

# It answers 422 to each field that it does not know. Usage comes unasked, in the chunk with the finish reason.
DIALECT = Dialect(
    cap_field="max_tokens",
    stream_usage=False,
    developer_role=False,
    reasoning_field="thinking",
    renamed={"seed": "random_seed"},
    refused=("user",),
    required_word="any",
    message_names=False,
    document_urls=True,
    bare_audio=True,
)


class Mistral(HttpAdapter):
    wire = OpenAIChat(dialect=DIALECT)
    wires: Mapping[Operation, Wire] = {
        "embeddings": OpenAIEmbeddings(dialect=MISTRAL_EMBEDDINGS), **media_wires(("transcriptions",))
    }  # fmt: skip
    capabilities = Capabilities(documents=True, audio=True, embeddings=True, transcriptions=True)
    base_url = "https://api.mistral.ai/v1"
    paths: ClassVar[Mapping[Operation, str]] = {
        "chat": "/chat/completions",
        "embeddings": "/embeddings",
        "transcriptions": "/audio/transcriptions",
    }

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        return bearer(config)
