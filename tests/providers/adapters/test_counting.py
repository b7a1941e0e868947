"""Every adapter counts tokens, or says that it cannot before anything is sent."""

from __future__ import annotations

import msgspec
import pytest

from providers import registry
from providers.adapters.base import HttpAdapter
from providers.adapters.sandbox import Sandbox
from providers.counting import CountAnswer
from providers.errors import RateLimited, Unsupported
from tests.providers.adapters.test_conformance import ask, failing_model_of, make_config, model_of
from tests.upstream import Upstream

COUNTING = {"anthropic", "bedrock", "gemini", "openai", "sandbox", "vertex"}


@pytest.mark.parametrize("name", registry.names())
def test_it_counts_or_says_that_it_cannot(name: str, upstream: Upstream) -> None:
    adapter = registry.build(make_config(name, upstream))
    assert adapter.operation_for("count_tokens") == "count_tokens"
    assert adapter.capabilities.count_tokens == (name in COUNTING)
    if name not in COUNTING:
        with pytest.raises(Unsupported, match="no way to count tokens") as caught:
            adapter.wire_for("count_tokens")
        assert caught.value.param == "model"
        assert upstream.arrivals == []
        return
    request, wire = ask(model_of(adapter)), adapter.wire_for("count_tokens")
    exchange = adapter.send(
        body=wire.encode_request(request), model=request.model, stream=False, operation="count_tokens"
    )
    counted = wire.decode_answer(exchange.body())
    assert isinstance(counted, CountAnswer)
    assert counted.input_tokens > 0
    adapter.close()


PATHS = {
    "anthropic": "/v1/messages/count_tokens",
    "bedrock": "/model/fake-model/count-tokens",
    "gemini": "/v1beta/models/fake-model:countTokens",
    "openai": "/v1/responses/input_tokens",
    "vertex": "/publishers/google/models/fake-model:countTokens",
}


@pytest.mark.parametrize(("name", "path"), PATHS.items(), ids=PATHS)
def test_it_asks_where_the_vendor_counts(name: str, path: str, upstream: Upstream) -> None:
    adapter = registry.build(make_config(name, upstream))
    wire, request = adapter.wire_for("count_tokens"), ask("fake-model")
    body = wire.encode_request(request)
    adapter.send(body=body, model=request.model, stream=False, operation="count_tokens").close()
    assert upstream.arrivals[-1].path.endswith(path)
    assert upstream.arrivals[-1].body == body
    assert not upstream.invoice.lines[-1].billed
    adapter.close()


@pytest.mark.parametrize("name", sorted(COUNTING))
def test_a_refusal_is_typed_as_a_chats(name: str, upstream: Upstream) -> None:
    adapter = registry.build(make_config(name, upstream))
    model = failing_model_of(adapter, 429)
    request = msgspec.structs.replace(ask(model), model=model)
    body = adapter.wire_for("count_tokens").encode_request(request)
    with pytest.raises(RateLimited) as caught:
        adapter.send(body=body, model=model, stream=False, operation="count_tokens")
    assert (caught.value.provider, caught.value.status) == (adapter.name, 429)
    assert isinstance(adapter, HttpAdapter | Sandbox)
    adapter.close()


def test_the_sandbox_counts_as_its_answers_do(upstream: Upstream) -> None:
    adapter = registry.build(make_config("sandbox", upstream))
    request, wire = ask("sandbox-echo"), adapter.wire_for("count_tokens")
    body = wire.encode_request(request)
    exchange = adapter.send(body=body, model=request.model, stream=False, operation="count_tokens")
    counted = wire.decode_answer(exchange.body())
    assert isinstance(counted, CountAnswer)
    assert counted.input_tokens == adapter.complete(request).usage.totals["input"]
