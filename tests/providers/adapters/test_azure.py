"""Azure: three kinds of address, the key in a header of its own, deployments."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers import errors, registry
from providers.adapters.azure import Azure
from providers.adapters.base import ProviderConfig
from providers.credentials import CredentialUnusable
from providers.unified import Message, Request, TextPart
from tests.recordings import Exchange, cases, exchanges
from tests.upstream import Upstream, answer
from tests.upstream.recorded import body_of, reply_from

CHATS = cases(exchanges(provider="azure", api="chat", status=200))
REFUSALS = cases(exchanges(provider="azure", api="chat", failed=True))
KINDS: dict[int, type[errors.ProviderError]] = {
    401: errors.InvalidCredential,
    404: errors.ModelNotFound,
    429: errors.RateLimited,
}


def azure(upstream: Upstream, **settings: Any) -> Azure:
    config = ProviderConfig(
        name="mine",
        adapter="azure",
        base_url=upstream.url,
        credential="key-1",
        allow_plain_http=True,
        allow_private_address=True,
        settings=settings,
    )
    adapter = registry.build(config)
    assert isinstance(adapter, Azure)
    return adapter


def ask() -> Request:
    return Request(model="fake-model", messages=(Message("user", (TextPart("hi"),)),), max_output_tokens=9)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21"),
        (
            {"api_version": "2025-04-01-preview"},
            "/openai/deployments/my%20gpt/chat/completions?api-version=2025-04-01-preview",
        ),
        ({"endpoint": "v1"}, "/openai/v1/chat/completions"),
        ({"endpoint": "v1", "api_version": "preview"}, "/openai/v1/chat/completions?api-version=preview"),
        ({"endpoint": "models"}, "/models/chat/completions?api-version=2024-05-01-preview"),
    ],
    ids=str,
)
def test_each_endpoint_has_its_address(upstream: Upstream, settings: dict[str, str], path: str) -> None:
    upstream.script(answer(body=b"{}"))
    azure(upstream, **settings).send(body=b"{}", model="my gpt", stream=False).close()
    (arrival,) = upstream.arrivals
    assert arrival.path == path
    assert arrival.headers["api-key"] == "key-1"
    assert "authorization" not in arrival.headers


def test_embeddings_and_responses_have_theirs(upstream: Upstream) -> None:
    deployed, version_one = azure(upstream), azure(upstream, endpoint="v1")
    embeddings = deployed.path(operation="embeddings", model="ada", stream=False)
    assert embeddings == "/openai/deployments/ada/embeddings?api-version=2024-10-21"
    assert version_one.path(operation="responses", model="gpt", stream=True) == "/openai/v1/responses"
    assert version_one.capabilities.responses
    assert deployed.path(operation="responses", model="gpt", stream=True) is None
    assert not deployed.capabilities.responses


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({}, "max_completion_tokens"),
        ({"endpoint": "models"}, "max_tokens"),
        ({"dialect": {"cap_field": "max_tokens"}}, "max_tokens"),
    ],
    ids=str,
)
def test_the_cap_has_the_name_that_the_endpoint_knows(upstream: Upstream, settings: Any, field: str) -> None:
    sent = msgspec.json.decode(azure(upstream, **settings).wire.encode_request(ask()))
    assert sent[field] == 9
    assert not {"max_tokens", "max_completion_tokens"} - {field} & sent.keys()


@pytest.mark.parametrize(
    "settings", [{"endpoint": "v2"}, {"endpoint": 1}, {"api_version": 7}, {"dialect": "grok"}], ids=str
)
def test_wrong_settings_are_refused_when_the_adapter_is_built(upstream: Upstream, settings: dict[str, Any]) -> None:
    with pytest.raises(CredentialUnusable):
        azure(upstream, **settings)


def test_a_deployment_is_looked_for_by_a_chat_that_costs_nothing(upstream: Upstream) -> None:
    upstream.script(
        answer(status=400, body=b'{"error": {"message": "\'messages\' is too short", "code": null}}'),
        answer(status=404, body=b'{"error": {"code": "DeploymentNotFound", "message": "no"}}'),
        answer(status=401, body=b'{"error": {"code": "401", "message": "no"}}'),
    )
    adapter = azure(upstream)
    assert adapter.validate_model("gpt")
    assert not adapter.validate_model("other")
    with pytest.raises(errors.InvalidCredential):
        adapter.validate_model("gpt")
    assert msgspec.json.decode(upstream.arrivals[0].body)["messages"] == []


@pytest.mark.parametrize(
    ("settings", "path"),
    [({}, "/openai/models?api-version=2024-10-21"), ({"endpoint": "v1"}, "/openai/v1/models")],
    ids=str,
)
def test_its_health_is_the_list_of_models(upstream: Upstream, settings: dict[str, str], path: str) -> None:
    assert azure(upstream, **settings).health_check(timeout_s=5).healthy
    assert upstream.arrivals[0].path == path


@pytest.mark.parametrize("exchange", CHATS)
def test_a_recorded_answer_goes_through_byte_for_byte(upstream: Upstream, exchange: Exchange) -> None:
    upstream.script(reply_from(exchange))
    sent = azure(upstream).send(body=b"{}", model="m", stream=exchange["response_format"] == "sse")
    assert b"".join(sent.chunks()) == body_of(exchange)


@pytest.mark.parametrize("exchange", REFUSALS)
def test_a_recorded_refusal_is_typed(upstream: Upstream, exchange: Exchange) -> None:
    kind = KINDS[exchange["status"]]
    upstream.script(reply_from(exchange))
    with pytest.raises(kind) as caught:
        azure(upstream).complete(ask())
    assert (caught.value.provider, caught.value.status) == ("mine", exchange["status"])
