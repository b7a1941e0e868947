"""The provider's wire is the client's: what the gateway does not need goes through as it came, both ways."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.live import books
from tests.live.gateway import Gateway, usd
from tests.upstream import answer, events

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ODD_FIELDS = (
    b'"invented_tomorrow": {"deep": [1, 2.50, -0.0, 1e400, "\\u00e9\\ud83d\\ude00"], '
    b'"n": 123456789012345678901234567890},'
    b' "temperature": 0.70'
)
ANSWER = (
    b'{ "id":"chatcmpl-1","object":"chat.completion","created":1,"model":"fake-model",'
    b'"x_new":{"price":1.10, "big":1e999},"choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Ja \\u2014 gern","hint":null},"finish_reason":"stop"}],'
    b'\n "usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"new_count":3}}'
)
MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"fake-model","content":[],"stop_reason":"end_turn",'
    b'"usage":{"input_tokens":3,"output_tokens":1}}'
)


def raw(body: bytes) -> dict[str, bytes]:
    return {name: bytes(value) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()}


@pytest.mark.parametrize(("path", "wire"), [(CHAT, "openai"), (MESSAGES, "anthropic")])
def test_unknown_request_fields_reach_the_provider_byte_for_byte(gateway: Gateway, path: str, wire: str) -> None:
    account = gateway.account(wire=wire, upstream_name="fake-model")
    messages = b'[ {"role":"user", "content":"Hi\\n", "tomorrow": [ ] } ]'
    name = json.dumps(account.model.name).encode()
    body = b'{"model": %b, "max_tokens": 9, %b, "messages": %b}' % (name, ODD_FIELDS, messages)
    gateway.upstream.script(answer(body=ANSWER if path == CHAT else MESSAGE))
    assert gateway.post(path, body, headers=account.headers).status_code == 200
    sent, arrived = raw(body), raw(gateway.upstream.arrivals[-1].body)
    assert sent.pop("model") != arrived["model"]
    assert arrived.pop("model") == b'"fake-model"'
    assert arrived == sent


def test_a_stream_gets_the_usage_switch_and_nothing_else(gateway: Gateway) -> None:
    account = gateway.account()
    rest = b'"stream_options": {"later": 1.0}, "messages": [{"role":"user","content":"x"}]'
    body = b'{"model": "%b", "stream": true, %b, %b}' % (account.model.name.encode(), ODD_FIELDS, rest)
    gateway.upstream.script(events([b"data: [DONE]\n\n"]))
    assert gateway.post(CHAT, body, headers=account.headers).status_code == 200
    sent, arrived = raw(body), raw(gateway.upstream.arrivals[-1].body)
    assert json.loads(arrived.pop("stream_options")) == {"later": 1.0, "include_usage": True}
    del sent["stream_options"], sent["model"], arrived["model"]
    assert arrived == sent


def test_no_cap_is_sent_without_a_limit_that_needs_one(gateway: Gateway) -> None:
    account = gateway.account(limits=(("requests", "day", "100"),), default_max_output_tokens=321)
    answered = gateway.chat(account)
    assert "X-Tollbook-Max-Output-Tokens" not in answered.headers
    assert {"max_tokens", "max_completion_tokens"}.isdisjoint(json.loads(gateway.upstream.arrivals[-1].body))


@pytest.mark.parametrize("metric", ["usd", "tokens"])
def test_the_catalogs_cap_is_sent_and_told_where_a_limit_needs_one(gateway: Gateway, metric: str) -> None:
    account = gateway.account(limits=((metric, "day", "100000"),), default_max_output_tokens=321)
    answered = gateway.chat(account)
    assert answered.headers["X-Tollbook-Max-Output-Tokens"] == "321"
    assert json.loads(gateway.upstream.arrivals[-1].body)["max_completion_tokens"] == 321


def test_a_whole_answer_comes_back_byte_for_byte(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.upstream.script(answer(body=ANSWER, headers={"X-Request-Id": "req_up_1"}))
    answered = gateway.chat(account)
    assert (answered.status_code, answered.content) == (200, ANSWER)
    call = books.call_of(account.key.pk)
    assert (call.input_tokens, call.output_tokens, call.usage_source) == (11, 7, "reported")
    assert (call.served_name, call.upstream_request_id, call.http_status) == ("fake-model", "req_up_1", 200)
    assert call.cost_usd == usd(11, 7)
    assert call.raw_usage == {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "new_count": 3}


def test_a_stream_comes_back_byte_for_byte_but_for_the_cost_comment(gateway: Gateway) -> None:
    account = gateway.account()
    frames = [
        b": a comment of the provider\n\n",
        b'event: odd\nid: 7\ndata: {"id":"c","model":"fake-model","x":1.0,'
        b'"choices":[{"index":0,"delta":{"content":"A\\u00e9"}}]}\n\n',
        b'data:{"id":"c","model":"fake-model","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\n\r\n',
        b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}\n\n',
        b"data: [DONE]\n\n",
    ]
    gateway.upstream.script(events(frames))
    got = gateway.chat(account, stream=True, stream_options={"include_usage": True}).content
    comment, rest = split_comment(got)
    assert rest == b"".join(frames)
    call = books.call_of(account.key.pk)
    told = f": tollbook call_id={call.id} cost_usd={usd(5, 3):.12f} input_tokens=5 output_tokens=3\n\n"
    assert comment == told.encode()


def split_comment(stream: bytes) -> tuple[bytes, bytes]:
    """The gateway's own comment event, and the stream without it."""
    start = stream.index(b": tollbook call_id=")
    end = stream.index(b"\n\n", start) + 2
    return stream[start:end], stream[:start] + stream[end:]


def test_the_headers_of_an_answer_tell_what_it_was(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-words-4")
    answered = gateway.chat(account, headers={"X-Request-Id": "mine-1", "X-Tollbook-Tags": "env=prod,app=x"})
    call = books.call_of(account.key.pk)
    told = answered.headers
    assert told["X-Request-Id"] == "mine-1"
    assert told["X-Tollbook-Call-Id"] == str(call.id)
    assert (told["X-Tollbook-Provider"], told["X-Tollbook-Model"]) == (account.model.provider.name, account.model.name)
    assert told["X-Tollbook-Attempts"] == "1"
    assert Decimal(told["X-Tollbook-Cost-Usd"]) == call.cost_usd == usd(call.input_tokens, 4)
    assert (told["X-Tollbook-Input-Tokens"], told["X-Tollbook-Output-Tokens"]) == (str(call.input_tokens), "4")
    assert all(part in told["Server-Timing"] for part in ("upstream;dur=", "ledger;dur=", "total;dur="))
    assert call.tags == {"env": "prod", "app": "x"}


def test_the_clients_own_key_and_headers_stay_here(gateway: Gateway) -> None:
    account = gateway.account()
    planted: dict[str, Any] = {"Cookie": "session=1", "X-Internal": "secret", "OpenAI-Organization": "org-client"}
    assert gateway.chat(account, headers=planted).status_code == 200
    arrived = gateway.upstream.arrivals[-1].headers
    assert arrived["authorization"] == "Bearer sk-planted-0123456789abcdef"
    assert {"cookie", "x-internal", "openai-organization", "x-request-id"}.isdisjoint(arrived)
    assert account.text not in repr(arrived)
