"""Adapter name -> class; catalog row -> ready adapter, kept until the row changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from providers.adapters.anthropic import Anthropic
from providers.adapters.azure import Azure
from providers.adapters.base import Adapter, ProviderConfig
from providers.adapters.bedrock import Bedrock
from providers.adapters.cohere import Cohere
from providers.adapters.gemini import Gemini
from providers.adapters.mistral import Mistral
from providers.adapters.ollama import Ollama
from providers.adapters.openai import OpenAI
from providers.adapters.openai_compatible import OpenAICompatible
from providers.adapters.sandbox import Sandbox
from providers.adapters.vertex import Vertex
from providers.credentials import resolve
from providers.vendors import VENDORS

if TYPE_CHECKING:
    from providers.models import Provider

ADAPTERS: dict[str, Callable[[ProviderConfig], Adapter]] = {
    "anthropic": Anthropic,
    "azure": Azure,
    "bedrock": Bedrock,
    "cohere": Cohere,
    "gemini": Gemini,
    "mistral": Mistral,
    # Plain "ollama" is the preset of Ollama's OpenAI-compatible API, which rows have chosen already.
    "ollama_native": Ollama,
    "openai": OpenAI,
    "openai_compatible": OpenAICompatible,
    "sandbox": Sandbox,
    "vertex": Vertex,
    **{name: partial(OpenAICompatible, vendor=vendor) for name, vendor in VENDORS.items()},
}


class UnknownAdapter(ValueError):
    """A provider names an adapter that is not in ADAPTERS."""


def names() -> tuple[str, ...]:
    """What may stand in `Provider.adapter`, sorted."""
    return tuple(sorted(ADAPTERS))


def build(config: ProviderConfig) -> Adapter:
    """A new adapter. Raises UnknownAdapter, AddressRefused, CredentialUnusable."""
    try:
        make = ADAPTERS[config.adapter]
    except KeyError:
        raise UnknownAdapter(f"There is no adapter {config.adapter!r}: use one of {', '.join(names())}.") from None
    return make(config)


def config_from_row(row: Provider) -> ProviderConfig:
    """A catalog row as plain data, its credential resolved. Raises CredentialUnusable."""
    return ProviderConfig(
        name=row.name,
        adapter=row.adapter,
        base_url=row.base_url,
        credential=resolve(ref=row.credential_ref, secret=row.credential_secret),
        allow_plain_http=row.allow_plain_http,
        allow_private_address=row.allow_private_address,
        timeout_s=row.timeout_s,
        connect_timeout_s=row.connect_timeout_s,
        first_byte_timeout_s=row.first_byte_timeout_s,
        idle_timeout_s=row.idle_timeout_s,
        stream_timeout_s=row.stream_timeout_s,
        max_retries=row.max_retries,
        settings=dict(row.settings or {}),
    )


class AdapterCache:
    """The adapters of one process, one for each provider row: a row saved anew gets a new one.

    The adapter that is replaced keeps no idle connection from then on; its streams end undisturbed. A credential that
    changes behind an `env:` or `file:` reference is seen when the row is saved or after `forget`.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[datetime, Adapter]] = {}
        self._lock = threading.Lock()

    def get(self, row: Provider) -> Adapter:
        """The adapter for `row`. Raises as `build` and `config_from_row` do."""
        kept = self._kept.get(row.pk)
        if kept is not None and kept[0] >= row.updated_at:
            return kept[1]
        with self._lock:
            kept = self._kept.get(row.pk)
            # Newer, too: a thread with an old copy of the row must not bring the old address back.
            if kept is not None and kept[0] >= row.updated_at:
                return kept[1]
            adapter = build(config_from_row(row))
            self._kept[row.pk] = (row.updated_at, adapter)
        if kept is not None:
            kept[1].close()
        return adapter

    def forget(self, provider_id: int) -> None:
        """Build this provider's adapter anew at its next use."""
        with self._lock:
            kept = self._kept.pop(provider_id, None)
        if kept is not None:
            kept[1].close()


_CACHE = AdapterCache()


def adapter_for(row: Provider) -> Adapter:
    """The adapter for a catalog row, from this process's cache."""
    return _CACHE.get(row)


def forget(provider_id: int) -> None:
    """Build this provider's adapter anew at its next use in this process."""
    _CACHE.forget(provider_id)
