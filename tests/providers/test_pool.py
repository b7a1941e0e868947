"""The parts of urllib3 that the pools lean on: these fail first when a new urllib3 works otherwise."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from providers import pool as pools
from providers.errors import Timeout
from providers.pool import Clock, Deadlines, TimedHTTPConnectionPool, open_pool
from tests.upstream import Hang, Upstream


class Time:
    """The pools' clock, moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    moved = Time()
    monkeypatch.setattr(pools, "time", moved)
    return moved


@pytest.fixture
def pool(upstream: Upstream) -> Iterator[TimedHTTPConnectionPool]:
    made = open_pool(
        scheme="http",
        host=upstream.host,
        port=upstream.port,
        idle_connections=2,
        idle_s=90,
        allow_private_address=True,
    )
    assert isinstance(made, TimedHTTPConnectionPool)
    yield made
    made.retire()


def open_call(pool: TimedHTTPConnectionPool) -> Any:
    return pool.urlopen(
        "GET", "/v1/models", timeout=Clock(Deadlines()), retries=False, preload_content=False, release_conn=False
    )


def call(pool: TimedHTTPConnectionPool) -> None:
    assert open_call(pool).read()


def test_a_connection_within_its_idle_time_is_used_again(
    pool: TimedHTTPConnectionPool, upstream: Upstream, clock: Time
) -> None:
    call(pool)
    clock.now_s += 89
    call(pool)
    clock.now_s += 89
    call(pool)
    assert upstream.connections == 1


def test_a_connection_that_was_idle_too_long_is_replaced(
    pool: TimedHTTPConnectionPool, upstream: Upstream, clock: Time
) -> None:
    call(pool)
    clock.now_s += 91
    call(pool)
    assert upstream.connections == 2
    assert pool.idle_count() == 1


def test_connections_at_the_bottom_of_the_stack_are_evicted_too(
    pool: TimedHTTPConnectionPool, upstream: Upstream, clock: Time
) -> None:
    both = [open_call(pool), open_call(pool)]
    for response in both:
        response.read()
    assert pool.idle_count() == 2
    for _ in range(4):
        clock.now_s += 30
        call(pool)
    assert pool.idle_count() == 1
    assert upstream.connections == 2


def test_more_connections_are_opened_than_are_kept(
    pool: TimedHTTPConnectionPool, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    busy = [open_call(pool) for _ in range(5)]
    assert upstream.connections == 5
    for response in busy:
        response.read()
    assert pool.idle_count() == 2
    assert caplog.text == ""


def test_a_retired_pool_still_serves_and_keeps_nothing(pool: TimedHTTPConnectionPool, upstream: Upstream) -> None:
    busy = open_call(pool)
    call(pool)
    pool.retire()
    assert pool.idle_count() == 0
    busy.read()
    call(pool)
    assert pool.idle_count() == 0
    assert upstream.connections == 3


def test_sockets_send_at_once_and_notice_a_dead_peer(pool: TimedHTTPConnectionPool) -> None:
    call(pool)
    (conn,) = [kept for kept in pool.pool.queue if kept is not None]  # type: ignore[union-attr]

    def option(level: int, name: str) -> int:
        value: int = conn.sock.getsockopt(level, getattr(socket, name))
        return value

    assert option(socket.IPPROTO_TCP, "TCP_NODELAY") == 1
    assert option(socket.SOL_SOCKET, "SO_KEEPALIVE") == 1
    assert option(socket.IPPROTO_TCP, "TCP_KEEPIDLE") == 60
    assert option(socket.IPPROTO_TCP, "TCP_USER_TIMEOUT") == 60_000


def test_an_https_pool_verifies_certificate_and_name() -> None:
    secure = open_pool(
        scheme="https",
        host="example.com",
        port=443,
        idle_connections=2,
        idle_s=90,
        allow_private_address=False,
    )
    context = secure.conn_kw.get("ssl_context") or secure.ssl_context  # type: ignore[union-attr]
    assert context.verify_mode.name == "CERT_REQUIRED"
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 50


def test_a_call_out_of_time_does_not_begin_to_wait(
    pool: TimedHTTPConnectionPool, upstream: Upstream, clock: Time
) -> None:
    upstream.script((Hang(),))
    running = Clock(Deadlines(total_s=5))
    clock.now_s += 5
    with pytest.raises(Timeout) as caught:
        pool.urlopen("GET", "/", timeout=running, retries=False)
    assert caught.value.phase == "total"


def test_the_clock_names_the_deadline_that_comes_first(clock: Time) -> None:
    running = Clock(Deadlines(connect_s=5, first_byte_s=8, idle_s=3, total_s=20))
    assert running.wait(connect_by=clock.now_s + 5) == (5, "connect")
    running.request_begins()
    clock.now_s += 2
    assert running.wait() == (6, "first_byte")
    running.received()
    assert running.first_byte_at == clock.now_s
    assert running.wait() == (3, "idle")
    clock.now_s += 16
    assert running.wait() == (2, "total")
    clock.now_s += 2
    with pytest.raises(Timeout):
        running.wait()
