"""Ollama by its own API: its addresses, its models, and what a row says for all its calls."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers import registry
from providers.adapters.base import ProviderConfig
from providers.adapters.ollama import Ollama
from providers.adapters.openai_compatible import OpenAICompatible
from providers.credentials import CredentialUnusable
from providers.errors import ProviderError
from providers.unified import Message, Request, TextPart
from tests.upstream import Upstream, answer


def make(upstream: Upstream, *, credential: str = "", **settings: Any) -> Ollama:
    return Ollama(
        ProviderConfig(
            name="mine", adapter="ollama_native", base_url=upstream.url, credential=credential, allow_plain_http=True,
            allow_private_address=True, settings=settings,
        )
    )  # fmt: skip


def ask() -> Request:
    return Request(model="fake-model", messages=(Message("user", (TextPart("hi"),)),))


def test_a_row_needs_nothing_and_the_preset_keeps_its_name() -> None:
    built = registry.build(ProviderConfig(name="mine", adapter="ollama_native"))
    assert isinstance(built, Ollama)
    assert built.client.base_url == "http://127.0.0.1:11434"
    assert isinstance(registry.build(ProviderConfig(name="mine", adapter="ollama")), OpenAICompatible)


def test_each_operation_has_its_path_and_a_credential_only_where_there_is_one(upstream: Upstream) -> None:
    make(upstream).complete(ask())
    assert upstream.arrivals[-1].path == "/api/chat"
    assert "authorization" not in upstream.arrivals[-1].headers
    make(upstream, credential="planted-42").embed(body=b'{"model": "m", "input": ["a", "b"]}', model="fake-model")
    assert upstream.arrivals[-1].path == "/api/embed"
    assert msgspec.json.decode(upstream.arrivals[-1].body) == {"model": "fake-model", "input": ["a", "b"]}
    assert upstream.arrivals[-1].headers["authorization"] == "Bearer planted-42"


def test_what_a_row_says_goes_with_every_call(upstream: Upstream) -> None:
    adapter = make(upstream, keep_alive="10m", options={"num_ctx": 16384})
    adapter.complete(ask())
    adapter.embed(body=b'{"model": "m", "input": "a", "dimensions": 8}', model="fake-model")
    for arrival in upstream.arrivals:
        sent = msgspec.json.decode(arrival.body)
        assert (sent["keep_alive"], sent["options"]) == ("10m", {"num_ctx": 16384})
    assert sent["dimensions"] == 8


@pytest.mark.parametrize("settings", [{"options": "num_ctx=9"}, {"keep_alive": [1]}])
def test_a_setting_that_is_none_is_refused(upstream: Upstream, settings: dict[str, Any]) -> None:
    with pytest.raises(CredentialUnusable, match="unusable") as caught:
        make(upstream, **settings)
    assert "'options'" in caught.value.detail


def test_embeddings_tell_what_they_read(upstream: Upstream) -> None:
    wire = make(upstream).wire_for("embeddings")
    body = b'{"model": "m", "embeddings": [[0.5], [0.25]], "prompt_eval_count": 7}'
    assert wire.read_usage(body)[0].totals == {"input": 7}
    assert (wire.decode_answer(body).vectors, wire.decode_answer(body).usage.source) == (  # type: ignore[attr-defined]
        ((0.5,), (0.25,)), "reported",
    )  # fmt: skip
    assert wire.read_usage(b'{"embeddings": [[0.5]]}')[0].source == "none"


@pytest.mark.parametrize("asked", [{"input": [[1, 2]]}, {"user": "u"}, {"input_type": "query"}])
def test_embeddings_of_anything_but_text_are_refused(upstream: Upstream, asked: dict[str, Any]) -> None:
    with pytest.raises(ProviderError):
        make(upstream).embed(body=msgspec.json.encode({"model": "m", "input": "a", **asked}), model="fake-model")
    assert upstream.arrivals == []


def test_its_models_are_those_that_are_pulled(upstream: Upstream) -> None:
    models = {"models": [{"name": "qwen3:8b"}, {"no": "name"}, {"name": "gemma3:1b"}]}
    upstream.script(answer(body=msgspec.json.encode(models)))
    assert make(upstream).list_models() == ("gemma3:1b", "qwen3:8b")
    assert upstream.arrivals[-1].path == "/api/tags"


def test_a_model_is_asked_for_by_any_of_its_names(upstream: Upstream) -> None:
    upstream.script(answer(body=b"{}"), answer(status=404, body=b'{"error": "model \'x\' not found"}'))
    assert make(upstream).validate_model("qwen3")
    assert not make(upstream).validate_model("x")
    assert [(arrival.method, arrival.path) for arrival in upstream.arrivals] == [("POST", "/api/show")] * 2
    assert msgspec.json.decode(upstream.arrivals[0].body) == {"model": "qwen3"}
    upstream.script(answer(status=500, body=b"{}"))
    with pytest.raises(ProviderError):
        make(upstream).validate_model("x")
