"""Cohere's addresses, authentication and list of models."""

from __future__ import annotations

import msgspec
import pytest

from providers.adapters.base import ProviderConfig
from providers.adapters.cohere import Cohere
from providers.credentials import CredentialUnusable
from providers.errors import ProviderError
from tests.recordings import exchanges
from tests.upstream import Upstream, answer
from tests.upstream.recorded import body_of, reply_from


def make(upstream: Upstream, *, credential: str = "planted-42") -> Cohere:
    return Cohere(
        ProviderConfig(
            name="mine", adapter="cohere", base_url=upstream.url, credential=credential, allow_plain_http=True,
            allow_private_address=True,
        )
    )  # fmt: skip


def test_each_operation_has_its_path_and_the_bearer(upstream: Upstream) -> None:
    adapter = make(upstream)
    for operation, path in (("chat", "/v2/chat"), ("embeddings", "/v2/embed"), ("rerank", "/v2/rerank")):
        adapter.send(body=b'{"model": "fake-model"}', model="fake-model", stream=False, operation=operation).body()  # type: ignore[arg-type]
        assert upstream.arrivals[-1].path == path
        assert upstream.arrivals[-1].headers["authorization"] == "Bearer planted-42"
    assert adapter.base_url == "https://api.cohere.com"


def test_it_is_not_called_without_a_credential(upstream: Upstream) -> None:
    with pytest.raises(CredentialUnusable):
        make(upstream, credential="")


def test_all_pages_of_models_are_listed(upstream: Upstream) -> None:
    first = {"models": [{"name": "command-b"}, {"no": "name"}, 3], "next_page_token": "a&b"}
    upstream.script(
        answer(body=msgspec.json.encode(first)), answer(body=b'{"models": [{"name": "command-a"}]}'),
    )  # fmt: skip
    assert make(upstream).list_models() == ("command-a", "command-b")
    assert [arrival.path for arrival in upstream.arrivals] == [
        "/v1/models?page_size=1000",
        "/v1/models?page_size=1000&page_token=a%26b",
    ]


def test_recorded_refusals_are_typed_and_recorded_answers_arrive(upstream: Upstream) -> None:
    found = exchanges(provider="cohere", where=lambda item: item["endpoint"].startswith("/v2/"))
    if not found:
        pytest.skip("no recorded exchanges beside the checkout")
    adapter = make(upstream)
    for exchange in found:
        upstream.script(reply_from(exchange))
        if exchange["status"] < 300:
            assert adapter.send(body=b"{}", model="m", stream=False).body() == body_of(exchange)
            continue
        with pytest.raises(ProviderError) as caught:
            adapter.send(body=b"{}", model="m", stream=False)
        assert (caught.value.status, caught.value.provider) == (exchange["status"], "mine")
