"""The official anthropic client, with only its base URL and key changed, against either provider's wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic

from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.live.streams import frame
from tests.live.test_openai_client import PNG, SENTENCE, STREAMED_TOOL_CALL, TOOL_CALLS, arrived, assert_booked
from tests.upstream import answer, events

WIRES = ["openai", "anthropic"]
ASK: Any = [{"role": "user", "content": "Do the books balance?"}]
TOOLS: Any = [
    {
        "name": "weather",
        "description": "of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def client_of(gateway: Gateway, account: Account) -> Anthropic:
    return Anthropic(base_url=gateway.url, api_key=account.text, max_retries=0)


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def account(gateway: Gateway, wire: str) -> Account:
    return gateway.account(wire=wire)


@pytest.fixture
def client(gateway: Gateway, account: Account) -> Iterator[Anthropic]:
    with client_of(gateway, account) as made:
        yield made


def asked(account: Account, **fields: Any) -> dict[str, Any]:
    return {"model": account.model.name, "max_tokens": 64, "messages": ASK, **fields}


def test_a_plain_message(gateway: Gateway, account: Account, client: Anthropic) -> None:
    done = client.messages.create(**asked(account, system="Be brief."))
    assert [block.text for block in done.content if block.type == "text"] == [SENTENCE]
    assert (done.stop_reason, done.usage.output_tokens) == ("end_turn", 8)
    assert_booked(account, tokens_out=8)
    assert "Be brief." in json.dumps(arrived(gateway))


def test_a_capped_message_stops_at_its_cap(account: Account, client: Anthropic) -> None:
    done = client.messages.create(**asked(account, max_tokens=3))
    assert (done.stop_reason, done.usage.output_tokens) == ("max_tokens", 3)
    assert_booked(account, tokens_out=3)


def test_the_stream_helper(account: Account, client: Anthropic) -> None:
    with client.messages.stream(**asked(account)) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == SENTENCE
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 8)
    assert_booked(account, tokens_out=8)


def test_raw_events_come_in_the_order_of_the_wire(account: Account, client: Anthropic) -> None:
    kinds = [event.type for event in client.messages.create(**asked(account, stream=True))]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) <= {"content_block_delta", "ping"}


def test_the_async_client(gateway: Gateway, account: Account) -> None:
    async def talk() -> tuple[str, str]:
        async with AsyncAnthropic(base_url=gateway.url, api_key=account.text, max_retries=0) as client:
            done = await client.messages.create(**asked(account))
            async with client.messages.stream(**asked(account)) as stream:
                text = "".join([piece async for piece in stream.text_stream])
            return "".join(block.text for block in done.content if block.type == "text"), text

    assert asyncio.run(talk()) == (SENTENCE, SENTENCE)
    assert len(books.calls(key_id=account.key.pk, outcome="ok")) == 2


def test_parallel_tools_and_their_results(gateway: Gateway, wire: str, account: Account, client: Anthropic) -> None:
    gateway.upstream.script(answer(body=json.dumps(TOOL_CALLS[wire]).encode()))
    done = client.messages.create(**asked(account, tools=TOOLS, tool_choice={"type": "any"}))
    uses = [block for block in done.content if block.type == "tool_use"]
    assert done.stop_reason == "tool_use"
    assert [(use.id, use.input) for use in uses] == [("call_Rome", {"city": "Rome"}), ("call_Oslo", {"city": "Oslo"})]
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": f"sun for {use.id}"} for use in uses]
    turn = {"role": "assistant", "content": [use.model_dump(exclude_none=True) for use in uses]}
    turns = [*ASK, turn, {"role": "user", "content": results}]
    again = client.messages.create(**asked(account, tools=TOOLS, messages=turns))
    assert again.stop_reason == "end_turn"
    sent = json.dumps(arrived(gateway))
    assert all(text in sent for text in ("call_Rome", "call_Oslo", "sun for call_Rome", "sun for call_Oslo"))


def test_a_streamed_tool_call_is_put_together(
    gateway: Gateway, wire: str, account: Account, client: Anthropic
) -> None:
    gateway.upstream.script(events(STREAMED_TOOL_CALL[wire]))
    with client.messages.stream(**asked(account, tools=TOOLS)) as stream:
        final = stream.get_final_message()
    (use,) = [block for block in final.content if block.type == "tool_use"]
    assert (use.name, use.input, final.stop_reason) == ("weather", {"city": "Rome"}, "tool_use")
    assert_booked(account, tokens_out=6)


def test_images_inline_and_by_url(gateway: Gateway, account: Account, client: Anthropic) -> None:
    content = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://pictures.example/cat.png"}},
        {"type": "text", "text": "What is this?"},
    ]
    client.messages.create(**asked(account, messages=[{"role": "user", "content": content}]))
    sent = json.dumps(arrived(gateway))
    assert PNG in sent
    assert "https://pictures.example/cat.png" in sent


THINKING: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Let me add it up.", "signature": "c2lnbmVk"},
    {"type": "redacted_thinking", "data": "aGlkZGVu"},
    {"type": "text", "text": "It balances."},
]


def test_thinking_blocks_survive_the_way_and_the_next_turn(gateway: Gateway) -> None:
    account = gateway.account(wire="anthropic")
    body = {
        "id": "m", "type": "message", "role": "assistant", "model": "up", "stop_reason": "end_turn",
        "content": THINKING, "usage": {"input_tokens": 20, "output_tokens": 6},
    }  # fmt: skip
    gateway.upstream.script(answer(body=json.dumps(body).encode()))
    with client_of(gateway, account) as client:
        thinking = {"type": "enabled", "budget_tokens": 1024}
        done = client.messages.create(**asked(account, max_tokens=2048, thinking=thinking))
        blocks = [block.model_dump(exclude_none=True) for block in done.content]
        assert blocks == THINKING
        turn = {"role": "assistant", "content": blocks}
        client.messages.create(**asked(account, max_tokens=2048, thinking=thinking, messages=[*ASK, turn, *ASK]))
    assert arrived(gateway)["messages"][1]["content"] == THINKING
    assert arrived(gateway)["thinking"] == thinking


def test_structured_output_reaches_the_provider(gateway: Gateway, account: Account, client: Anthropic) -> None:
    schema = {
        "type": "object", "properties": {"cents": {"type": "integer"}}, "required": ["cents"],
        "additionalProperties": False,
    }  # fmt: skip
    extra = {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
    client.messages.create(**asked(account), extra_body=extra)
    assert '"cents"' in json.dumps(arrived(gateway))


def test_cache_writes_and_reads_are_priced_apart(gateway: Gateway) -> None:
    rates = {"input": "3", "output": "15", "cache_read": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6"}
    account = gateway.account(wire="anthropic", rates=rates)
    body = {
        "id": "m", "type": "message", "role": "assistant", "model": "up", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "x"}],
        "usage": {
            "input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
        },
    }  # fmt: skip
    gateway.upstream.script(answer(body=json.dumps(body).encode()))
    with client_of(gateway, account) as client:
        client.messages.create(**asked(account))
    call = books.call_of(account.key.pk)
    assert (call.input_tokens, call.cache_read_tokens, call.cache_write_tokens) == (1310, 1000, 300)
    assert call.cost_usd == usd(10, 5) + usd(1000, 100, rate_in="0.3", rate_out="3.75") + usd(200, 0, rate_in="6")


def test_errors_are_the_clients_own_exceptions(gateway: Gateway, account: Account, client: Anthropic) -> None:
    def refused(kind: type[anthropic.APIStatusError], **fields: Any) -> anthropic.APIStatusError:
        with pytest.raises(kind) as caught:
            client.messages.create(**asked(account, **fields))
        return caught.value

    def code(error: anthropic.APIStatusError) -> str:
        body: Any = error.body
        word: str = body["error"]["code"]
        return word

    assert code(refused(anthropic.NotFoundError, model="nobody")) == "model_not_found"
    assert "$.messages[0].content" in str(refused(anthropic.BadRequestError, messages=[{"role": "user", "content": 5}]))
    for status, kind in {
        400: anthropic.BadRequestError,
        401: anthropic.InternalServerError,
        429: anthropic.RateLimitError,
        500: anthropic.InternalServerError,
        529: anthropic.InternalServerError,
    }.items():
        body = {"type": "error", "error": {"type": "x", "message": "no"}}
        gateway.upstream.script(answer(status=status, body=json.dumps(body).encode()))
        assert refused(kind).response.headers["X-Tollbook-Call-Id"]


def test_an_error_within_a_stream_is_raised(
    gateway: Gateway, wire: str, account: Account, client: Anthropic
) -> None:
    gateway.upstream.script(events(STREAMED_TOOL_CALL[wire][:2], ends=False))
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(client.messages.create(**asked(account, stream=True)))
    assert "provider_stream_interrupted" in str(caught.value.body)


def test_a_bad_key_is_an_authentication_error(gateway: Gateway) -> None:
    account = gateway.account()
    stranger = Anthropic(base_url=gateway.url, api_key="sk-ant-wrong", max_retries=0)
    with stranger as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(**asked(account))


def test_models_are_listed_in_this_clients_shape(account: Account, client: Anthropic) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert (listed[account.model.name].type, listed[account.model.name].display_name) == ("model", account.model.name)
    assert client.models.retrieve(account.model.name).id == account.model.name


def test_pings_and_unknown_events_pass(gateway: Gateway) -> None:
    account = gateway.account(wire="anthropic")
    odd = [frame({"type": "ping"}, event="ping"), frame({"type": "tomorrow", "x": 1}, event="tomorrow")]
    frames = STREAMED_TOOL_CALL["anthropic"]
    gateway.upstream.script(events([frames[0], *odd, *frames[1:]]))
    got = gateway.messages(account, stream=True).content
    assert all(each in got for each in odd)
