"""What differs from vendor to vendor: addresses, authentication, paths, quirks of their errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.adapters.anthropic import Anthropic
from providers.adapters.base import HttpAdapter, ProviderConfig
from providers.adapters.openai import OpenAI
from providers.adapters.openai_compatible import OpenAICompatible
from providers.address import AddressRefused
from providers.credentials import CredentialUnusable
from providers.errors import MalformedAnswer, ProviderError, Unsupported
from providers.unified import Message, Request, TextPart
from tests.upstream import Upstream, answer, events

CREDENTIAL = "planted-credential-42"


def make_config(upstream: Upstream, *, credential: str = CREDENTIAL, **settings: Any) -> ProviderConfig:
    return ProviderConfig(
        name="mine",
        adapter="any",
        base_url=f"{upstream.url}/v1",
        credential=credential,
        allow_plain_http=True,
        allow_private_address=True,
        settings=settings,
    )


def sent_headers(upstream: Upstream, adapter: HttpAdapter, *, key: str = "") -> dict[str, str]:
    adapter.send(body=b'{"model": "fake-model"}', model="fake-model", stream=False, idempotency_key=key).body()
    return upstream.arrivals[-1].headers


def ask(model: str = "fake-model") -> Request:
    return Request(model=model, messages=(Message(role="user", parts=(TextPart(text="hi"),)),), max_output_tokens=9)


@pytest.mark.parametrize(
    ("adapter", "base_url"), [(OpenAI, "https://api.openai.com/v1"), (Anthropic, "https://api.anthropic.com/v1")]
)
def test_a_vendor_has_its_own_address(adapter: type[HttpAdapter], base_url: str) -> None:
    assert adapter.base_url == base_url


def test_a_compatible_server_has_no_address_of_its_own() -> None:
    with pytest.raises(AddressRefused):
        OpenAICompatible(ProviderConfig(name="mine", adapter="openai_compatible", credential="k"))


def test_openai_gets_a_bearer_token_who_bills_and_an_idempotency_key(upstream: Upstream) -> None:
    adapter = OpenAI(make_config(upstream, organization="org-1", project="proj_2"))
    headers = sent_headers(upstream, adapter, key="call-7")
    assert upstream.arrivals[0].path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {CREDENTIAL}"
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj_2")
    assert headers["idempotency-key"] == "call-7"


def test_openai_without_an_organization_gets_no_such_header(upstream: Upstream) -> None:
    headers = sent_headers(upstream, OpenAI(make_config(upstream)))
    assert not {"openai-organization", "openai-project", "idempotency-key"} & headers.keys()


def test_anthropic_gets_its_key_and_version(upstream: Upstream) -> None:
    headers = sent_headers(upstream, Anthropic(make_config(upstream, beta="context-1m,files")), key="call-7")
    assert upstream.arrivals[0].path == "/v1/messages"
    assert headers["x-api-key"] == CREDENTIAL
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["anthropic-beta"] == "context-1m,files"
    assert not {"authorization", "idempotency-key"} & headers.keys()


@pytest.mark.parametrize("adapter", [OpenAI, Anthropic])
def test_a_vendor_is_not_called_without_a_credential(adapter: type[HttpAdapter], upstream: Upstream) -> None:
    with pytest.raises(CredentialUnusable):
        adapter(make_config(upstream, credential=""))


def test_a_compatible_server_may_need_no_credential(upstream: Upstream) -> None:
    headers = sent_headers(upstream, OpenAICompatible(make_config(upstream, credential="")))
    assert "authorization" not in headers


def test_a_compatible_server_is_described_by_its_settings(upstream: Upstream) -> None:
    settings: dict[str, Any] = {
        "auth_header": "api-key",
        "headers": {"HTTP-Referer": "https://tollbook.example"},
        "idempotency_header": "X-Idempotency",
        "chat_path": "/chat/completions?version=2",
    }
    adapter = OpenAICompatible(make_config(upstream, **settings))
    headers = sent_headers(upstream, adapter, key="call-7")
    assert upstream.arrivals[0].path == "/v1/chat/completions?version=2"
    assert headers["api-key"] == CREDENTIAL
    assert headers["http-referer"] == "https://tollbook.example"
    assert headers["x-idempotency"] == "call-7"
    assert "authorization" not in headers
    assert OpenAICompatible(make_config(upstream)).paths["chat"] == "/chat/completions"


@pytest.mark.parametrize(
    ("dialect", "field"), [({}, "max_tokens"), ({"cap_field": "max_completion_tokens"}, "max_completion_tokens")]
)
def test_a_compatible_server_gets_the_cap_it_knows(upstream: Upstream, dialect: dict[str, str], field: str) -> None:
    OpenAICompatible(make_config(upstream, dialect=dialect)).complete(ask())
    sent = msgspec.json.decode(upstream.arrivals[0].body)
    assert sent[field] == 9
    assert not {"max_tokens", "max_completion_tokens"} - {field} & sent.keys()


@pytest.mark.parametrize(
    "settings",
    [
        {"dialect": {"cap_field": "tokens"}},
        {"dialect": "groq"},
        {"headers": ["X-A"]},
        {"headers": {"X-A": 1}},
        {"headers": {"X-A": "1\r\nX-B: 2"}},
        {"auth_header": "a\nb"},
        {"chat_path": 7},
    ],
    ids=str,
)
def test_wrong_settings_are_refused_when_the_adapter_is_built(upstream: Upstream, settings: dict[str, Any]) -> None:
    with pytest.raises(CredentialUnusable) as caught:
        OpenAICompatible(make_config(upstream, **settings))
    assert next(iter(settings)) in caught.value.detail


@pytest.mark.parametrize("adapter", [OpenAI, Anthropic, OpenAICompatible])
def test_an_error_does_not_repeat_the_credential(adapter: type[HttpAdapter], upstream: Upstream) -> None:
    message = f"Incorrect API key provided: {CREDENTIAL}. You can find yours at https://example.com."
    body = msgspec.json.encode({"type": "error", "error": {"type": "authentication_error", "message": message}})
    upstream.script(answer(status=401, body=body), answer(status=418, body=CREDENTIAL.encode()))
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            adapter(make_config(upstream)).complete(ask())
        assert CREDENTIAL not in f"{caught.value} {caught.value.message} {caught.value.args} {caught.value.__dict__}"


def test_an_error_whose_words_are_cut_off_is_still_told_by_its_status(upstream: Upstream) -> None:
    upstream.script(answer(status=503, body=b'{"error": {"message": "busy"}}', cut_at=5))
    with pytest.raises(ProviderError) as caught:
        OpenAI(make_config(upstream)).complete(ask())
    assert (caught.value.status, caught.value.retryable) == (503, True)


def test_an_error_keeps_the_request_id_of_its_headers(upstream: Upstream) -> None:
    upstream.script(answer(status=500, body=b"{}", headers={"Request-Id": "req_11"}))
    with pytest.raises(ProviderError) as caught:
        Anthropic(make_config(upstream)).complete(ask())
    assert caught.value.upstream_request_id == "req_11"


def test_a_wait_in_milliseconds_is_obeyed_before_one_in_seconds(upstream: Upstream) -> None:
    upstream.script(answer(status=529, body=b"{}", headers={"Retry-After": "9", "retry-after-ms": "250"}))
    with pytest.raises(ProviderError) as caught:
        Anthropic(make_config(upstream)).complete(ask())
    assert caught.value.retry_after_s == 0.25


def test_a_page_is_not_an_answer(upstream: Upstream) -> None:
    adapter = OpenAI(make_config(upstream))
    for stream in (False, True):
        with pytest.raises(MalformedAnswer, match="text/html"):
            adapter.send(body=b'{"model": "fake-html"}', model="fake-html", stream=stream)


def test_json_is_not_a_stream(upstream: Upstream) -> None:
    upstream.script(answer(body=b"{}"))
    with pytest.raises(MalformedAnswer, match="application/json where a stream"):
        OpenAI(make_config(upstream)).send(body=b"{}", model="m", stream=True)


def test_events_under_another_type_are_let_through(upstream: Upstream) -> None:
    upstream.script(events([b"data: [DONE]\n\n"], content_type="text/plain"))
    exchange = OpenAI(make_config(upstream)).send(body=b"{}", model="m", stream=True)
    assert exchange.body() == b"data: [DONE]\n\n"


def test_anthropic_has_no_embeddings(upstream: Upstream) -> None:
    with pytest.raises(Unsupported, match="embeddings"):
        Anthropic(make_config(upstream)).embed(body=b"{}", model="m")
    assert upstream.connections == 0


def test_anthropic_lists_the_models_of_all_pages(upstream: Upstream) -> None:
    def page(name: str, *, more: bool) -> bytes:
        return msgspec.json.encode({"data": [{"id": name}], "has_more": more, "last_id": name})

    upstream.script(answer(body=page("claude-b", more=True)), answer(body=page("claude-a", more=False)))
    assert Anthropic(make_config(upstream)).list_models() == ("claude-a", "claude-b")
    assert [arrival.path for arrival in upstream.arrivals] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=claude-b",
    ]


def test_anthropic_health_is_a_message_where_the_settings_say_so(upstream: Upstream) -> None:
    health = Anthropic(make_config(upstream, health_model="fake-model")).health_check(timeout_s=5)
    assert (health.healthy, health.model) == (True, "fake-model")
    assert msgspec.json.decode(upstream.arrivals[0].body)["max_tokens"] == 1
    assert msgspec.json.decode(health.answer)["usage"]["output_tokens"] == 1


@pytest.mark.parametrize("adapter", [OpenAI, Anthropic, OpenAICompatible])
def test_a_provider_that_refuses_is_not_healthy(adapter: type[HttpAdapter], upstream: Upstream) -> None:
    upstream.script(answer(status=401, body=b'{"error": {"message": "no"}}'))
    health = adapter(make_config(upstream)).health_check(timeout_s=5)
    assert not health.healthy
    assert health.error


def test_a_model_name_cannot_leave_its_path(upstream: Upstream) -> None:
    assert not OpenAI(make_config(upstream)).validate_model("../files?x=1")
    assert upstream.arrivals[0].path == "/v1/models/..%2Ffiles%3Fx%3D1"
