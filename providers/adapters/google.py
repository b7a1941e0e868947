"""What the two ways to Google's models share: the method in the path, pages of models under full names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from providers.adapters.base import HEALTH_TIMEOUT_S, Capabilities, Health, HttpAdapter, timed_health
from providers.errors import InvalidRequest, ModelNotFound
from providers.wire import gemini
from providers.wire.base import Operation

# Above what anyone has, so that a server whose pages never end does not keep us for ever.
_MAX_PAGES = 50


class Google(HttpAdapter):
    """`methods`: what an operation is called behind the colon of a model's path. `listed`: the field of a page that
    holds the models. Both are a vendor's own; so is `model_path`."""

    wire = gemini.WIRE
    capabilities = Capabilities(documents=True, audio=True, embeddings=True, count_tokens=True)
    methods: ClassVar[Mapping[Operation, str]] = {"chat": "generateContent", "count_tokens": "countTokens"}
    listed: ClassVar[str] = "models"

    def model_path(self, model: str) -> str:
        """Where a model is called, behind the base URL."""
        return f"/models/{_name(model)}"

    def path(self, *, operation: Operation, model: str, stream: bool) -> str | None:
        """Only chat streams, and as events only where `alt=sse` asks for them."""
        method = self.methods.get(operation)
        if method is None:
            return None
        if stream and operation == "chat":
            return f"{self.model_path(model)}:streamGenerateContent?alt=sse"
        return f"{self.model_path(model)}:{method}"

    def health_check(self, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Health:
        """Ask for one model of the list, which costs nothing."""
        return timed_health(lambda: self._one_model(timeout_s))

    def list_models(self) -> tuple[str, ...]:
        """The provider's names of its models without the path before them, over all pages, sorted."""
        found: set[str] = set()
        after = ""
        for _ in range(_MAX_PAGES):
            page = self._get(f"{self.models_path}?pageSize=1000{after}")
            found.update(_names(page.get(self.listed)))
            token = page.get("nextPageToken")
            if not isinstance(token, str) or not token:
                break
            after = f"&pageToken={quote(token, safe='')}"
        return tuple(sorted(found))

    def validate_model(self, name: str) -> bool:
        """Does the provider know the model `name`? Raises ProviderError when it cannot say."""
        try:
            self._get(f"{self.models_path}/{_name(name)}")
        except (ModelNotFound, InvalidRequest):
            return False
        return True

    def _one_model(self, timeout_s: float) -> bytes:
        self._get(f"{self.models_path}?pageSize=1", timeout_s=timeout_s)
        return b""


def _name(model: str) -> str:
    """The last word of a name such as models/gemini-2.5-flash, safe in a path."""
    return quote(model.rpartition("models/")[2], safe="")


def _names(entries: Any) -> Iterator[str]:
    for entry in entries if isinstance(entries, list) else ():
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and name:
            yield name.rpartition("/")[2]
