"""Any server that speaks OpenAI's chat wire, by configuration alone: a vendor that `providers.vendors` knows by name,
such as Groq, OpenRouter or vLLM, or any other by its base URL and settings."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from providers.adapters import media
from providers.adapters.base import (
    HEALTH_TIMEOUT_S,
    Capabilities,
    Health,
    HttpAdapter,
    Operation,
    ProviderConfig,
    text_setting,
    timed_health,
)
from providers.adapters.responses import flag_setting, responses_wire
from providers.credentials import CredentialUnusable, header_text
from providers.errors import InvalidRequest, ModelNotFound
from providers.vendors import PLAIN, Vendor
from providers.wire import cohere_rerank
from providers.wire.openai_chat import Dialect, OpenAIChat
from providers.wire.openai_completions import OpenAICompletions
from providers.wire.openai_embeddings import EmbedDialect, OpenAIEmbeddings

D = TypeVar("D", Dialect, EmbedDialect)


class OpenAICompatible(HttpAdapter):
    """Without a vendor the base URL is required: what stands before /chat/completions. Settings, all optional:

    `dialect`: fields of the wire's Dialect, such as {"cap_field": "max_completion_tokens"} (here max_tokens if unsaid);
    `embed_dialect`: fields of EmbedDialect, such as {"dimensions_field": "output_dimension"};
    `auth_header`: the header that carries the credential as it is, where it is not `Authorization: Bearer`;
    `headers`: more headers, {"HTTP-Referer": "https://..."}; `idempotency_header`: its name, where one is known;
    `chat_path`, `completions_path`, `embeddings_path`, `rerank_path`, `models_path`, `images_path`, `image_edits_path`,
    `transcriptions_path`, `translations_path`, `speech_path`: where they differ from the vendor's; empty for none;
    `responses`: true where the server has OpenAI's responses too, at `responses_path`; `meter_tool_calls` (see
    `responses_wire`).
    """

    def __init__(self, config: ProviderConfig, *, vendor: Vendor = PLAIN) -> None:
        self.vendor = vendor
        self.wire = OpenAIChat(dialect=_dialect(config, vendor.dialect, name="dialect"))
        embeddings = OpenAIEmbeddings(dialect=_dialect(config, vendor.embed_dialect, name="embed_dialect"))
        self.wires = {
            **type(self).wires,
            "responses": responses_wire(config),
            "completions": OpenAICompletions(dialect=self.wire.dialect, usual_cap=None),
            "embeddings": embeddings,
            "rerank": cohere_rerank.VOYAGE if vendor.voyage_rerank else cohere_rerank.WIRE,
        }
        super().__init__(_with_usual_address(config, vendor))
        # These servers have their own paths and capabilities, object by object.
        self.paths = _paths(config, vendor)  # type: ignore[misc]
        self.wires = {**self.wires, **media.media_wires(self.paths, json_edits=vendor.json_edits)}
        self.capabilities = _capabilities(vendor, self.paths)
        self.models_path = text_setting(config, "models_path", vendor.models)  # type: ignore[misc]
        self.idempotency_header = text_setting(config, "idempotency_header")  # type: ignore[misc]

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        headers = _more_headers(config)
        if not config.credential:
            return headers
        name = text_setting(config, "auth_header")
        return headers | ({name: config.credential} if name else {"Authorization": f"Bearer {config.credential}"})

    def health_check(self, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Health:
        """Ask for the list of models; a server without one is well when it answers at all, be it with 404."""
        if self.models_path:
            return super().health_check(timeout_s=timeout_s)
        return timed_health(lambda: self._knock(timeout_s))

    def list_models(self) -> tuple[str, ...]:
        """The server's names of its models, sorted; none where it has no list. Raises ProviderError."""
        return super().list_models() if self.models_path else ()

    def validate_model(self, name: str) -> bool:
        """Is `name` in the server's list? Many of these servers have no look-up of one model, and some no list."""
        if not self.models_path:
            return True
        try:
            return name in self.list_models()
        except ModelNotFound:
            return False

    def _knock(self, timeout_s: float) -> bytes:
        with contextlib.suppress(ModelNotFound, InvalidRequest):
            self._get("/models", timeout_s=timeout_s)
        return b""


def _with_usual_address(config: ProviderConfig, vendor: Vendor) -> ProviderConfig:
    """Who chooses a vendor that is usually on the next machine means plain HTTP and a private address."""
    return msgspec.structs.replace(
        config,
        base_url=config.base_url or vendor.base_url,
        allow_plain_http=config.allow_plain_http or vendor.is_local,
        allow_private_address=config.allow_private_address or vendor.is_local,
    )


def _paths(config: ProviderConfig, vendor: Vendor) -> dict[Operation, str]:
    """The operations that the server has, each with its path."""
    known: dict[Operation, str] = {
        "chat": vendor.chat,
        "completions": vendor.completions,
        "embeddings": vendor.embeddings,
        "rerank": vendor.rerank,
        **{operation: path if operation in vendor.media else "" for operation, path in media.PATHS.items()},
    }
    if flag_setting(config, "responses", vendor.responses):
        known["responses"] = vendor.responses_path
    stated = {operation: text_setting(config, f"{operation}_path", path) for operation, path in known.items()}
    return {operation: path for operation, path in stated.items() if path}


def _capabilities(vendor: Vendor, paths: Mapping[Operation, str]) -> Capabilities:
    return Capabilities(
        tools=vendor.tools,
        vision=vendor.vision,
        documents=vendor.documents,
        audio=vendor.audio,
        structured_output=vendor.structured_output,
        reasoning=vendor.reasoning,
        embeddings="embeddings" in paths,
        rerank="rerank" in paths,
        responses="responses" in paths,
        completions="completions" in paths,
        images="images" in paths or "image_edits" in paths,
        transcriptions="transcriptions" in paths or "translations" in paths,
        speech="speech" in paths,
    )


def _dialect(config: ProviderConfig, usual: D, *, name: str) -> D:
    """The vendor's dialect with what the settings state of it. Raises CredentialUnusable for what it is not."""
    stated = config.settings.get(name, {})
    try:
        return msgspec.convert(msgspec.structs.asdict(usual) | dict(stated), type(usual))
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise CredentialUnusable(f"The setting {name!r} of provider {config.name!r} is wrong: {error}.") from None


def _more_headers(config: ProviderConfig) -> dict[str, str]:
    stated = config.settings.get("headers", {})
    if not isinstance(stated, dict) or not all(isinstance(value, str) for value in stated.values()):
        raise CredentialUnusable(f"The setting 'headers' of provider {config.name!r} must map names to texts.")
    what = f"The setting 'headers' of provider {config.name!r}"
    return {header_text(name, what=what): header_text(value, what=what) for name, value in stated.items()}
