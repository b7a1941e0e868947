"""Google's own surface over raw HTTP: every provider's wire behind it, passed through or translated, and its refusals.

What Google's own client makes of it is in `tests/clients/google_genai_client.py`.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
import requests

from tests.live import books
from tests.live.gateway import Account, Gateway, read_until, usd
from tests.live.streams import frame
from tests.live.test_count_tokens import assert_free
from tests.live.test_matrix import CALLED, PNG, SENTENCE
from tests.upstream import Pause, Signal, Wait, answer, events

PROVIDERS = ("openai", "anthropic", "gemini", "cohere", "bedrock", "mistral")
FEATURES = ("plain", "stream", "array", "tools", "image", "schema", "thinking")
ROOTS = {"bedrock": "", "cohere": "", "gemini": "/v1beta", "mistral": "/mistral"}
CONTENTS = [{"role": "user", "parts": [{"text": "Do the books balance?"}]}]
SCHEMA = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]}
JSON_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
# What must have reached the provider, or the request lost something on its way.
CARRIED = {"image": PNG.encode(), "schema": b"city", "tools": b"city"}


def account(gateway: Gateway, adapter: str, **fields: Any) -> Account:
    """A model at a provider of this adapter."""
    made = gateway.account(wire=adapter, sync=False, default_max_output_tokens=512, **fields)
    if adapter in ROOTS:
        made.model.provider.base_url = f"{gateway.upstream.url}{ROOTS[adapter]}"
        made.model.provider.save()
    gateway.sync()
    return made


def post(
    gateway: Gateway, made: Account, method: str = "generateContent", *, raw: bytes = b"", model: str = "", **body: Any
) -> requests.Response:
    path, _, query = method.partition("?")
    url = f"/v1beta/models/{model or made.model.name}:{path}{'?' + query if query else ''}"
    said = {} if "requests" in body or "content" in body else {"contents": CONTENTS}
    return gateway.post(url, raw or msgspec.json.encode({**said, **body}), headers={"x-goog-api-key": made.text})


def asked(feature: str) -> dict[str, Any]:
    more: dict[str, Any] = {
        "tools": {"tools": [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": JSON_SCHEMA}]}]},
        "image": {
            "contents": [
                {"parts": [{"text": "What is this?"}, {"inline_data": {"mime_type": "image/png", "data": PNG}}]}
            ]
        },
        "schema": {"generation_config": {"response_mime_type": "application/json", "response_schema": SCHEMA}},
        "thinking": {"generationConfig": {"thinkingConfig": {"thinkingLevel": "low"}}},
    }
    fields: dict[str, Any] = more.get(feature, {})
    return fields


@pytest.fixture(scope="module")
def accounts(gateway: Gateway) -> dict[str, Account]:
    return {adapter: account(gateway, adapter) for adapter in PROVIDERS}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_any_provider_is_answered_in_googles_words_and_booked(
    gateway: Gateway, accounts: dict[str, Account], provider: str, feature: str
) -> None:
    made = accounts[provider]
    before = {call.pk for call in books.calls(key_id=made.key.pk)}
    if feature == "tools":
        gateway.upstream.script(answer(body=msgspec.json.encode(CALLED[provider])))
    method = {"stream": "streamGenerateContent?alt=sse", "array": "streamGenerateContent"}.get(feature)
    got = post(gateway, made, method or "generateContent", **asked(feature))
    assert got.status_code == 200, got.text
    assert CARRIED.get(feature, b"") in gateway.upstream.arrivals[-1].body
    (call,) = (call for call in books.calls(key_id=made.key.pk) if call.pk not in before)
    assert (call.surface, call.outcome, call.usage_source) == ("generate_content", "ok", "reported")
    chunks = _chunks(got, feature)
    parts = [part for chunk in chunks for part in _parts(chunk)]
    ended = [candidate["finishReason"] for chunk in chunks for candidate in chunk.get("candidates", ())
             if "finishReason" in candidate]  # fmt: skip
    assert ended == ["STOP"]
    usage = [chunk["usageMetadata"] for chunk in chunks if "usageMetadata" in chunk][-1]
    tokens = (usage["promptTokenCount"], usage["candidatesTokenCount"])
    assert tokens == (call.input_tokens, call.output_tokens)
    assert call.cost_usd == usd(*tokens)
    if feature == "tools":
        (called,) = (part["functionCall"] for part in parts if "functionCall" in part)
        assert (called["name"], called["args"]) == ("look", {"city": "Rome"})
    else:
        assert "".join(part.get("text", "") for part in parts) == SENTENCE


def _chunks(got: requests.Response, feature: str) -> list[dict[str, Any]]:
    """The answers in a body: one, or each chunk of a stream in either form."""
    kind = got.headers["Content-Type"]
    if feature == "stream":
        assert kind == "text/event-stream"
        lines = got.content.splitlines()
        # Google's clients take a comment for an answer.
        assert all(not line or line.startswith(b"data: ") for line in lines)
        return [msgspec.json.decode(line[6:]) for line in lines if line]
    assert kind == "application/json"
    said = got.json()
    return list(said) if feature == "array" else [said]


def _parts(chunk: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for candidate in chunk.get("candidates", ()) for part in candidate["content"].get("parts", ())]


# --- to Google: as it came --------------------------------------------------------------------------------


def raw_fields(body: bytes) -> dict[str, bytes]:
    return {name: bytes(value) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


@pytest.mark.parametrize("stream", [False, True])
def test_bytes_pass_through_both_ways(gateway: Gateway, accounts: dict[str, Account], stream: bool) -> None:
    body = b'{"contents": [ {"parts":[{"text":"\\u00e9"}]} ], "safety_settings": [ ], "invented": {"deep": 1.50}}'
    frames = [
        b'data: {"candidates":[{"content":{"parts":[{"text":"A\\u00e9"}]},"x":1.0}]}\r\n\r\n',
        b'data: {"candidates":[{"content":{"parts":[]},"finishReason":"STOP"}],'
        b'"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":3},"modelVersion":"v"}\r\n\r\n',
    ]
    whole = frames[1][6:].strip() + b"\n"
    gateway.upstream.script(events(frames) if stream else answer(body=whole))
    made = accounts["gemini"]
    got = post(gateway, made, "streamGenerateContent?alt=sse" if stream else "generateContent", raw=body)
    assert got.content == (b"".join(frames) if stream else whole)
    arrived = gateway.upstream.arrivals[-1]
    assert raw_fields(arrived.body) == raw_fields(body)
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    assert arrived.path == f"/v1beta/models/fake-model:{verb}"
    assert made.text not in repr(arrived.headers)


def test_a_limit_lowers_the_cap_in_googles_own_place(gateway: Gateway) -> None:
    made = account(gateway, "gemini", limits=(("tokens", "day", "100000"),))
    got = post(gateway, made, generation_config={"top_k": 3})
    assert got.headers["X-Tollbook-Max-Output-Tokens"] == "512"
    sent = msgspec.json.decode(gateway.upstream.arrivals[-1].body)
    assert sent["generation_config"] == {"top_k": 3, "maxOutputTokens": 512}


# --- other methods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "bedrock"])
def test_tokens_are_counted_for_nothing(gateway: Gateway, provider: str) -> None:
    made = account(gateway, provider)
    got = post(gateway, made, "countTokens")
    assert got.json() == {"totalTokens": -(-len(gateway.upstream.arrivals[-1].body) // 4)}
    assert_free(books.call_of(made.key.pk))


def test_a_provider_that_cannot_count_is_a_400(gateway: Gateway, accounts: dict[str, Account]) -> None:
    got = post(gateway, accounts["cohere"], "countTokens")
    assert (got.status_code, got.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "no way to count tokens" in got.json()["error"]["message"]


@pytest.mark.parametrize("provider", ["openai", "gemini", "cohere", "mistral"])
def test_texts_are_embedded_one_or_many(gateway: Gateway, provider: str) -> None:
    made = account(gateway, provider)
    content = {"parts": [{"text": "debit"}]}
    # OpenAI's wire has no word for what vectors are for.
    task = {"taskType": "RETRIEVAL_QUERY"} if provider in ("gemini", "cohere") else {}
    one = post(gateway, made, "embedContent", content=content, **task)
    assert one.json()["embedding"] == {"values": [0.5, -0.25, 0.125]}
    many = post(gateway, made, "batchEmbedContents", requests=[{"model": "models/x", "content": content}])
    assert many.json()["embeddings"] == [{"values": [0.5, -0.25, 0.125]}]
    for call in books.calls(key_id=made.key.pk):
        assert (call.surface, call.outcome, call.usage_source) == ("embed_content", "ok", "reported")
        assert call.cost_usd == usd(call.input_tokens, 0)
    if provider == "gemini":
        (sent,) = msgspec.json.decode(gateway.upstream.arrivals[-1].body)["requests"]
        assert sent == {"model": "models/fake-model", "content": content}


def test_models_are_listed_in_googles_shape(gateway: Gateway, accounts: dict[str, Account]) -> None:
    made, headers = accounts["openai"], {"x-goog-api-key": accounts["openai"].text}
    for version in ("v1beta", "v1"):
        listed = requests.get(f"{gateway.url}/{version}/models?pageSize=3", headers=headers, timeout=10)
        (found,) = (model for model in listed.json()["models"] if model["name"] == f"models/{made.model.name}")
        one = requests.get(f"{gateway.url}/{version}/models/{made.model.name}", headers=headers, timeout=10)
        assert one.json() == found
    assert found["supportedGenerationMethods"] == ["generateContent", "streamGenerateContent", "countTokens"]
    unknown = requests.get(f"{gateway.url}/v1beta/models/nobody", headers=headers, timeout=10)
    assert (unknown.status_code, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")


# --- keys -------------------------------------------------------------------------------------------------


def test_a_key_stands_in_a_header_or_in_the_query_and_never_in_a_log(gateway: Gateway) -> None:
    made = account(gateway, "openai")
    path, body = f"{gateway.url}/v1beta/models/{made.model.name}:generateContent", {"contents": CONTENTS}
    ways: list[dict[str, Any]] = [
        {"headers": {"x-goog-api-key": made.text}},
        {"headers": {"Authorization": f"Bearer {made.text}"}},
        {"params": {"key": made.text}},
    ]
    for way in ways:
        assert requests.post(path, json=body, timeout=10, **way).status_code == 200
    assert requests.get(f"{gateway.url}/v1beta/models", params={"key": made.text}, timeout=10).status_code == 200
    refused: list[requests.Response] = [
        requests.post(path, data=b"{", params={"key": made.text}, timeout=10),
        requests.post(path.replace("generate", "predict"), params={"key": made.text}, timeout=10),
        requests.get(f"{gateway.url}/v1beta/files/x", params={"key": made.text}, timeout=10),
        requests.get(path, params={"key": made.text}, timeout=10),
    ]
    assert [got.status_code for got in refused] == [400, 405, 404, 405]
    for got in refused:
        assert got.json()["error"]["details"][0]["metadata"]["request_id"]
        assert made.text not in got.text
    assert made.text not in gateway.log()
    assert made.text.rpartition("_")[2] not in gateway.log()


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"contents": "x"}, "$.contents"),
        ({"contents": [{"role": "wizard", "parts": []}]}, "$.contents[0].role"),
        ({"tools": {}}, "$.tools"),
        ({"generationConfig": {"maxOutputTokens": -1}}, "$.generationConfig.maxOutputTokens"),
        ({"generationConfig": {"temperature": "hot"}}, "$.generationConfig.temperature"),
        ({"safetySettings": [{"category": "X"}]}, "safetySettings"),
        ({"generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig"),
        ({"contents": [{"parts": [{"executableCode": {"code": "1"}}]}]}, "messages[0].content[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_or_unsayable_field_is_named_and_nothing_is_sent(
    gateway: Gateway, accounts: dict[str, Account], body: dict[str, Any], param: str
) -> None:
    arrived, calls = len(gateway.upstream.arrivals), len(books.calls())
    got = post(gateway, accounts["openai"], **body)
    error = got.json()["error"]
    assert (got.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    info, bad = error["details"]
    assert info["reason"] in ("invalid_request", "unsupported_parameter")
    assert info["metadata"]["request_id"]
    assert bad["fieldViolations"][0]["field"] == param
    assert (len(gateway.upstream.arrivals), len(books.calls())) == (arrived, calls)


def test_what_cannot_be_said_is_dropped_where_the_client_asks_for_that(
    gateway: Gateway, accounts: dict[str, Account]
) -> None:
    assert post(gateway, accounts["openai"], safetySettings=[], drop_unsupported=True).status_code == 200
    assert b"drop_unsupported" not in gateway.upstream.arrivals[-1].body


def test_other_refusals_have_googles_words(gateway: Gateway, accounts: dict[str, Account]) -> None:
    def status(got: requests.Response) -> tuple[int, str, str]:
        error = got.json()["error"]
        return got.status_code, error["status"], error["details"][0]["reason"]

    made = account(gateway, "openai", limits=(("requests", "day", "0"),))
    assert status(post(gateway, accounts["openai"], model="no/body")) == (404, "NOT_FOUND", "model_not_found")
    limited = post(gateway, made)
    assert status(limited) == (429, "RESOURCE_EXHAUSTED", "limit_reached")
    assert int(limited.headers["Retry-After"]) > 0
    url = f"{gateway.url}/v1beta/models/m:generateContent"
    assert status(requests.post(url, json={}, timeout=10)) == (401, "UNAUTHENTICATED", "invalid_key")
    proto = post(gateway, accounts["openai"], "streamGenerateContent?alt=proto")
    assert status(proto) == (400, "INVALID_ARGUMENT", "invalid_request")
    gateway.upstream.script(answer(status=503, body=b"{}"))
    failed = post(gateway, accounts["openai"])
    assert status(failed)[:2] == (503, "UNAVAILABLE")
    assert failed.json()["error"]["details"][0]["metadata"]["call_id"] == failed.headers["X-Tollbook-Call-Id"]


@pytest.mark.parametrize("query", ["?alt=sse", ""], ids=["events", "array"])
def test_an_error_within_a_stream_is_its_last_chunk(
    gateway: Gateway, accounts: dict[str, Account], query: str
) -> None:
    chunk = {"choices": [{"index": 0, "delta": {"content": "The "}, "finish_reason": None}], "model": "up", "id": "c"}
    gateway.upstream.script(events([frame(chunk)], ends=False))
    got = post(gateway, accounts["openai"], f"streamGenerateContent{query}")
    chunks = _chunks(got, "stream" if query else "array")
    assert _parts(chunks[0]) == [{"text": "The "}]
    assert chunks[-1]["error"]["details"][0]["reason"] == "provider_stream_interrupted"


def test_the_same_key_is_streamed_the_same_array_again(gateway: Gateway) -> None:
    made = account(gateway, "openai")
    url = f"{gateway.url}/v1beta/models/{made.model.name}:streamGenerateContent"
    headers = {"x-goog-api-key": made.text, "Idempotency-Key": f"g-{made.key.pk}"}
    first, again = (requests.post(url, json={"contents": CONTENTS}, headers=headers, timeout=10) for _ in range(2))
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert len(books.calls(key_id=made.key.pk)) == 1


@pytest.mark.parametrize("query", ["?alt=sse", ""], ids=["events", "array"])
def test_a_client_that_leaves_is_one_row_with_what_was_used(gateway: Gateway, query: str) -> None:
    made = account(gateway, "openai")
    go_on, began = threading.Event(), threading.Event()
    text = frame({"id": "c", "model": "up", "choices": [{"index": 0, "delta": {"content": "The books."}}]})
    slow = [step for _ in range(20) for step in (text, Pause(0.02))]
    gateway.upstream.script(events([text, Signal(began), Wait(go_on), *slow]))
    body = msgspec.json.encode({"contents": CONTENTS})
    path = f"/v1beta/models/{made.model.name}:streamGenerateContent{query}"
    sock = gateway.open_raw(path, body, headers={"x-goog-api-key": made.text})
    read_until(sock, b"The books.")
    sock.close()
    go_on.set()
    call = books.call_of(made.key.pk)
    assert (call.outcome, call.error_code) == ("cancelled", "client_gone")
    assert call.output_tokens > 0
    assert call.cost_usd == usd(call.input_tokens, call.output_tokens)
