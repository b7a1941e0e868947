"""Every surface on every provider's wire: answered in the client's shape and booked exactly, or refused by field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import requests

from ledger.models import Call
from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.upstream import answer

SURFACES = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
PROVIDERS = ("openai", "anthropic", "gemini", "cohere", "mistral", "bedrock", "ollama_native", "openai_compatible")
FEATURES = ("plain", "stream", "tools", "image", "schema", "reasoning")
# Where the fake upstream speaks a vendor's own way, from its root on.
ROOTS = {"cohere": "", "gemini": "/v1beta", "mistral": "/mistral", "ollama_native": ""}
SENTENCE = "The ledger balances to the last digit today"
QUESTION = "Do the books balance?"
# What a provider's wire cannot say, and so is refused before anything is held.
REFUSED = {
    # A budget of thoughts can be said to Claude alone, and the model here is not one.
    ("messages", "bedrock", "reasoning"): "reasoning",
}

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False
}  # fmt: skip
# What must have reached the provider, or the request lost something on its way.
CARRIED = {"image": PNG.encode(), "schema": b"city", "tools": b"city"}
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
CALLED_CHAT = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "up",
    "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None,
        "tool_calls": [{"id": "call12345", "type": "function",
                        "function": {"name": "look", "arguments": '{"city":"Rome"}'}}]}}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
}  # fmt: skip
# The answer that calls the tool, in the words of each provider's wire; 20 tokens in and 6 out.
CALLED: dict[str, dict[str, Any]] = {
    "openai": CALLED_CHAT,
    "openai_compatible": CALLED_CHAT,
    "mistral": CALLED_CHAT,
    "responses": {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "up",
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "output": [{"type": "function_call", "id": "fc_1", "call_id": "call12345", "name": "look",
                    "arguments": '{"city":"Rome"}', "status": "completed"}],
        "usage": {"input_tokens": 20, "output_tokens": 6, "total_tokens": 26},
    },
    "anthropic": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "stop_reason": "tool_use",
        "stop_sequence": None, "usage": {"input_tokens": 20, "output_tokens": 6},
        "content": [{"type": "tool_use", "id": "call12345", "name": "look", "input": {"city": "Rome"}}],
    },
    "bedrock": {
        "output": {"message": {"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "call12345", "name": "look", "input": {"city": "Rome"}}}]}},
        "stopReason": "tool_use", "usage": {"inputTokens": 20, "outputTokens": 6, "totalTokens": 26},
    },
    "gemini": {
        "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"functionCall": {"name": "look", "args": {"city": "Rome"}}}]}}],
        "usageMetadata": {"promptTokenCount": 20, "candidatesTokenCount": 6, "totalTokenCount": 26},
        "modelVersion": "up", "responseId": "r1",
    },
    "cohere": {
        "id": "c1", "finish_reason": "TOOL_CALL",
        "message": {"role": "assistant", "tool_calls": [
            {"id": "call12345", "type": "function", "function": {"name": "look", "arguments": '{"city":"Rome"}'}}]},
        "usage": {"billed_units": {"input_tokens": 20, "output_tokens": 6},
                  "tokens": {"input_tokens": 900, "output_tokens": 60}},
    },
    "ollama_native": {
        "model": "up", "created_at": "2026-02-03T04:05:06Z", "done": True, "done_reason": "stop",
        "message": {"role": "assistant", "content": "", "tool_calls": [
            {"id": "call12345", "function": {"name": "look", "arguments": {"city": "Rome"}}}]},
        "prompt_eval_count": 20, "eval_count": 6,
    },
}  # fmt: skip


def chat(feature: str) -> dict[str, Any]:
    content: Any = QUESTION
    if feature == "image":
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
        content = [{"type": "text", "text": QUESTION}, picture]
    body: dict[str, Any] = {"max_completion_tokens": 4096, "messages": [{"role": "user", "content": content}]}
    more: dict[str, Any] = {
        "stream": {"stream": True, "stream_options": {"include_usage": True}},
        "tools": {"tools": [{"type": "function", "function": {"name": "look", "parameters": TOOL}}]},
        "schema": {
            "response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}}
        },
        "reasoning": {"reasoning_effort": "low"},
    }
    body |= more.get(feature, {})
    return body


def messages(feature: str) -> dict[str, Any]:
    content: Any = QUESTION
    if feature == "image":
        picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
        content = [{"type": "text", "text": QUESTION}, picture]
    body: dict[str, Any] = {"max_tokens": 4096, "messages": [{"role": "user", "content": content}]}
    more: dict[str, Any] = {
        "stream": {"stream": True},
        "tools": {"tools": [{"name": "look", "input_schema": TOOL}]},
        "schema": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        "reasoning": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    }
    body |= more.get(feature, {})
    return body


def responses(feature: str) -> dict[str, Any]:
    content: Any = QUESTION
    if feature == "image":
        picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
        content = [{"type": "input_text", "text": QUESTION}, picture]
    body: dict[str, Any] = {"max_output_tokens": 4096, "store": False, "input": [{"role": "user", "content": content}]}
    more: dict[str, Any] = {
        "stream": {"stream": True},
        "tools": {"tools": [{"type": "function", "name": "look", "parameters": TOOL, "strict": False}]},
        "schema": {"text": {"format": {"type": "json_schema", "name": "w", "schema": SCHEMA, "strict": True}}},
        "reasoning": {"reasoning": {"effort": "low"}},
    }
    body |= more.get(feature, {})
    return body


BODIES: dict[str, Callable[[str], dict[str, Any]]] = {"chat": chat, "messages": messages, "responses": responses}


@pytest.fixture(scope="module")
def accounts(gateway: Gateway) -> dict[str, Account]:
    """A model at a provider of each wire."""
    made = {}
    for adapter in PROVIDERS:
        made[adapter] = gateway.account(wire=adapter, default_max_output_tokens=512, sync=False)
        provider = made[adapter].model.provider
        provider.base_url = f"{gateway.upstream.url}{ROOTS.get(adapter, '/v1')}"
        provider.save()
    gateway.sync()
    return made


def text_of(surface: str, said: dict[str, Any]) -> str:
    if surface == "chat":
        return str(said["choices"][0]["message"]["content"])
    if surface == "messages":
        return "".join(block["text"] for block in said["content"] if block["type"] == "text")
    items = [part for item in said["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in items)


def tool_of(surface: str, said: dict[str, Any]) -> tuple[str, Any]:
    """Name and arguments of the one tool call."""
    if surface == "messages":
        (block,) = (block for block in said["content"] if block["type"] == "tool_use")
        assert said["stop_reason"] == "tool_use"
        return block["name"], block["input"]
    if surface == "chat":
        assert said["choices"][0]["finish_reason"] == "tool_calls"
        (call,) = (call["function"] for call in said["choices"][0]["message"]["tool_calls"])
    else:
        (call,) = (item for item in said["output"] if item["type"] == "function_call")
    return call["name"], msgspec.json.decode(call["arguments"])


def tokens_of(surface: str, said: dict[str, Any]) -> tuple[int, int]:
    usage = said["usage"]
    names = ("prompt_tokens", "completion_tokens") if surface == "chat" else ("input_tokens", "output_tokens")
    return usage[names[0]], usage[names[1]]


def gathered(surface: str, stream: str) -> dict[str, Any]:
    """A stream's text and usage, as a whole answer of the surface would say them."""
    frames = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    events = [msgspec.json.decode(frame) for frame in frames if frame != "[DONE]"]
    assert not [event for event in events if "error" in event], stream[-600:]
    if surface == "chat":
        assert frames[-1] == "[DONE]"
        deltas = [choice["delta"] for event in events for choice in event["choices"]]
        text = "".join(delta.get("content") or "" for delta in deltas)
        return {"choices": [{"message": {"content": text}}], "usage": events[-1]["usage"]}
    if surface == "messages":
        assert events[-1]["type"] == "message_stop"
        text = "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        (last,) = (event for event in events if event["type"] == "message_delta")
        (first,) = (event["message"] for event in events if event["type"] == "message_start")
        return {"content": [{"type": "text", "text": text}], "usage": first["usage"] | last["usage"]}
    assert events[-1]["type"] == "response.completed"
    told = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert told == text_of(surface, events[-1]["response"])
    ended: dict[str, Any] = events[-1]["response"]
    return ended


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("surface", SURFACES)
def test_it_is_answered_and_booked_or_refused_by_field(
    gateway: Gateway, accounts: dict[str, Account], surface: str, provider: str, feature: str
) -> None:
    account = accounts[provider]
    before = {call.pk for call in books.calls(key_id=account.key.pk)}
    refusal = REFUSED.get((surface, provider, feature))
    native = "responses" if (surface, provider) == ("responses", "openai") else provider
    if feature == "tools" and refusal is None:
        gateway.upstream.script(answer(body=msgspec.json.encode(CALLED[native])))
    arrived = len(gateway.upstream.arrivals)
    body = msgspec.json.encode({"model": account.model.name, **BODIES[surface](feature)})
    got = gateway.post(SURFACES[surface], body, headers=account.headers)
    made = [call for call in books.calls(key_id=account.key.pk) if call.pk not in before]
    if refusal is not None:
        assert_refused(got, surface=surface, field=refusal)
        assert made == []
        assert len(gateway.upstream.arrivals) == arrived
        return
    assert got.status_code == 200, got.text
    (call,) = made
    assert CARRIED.get(feature, b"") in gateway.upstream.arrivals[-1].body
    said = gathered(surface, got.text) if feature == "stream" else got.json()
    if feature == "tools":
        assert tool_of(surface, said) == ("look", {"city": "Rome"})
        assert_booked(call, surface=surface, said=said, tokens=(20, 6))
        return
    assert text_of(surface, said) == SENTENCE
    line = gateway.upstream.invoice.lines[-1]
    assert_booked(call, surface=surface, said=said, tokens=(line.input_tokens, line.output_tokens))


def assert_refused(got: requests.Response, *, surface: str, field: str) -> None:
    assert got.status_code == 400, got.text
    assert field in got.json()["error"]["message"] + str(got.json()["error"].get("param"))
    assert got.json().get("type") == ("error" if surface == "messages" else None)


def assert_booked(call: Call, *, surface: str, said: dict[str, Any], tokens: tuple[int, int]) -> None:
    assert (call.surface, call.outcome, call.usage_source) == (surface, "ok", "reported")
    assert (call.input_tokens, call.output_tokens) == tokens == tokens_of(surface, said)
    assert call.cost_usd == usd(*tokens)
