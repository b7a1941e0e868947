"""The vendors that need no code: what is known of each, and that a row's own words come first."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from providers import registry
from providers.adapters.base import ProviderConfig
from providers.adapters.openai_compatible import OpenAICompatible
from providers.address import AddressRefused
from providers.credentials import CredentialUnusable
from providers.errors import Unsupported
from providers.vendors import VENDORS
from providers.wire.cohere_rerank import VOYAGE, WIRE
from providers.wire.openai_chat import OpenAIChat
from tests.recordings import Exchange, answer_bytes, cases, exchanges
from tests.upstream import Upstream, answer

CLOUDS = sorted(name for name, vendor in VENDORS.items() if vendor.base_url and not vendor.is_local)
LOCALS = sorted(name for name, vendor in VENDORS.items() if vendor.is_local)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


def make(name: str, **fields: Any) -> OpenAICompatible:
    adapter = registry.build(ProviderConfig(name="mine", adapter=name, **fields))
    assert isinstance(adapter, OpenAICompatible)
    return adapter


def at(upstream: Upstream, name: str, **settings: Any) -> OpenAICompatible:
    return make(
        name, base_url=f"{upstream.url}/v1", credential="k", settings=settings, allow_plain_http=True,
        allow_private_address=True,
    )  # fmt: skip


def test_the_named_vendors_are_known() -> None:
    assert {
        "groq", "deepseek", "xai", "openrouter", "together", "fireworks", "perplexity", "huggingface", "ollama", "vllm",
        "llamacpp", "cerebras", "zai", "snowflake", "voyage",
    } <= VENDORS.keys()  # fmt: skip
    assert all(name == vendor.name for name, vendor in VENDORS.items())


@pytest.fixture
def public_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name has a public address."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: found)


@pytest.mark.parametrize("name", CLOUDS)
def test_a_row_needs_but_a_credential(name: str, public_names: None) -> None:
    assert VENDORS[name].base_url.startswith("https://")
    assert make(name, credential="k").name == "mine"


@pytest.mark.parametrize("name", LOCALS)
def test_a_local_server_needs_nothing(name: str) -> None:
    assert VENDORS[name].base_url.startswith("http://127.0.0.1:")
    make(name)
    make(name, base_url="http://10.0.0.7:9000/v1")


def test_a_cloud_vendor_is_not_called_at_a_private_address() -> None:
    with pytest.raises(AddressRefused):
        make("groq", base_url="http://127.0.0.1:1/v1", credential="k")
    with pytest.raises(AddressRefused):
        make("snowflake", credential="k")


def test_what_the_row_says_comes_first(upstream: Upstream) -> None:
    adapter = at(upstream, "groq", dialect={"top_k": True}, chat_path="/elsewhere")
    assert isinstance(adapter.wire, OpenAIChat)
    dialect = adapter.wire.dialect
    assert (dialect.top_k, dialect.reasoning_field, dialect.cap_field) == (True, "reasoning", "max_completion_tokens")
    assert adapter.paths["chat"] == "/elsewhere"
    with pytest.raises(CredentialUnusable) as caught:
        at(upstream, "groq", embed_dialect={"dimensions_field": "size"})
    assert "embed_dialect" in caught.value.detail


def test_operations_are_those_it_has_a_path_for(upstream: Upstream) -> None:
    groq, together, voyage = at(upstream, "groq"), at(upstream, "together"), at(upstream, "voyage")
    assert (groq.capabilities.embeddings, groq.capabilities.rerank) == (False, False)
    for operation in ("embeddings", "rerank"):
        with pytest.raises(Unsupported) as caught:
            groq.wire_for(operation)
        assert caught.value.param == "model"
    assert together.wire_for("rerank") is WIRE
    assert voyage.wire_for("rerank") is VOYAGE
    assert at(upstream, "groq", rerank_path="/rank").capabilities.rerank
    assert at(upstream, "groq").operation_for("responses") == "chat"
    assert at(upstream, "xai").operation_for("responses") == "responses"


def test_the_words_of_a_vendor_reach_it(upstream: Upstream) -> None:
    at(upstream, "voyage").embed(body=b'{"model": "m", "input": "x", "dimensions": 8}', model="fake-model")
    assert msgspec.json.decode(upstream.arrivals[-1].body) == {
        "model": "fake-model", "input": ["x"], "output_dimension": 8,
    }  # fmt: skip


def test_a_server_without_a_list_is_well_when_it_answers(upstream: Upstream) -> None:
    adapter = at(upstream, "voyage")
    upstream.script(answer(status=404, body=b"{}"), answer(status=401, body=b'{"detail": "bad key"}'))
    assert adapter.health_check(timeout_s=5).healthy
    assert not adapter.health_check(timeout_s=5).healthy


RECORDED = [
    exchange
    for exchange in exchanges(api="chat", status=200, stream=False)
    if exchange["provider"] in VENDORS
]  # fmt: skip


@pytest.mark.parametrize("exchange", cases(RECORDED))
def test_recorded_usage_in_the_vendors_own_dialect(exchange: Exchange) -> None:
    adapter = make(
        exchange["provider"], base_url="http://127.0.0.1:1/v1", allow_plain_http=True, allow_private_address=True
    )
    usage, _ = adapter.wire.read_usage(answer_bytes(exchange))
    wanted = exchange["expected"]["usage"]
    assert (usage.totals["input"], usage.totals["output"]) == (wanted["input"], wanted["output"])
    assert usage.totals.get("cache_read", 0) == wanted.get("cache_read", 0)
    assert usage.totals.get("reasoning", 0) == wanted.get("reasoning", 0)
