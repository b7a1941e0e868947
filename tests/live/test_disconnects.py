"""The client leaves: one row, cancelled, with what was used; never 0 once text was seen."""

from __future__ import annotations

import threading

import msgspec
import pytest

from ledger.models import Call, LimitWindow
from tests.live import books
from tests.live.gateway import Account, Gateway, chat_body, messages_body, read_until, usd
from tests.live.streams import CHAT_FRAMES, MESSAGES_FRAMES, Frames
from tests.upstream import Pause, Signal, Wait, events

SURFACES = {"chat": ("/v1/chat/completions", chat_body), "messages": ("/v1/messages", messages_body)}
FRAMES: dict[str, Frames] = {"openai": CHAT_FRAMES, "anthropic": MESSAGES_FRAMES}
PAIRS = [("chat", "openai"), ("chat", "anthropic"), ("messages", "openai"), ("messages", "anthropic")]
LIMITS = (("usd", "day", "1000"), ("concurrency", "total", "50"))


def leave_after(
    gateway: Gateway, account: Account, surface: str, wire: str, *, frames: list[bytes], seen: bytes, more: int = 0
) -> Call:
    """Ask for a stream, leave once `seen` has arrived (b"": without reading); the provider goes on slowly to its end.

    Slowly, because the first bytes written to someone who has left are taken by the system without a word.
    """
    go_on, arrived = threading.Event(), threading.Event()
    rest = FRAMES[wire].whole[len(frames) :]
    slow = [step for _ in range(more) for step in (FRAMES[wire].text, Pause(0.02))]
    gateway.upstream.script(events([*frames, Signal(arrived), Wait(go_on), *slow, *rest]))
    path, body_of = SURFACES[surface]
    body = msgspec.json.encode(body_of(account.model.name, stream=True))
    sock = gateway.open_raw(path, body, headers=account.headers)
    if seen:
        read_until(sock, seen)
    else:
        assert arrived.wait(10)
    sock.close()
    go_on.set()
    return books.call_of(account.key.pk)


def assert_nothing_is_held(account: Account) -> None:
    windows = LimitWindow.objects.filter(limit__key=account.key)
    assert [window.held for window in windows] == [0] * len(LIMITS)


@pytest.mark.parametrize(("surface", "wire"), PAIRS)
def test_gone_in_the_middle(gateway: Gateway, surface: str, wire: str) -> None:
    account = gateway.account(wire=wire, limits=LIMITS)
    frames = FRAMES[wire].opening_and_text
    call = leave_after(gateway, account, surface, wire, frames=frames, seen=b"balance today.", more=20)
    assert (call.outcome, call.error_code, call.attempt) == ("cancelled", "client_gone", 1)
    assert call.usage_source in ("partial", "estimated")
    assert call.output_tokens > 0
    assert call.input_tokens > 0
    assert call.cost_usd == usd(call.input_tokens, call.output_tokens) == call.counted_usd
    assert_nothing_is_held(account)


@pytest.mark.parametrize(("surface", "wire"), PAIRS)
def test_gone_before_the_last_event(gateway: Gateway, surface: str, wire: str) -> None:
    account = gateway.account(wire=wire, limits=LIMITS)
    frames = FRAMES[wire].whole[:-1]
    call = leave_after(gateway, account, surface, wire, frames=frames, seen=b"balance today.")
    assert call.outcome in ("cancelled", "ok")
    assert call.output_tokens >= 6
    assert call.cost_usd == usd(call.input_tokens, call.output_tokens)
    assert_nothing_is_held(account)


@pytest.mark.parametrize(("surface", "wire"), PAIRS)
def test_gone_before_the_first_byte(gateway: Gateway, surface: str, wire: str) -> None:
    account = gateway.account(wire=wire, limits=LIMITS)
    call = leave_after(gateway, account, surface, wire, frames=[], seen=b"")
    assert call.outcome in ("cancelled", "ok")
    # The provider went on to write: whatever the gateway has read of it is not free.
    assert call.cost_usd is None or call.cost_usd > 0
    assert_nothing_is_held(account)


@pytest.mark.parametrize(("surface", "wire"), PAIRS)
def test_a_provider_that_is_drained_gives_the_reported_usage(gateway: Gateway, surface: str, wire: str) -> None:
    account = gateway.account(wire=wire, limits=LIMITS, provider={"disconnect_policy": "drain"})
    frames = FRAMES[wire].opening_and_text
    call = leave_after(gateway, account, surface, wire, frames=frames, seen=b"balance today.", more=20)
    assert (call.outcome, call.usage_source) == ("cancelled", "reported")
    assert (call.input_tokens, call.output_tokens) == (20, 6)
    assert call.cost_usd == usd(20, 6)
    assert_nothing_is_held(account)


def test_a_whole_answer_of_a_drained_provider_that_nobody_waits_for_is_in_the_books(gateway: Gateway) -> None:
    account = gateway.account(
        upstream_name="fake-slow-250ms", limits=LIMITS, provider={"disconnect_policy": "drain"}
    )
    body = msgspec.json.encode(chat_body(account.model.name))
    gateway.open_raw("/v1/chat/completions", body, headers=account.headers).close()
    call = books.call_of(account.key.pk)
    assert call.cost_usd == usd(call.input_tokens, call.output_tokens)
    assert call.output_tokens == 8
    assert_nothing_is_held(account)


def test_forty_leave_at_once_and_each_is_one_row(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    go_on = threading.Event()
    reply = events([*CHAT_FRAMES.opening_and_text, Wait(go_on), *CHAT_FRAMES.closing, CHAT_FRAMES.last])
    gateway.upstream.script(*[reply] * 40)
    body = msgspec.json.encode(chat_body(account.model.name, stream=True))
    socks = [gateway.open_raw("/v1/chat/completions", body, headers=account.headers) for _ in range(40)]
    for sock in socks:
        read_until(sock, b"balance today.")
    for sock in socks:
        sock.close()
    go_on.set()
    books.until(lambda: len(books.calls(key_id=account.key.pk)) == 40, what="forty rows")
    assert all(call.output_tokens >= 6 for call in books.calls(key_id=account.key.pk))
    assert_nothing_is_held(account)
    assert gateway.chat(account).status_code == 200
