"""A process dies: what it left open is closed by another one, each hold is exactly one row, the books agree."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
import requests

from ledger.models import Call, Hold, LimitWindow, Writer
from tests.live import books
from tests.live.gateway import QUICK, Account, Gateway, chat_body, read_until, running, usd
from tests.live.streams import CHAT_FRAMES
from tests.upstream import Wait, events

LIMITS = (("usd", "day", "1000"), ("tokens", "day", "10000000"), ("concurrency", "total", "100"))
# Lease, grace, a sweep, and room for a machine that does other things, too.
SWEPT_WITHIN_S = 20.0


@pytest.fixture
def gateway(own_database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway for each test; its parameter, if it has one, is the point at which a worker kills itself."""
    crash_at = getattr(request, "param", "")
    environment = {**QUICK, **({"TOLLBOOK_CRASH_AT": crash_at} if crash_at else {})}
    with running(
        database_url=own_database, var_dir=tmp_path / "var", workers=1, environment=environment
    ) as made:
        yield made


def open_streams(gateway: Gateway, account: Account, *, count: int) -> Iterator[bytes]:
    """Streams that have given text and go on for as long as the test likes."""
    never = threading.Event()
    gateway.upstream.script(*[events([*CHAT_FRAMES.opening_and_text, Wait(never)])] * count)
    body = msgspec.json.encode(chat_body(account.model.name, stream=True))
    socks = [gateway.open_raw("/v1/chat/completions", body, headers=account.headers) for _ in range(count)]
    for sock in socks:
        read_until(sock, b"balance today.")
    try:
        yield b""
        for sock in socks:
            sock.settimeout(15)
            rest = b""
            while data := _received(sock):
                rest += data
            yield rest
    finally:
        never.set()
        for sock in socks:
            sock.close()


def _received(sock: object) -> bytes:
    try:
        data: bytes = sock.recv(65536)  # type: ignore[attr-defined]
    except ConnectionError:
        return b""
    return data


def assert_swept(account: Account, *, count: int) -> list[Call]:
    books.until(
        lambda: len(books.calls(key_id=account.key.pk)) >= count, what="the holds are swept", timeout_s=SWEPT_WITHIN_S
    )
    books.until(lambda: not Hold.objects.exists(), what="no hold is left", timeout_s=SWEPT_WITHIN_S)
    books.verify()
    found = books.calls(key_id=account.key.pk)
    assert len(found) == count
    return found


def assert_abandoned(call: Call) -> None:
    """Unknown to people, its bound counted against the limits."""
    assert (call.outcome, call.error_code) == ("abandoned", "abandoned")
    assert (call.cost_usd, call.cost_source) == (None, "unknown")
    assert call.unpriced_reason
    assert call.counted_usd > 0
    assert call.counted_tokens > 0


