"""Azure OpenAI, and other vendors' models on Azure. https://learn.microsoft.com/azure/ai-foundry/openai/reference"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from providers.adapters import media
from providers.adapters.base import (
    HEALTH_TIMEOUT_S,
    Capabilities,
    HttpAdapter,
    Operation,
    ProviderConfig,
    required_credential,
    text_setting,
)
from providers.adapters.responses import responses_wire
from providers.credentials import CredentialUnusable
from providers.errors import InvalidRequest, ModelNotFound
from providers.http import Deadlines
from providers.wire import openai_completions
from providers.wire.openai_chat import Dialect, OpenAIChat
from providers.wire.openai_chat.dialect import OPENAI

# Where each endpoint begins, the version it is asked for if the settings name none, and its name of the output cap.
_ENDPOINTS: dict[str, tuple[str, str, Dialect]] = {
    "deployments": ("/openai/deployments", "2024-10-21", OPENAI),
    "v1": ("/openai/v1", "", OPENAI),
    "models": ("/models", "2024-05-01-preview", msgspec.structs.replace(OPENAI, cap_field="max_tokens")),
}
_OPERATIONS: dict[Operation, str] = {
    "chat": "/chat/completions",
    "completions": "/completions",
    "embeddings": "/embeddings",
    **media.PATHS,
}


class Azure(HttpAdapter):
    """The base URL is required: https://NAME.openai.azure.com or https://NAME.services.ai.azure.com. A model's upstream
    name is the name of its deployment. Settings, all optional:

    `endpoint`: "deployments" (the usual), "v1" (no version in the address, and responses) or "models" (other vendors'
    models); `api_version`: the `api-version` of the address; `dialect`: fields of the wire's Dialect that differ.
    """

    capabilities = Capabilities(embeddings=True)

    def __init__(self, config: ProviderConfig) -> None:
        endpoint = text_setting(config, "endpoint", "deployments")
        if endpoint not in _ENDPOINTS:
            known = ", ".join(_ENDPOINTS)
            raise CredentialUnusable(f"The setting 'endpoint' of provider {config.name!r} must be one of {known}.")
        self._root, version, dialect = _ENDPOINTS[endpoint]
        version = text_setting(config, "api_version", version)
        self._query = f"?api-version={quote(version, safe='')}" if version else ""
        self._by_deployment = endpoint == "deployments"
        if endpoint != "models":
            self.wires = {**self.wires, "completions": openai_completions.WIRE, **media.media_wires()}
            self.capabilities = msgspec.structs.replace(
                self.capabilities, completions=True, images=True, transcriptions=True, speech=True
            )
        if endpoint == "v1":
            self.wires = {**self.wires, "responses": responses_wire(config)}
            self.capabilities = msgspec.structs.replace(self.capabilities, responses=True)
        self.wire = OpenAIChat(dialect=_dialect(config, dialect))
        super().__init__(config)
        self.models_path = "/openai/v1/models" if endpoint == "v1" else "/openai/models"  # type: ignore[misc]
        self.models_query = self._query  # type: ignore[misc]  # one version for all addresses of a provider

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        return {"api-key": required_credential(config)}

    def path(self, *, operation: Operation, model: str, stream: bool) -> str | None:
        """The deployment stands in the path, or else in the body."""
        responds = operation == "responses" and self.capabilities.responses
        tail = "/responses" if responds else _OPERATIONS.get(operation)
        if tail is None:
            return None
        deployment = f"/{quote(model, safe='')}" if self._by_deployment else ""
        return f"{self._root}{deployment}{tail}{self._query}"

    def validate_model(self, name: str) -> bool:
        """Is there a deployment of that name? The list knows models, not deployments: a chat without messages is
        refused as invalid by one that exists, before it costs anything, and not found where there is none."""
        body = msgspec.json.encode({"model": name, "messages": []})
        deadlines = Deadlines(connect_s=self.config.connect_timeout_s, total_s=HEALTH_TIMEOUT_S)
        try:
            self.send(body=body, model=name, stream=False, deadlines=deadlines).close()
        except ModelNotFound:
            return False
        except InvalidRequest:
            return True
        return True


def _dialect(config: ProviderConfig, usual: Dialect) -> Dialect:
    stated = config.settings.get("dialect", {})
    try:
        return msgspec.convert(msgspec.to_builtins(usual) | dict(stated), Dialect)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise CredentialUnusable(f"The setting 'dialect' of provider {config.name!r} is wrong: {error}.") from None
