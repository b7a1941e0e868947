"""PostgreSQL stops, freezes and comes back: nothing is sent that is not held, nothing is lost that was done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
import requests
from pytest_django import DjangoDbBlocker

from ledger.models import Hold
from tests.live import books
from tests.live.database import Server, a_server_of_its_own
from tests.live.gateway import Account, Gateway, running, usd
from tests.live.streams import CHAT_FRAMES
from tests.upstream import Send, Signal, Wait, events

# A stopped server says so at once, a frozen one within the ledger's timeout of 0.9 s; the rest is the machine's.
REFUSED_WITHIN_S = 2.0
BACK_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def server(django_db_blocker: DjangoDbBlocker, django_test_environment: None) -> Iterator[Server]:
    with django_db_blocker.unblock(), a_server_of_its_own() as made:
        yield made


@pytest.fixture
def gateway(server: Server, tmp_path: Path) -> Iterator[Gateway]:
    with running(database_url=server.url, var_dir=tmp_path / "var") as made:
        yield made
        books.until(lambda: not Hold.objects.exists(), what="no hold is left")
        books.verify()


class Outage:
    """The server away, from `begin` to `end`."""

    def __init__(self, server: Server, *, frozen: bool) -> None:
        self._server, self._frozen, self._now = server, frozen, False

    def begin(self) -> None:
        books.forget_connection()
        self._now = True
        if self._frozen:
            self._server.freeze()
        else:
            self._server.crash()

    def end(self) -> None:
        if not self._now:
            return
        self._now = False
        if self._frozen:
            self._server.thaw()
        else:
            self._server.start()


@pytest.fixture(params=["stopped", "frozen"])
def away(request: pytest.FixtureRequest, server: Server) -> Iterator[Outage]:
    outage = Outage(server, frozen=request.param == "frozen")
    yield outage
    outage.end()


def answers_again(gateway: Gateway, account: Account) -> None:
    books.until(
        lambda: gateway.chat(account).status_code == 200, what="it comes back by itself", timeout_s=BACK_WITHIN_S
    )


def test_nothing_is_sent_and_the_client_hears_503(gateway: Gateway, away: Outage) -> None:
    account = gateway.account(limits=(("usd", "day", "100"),))
    assert gateway.chat(account).status_code == 200
    before = len(gateway.upstream.arrivals)
    away.begin()
    for surface in ("chat", "messages"):
        answered = gateway.chat(account, timeout_s=REFUSED_WITHIN_S) if surface == "chat" else gateway.messages(
            account, timeout_s=REFUSED_WITHIN_S
        )
        assert (answered.status_code, answered.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert answered.headers["Retry-After"] == "1"
    assert len(gateway.upstream.arrivals) == before
    assert requests.get(f"{gateway.url}/healthz", timeout=5).status_code == 200
    assert requests.get(f"{gateway.url}/readyz", timeout=5).status_code == 503
    away.end()
    answers_again(gateway, account)
    books.until(lambda: not Hold.objects.exists(), what="holds that nobody waited for are closed")
    for call in books.calls(key_id=account.key.pk):
        # A hold that committed after its caller had given up is closed as never sent.
        assert (call.outcome, call.cost_usd) == ("ok", usd(call.input_tokens, call.output_tokens)) or (
            call.error_code, call.cost_usd
        ) == ("ledger_unavailable", Decimal(0))  # fmt: skip


def test_an_unknown_key_is_503_and_never_401(gateway: Gateway, away: Outage) -> None:
    account = gateway.account()
    other = gateway.account()
    assert gateway.chat(account).status_code == 200
    away.begin()
    # Never seen by this process: only the database can say whether it is good.
    assert gateway.chat(other, timeout_s=REFUSED_WITHIN_S * 2).status_code == 503
    away.end()
    answers_again(gateway, other)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_open_call_reaches_its_client_and_its_settle_comes_later(
    gateway: Gateway, away: Outage, stream: bool
) -> None:
    account = gateway.account(limits=(("usd", "day", "100"),))
    go_on, arrived = threading.Event(), threading.Event()
    if stream:
        reply = events([CHAT_FRAMES.opening[0], Signal(arrived), Wait(go_on), *CHAT_FRAMES.whole[1:]])
    else:
        body = (
            b'{"id":"c","object":"chat.completion","model":"up","choices":[{"index":0,"finish_reason":"stop","message":'
            b'{"role":"assistant","content":"x"}}],"usage":{"prompt_tokens":20,"completion_tokens":6}}'
        )
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        reply = (Signal(arrived), Wait(go_on), Send(head + body))
    gateway.upstream.script(reply)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.chat, account, stream=stream)
        assert arrived.wait(10)
        away.begin()
        go_on.set()
        answered = asked.result(timeout=10)
    assert answered.status_code == 200
    assert (b"[DONE]" in answered.content) == stream
    assert list((gateway.var_dir / "spool").glob("*.spool")), "the settle is on disk"
    assert requests.get(f"{gateway.url}/readyz", timeout=5).status_code == 503
    away.end()
    call = books.call_of(account.key.pk, timeout_s=BACK_WITHIN_S)
    assert (call.outcome, call.cost_usd) == ("ok", usd(20, 6))
    answers_again(gateway, account)


def test_the_spool_of_a_dead_process_is_settled_by_the_next(server: Server, tmp_path: Path) -> None:
    go_on, arrived = threading.Event(), threading.Event()
    outage = Outage(server, frozen=False)
    with running(database_url=server.url, var_dir=tmp_path / "var") as first:
        account = first.account(limits=(("usd", "day", "100"),))
        first.upstream.script(events([CHAT_FRAMES.opening[0], Signal(arrived), Wait(go_on), *CHAT_FRAMES.whole[1:]]))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(first.chat, account, stream=True)
            assert arrived.wait(10)
            outage.begin()
            go_on.set()
            assert b"[DONE]" in asked.result(timeout=10).content
        first.kill()
    outage.end()
    with running(database_url=server.url, var_dir=tmp_path / "var"):
        call = books.call_of(account.key.pk)
    assert (call.outcome, call.cost_usd) == ("ok", usd(20, 6))
    books.verify()
