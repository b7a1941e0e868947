"""Any server that speaks OpenAI's chat wire, by configuration alone: Groq, DeepSeek, xAI, OpenRouter, Together,
Fireworks, Perplexity, Ollama, vLLM, llama.cpp and their like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from providers.adapters.base import Capabilities, HttpAdapter, Operation, ProviderConfig, text_setting
from providers.credentials import CredentialUnusable, header_text
from providers.errors import ModelNotFound
from providers.wire.openai_chat import Dialect, OpenAIChat


class OpenAICompatible(HttpAdapter):
    """The base URL is required: what stands before /chat/completions. Settings, all optional:

    `dialect`: fields of the wire's Dialect, such as {"cap_field": "max_completion_tokens"} (here max_tokens if unsaid);
    `auth_header`: the header that carries the credential as it is, where it is not `Authorization: Bearer`;
    `headers`: more headers, {"HTTP-Referer": "https://..."}; `idempotency_header`: its name, where one is known;
    `chat_path`, `embeddings_path`, `models_path`: where they differ from OpenAI's.
    """

    capabilities = Capabilities(embeddings=True)
    paths: ClassVar[Mapping[Operation, str]] = {"chat": "/chat/completions", "embeddings": "/embeddings"}

    def __init__(self, config: ProviderConfig) -> None:
        self.wire = OpenAIChat(dialect=_dialect(config))
        super().__init__(config)
        self.paths = {  # type: ignore[misc]  # these servers have their own paths, object by object
            operation: text_setting(config, f"{operation}_path", path) for operation, path in type(self).paths.items()
        }
        self.models_path = text_setting(config, "models_path", "/models")  # type: ignore[misc]
        self.idempotency_header = text_setting(config, "idempotency_header")  # type: ignore[misc]

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        headers = _more_headers(config)
        if not config.credential:
            return headers
        name = text_setting(config, "auth_header")
        return headers | ({name: config.credential} if name else {"Authorization": f"Bearer {config.credential}"})

    def validate_model(self, name: str) -> bool:
        """Is `name` in the server's list? Many of these servers have no look-up of one model."""
        try:
            return name in self.list_models()
        except ModelNotFound:
            return False


def _dialect(config: ProviderConfig) -> Dialect:
    stated = config.settings.get("dialect", {})
    try:
        return msgspec.convert({"cap_field": "max_tokens"} | dict(stated), Dialect)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise CredentialUnusable(f"The setting 'dialect' of provider {config.name!r} is wrong: {error}.") from None


def _more_headers(config: ProviderConfig) -> dict[str, str]:
    stated = config.settings.get("headers", {})
    if not isinstance(stated, dict) or not all(isinstance(value, str) for value in stated.values()):
        raise CredentialUnusable(f"The setting 'headers' of provider {config.name!r} must map names to texts.")
    what = f"The setting 'headers' of provider {config.name!r}"
    return {header_text(name, what=what): header_text(value, what=what) for name, value in stated.items()}
