"""Cohere's own endpoints: bodies pass through to its models and are translated for others; errors are in its shape.

Its official client is in `tests/clients/cohere_client.py`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
import requests

from providers.sse import Decoder
from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.live.streams import CHAT_FRAMES
from tests.upstream import answer, events

SENTENCE = "The ledger balances to the last digit today"
MESSAGES = [{"role": "user", "content": "Do the books balance?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v2/chat": {"messages": MESSAGES},
    "/v2/embed": {"texts": ["Does it balance?"], "input_type": "search_query", "embedding_types": ["float"]},
    "/v2/rerank": {"query": "q", "documents": ["a", "b"]},
}
ANSWERS = {
    "/v2/chat": (
        b'{ "id":"c1","finish_reason":"COMPLETE","new":1.50,"message":{"role":"assistant","content":[{"type":"text",'
        b'"text":"Ja \\u2014 gern"}]},"usage":{"billed_units":{"input_tokens":11,"output_tokens":7.0}}}'
    ),
    "/v2/embed": (
        b'{"id":"e1","embeddings":{"int8":[[1,-2]],"ubinary":[[255]]},"texts":["does it balance?"], "new":{},'
        b'"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":11}}}'
    ),
    "/v2/rerank": b'{"results":[{"index":0,"relevance_score":0.10}], "meta":{"billed_units":{"search_units":1}}}',
}
SURFACES = {"/v2/chat": "cohere_chat", "/v2/embed": "cohere_embed", "/v2/rerank": "rerank"}


def account(gateway: Gateway, adapter: str = "cohere", **fields: Any) -> Account:
    """A model at a provider of this adapter."""
    made = gateway.account(wire=adapter, **fields)
    if adapter == "cohere":
        made.model.provider.base_url = gateway.upstream.url
        made.model.provider.save()
        gateway.sync()
    return made


def post(gateway: Gateway, made: Account, path: str, **fields: Any) -> requests.Response:
    body = msgspec.json.encode({"model": made.model.name, **BODIES[path], **fields})
    return gateway.post(path, body, headers=made.headers)


@pytest.mark.parametrize("path", BODIES)
def test_a_body_passes_through_byte_for_byte_both_ways(gateway: Gateway, path: str) -> None:
    made = account(gateway, rates={"input": "3", "output": "15", "search_units": "2000"})
    gateway.upstream.script(answer(body=ANSWERS[path]))
    odd = {"priority": 3, "new": {"deep": [1.50]}, "metadata": {"team": "a"}}
    answered = post(gateway, made, path, **odd)
    assert (answered.status_code, answered.content) == (200, ANSWERS[path])
    assert "X-Frame-Options" not in answered.headers, "what pages need, and no answer here, was gone through"
    sent = msgspec.json.decode(gateway.upstream.arrivals[-1].body)
    assert sent == {"model": "fake-model", **BODIES[path], "priority": 3, "new": {"deep": [1.5]}}
    assert gateway.upstream.arrivals[-1].path == path
    call = books.call_of(made.key.pk)
    assert (call.surface, call.outcome, call.usage_source) == (SURFACES[path], "ok", "reported")
    cost = {"/v2/chat": usd(11, 7), "/v2/embed": usd(11, 0), "/v2/rerank": Decimal("0.002")}[path]
    assert call.cost_usd == cost == Decimal(answered.headers["X-Tollbook-Cost-Usd"])
    assert call.tags == {"team": "a"}


def test_a_stream_passes_through_event_by_event(gateway: Gateway) -> None:
    made = account(gateway)
    answered = post(gateway, made, "/v2/chat", stream=True)
    assert answered.headers["Content-Type"] == "text/event-stream"
    frames = [frame for frame in Decoder().feed(answered.content) if frame.data]
    assert [frame.event for frame in frames][:2] == ["message-start", "content-start"]
    assert frames[-1].event == "message-end"
    texts = [msgspec.json.decode(frame.data)["delta"] for frame in frames if frame.event == "content-delta"]
    assert "".join(delta["message"]["content"]["text"] for delta in texts) == SENTENCE
    assert books.call_of(made.key.pk).cost_usd == usd(books.call_of(made.key.pk).input_tokens, 8)


def test_a_stream_that_breaks_ends_with_an_error_that_names_the_call(gateway: Gateway) -> None:
    """Cohere's clients know errors in a stream from the reason why it ended."""
    made = account(gateway, "openai")
    gateway.upstream.script(events([*CHAT_FRAMES.opening_and_text], ends=False))
    frames = [frame for frame in Decoder().feed(post(gateway, made, "/v2/chat", stream=True).content) if frame.data]
    last = msgspec.json.decode(frames[-1].data)
    assert (frames[-1].event, last["type"], last["delta"]["finish_reason"]) == ("message-end", "message-end", "ERROR")
    assert last["delta"]["error"]
    assert (last["code"], last["call_id"]) == ("provider_stream_interrupted", str(books.call_of(made.key.pk).pk))