def test_kill_9_in_the_middle_of_streams(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    streams = open_streams(gateway, account, count=5)
    next(streams)
    assert Hold.objects.count() == 5
    (pid,) = gateway.worker_pids()
    os.kill(pid, signal.SIGKILL)
    found = assert_swept(account, count=5)
    for call in found:
        assert_abandoned(call)
    for limit, counted in (("usd", "counted_usd"), ("tokens", "counted_tokens")):
        window = LimitWindow.objects.get(limit__key=account.key, limit__metric=limit)
        assert (window.held, window.used) == (Decimal(0), sum(getattr(call, counted) for call in found))
    assert Writer.objects.get(pid=pid).state == "fenced"
    assert gateway.chat(account).status_code == 200
    streams.close()  # type: ignore[attr-defined]


def test_all_workers_and_their_master_may_die(gateway: Gateway, own_database: str, tmp_path: Path) -> None:
    account = gateway.account(limits=LIMITS)
    streams = open_streams(gateway, account, count=3)
    next(streams)
    gateway.kill()
    with running(database_url=own_database, var_dir=tmp_path / "var2", environment=QUICK):
        for call in assert_swept(account, count=3):
            assert_abandoned(call)
    streams.close()  # type: ignore[attr-defined]


# point -> how the one row of the call must end. Before the commit that matters: abandoned; after it: as if nothing was.
POINTS = {
    "held": "abandoned",
    "dispatched": "abandoned",
    "mid_stream": "abandoned",
    "upstream_done": "abandoned",
    "settled": "ok",
}


@pytest.mark.parametrize(("gateway", "outcome"), POINTS.items(), ids=POINTS, indirect=["gateway"])
def test_a_death_at_each_point_leaves_exactly_one_row(gateway: Gateway, outcome: str) -> None:
    account = gateway.account(limits=LIMITS)
    # Broken off at once, or in the middle of the chunked body.
    with pytest.raises(requests.RequestException):
        gateway.chat(account, stream=True)
    (call,) = assert_swept(account, count=1)
    assert call.outcome == outcome
    if outcome == "abandoned":
        assert_abandoned(call)
    else:
        assert call.cost_usd == usd(call.input_tokens, call.output_tokens)


@pytest.mark.parametrize("gateway", ["answered"], indirect=True)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_death_after_the_answer_has_left_changes_nothing(gateway: Gateway, stream: bool) -> None:
    account = gateway.account(limits=LIMITS)
    (pid,) = gateway.worker_pids()
    answered = gateway.chat(account, stream=stream)
    assert answered.status_code == 200
    assert (b"[DONE]" in answered.content) == stream
    books.until(lambda: pid not in gateway.worker_pids(), what="the worker has killed itself")
    (call,) = assert_swept(account, count=1)
    assert (call.outcome, call.cost_usd) == ("ok", usd(call.input_tokens, call.output_tokens))


@pytest.mark.parametrize("gateway", ["dispatched", "upstream_done"], indirect=True)
def test_a_death_with_a_whole_answer_leaves_exactly_one_row(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    with pytest.raises(requests.ConnectionError):
        gateway.chat(account)
    (call,) = assert_swept(account, count=1)
    assert_abandoned(call)


# The first write of a call is its hold, the second its settle: each is lost before it is sent, or after it committed.
WRITES = {
    "before_write:1": [],
    "after_write:1": ["abandoned"],
    "before_write:2": ["abandoned"],
    "after_write:2": ["ok"],
}


@pytest.mark.parametrize(("gateway", "outcomes"), WRITES.items(), ids=WRITES, indirect=["gateway"])
def test_a_death_around_each_write_leaves_what_was_committed(gateway: Gateway, outcomes: list[str]) -> None:
    account = gateway.account(limits=LIMITS)
    arrivals = len(gateway.upstream.arrivals)
    with pytest.raises(requests.ConnectionError):
        gateway.chat(account)
    found = assert_swept(account, count=len(outcomes))
    assert [call.outcome for call in found] == outcomes
    # Nothing goes upstream before the hold is known to be committed.
    assert len(gateway.upstream.arrivals) - arrivals == (":2" in str(gateway.environment["TOLLBOOK_CRASH_AT"]))


def test_a_paused_process_is_fenced_and_its_settle_becomes_an_adjustment(
    gateway: Gateway, own_database: str, tmp_path: Path
) -> None:
    account = gateway.account(limits=LIMITS)
    go_on = threading.Event()
    rest = [*CHAT_FRAMES.closing, CHAT_FRAMES.last]
    gateway.upstream.script(events([*CHAT_FRAMES.opening_and_text, Wait(go_on), *rest]))
    (pid,) = gateway.worker_pids()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.chat, account, stream=True)
        books.until(lambda: Hold.objects.count() == 1, what="the hold")
        gateway.upstream.wait_for_arrivals(1)
        os.kill(pid, signal.SIGSTOP)
        try:
            with running(database_url=own_database, var_dir=tmp_path / "var2", environment=QUICK):
                (call,) = assert_swept(account, count=1)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert_abandoned(call)
        go_on.set()
        assert asked.result().status_code == 200
    books.until(call.adjustments.exists, what="the late settlement")
    adjustment = call.adjustments.get()
    assert (adjustment.reason, adjustment.delta_usd) == ("late_settlement", usd(20, 6))
    assert adjustment.settles_unknown
    usd_window = LimitWindow.objects.get(limit__key=account.key, limit__metric="usd")
    assert (usd_window.used, usd_window.held) == (usd(20, 6), Decimal(0))
    books.verify()


def test_sigterm_settles_open_streams_and_closes_the_writers(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    streams = open_streams(gateway, account, count=8)
    next(streams)
    (pid,) = gateway.worker_pids()
    gateway.terminate()
    for rest in streams:
        assert b"[DONE]" not in rest
    gateway.wait_for_end()
    found = books.calls(key_id=account.key.pk)
    assert len(found) == 8
    for call in found:
        assert (call.outcome, call.error_code) == ("cancelled", "gateway_stopped")
        assert call.output_tokens >= 12
        assert call.cost_usd == usd(call.input_tokens, call.output_tokens)
    assert Writer.objects.get(pid=pid).state == "closed"
    books.verify()


def test_sigterm_lets_a_short_call_end(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-slow-1s", limits=LIMITS)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.chat, account)
        gateway.upstream.wait_for_arrivals(1)
        gateway.terminate()
        assert asked.result().status_code == 200
    gateway.wait_for_end()
    assert books.call_of(account.key.pk).outcome == "ok"
    books.verify()
