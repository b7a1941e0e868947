"""Who leaves while the provider thinks is noticed; who stays, is silent or reads slowly is told apart from them."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ledger.models import Call, LimitWindow
from tests.live import books
from tests.live.gateway import Account, Gateway, chat_body, messages_body, read_until, running, usd
from tests.live.streams import CHAT_FRAMES, TEXT
from tests.upstream import Reply, Send, Signal, Wait, answer, chunked, events, head

CHAT = "/v1/chat/completions"
LIMITS = (("usd", "day", "1000"), ("concurrency", "total", "50"))
DRAINS = {"disconnect_policy": "drain"}
WHOLE = b"".join(CHAT_FRAMES.whole)


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose heartbeats and patience are short."""
    quick = {"TOLLBOOK_HEARTBEAT_S": "0.2", "TOLLBOOK_CLIENT_TIMEOUT_S": "1"}
    with running(database_url=own_database, var_dir=tmp_path_factory.mktemp("var"), environment=quick) as made:
        yield made
        books.until(lambda: not books.rows("SELECT 1 FROM ledger_hold LIMIT 1"), what="no hold is left")
        books.verify()


def ask(gateway: Gateway, account: Account, *, stream: bool, path: str = CHAT, **fields: Any) -> socket.socket:
    body_of = chat_body if path == CHAT else messages_body
    body = msgspec.json.encode(body_of(account.model.name, stream=stream, **fields))
    return gateway.open_raw(path, body, headers=account.headers)


def silent(*, before: bytes = b"", go_on: threading.Event | None = None) -> tuple[Reply, threading.Event]:
    """A provider that thinks until `go_on`, after `before`; the event says that it has begun to."""
    thinking = threading.Event()
    return (Send(before), Signal(thinking), Wait(go_on or threading.Event())), thinking


def stream_head() -> bytes:
    return head(headers={"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


def leave(sock: socket.socket, how: str) -> None:
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def assert_nothing_is_held(account: Account) -> None:
    windows = LimitWindow.objects.filter(limit__key=account.key)
    assert [window.held for window in windows] == [0] * len(LIMITS)


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
def test_who_leaves_before_the_provider_says_anything_is_noticed(
    gateway: Gateway, path: str, stream: bool, how: str
) -> None:
    account = gateway.account(limits=LIMITS, provider={"max_retries": 3})
    reply, thinking = silent()
    gateway.upstream.script(reply)
    sock = ask(gateway, account, stream=stream, path=path)
    assert thinking.wait(10)
    leave(sock, how)
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code, call.attempt) == ("cancelled", "client_gone", 1)
    # The provider was asked and may bill what it thought: nobody knows how much.
    assert (call.cost_usd, call.usage_source) == (None, "none")
    assert "client_gone" in call.unpriced_reason
    assert_nothing_is_held(account)


def test_who_leaves_while_a_whole_answer_arrives_is_noticed(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    reply, thinking = silent(before=head(headers={"Content-Length": "5000"}) + b'{"id": ')
    gateway.upstream.script(reply)
    sock = ask(gateway, account, stream=False)
    assert thinking.wait(10)
    sock.close()
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code, call.http_status) == ("cancelled", "client_gone", 200)
    assert call.cost_usd is None


def test_who_leaves_between_two_events_pays_for_what_was_seen(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    reply, thinking = silent(before=stream_head() + chunked(b"".join(CHAT_FRAMES.opening_and_text)))
    gateway.upstream.script(reply)
    sock = ask(gateway, account, stream=True)
    read_until(sock, b"balance today.")
    assert thinking.wait(10)
    sock.close()
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code) == ("cancelled", "client_gone")
    assert call.output_tokens == 2 * len(TEXT) // 4
    assert call.cost_usd == usd(call.input_tokens, call.output_tokens)
    assert_nothing_is_held(account)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_provider_that_is_drained_is_read_on(gateway: Gateway, stream: bool) -> None:
    account = gateway.account(limits=LIMITS, provider=DRAINS)
    go_on = threading.Event()
    reply, thinking = silent(go_on=go_on)
    gateway.upstream.script((*reply, *(events(CHAT_FRAMES.whole) if stream else whole_answer())))
    sock = ask(gateway, account, stream=stream)
    assert thinking.wait(10)
    left_and_another_served(gateway, sock)
    assert books.calls(key_id=account.key.pk) == []
    go_on.set()
    call = books.call_of(account.key.pk)
    assert call.outcome in ("ok", "cancelled")
    assert (call.input_tokens, call.output_tokens, call.usage_source) == (20, 6, "reported")
    assert call.cost_usd == usd(20, 6)
    assert_nothing_is_held(account)


def whole_answer() -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "up", "choices": [choice], "usage": usage}
    return answer(body=msgspec.json.encode(body))


