"""Google's models on Vertex, with a service account. https://cloud.google.com/vertex-ai/generative-ai/docs/reference"""

from __future__ import annotations

from urllib.parse import quote

from providers.adapters.base import ProviderConfig, required_credential, text_setting
from providers.adapters.google import Google
from providers.adapters.service_account import Tokens, read_account
from providers.credentials import CredentialUnusable
from providers.errors import InvalidCredential, ProviderError
from providers.http import Client, HttpExchange
from providers.wire import gemini, gemini_embed
from providers.wire.base import Wire

# Regions that are not part of a host's name: https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations
_HOSTS = {
    "global": "aiplatform.googleapis.com",
    "us": "aiplatform.us.rep.googleapis.com",
    "eu": "aiplatform.eu.rep.googleapis.com",
}
_EMBEDDINGS: dict[str, Wire] = {"predict": gemini_embed.PREDICT, "embedContent": gemini_embed.SINGLE}


class Vertex(Google):
    """The credential is the JSON key of a service account. Settings, all optional: `region` ("global" if unsaid),
    `project` (the key's own if unsaid) and `embeddings`, the method that the embedding models have: "predict", or
    "embedContent" for those from gemini-embedding-2 on. The base URL follows from the region unless one is set."""

    models_path = "/publishers/google/models"
    listed = "publisherModels"

    def __init__(self, config: ProviderConfig) -> None:
        account = read_account(required_credential(config), provider=config.name)
        self._region = text_setting(config, "region", "global")
        self._project = text_setting(config, "project") or account.project_id
        if not self._project or not self._region:
            raise CredentialUnusable(f"The provider {config.name!r} needs the settings 'region' and 'project'.")
        method = text_setting(config, "embeddings", "predict")
        if method not in _EMBEDDINGS:
            raise CredentialUnusable(f"The setting 'embeddings' of provider {config.name!r} is no method: {method!r}.")
        self.wires = {"embeddings": _EMBEDDINGS[method], "count_tokens": gemini.VERTEX_COUNT}
        self.methods = {**self.methods, "embeddings": method}  # type: ignore[misc]  # each provider row has its own
        host = _HOSTS.get(self._region) or f"{quote(self._region, safe='')}-aiplatform.googleapis.com"
        self.base_url = f"https://{host}/v1beta1"  # type: ignore[misc]  # each region has its own
        token_client = Client(
            provider=config.name,
            base_url=account.token_uri,
            headers={},
            allow_plain_http=config.allow_plain_http,
            allow_private_address=config.allow_private_address,
            idle_connections=1,
            ca_bundle=text_setting(config, "ca_bundle"),
        )
        self._token_client = token_client
        self._tokens = Tokens(account, provider=config.name, client=token_client)
        super().__init__(config)

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        return {}

    def request_headers(self, *, method: str, path: str, body: bytes) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens.current()}"}

    def model_path(self, model: str) -> str:
        place = f"/projects/{quote(self._project, safe='')}/locations/{quote(self._region, safe='')}"
        return f"{place}/publishers/google{super().model_path(model)}"

    def close(self) -> None:
        super().close()
        self._token_client.close()

    def _refusal(self, exchange: HttpExchange) -> ProviderError:
        error = super()._refusal(exchange)
        if isinstance(error, InvalidCredential):
            # Revoked before its time: the next call gets a new one.
            self._tokens.forget()
        return error
