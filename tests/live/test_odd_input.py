"""What looks odd and is right: it must go through, and the books must hold it."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.live import books
from tests.live.gateway import Gateway, chat_body, messages_body


@pytest.mark.parametrize("surface", ["chat", "messages"])
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_a_lone_surrogate_never_breaks_a_call(gateway: Gateway, surface: str, wire: str) -> None:
    account = gateway.account(wire=wire)
    path = "/v1/chat/completions" if surface == "chat" else "/v1/messages"
    body = (chat_body if surface == "chat" else messages_body)(account.model.name)
    text = json.dumps(body).replace("balance?", "balance \\ud83d?").encode()
    answered = gateway.post(path, text, headers=account.headers)
    # Taken as it is or refused as no JSON: never a defect, never a hold left.
    assert answered.status_code in (200, 400)
    assert answered.status_code == 200 or answered.json()["error"]["code"] == "invalid_request"
    assert len(books.calls(key_id=account.key.pk)) == (answered.status_code == 200)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_body_may_be_packed(gateway: Gateway, packed: bool) -> None:
    account = gateway.account()
    body = json.dumps(chat_body(account.model.name)).encode()
    headers = {**account.headers, **({"Content-Encoding": "gzip"} if packed else {})}
    sent = gzip.compress(body) if packed else body
    assert gateway.post("/v1/chat/completions", sent, headers=headers).status_code == 200
    arrived = json.loads(gateway.upstream.arrivals[-1].body)
    assert arrived.pop("model") == "fake-model"
    assert arrived == {"messages": json.loads(body)["messages"]}


def test_an_escaped_backslash_before_u0000_is_text(gateway: Gateway) -> None:
    account = gateway.account()
    body = json.dumps(chat_body(account.model.name, metadata={"path": "C:\\u0000"})).encode()
    assert b"\\\\u0000" in body
    assert gateway.post("/v1/chat/completions", body, headers=account.headers).status_code == 200
    assert books.call_of(account.key.pk).tags == {"path": "C:\\u0000"}


def test_a_name_with_quotes_percents_and_scripts_is_kept(gateway: Gateway) -> None:
    account = gateway.account()
    odd = {"q": "'; DROP TABLE ledger_call; --", "p": "%s %(x)s", "s": "<script>\u2028\U0001f600"}
    assert gateway.chat(account, metadata=odd).status_code == 200
    assert books.call_of(account.key.pk).tags == odd


def test_a_hundred_thousand_messages_are_a_request(gateway: Gateway) -> None:
    account = gateway.account()
    body = chat_body(account.model.name)
    body["messages"] = body["messages"] * 100_000
    answered = gateway.post("/v1/chat/completions", json.dumps(body).encode(), headers=account.headers)
    assert answered.status_code == 200
    assert books.call_of(account.key.pk).input_tokens > 100_000


def test_an_alias_is_its_model(gateway: Gateway) -> None:
    account = gateway.account()
    account.model.aliases.create(name=f"alias-{account.model.name}")
    gateway.sync()
    body = json.dumps(chat_body(f"alias-{account.model.name}")).encode()
    answered = gateway.post("/v1/chat/completions", body, headers=account.headers)
    assert answered.headers["X-Tollbook-Model"] == account.model.name
    call = books.call_of(account.key.pk)
    assert (call.requested_name, call.model_id) == (f"alias-{account.model.name}", account.model.pk)


def test_an_unpriced_call_without_a_usd_limit_is_unknown_not_free(gateway: Gateway) -> None:
    account = gateway.account(priced=False)
    answered = gateway.chat(account)
    assert "X-Tollbook-Cost-Usd" not in answered.headers
    call = books.call_of(account.key.pk)
    assert (call.cost_usd, call.cost_source, call.output_tokens) == (None, "unknown", 8)
    assert call.unpriced_reason
