"""Ollama, by its own API. https://docs.ollama.com/api"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from providers.adapters.base import HEALTH_TIMEOUT_S, Capabilities, HttpAdapter, Operation, ProviderConfig, model_ids
from providers.credentials import CredentialUnusable
from providers.errors import InvalidRequest, ModelNotFound
from providers.http import Deadlines
from providers.unified import Json
from providers.wire.ollama import OllamaChat
from providers.wire.ollama_embed import OllamaEmbed

_USUAL_URL = "http://127.0.0.1:11434"


class Ollama(HttpAdapter):
    """The base URL is the host alone; unless one is set it is this machine's, over plain HTTP. A credential is needed
    only behind a proxy or at ollama.com. Settings, both optional, for every call that does not say otherwise:

    `keep_alive`: how long a model stays loaded ("10m", or seconds); `options`: the model's options, such as
    {"num_ctx": 16384}, without which a server cuts long prompts to what it was started with.
    """

    capabilities = Capabilities(embeddings=True)
    paths: ClassVar[Mapping[Operation, str]] = {"chat": "/api/chat", "embeddings": "/api/embed"}
    models_path = "/api/tags"

    def __init__(self, config: ProviderConfig) -> None:
        defaults = _defaults(config)
        self.wire = OllamaChat(defaults=defaults)
        self.wires = {"embeddings": OllamaEmbed(defaults=defaults)}
        super().__init__(config if config.base_url else _at_home(config))

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        return {"Authorization": f"Bearer {config.credential}"} if config.credential else {}

    def list_models(self) -> tuple[str, ...]:
        """The names of the models that the server has, sorted. Raises ProviderError."""
        return tuple(sorted(model_ids(self._models_page(""), listed="models", named="name")))

    def validate_model(self, name: str) -> bool:
        """Has the server the model `name`? It knows one by several names: the list has only the longest."""
        deadlines = Deadlines(connect_s=self.config.connect_timeout_s, total_s=HEALTH_TIMEOUT_S)
        body = msgspec.json.encode({"model": name})
        try:
            self._checked(self.client.post(path="/api/show", body=body, deadlines=deadlines), stream=False).close()
        except (ModelNotFound, InvalidRequest):
            return False
        return True


def _at_home(config: ProviderConfig) -> ProviderConfig:
    """Who sets no address means the server on this machine, and with it plain HTTP and a private address."""
    return msgspec.structs.replace(config, base_url=_USUAL_URL, allow_plain_http=True, allow_private_address=True)


def _defaults(config: ProviderConfig) -> Json:
    stated: Json = {name: config.settings[name] for name in ("keep_alive", "options") if name in config.settings}
    wrong = not isinstance(stated.get("options", {}), dict) or not isinstance(stated.get("keep_alive", 0), str | int)
    if wrong:
        raise CredentialUnusable(
            f"Of the settings of provider {config.name!r}, 'options' must be an object and 'keep_alive' a text or a "
            "number of seconds."
        )
    return stated