@pytest.mark.parametrize("types", [["float"], ["base64"], ["float", "base64"]])
def test_vectors_of_another_provider_come_in_the_types_asked_for(gateway: Gateway, types: list[str]) -> None:
    answered = post(gateway, account(gateway, "openai"), "/v2/embed", embedding_types=types).json()
    assert list(answered["embeddings"]) == types
    assert answered["texts"] == BODIES["/v2/embed"]["texts"]
    assert answered["meta"]["billed_units"]["input_tokens"] > 0


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v2/chat", {"safety_mode": "STRICT"}, "safety_mode"),
        ("/v2/chat", {"documents": ["x"]}, "documents"),
        ("/v2/embed", {"embedding_types": ["float", "int8"]}, "embedding_types"),
        ("/v2/embed", {"truncate": "START"}, "truncate"),
    ],
)
def test_what_another_provider_cannot_be_told_is_a_400_that_names_it(
    gateway: Gateway, path: str, fields: dict[str, Any], param: str
) -> None:
    made = account(gateway, "openai")
    refused = post(gateway, made, path, **fields)
    assert (refused.status_code, refused.json()["param"]) == (400, param)
    assert param in refused.json()["message"]
    assert post(gateway, made, path, **fields, drop_unsupported=True).status_code == 200
    assert len(books.calls(key_id=made.key.pk)) == 1


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("fields", "headers", "status", "code"),
    [
        ({"model": ""}, {}, 400, "invalid_request"),
        ({"model": "nobody"}, {}, 404, "model_not_found"),
        ({}, {"Authorization": "Bearer tb_live_no_no"}, 401, "invalid_key"),
    ],
)
def test_refusals_are_in_coheres_shape(
    gateway: Gateway, path: str, fields: dict[str, Any], headers: dict[str, str], status: int, code: str
) -> None:
    made = account(gateway, "openai")
    body = msgspec.json.encode({"model": made.model.name, **BODIES[path], **fields})
    refused = gateway.post(path, body, headers={**made.headers, **headers})
    value = refused.json()
    assert (refused.status_code, value["code"]) == (status, code)
    assert set(value) == {"id", "message", "code", "param", "request_id", "call_id"}
    assert value["message"]
    assert value["id"] == value["request_id"] == refused.headers["X-Request-Id"]
    assert books.calls(key_id=made.key.pk) == []


@pytest.mark.parametrize("path", BODIES)
def test_a_providers_error_names_the_call(gateway: Gateway, path: str) -> None:
    made = account(gateway, upstream_name="fake-429")
    refused = post(gateway, made, path)
    assert (refused.status_code, refused.json()["code"]) == (429, "provider_rate_limited")
    assert refused.headers["Retry-After"]
    call = books.call_of(made.key.pk)
    assert refused.json()["call_id"] == refused.json()["id"] == refused.headers["X-Tollbook-Call-Id"] == str(call.pk)


@pytest.mark.parametrize("path", BODIES)
def test_only_post_is_allowed(gateway: Gateway, path: str) -> None:
    refused = requests.get(f"{gateway.url}{path}", timeout=10)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    assert refused.json()["code"] == "method_not_allowed"


def test_the_other_rerank_endpoint_keeps_openais_errors(gateway: Gateway) -> None:
    refused = gateway.post("/v1/rerank", b"{}", headers=account(gateway).headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")


def test_models_are_listed_in_its_clients_shape(gateway: Gateway) -> None:
    made = account(gateway, capabilities=["embeddings", "rerank"], context_window=4096)
    headers = {**made.headers, "X-Fern-SDK-Name": "cohere"}
    listed = {model["name"]: model for model in requests.get(
        f"{gateway.url}/v1/models", headers=headers, timeout=10).json()["models"]}  # fmt: skip
    ours = listed[made.model.name]
    assert (ours["endpoints"], ours["context_length"], ours["is_deprecated"]) == (["embed", "rerank"], 4096, False)
    one = requests.get(f"{gateway.url}/v1/models/{made.model.name}", headers=headers, timeout=10)
    assert one.json() == ours
    refused = requests.get(f"{gateway.url}/v1/models/nobody", headers=headers, timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")
