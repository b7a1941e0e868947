"""The official openai client, with only its base URL and key changed, against either provider's wire."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.live.streams import CHAT_FRAMES, frame
from tests.upstream import answer, events

WIRES = ["openai", "anthropic"]
ASK: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Do the books balance?"}]
SENTENCE = "The ledger balances to the last digit today"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 60).decode()
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
# What each wire answers when the model calls two tools at once.
CITIES = ("Rome", "Oslo")
TOOL_CALLS = {
    "openai": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "up",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": None, "tool_calls": [
                {"id": f"call_{city}", "type": "function", "function": {
                    "name": "weather", "arguments": json.dumps({"city": city})}}
                for city in CITIES
            ],
        }}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
    },
    "anthropic": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "up",
        "stop_reason": "tool_use", "stop_sequence": None,
        "content": [
            {"type": "tool_use", "id": f"call_{city}", "name": "weather", "input": {"city": city}} for city in CITIES
        ],
        "usage": {"input_tokens": 20, "output_tokens": 6},
    },
}  # fmt: skip


def client_of(gateway: Gateway, account: Account) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=account.text, max_retries=0)


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def account(gateway: Gateway, wire: str) -> Account:
    return gateway.account(wire=wire, default_max_output_tokens=512)


@pytest.fixture
def client(gateway: Gateway, account: Account) -> Iterator[OpenAI]:
    with client_of(gateway, account) as made:
        yield made


def arrived(gateway: Gateway) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(gateway.upstream.arrivals[-1].body)
    return body


def assert_booked(account: Account, *, tokens_out: int) -> None:
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.usage_source, call.output_tokens) == ("ok", "reported", tokens_out)
    assert call.cost_usd == usd(call.input_tokens, tokens_out)


def test_a_plain_completion(gateway: Gateway, account: Account, client: OpenAI) -> None:
    done = client.chat.completions.create(model=account.model.name, messages=ASK)
    assert (done.choices[0].message.content, done.choices[0].finish_reason) == (SENTENCE, "stop")
    assert done.usage is not None
    assert done.usage.completion_tokens == 8
    assert done.usage.total_tokens == done.usage.prompt_tokens + 8
    assert_booked(account, tokens_out=8)
    assert "Be brief." in json.dumps(arrived(gateway))


@pytest.mark.parametrize("asks", [True, False, None], ids=["asks for usage", "refuses usage", "says nothing"])
def test_a_stream_has_usage_only_if_the_client_asks(account: Account, client: OpenAI, asks: bool | None) -> None:
    options: Any = {} if asks is None else {"stream_options": {"include_usage": asks}}
    chunks = list(client.chat.completions.create(model=account.model.name, messages=ASK, stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == SENTENCE
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason] == ["stop"]
    told = [chunk.usage for chunk in chunks if chunk.usage]
    assert [usage.completion_tokens for usage in told] == ([8] if asks else [])
    assert_booked(account, tokens_out=8)


def test_the_async_client(gateway: Gateway, account: Account) -> None:
    async def talk() -> tuple[str | None, str]:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=account.text, max_retries=0) as client:
            done = await client.chat.completions.create(model=account.model.name, messages=ASK)
            text = ""
            async for chunk in await client.chat.completions.create(
                model=account.model.name, messages=ASK, stream=True
            ):
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            return done.choices[0].message.content, text

    assert asyncio.run(talk()) == (SENTENCE, SENTENCE)
    assert len(books.calls(key_id=account.key.pk, outcome="ok")) == 2


def test_parallel_tool_calls_and_their_results(gateway: Gateway, wire: str, account: Account, client: OpenAI) -> None:
    gateway.upstream.script(answer(body=json.dumps(TOOL_CALLS[wire]).encode()))
    asked: Any = {"model": account.model.name, "tools": TOOLS}
    done = client.chat.completions.create(messages=ASK, tool_choice="required", **asked)
    calls = done.choices[0].message.tool_calls or []
    assert done.choices[0].finish_reason == "tool_calls"
    assert [(call.id, json.loads(call.function.arguments)) for call in calls] == [
        ("call_Rome", {"city": "Rome"}),
        ("call_Oslo", {"city": "Oslo"}),
    ]
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": f"sun for {call.id}"} for call in calls]
    again = client.chat.completions.create(
        messages=[*ASK, done.choices[0].message.model_dump(exclude_none=True), *results], **asked
    )
    assert again.choices[0].message.content == SENTENCE
    sent = json.dumps(arrived(gateway))
    assert all(text in sent for text in ("call_Rome", "call_Oslo", "sun for call_Rome", "sun for call_Oslo"))


def test_streamed_tool_calls_are_put_together(gateway: Gateway, wire: str, account: Account, client: OpenAI) -> None:
    gateway.upstream.script(events(STREAMED_TOOL_CALL[wire]))
    stream = client.chat.completions.create(model=account.model.name, messages=ASK, tools=TOOLS, stream=True)
    name = arguments = ""
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
            assert call.function is not None
            name += call.function.name or ""
            arguments += call.function.arguments or ""
    assert (name, json.loads(arguments)) == ("weather", {"city": "Rome"})
    assert_booked(account, tokens_out=6)


def _chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return frame({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]})


def _event(kind: str, **fields: Any) -> bytes:
    return frame({"type": kind, **fields}, event=kind)


def _part(text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


STREAMED_TOOL_CALL = {
    "openai": [
        _chunk({"role": "assistant", "tool_calls": [
            {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}]}),
        _chunk(_part('{"ci')),
        _chunk(_part('ty": "Rome"}')),
        _chunk({}, "tool_calls"),
        CHAT_FRAMES.closing[1],
        CHAT_FRAMES.last,
    ],
    "anthropic": [
        _event("message_start", message={
            "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [], "stop_reason": None,
            "usage": {"input_tokens": 20, "output_tokens": 1}}),
        _event("content_block_start", index=0, content_block={
            "type": "tool_use", "id": "call_1", "name": "weather", "input": {}}),
        _event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"ci'}),
        _event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": 'ty": "Rome"}'}),
        _event("content_block_stop", index=0),
        _event("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 6}),
        _event("message_stop"),
    ],
}  # fmt: skip


def test_images_by_url_and_inline(gateway: Gateway, account: Account, client: OpenAI) -> None:
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {"type": "image_url", "image_url": {"url": "https://pictures.example/cat.png"}},
    ]
    client.chat.completions.create(model=account.model.name, messages=[{"role": "user", "content": content}])
    sent = json.dumps(arrived(gateway))
    assert PNG in sent
    assert "https://pictures.example/cat.png" in sent


class Balance(BaseModel):
    account: str
    cents: int


def test_structured_output_is_parsed(gateway: Gateway, wire: str, account: Account, client: OpenAI) -> None:
    text = '{"account": "cash", "cents": 42}'
    whole = {
        "openai": {
            "id": "c", "object": "chat.completion", "created": 1, "model": "up",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
        },
        "anthropic": {
            "id": "m", "type": "message", "role": "assistant", "model": "up", "stop_reason": "end_turn",
            "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 20, "output_tokens": 6},
        },
    }[wire]  # fmt: skip
    gateway.upstream.script(answer(body=json.dumps(whole).encode()))
    done = client.chat.completions.parse(model=account.model.name, messages=ASK, response_format=Balance)
    assert done.choices[0].message.parsed == Balance(account="cash", cents=42)
    assert '"cents"' in json.dumps(arrived(gateway)), "the schema reaches the provider"
    assert_booked(account, tokens_out=6)


def test_two_choices_are_two_choices(gateway: Gateway) -> None:
    account = gateway.account()
    message = {"role": "assistant", "content": "x"}
    body = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "up",
        "choices": [{"index": index, "finish_reason": "stop", "message": message} for index in range(2)],
        "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
    }  # fmt: skip
    gateway.upstream.script(answer(body=json.dumps(body).encode()))
    with client_of(gateway, account) as client:
        done = client.chat.completions.create(model=account.model.name, messages=ASK, n=2)
    assert [choice.index for choice in done.choices] == [0, 1]
    assert arrived(gateway)["n"] == 2


def test_errors_are_the_clients_own_exceptions(gateway: Gateway, wire: str, account: Account, client: OpenAI) -> None:
    def refused(kind: type[openai.APIStatusError], **fields: Any) -> openai.APIStatusError:
        with pytest.raises(kind) as caught:
            client.chat.completions.create(**{"model": account.model.name, "messages": ASK, **fields})
        return caught.value

    assert refused(openai.NotFoundError, model="nobody").code == "model_not_found"
    bad = refused(openai.BadRequestError, messages=[{"role": "user", "content": 5}])
    assert (bad.code, bad.param) == ("invalid_request", "$.messages[0].content")
    for status, kind in {
        400: openai.BadRequestError,
        401: openai.InternalServerError,
        429: openai.RateLimitError,
        500: openai.InternalServerError,
        529: openai.InternalServerError,
    }.items():
        body = {"type": "error", "error": {"type": "x", "message": "no"}}
        gateway.upstream.script(answer(status=status, body=json.dumps(body).encode()))
        error = refused(kind)
        assert error.request_id, "the client finds our request id"
        assert error.response.headers["X-Tollbook-Call-Id"]


def test_a_bad_key_and_a_reached_limit_are_the_clients_own_exceptions(gateway: Gateway) -> None:
    account = gateway.account(limits=(("requests", "day", "0"),))
    with client_of(gateway, account) as client, pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model=account.model.name, messages=ASK)
    assert limited.value.code == "limit_reached"
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model=account.model.name, messages=ASK)
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_an_error_within_a_stream_is_raised(gateway: Gateway, account: Account, wire: str, client: OpenAI) -> None:
    gateway.upstream.script(events(STREAMED_TOOL_CALL[wire][:2], ends=False))
    stream = client.chat.completions.create(model=account.model.name, messages=ASK, stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert caught.value.code == "provider_stream_interrupted"


def test_models_are_listed_and_looked_up(gateway: Gateway, account: Account, client: OpenAI) -> None:
    assert account.model.name in [model.id for model in client.models.list()]
    found = client.models.retrieve(account.model.name)
    assert (found.id, found.owned_by) == (account.model.name, account.model.provider.name)
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
