"""Which model of the data set is which of our catalog, and what a new one is called. Reads nothing, writes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from django.core.exceptions import ValidationError
from msgspec import Struct

from ledger.price_import.source import SourceModel, SourceProvider
from providers.models import PUBLIC_NAME, Provider

# Our provider's name, else its adapter -> the data set's provider. `settings["price_source"]` goes before both.
PRICE_SOURCES: Mapping[str, str] = {
    "anthropic": "anthropic", "aws": "aws", "azure": "azure", "azure-openai": "azure", "baseten": "baseten",
    "bedrock": "aws", "cerebras": "cerebras", "cloudflare": "cloudflare", "cohere": "cohere",
    "databricks": "databricks", "deepseek": "deepseek", "fireworks": "fireworks", "gemini": "google",
    "google": "google", "groq": "groq", "meta": "meta", "minimax": "minimax", "mistral": "mistral",
    "moonshot": "moonshotai", "moonshotai": "moonshotai", "novita": "novita", "openai": "openai",
    "openrouter": "openrouter", "ovhcloud": "ovhcloud", "perplexity": "perplexity", "together": "together",
    "vertex": "google", "voyage": "voyageai", "voyageai": "voyageai", "x-ai": "x-ai", "xai": "x-ai", "zai": "zai",
}

# Makers of the models they offer: a plain name is theirs, a reseller's is prefixed. The first that has a name owns it.
OWNERS: Sequence[str] = (
    "openai", "anthropic", "google", "mistral", "cohere", "deepseek", "x-ai", "perplexity", "voyageai", "moonshotai",
    "zai", "minimax", "meta",
)
_NOT_CHAT = re.compile(
    r"embed|tts|whisper|image|transcribe|moderation|rerank|realtime|live|dall-e|ocr|voice|audio|video|veo|orpheus"
    r"|davinci|babbage|curie|^ada$|imagine|guard"
)
# OpenAI's names of models that are called at OpenAI's endpoints for media, and those of who took them over.
_MEDIA = (
    ("images", re.compile(r"^(chat)?gpt-image|^dall-e|^grok-imagine-image")),
    ("transcriptions", re.compile(r"^whisper|^gpt-.*transcribe")),
    ("speech", re.compile(r"^tts-1|^gpt-.*-tts")),
)
_LIVE = re.compile(r"realtime|live")


class CatalogModel(Struct, frozen=True):
    """A model of our catalog, as far as matching asks."""

    id: int
    name: str
    upstream_name: str
    aliases: tuple[str, ...] = ()


def source_of(provider: Provider) -> str:
    """The data set's id for our provider, or '': it has no list prices (sandbox, ollama, a private server)."""
    told = provider.settings.get("price_source")
    if told is not None:
        return str(told)
    for word in (provider.name, provider.adapter):
        source = PRICE_SOURCES.get(word.lower().replace("_", "-"))
        if source:
            return source
    return ""


def find(model: CatalogModel, *, source: SourceProvider, sources: Mapping[str, SourceProvider]) -> SourceModel | None:
    """The data set's model for one of ours: by upstream name, else by public name, else by an alias.

    The source's own models come first, then those of the providers that it resells.
    """
    names = [model.upstream_name, model.name, model.name.rpartition("/")[2], *model.aliases]
    shelves = [source, *(sources[each] for each in source.fallbacks if each in sources)]
    return next((found for name in names for shelf in shelves if (found := shelf.find(name))), None)


def is_callable_name(name: str) -> bool:
    """Whether a data set's id names one model: not the stem of fine-tunes ("ft:gpt-4o"), not a name we cannot take."""
    if name.endswith("-") or name.startswith("ft:") or len(name) > 200:
        return False
    try:
        PUBLIC_NAME(name)
    except ValidationError:
        return False
    return True


def owners_of_names(sources: Mapping[str, SourceProvider]) -> dict[str, str]:
    """{model name in lower case: id of the source that owns it}, from the makers among `sources`."""
    owned: dict[str, str] = {}
    for source_id in OWNERS:
        for model in sources[source_id].models if source_id in sources else ():
            for name in (model.id, *model.equal_names):
                owned.setdefault(name.lower(), source_id)
    return owned


def public_name(name: str, *, provider_name: str, source_id: str, owners: Mapping[str, str], taken: set[str]) -> str:
    """What a name of the data set is called here: plain for the maker, "azure/gpt-4o" for others; '' when taken."""
    prefixed = f"{provider_name}/{name}"
    plain_is_free = name not in taken and owners.get(name.lower(), source_id) == source_id
    if plain_is_free:
        return name
    return "" if prefixed in taken or len(prefixed) > 200 else prefixed


def capabilities(model: SourceModel) -> list[str]:
    """A cautious guess from name and prices: chat where input and output are priced, anything else where it says so."""
    lowered = model.id.lower()
    if "embed" in lowered:
        return ["embeddings"]
    media = [capability for capability, name in _MEDIA if name.search(lowered)]
    if media and not _LIVE.search(lowered):
        return media
    priced = {rate.meter for sheet in model.sheets for rate in sheet.rates}
    return ["chat", "streaming"] if {"input", "output"} <= priced and not _NOT_CHAT.search(lowered) else []
