"""What every adapter must do, over the registry: a new adapter is tested from the day it is registered.

Those that speak HTTP talk to the fake upstream; the sandbox answers by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from providers import registry
from providers.adapters.base import Adapter, Capabilities, HttpAdapter, ProviderConfig
from providers.adapters.openai_compatible import OpenAICompatible
from providers.errors import ModelNotFound, ProviderError, RateLimited
from providers.http import Deadlines
from providers.unified import Finished, Message, PartDelta, Request, Started, Stopped, TextPart
from tests.providers.adapters.accounts import service_account
from tests.upstream import Upstream


@pytest.fixture(params=registry.names())
def adapter(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[Adapter]:
    built = registry.build(make_config(request.param, upstream))
    yield built
    built.close()


# Where the fake upstream speaks a vendor's own way.
BASE_PATHS = {
    "bedrock": "", "cohere": "", "gemini": "/v1beta", "mistral": "/mistral", "ollama_native": "", "vertex": "/v1beta1"
}  # fmt: skip


def credential_for(name: str, upstream: Upstream) -> str:
    return service_account(f"{upstream.url}/token") if name == "vertex" else "sk-planted-0123456789"


def make_config(name: str, upstream: Upstream) -> ProviderConfig:
    return ProviderConfig(
        name=f"my-{name}",
        adapter=name,
        base_url=f"{upstream.url}{BASE_PATHS.get(name, '/v1')}",
        credential=credential_for(name, upstream),
        allow_plain_http=True,
        allow_private_address=True,
        timeout_s=10,
        stream_timeout_s=10,
    )


def model_of(adapter: Adapter) -> str:
    return "fake-model" if isinstance(adapter, HttpAdapter) else "sandbox-echo"


def failing_model_of(adapter: Adapter, status: int) -> str:
    return f"fake-{status}" if isinstance(adapter, HttpAdapter) else f"sandbox-error-{status}"


def ask(model: str) -> Request:
    said = Message(role="user", parts=(TextPart(text="Does it balance?"),))
    return Request(model=model, messages=(said,), max_output_tokens=50)


def test_it_has_a_name_a_wire_and_capabilities(adapter: Adapter) -> None:
    assert adapter.name == adapter.config.name
    assert adapter.wire.name
    assert isinstance(adapter.capabilities, Capabilities)


def test_it_completes_a_request(adapter: Adapter) -> None:
    answer = adapter.complete(ask(model_of(adapter)))
    (part,) = answer.choices[0].parts
    assert isinstance(part, TextPart)
    assert " balance" in part.text
    assert answer.choices[0].stop_reason == "stop"
    assert answer.usage.source == "reported"
    assert answer.usage.totals["input"] > 0
    assert answer.usage.totals["output"] > 0


def test_a_stream_says_what_a_whole_answer_says(adapter: Adapter) -> None:
    (part,) = adapter.complete(ask(model_of(adapter))).choices[0].parts
    assert isinstance(part, TextPart)
    events = list(adapter.stream(ask(model_of(adapter))))
    assert isinstance(events[0], Started)
    assert "".join(event.text for event in events if isinstance(event, PartDelta)) == part.text
    assert [event.reason for event in events if isinstance(event, Stopped)] == ["stop"]
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.totals["output"] > 0


def test_an_exchange_has_the_providers_request_id(adapter: Adapter) -> None:
    request = ask(model_of(adapter))
    exchange = adapter.send(body=adapter.wire.encode_request(request), model=request.model, stream=False)
    assert exchange.status == 200
    assert exchange.upstream_request_id
    assert exchange.first_byte_at > 0
    assert msgspec.json.decode(exchange.body())
    exchange.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_a_typed_error_with_its_circumstances(adapter: Adapter, stream: bool) -> None:
    request = msgspec.structs.replace(ask(failing_model_of(adapter, 429)), stream=stream)
    with pytest.raises(RateLimited) as caught:
        adapter.send(body=adapter.wire.encode_request(request), model=request.model, stream=stream)
    error = caught.value
    assert (error.provider, error.status, error.retry_after_s, error.retryable) == (adapter.name, 429, 1.0, True)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 502, 503, 529])
def test_each_failing_status_raises(adapter: Adapter, status: int) -> None:
    with pytest.raises(ProviderError) as caught:
        adapter.complete(ask(failing_model_of(adapter, status)))
    assert caught.value.status == status
    assert caught.value.retryable == (status >= 500)


def test_it_is_healthy(adapter: Adapter) -> None:
    health = adapter.health_check(timeout_s=5)
    assert (health.healthy, health.error) == (True, "")
    assert health.latency_ms >= 0
    assert health.checked_at.tzinfo is not None


def test_it_knows_its_models(adapter: Adapter) -> None:
    if isinstance(adapter, OpenAICompatible) and not adapter.models_path:
        # A server without a list: nothing can be said against a name.
        assert (adapter.list_models(), adapter.validate_model("no-such-model")) == ((), True)
        return
    assert model_of(adapter) in adapter.list_models()
    assert adapter.validate_model(model_of(adapter))
    assert not adapter.validate_model("no-such-model")


def test_its_embeddings_match_its_capabilities(adapter: Adapter) -> None:
    model = "fake-model" if isinstance(adapter, HttpAdapter) else "sandbox-embed"
    body = msgspec.json.encode({"model": model, "input": "Does it balance?"})
    if adapter.capabilities.embeddings:
        assert adapter.embed(body=body, model=model)["data"][0]["embedding"]
    else:
        with pytest.raises(ProviderError):
            adapter.embed(body=body, model=model)


def test_deadlines_of_a_call_take_the_place_of_the_providers(upstream: Upstream, adapter: Adapter) -> None:
    slow = "fake-hang" if isinstance(adapter, HttpAdapter) else "sandbox-slow"
    body = adapter.wire.encode_request(ask(slow))
    with pytest.raises(ProviderError, match=r"within 0\.2 s|slow") as caught:
        adapter.send(body=body, model=slow, stream=False, deadlines=Deadlines(total_s=0.2))
    assert caught.value.provider == adapter.name


def test_an_unknown_model_is_not_found(adapter: Adapter) -> None:
    model = "fake-404" if isinstance(adapter, HttpAdapter) else "no-such-model"
    with pytest.raises(ModelNotFound):
        adapter.complete(ask(model))


def test_a_configuration_does_not_show_its_credential(adapter: Adapter) -> None:
    shown = f"{adapter.config!r} {adapter.config} {[adapter.config]}"
    assert "sk-planted" not in shown
    assert "PRIVATE KEY" not in shown
