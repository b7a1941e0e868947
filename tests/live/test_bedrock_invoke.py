"""A row of Bedrock that invokes Anthropic's models: messages pass through, and every surface is answered and booked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers import sse
from providers.wire.bedrock_invoke import frames
from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.live.test_pass_through import split_comment
from tests.upstream import answer, events

USAGE = {"input_tokens": 20, "output_tokens": 6}
MESSAGE = {
    "id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude-haiku", "stop_reason": "end_turn",
    "stop_sequence": None, "content": [{"type": "text", "text": "It balances"}], "usage": USAGE,
}  # fmt: skip
STREAM: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It balances"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 20, "outputTokenCount": 4}},
]
PACKED = [frames.encode(msgspec.json.encode(value)) for value in STREAM]


@pytest.fixture(scope="module")
def account(gateway: Gateway) -> Account:
    return gateway.account(wire="bedrock", provider={"settings": {"api": "invoke"}})


def assert_booked(account: Account) -> None:
    call = books.calls(key_id=account.key.pk)[-1]
    assert (call.outcome, call.usage_source, call.input_tokens, call.output_tokens) == ("ok", "reported", 20, 6)
    assert call.cost_usd == usd(20, 6)


def test_a_message_goes_out_and_comes_back_as_it_is(gateway: Gateway, account: Account) -> None:
    body = msgspec.json.encode(MESSAGE)
    gateway.upstream.script(answer(body=body))
    got = gateway.messages(account, thinking={"type": "enabled", "budget_tokens": 1024}, novel={"a": 1})
    assert got.content == body
    arrival = gateway.upstream.arrivals[-1]
    sent = msgspec.json.decode(arrival.body)
    assert arrival.path == "/v1/model/fake-model/invoke"
    assert (sent["anthropic_version"], sent["novel"]) == ("bedrock-2023-05-31", {"a": 1})
    assert not {"model", "stream"} & sent.keys()
    assert_booked(account)


def test_a_stream_of_frames_reaches_the_client_as_events(gateway: Gateway, account: Account) -> None:
    gateway.upstream.script(events(PACKED, content_type="application/vnd.amazon.eventstream"))
    got = gateway.messages(account, stream=True)
    assert got.headers["content-type"] == "text/event-stream"
    wanted = b"".join(sse.encode(data=msgspec.json.encode(value), event=value["type"]) for value in STREAM)
    assert split_comment(got.content)[1] == wanted
    assert gateway.upstream.arrivals[-1].path == "/v1/model/fake-model/invoke-with-response-stream"
    assert_booked(account)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_another_wire_is_answered_in_its_own(gateway: Gateway, account: Account, stream: bool) -> None:
    packed = events(PACKED, content_type="application/vnd.amazon.eventstream")
    gateway.upstream.script(packed if stream else answer(body=msgspec.json.encode(MESSAGE)))
    got = gateway.chat(account, stream=stream)
    assert b"It balances" in got.content
    assert (b"[DONE]" in got.content) == stream
    assert_booked(account)


def test_counts_that_stand_in_headers_alone_are_booked(gateway: Gateway, account: Account) -> None:
    headers = {"x-amzn-bedrock-input-token-count": "20", "x-amzn-bedrock-output-token-count": "6"}
    told = {name: value for name, value in MESSAGE.items() if name != "usage"}
    gateway.upstream.script(*[answer(body=msgspec.json.encode(told), headers=headers)] * 2)
    assert gateway.messages(account).status_code == 200
    assert_booked(account)
    assert gateway.chat(account).status_code == 200
    assert_booked(account)