def left_and_another_served(gateway: Gateway, sock: socket.socket) -> None:
    """Leave, and return once the watcher has looked since: it noticed another one who left after that."""
    sock.close()
    witness = gateway.account()
    reply, thinking = silent()
    gateway.upstream.script(reply)
    other = ask(gateway, witness, stream=False)
    assert thinking.wait(10)
    other.close()
    assert books.call_of(witness.key.pk).error_code == "client_gone"


def test_a_client_that_sends_its_next_request_early_is_not_gone(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    go_on = threading.Event()
    reply, thinking = silent(go_on=go_on)
    gateway.upstream.script((*reply, *whole_answer()))
    sock = ask(gateway, account, stream=False)
    assert thinking.wait(10)
    body = msgspec.json.encode(chat_body(account.model.name))
    lines = [f"POST {CHAT} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in account.headers.items()]
    sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    left_and_another_served(gateway, socket.create_connection(("127.0.0.1", gateway.port)))
    go_on.set()
    both = b""
    while data := sock.recv(65536):
        both += data
    sock.close()
    assert both.count(b"HTTP/1.1 200 OK") == 2
    assert [call.outcome for call in books.calls(key_id=account.key.pk)] == ["ok", "ok"]


def test_an_answered_client_may_leave_and_its_connection_serves_others(gateway: Gateway) -> None:
    account = gateway.account(provider={"name": f"pooled-{id(object())}"})
    for _ in range(3):
        sock = ask(gateway, account, stream=False)
        read_until(sock, b'"usage"')
        sock.close()
    assert [call.outcome for call in books.calls(key_id=account.key.pk)] == ["ok"] * 3


def test_a_silent_stream_sends_comments_that_clients_skip(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    go_on = threading.Event()
    opening, rest = CHAT_FRAMES.opening_and_text, [*CHAT_FRAMES.closing, CHAT_FRAMES.last]
    # A chunk ends where the next begins: what is left of it must not be taken for an answer that has come.
    gateway.upstream.script((Send(stream_head() + chunked(b"".join(opening))), Wait(go_on), *events(rest)[1:]))
    sock = ask(gateway, account, stream=True, stream_options={"include_usage": True})
    got = read_until(sock, b": waiting for the provider\n\n")
    got += read_until(sock, b": waiting for the provider\n\n")
    go_on.set()
    got += read_until(sock, b"[DONE]")
    sock.close()
    assert re.findall(rb"data: .*", got) == re.findall(rb"data: .*", WHOLE)
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.input_tokens, call.output_tokens) == ("ok", 20, 6)


def test_heartbeats_do_not_put_off_the_idle_deadline(gateway: Gateway) -> None:
    account = gateway.account(provider={"idle_timeout_s": 0.7})
    reply, _ = silent(before=stream_head() + chunked(b"".join(CHAT_FRAMES.opening_and_text)))
    gateway.upstream.script(reply)
    sock = ask(gateway, account, stream=True)
    got = read_until(sock, b"provider_timeout")
    sock.close()
    assert got.count(b": waiting") == 3
    assert books.call_of(account.key.pk).error_code == "provider_timeout"


def test_a_client_that_stops_reading_is_cut_off(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    big = CHAT_FRAMES.text.replace(TEXT.encode(), b"x" * 100_000)
    gateway.upstream.script(events([*CHAT_FRAMES.opening, *[big] * 400, *CHAT_FRAMES.closing, CHAT_FRAMES.last]))
    sock = ask(gateway, account, stream=True)
    read_until(sock, b"xxxx")
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code) == ("cancelled", "client_gone")
    assert 0 < call.output_tokens < 400 * 100_000 // 4
    assert_nothing_is_held(account)
    assert ends(sock)


def ends(sock: socket.socket) -> bool:
    """Whether nothing more comes, once what is on its way has been read."""
    with sock, contextlib.suppress(ConnectionResetError):
        while sock.recv(1 << 20):
            pass
    return True


def test_a_hundred_leave_silent_streams_at_once_and_each_is_one_row(gateway: Gateway) -> None:
    account = gateway.account(limits=(("usd", "day", "1000"), ("concurrency", "total", "200")))
    replies = [silent() for _ in range(100)]
    gateway.upstream.script(*[reply for reply, _ in replies])
    socks = [ask(gateway, account, stream=True) for _ in replies]
    assert all(thinking.wait(20) for _, thinking in replies)
    for sock in socks:
        sock.close()
    found: list[Call] = books.until(
        lambda: found if len(found := books.calls(key_id=account.key.pk)) == 100 else [], what="a hundred rows"
    )
    assert {(call.outcome, call.error_code) for call in found} == {("cancelled", "client_gone")}
    assert_nothing_is_held(account)
    assert gateway.chat(account).status_code == 200
