"""Cohere. https://docs.cohere.com/reference/about"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

from providers.adapters.base import Capabilities, HttpAdapter, Operation, ProviderConfig, bearer, model_ids
from providers.wire import cohere, cohere_embed, cohere_rerank
from providers.wire.base import Wire

# Above what anyone has, so that a server whose pages never end does not keep us for ever.
_MAX_PAGES = 50


class Cohere(HttpAdapter):
    """The base URL is the host alone, as in Cohere's own clients: versions of the API stand in the paths."""

    wire = cohere.WIRE
    wires: Mapping[Operation, Wire] = {"embeddings": cohere_embed.WIRE, "rerank": cohere_rerank.V2}
    capabilities = Capabilities(documents=True, embeddings=True, rerank=True)
    base_url = "https://api.cohere.com"
    paths: ClassVar[Mapping[Operation, str]] = {
        "chat": "/v2/chat",
        "embeddings": "/v2/embed",
        "rerank": "/v2/rerank",
    }
    models_path = "/v1/models"
    models_query = "?page_size=1000"

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        return bearer(config)

    def list_models(self) -> tuple[str, ...]:
        """The provider's names of its models, over all pages, sorted. Raises ProviderError."""
        found: set[str] = set()
        after = ""
        for _ in range(_MAX_PAGES):
            page = self._models_page(after)
            found.update(model_ids(page, listed="models", named="name"))
            token = page.get("next_page_token")
            if not isinstance(token, str) or not token:
                break
            after = f"&page_token={quote(token, safe='')}"
        return tuple(sorted(found))
