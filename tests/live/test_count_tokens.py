"""Counting tokens on Anthropic's surface: a call in the books that costs nothing, whoever's model it is about."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import anthropic
import msgspec
import pytest
import requests
from anthropic import Anthropic

from ledger.models import Call
from tests.live import books
from tests.live.gateway import Account, Gateway
from tests.live.test_routes import route
from tests.upstream import Hang, answer

PATH = "/v1/messages/count_tokens"
COUNTING = ("openai", "anthropic", "gemini", "bedrock", "sandbox")
# Where the fake upstream speaks a vendor's own way, from its root on.
ROOTS = {"bedrock": "", "cohere": "", "gemini": "/v1beta"}
FIELDS = {"openai": "input_tokens", "anthropic": "input_tokens", "gemini": "totalTokens", "bedrock": "inputTokens"}
ASK: Any = [{"role": "user", "content": "Do the books balance?"}]


def account(gateway: Gateway, adapter: str, **fields: Any) -> Account:
    """A model at a provider of this adapter."""
    usual = "sandbox-echo" if adapter == "sandbox" else "fake-model"
    made = gateway.account(wire=adapter, sync=False, **{"upstream_name": usual, **fields})
    if adapter in ROOTS:
        made.model.provider.base_url = f"{gateway.upstream.url}{ROOTS[adapter]}"
        made.model.provider.save()
    gateway.sync()
    return made


def count(
    gateway: Gateway, made: Account, *, headers: Mapping[str, str] | None = None, **fields: Any
) -> requests.Response:
    body = msgspec.json.encode({"model": made.model.name, "messages": ASK, **fields})
    return gateway.post(PATH, body, headers={**made.headers, **(headers or {})})


def assert_free(call: Call) -> None:
    assert (call.surface, call.usage_source, call.cost_source) == ("count_tokens", "none", "nothing_used")
    assert (call.cost_usd, call.counted_usd, call.counted_tokens) == (Decimal(0), Decimal(0), 0)
    assert (call.input_tokens, call.output_tokens, call.meters, call.unpriced_reason) == (0, 0, {}, "")


@pytest.mark.parametrize("adapter", COUNTING)
def test_the_official_client_gets_the_providers_number(gateway: Gateway, adapter: str) -> None:
    made = account(gateway, adapter)
    tools: Any = [{"name": "look", "input_schema": {"type": "object"}}]
    with Anthropic(base_url=gateway.url, api_key=made.text, max_retries=0) as client:
        counted = client.messages.count_tokens(model=made.model.name, messages=ASK, system="Be brief.", tools=tools)
    if adapter == "sandbox":
        plain = gateway.messages(made, messages=[{"role": "user", "content": "Be brief.Do the books balance?"}])
        assert counted.input_tokens == plain.json()["usage"]["input_tokens"]
    else:
        assert counted.input_tokens == -(-len(gateway.upstream.arrivals[-1].body) // 4)
    call = books.calls(key_id=made.key.pk)[0]
    assert call.outcome == "ok"
    assert_free(call)
    assert call.raw_usage == {FIELDS.get(adapter, "input_tokens"): counted.input_tokens}


def test_to_anthropic_it_passes_through_byte_for_byte(gateway: Gateway) -> None:
    made = account(gateway, "anthropic")
    raw = b'{ "input_tokens":2095, "context_management": {"original_input_tokens": 2.50} }'
    gateway.upstream.script(answer(body=raw, headers={"X-Request-Id": "req_up_1"}))
    got = count(gateway, made, invented={"deep": [1]})
    assert (got.status_code, got.content) == (200, raw)
    arrived = gateway.upstream.arrivals[-1]
    assert arrived.path == "/v1/messages/count_tokens"
    assert msgspec.json.decode(arrived.body) == {"model": "fake-model", "messages": ASK, "invented": {"deep": [1]}}
    assert Decimal(got.headers["X-Tollbook-Cost-Usd"]) == 0
    assert books.call_of(made.key.pk).upstream_request_id == "req_up_1"


def test_a_model_without_a_price_is_counted_under_a_usd_limit(gateway: Gateway) -> None:
    made = account(gateway, "anthropic", priced=False, limits=(("usd", "day", "0.000001"), ("tokens", "day", "1")))
    assert count(gateway, made).status_code == 200
    assert "max_tokens" not in msgspec.json.decode(gateway.upstream.arrivals[-1].body)
    assert_free(books.call_of(made.key.pk))


def test_a_limit_on_requests_holds(gateway: Gateway) -> None:
    made = account(gateway, "anthropic", limits=(("requests", "day", "1"),))
    assert count(gateway, made).status_code == 200
    arrived = len(gateway.upstream.arrivals)
    refused = count(gateway, made)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "limit_reached")
    assert refused.json()["type"] == "error"
    assert len(gateway.upstream.arrivals) == arrived


@pytest.mark.parametrize("adapter", ["cohere", "mistral", "groq"])
def test_a_provider_that_cannot_count_is_a_400_and_no_call(gateway: Gateway, adapter: str) -> None:
    made = account(gateway, adapter)
    arrived = len(gateway.upstream.arrivals)
    refused = count(gateway, made)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], refused.json()["type"]) == (400, "unsupported_parameter", "error")
    assert "no way to count tokens" in error["message"]
    assert len(gateway.upstream.arrivals) == arrived
    assert not books.calls(key_id=made.key.pk)


def test_a_route_counts_where_it_can(gateway: Gateway) -> None:
    cannot, broken, good = account(gateway, "cohere"), account(gateway, "openai"), account(gateway, "anthropic")
    broken.model.upstream_name = "fake-503"
    broken.model.save()
    made = route("priority", (cannot, 1, 1), (broken, 2, 1), (good, 3, 1))
    gateway.sync()
    body = msgspec.json.encode({"model": made.name, "messages": ASK})
    got = gateway.post(PATH, body, headers=good.headers)
    assert got.status_code == 200, got.text
    assert got.headers["X-Tollbook-Provider"] == good.model.provider.name
    first, second = books.calls(key_id=good.key.pk)
    assert (first.outcome, first.http_status, first.provider_id) == ("failed", 503, broken.model.provider_id)
    assert second.outcome == "ok"
    for call in (first, second):
        assert_free(call)


def test_a_passing_error_is_tried_again(gateway: Gateway) -> None:
    made = account(gateway, "anthropic", upstream_name="fake-flaky-1", provider={"max_retries": 1})
    got = count(gateway, made, system="flaky")
    assert (got.status_code, got.headers["X-Tollbook-Attempts"]) == (200, "2")
    assert [call.outcome for call in books.calls(key_id=made.key.pk)] == ["failed", "ok"]


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"input_tokens": null}', "provider_malformed_answer"), (b"[]", "provider_malformed_answer")],
)
def test_an_answer_without_a_number_is_an_error_that_costs_nothing(gateway: Gateway, body: bytes, code: str) -> None:
    made = account(gateway, "anthropic")
    gateway.upstream.script(answer(body=body))
    got = count(gateway, made)
    assert (got.status_code, got.json()["error"]["code"]) == (502, code)
    call = books.call_of(made.key.pk)
    assert (call.outcome, call.error_code) == ("failed", code)
    assert_free(call)


def test_no_answer_at_all_costs_nothing_either(gateway: Gateway) -> None:
    """A message that was sent and not answered may be billed: a count never is."""
    made = account(gateway, "anthropic")
    gateway.upstream.script((Hang(),))
    got = count(gateway, made, headers={"X-Tollbook-Timeout-S": "0.3"})
    assert got.status_code == 504
    call = books.call_of(made.key.pk)
    assert (call.outcome, call.error_code) == ("failed", "provider_timeout")
    assert_free(call)


def test_errors_are_the_clients_own_exceptions(gateway: Gateway) -> None:
    made = account(gateway, "openai")

    def refused(kind: type[anthropic.APIStatusError], **fields: Any) -> anthropic.APIStatusError:
        with Anthropic(base_url=gateway.url, api_key=made.text, max_retries=0) as client, pytest.raises(kind) as caught:
            client.messages.count_tokens(**{"model": made.model.name, "messages": ASK, **fields})
        return caught.value

    assert "model_not_found" in str(refused(anthropic.NotFoundError, model="nobody").body)
    wrong: Any = [{"role": "user", "content": 5}]
    assert "$.messages[0].content" in str(refused(anthropic.BadRequestError, messages=wrong))
    assert "$.messages" in str(refused(anthropic.BadRequestError, messages=[]))
    gateway.upstream.script(answer(status=429, body=b'{"error": {"message": "slow down"}}'))
    assert refused(anthropic.RateLimitError).response.headers["X-Tollbook-Call-Id"]


def test_what_the_other_wire_cannot_say_is_named(gateway: Gateway) -> None:
    made = account(gateway, "openai")
    refused = count(gateway, made, context_management={"edits": []})
    assert (refused.status_code, "context_management" in refused.json()["error"]["message"]) == (400, True)
    assert count(gateway, made, context_management={"edits": []}, drop_unsupported=True).status_code == 200


def test_the_same_key_is_answered_the_same(gateway: Gateway) -> None:
    made = account(gateway, "anthropic")
    headers = {"Idempotency-Key": f"count-{made.key.pk}"}
    first, again = count(gateway, made, headers=headers), count(gateway, made, headers=headers)
    assert again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert_free(books.call_of(made.key.pk))


def test_only_post_counts(gateway: Gateway) -> None:
    got = requests.get(gateway.url + PATH, timeout=10)
    assert (got.status_code, got.json()["error"]["code"]) == (405, "method_not_allowed")
