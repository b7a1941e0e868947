"""Anthropic. https://docs.anthropic.com/en/api"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

import msgspec

from providers.adapters.base import (
    HEALTH_TIMEOUT_S,
    Capabilities,
    Health,
    HttpAdapter,
    Operation,
    ProviderConfig,
    model_ids,
    required_credential,
    text_setting,
    timed_health,
)
from providers.http import Deadlines
from providers.wire import anthropic_messages
from providers.wire.base import Wire

# Above what anyone has, so that a server whose pages never end does not keep us for ever.
_MAX_PAGES = 50


class Anthropic(HttpAdapter):
    """Settings: `beta`, the anthropic-beta features to turn on, and `health_model`: when set, a health check is a
    one-token message to that model, which costs money; when not, it lists the models, which does not."""

    wire = anthropic_messages.WIRE
    wires: Mapping[Operation, Wire] = {"count_tokens": anthropic_messages.COUNT}
    capabilities = Capabilities(documents=True, count_tokens=True)
    base_url = "https://api.anthropic.com/v1"
    paths: ClassVar[Mapping[Operation, str]] = {"chat": "/messages", "count_tokens": "/messages/count_tokens"}
    models_query = "?limit=1000"

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        headers = {"x-api-key": required_credential(config), "anthropic-version": "2023-06-01"}
        beta = text_setting(config, "beta")
        return headers | {"anthropic-beta": beta} if beta else headers

    def health_check(self, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Health:
        """List the models, or send the one-token message that the settings ask for."""
        model = text_setting(self.config, "health_model")
        if not model:
            return super().health_check(timeout_s=timeout_s)
        return timed_health(lambda: self._one_token(model, timeout_s), model=model)

    def list_models(self) -> tuple[str, ...]:
        """The provider's names of its models, over all pages, sorted. Raises ProviderError."""
        found: set[str] = set()
        after = ""
        for _ in range(_MAX_PAGES):
            page = self._models_page(after)
            found.update(model_ids(page))
            last = page.get("last_id")
            if page.get("has_more") is not True or not isinstance(last, str):
                break
            after = f"&after_id={quote(last, safe='')}"
        return tuple(sorted(found))

    def _one_token(self, model: str, timeout_s: float) -> bytes:
        message = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "ping"}]}
        deadlines = Deadlines(connect_s=min(self.config.connect_timeout_s, timeout_s), total_s=timeout_s)
        body = msgspec.json.encode(message)
        return self.send(body=body, model=model, stream=False, deadlines=deadlines).body()
