"""Who sends a request a byte at a time is cut; a large one that keeps coming is not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from tests.live import books
from tests.live.gateway import Account, Gateway, chat_body, read_until, running

CHAT = "/v1/chat/completions"
QUICK = {"TOLLBOOK_CLIENT_TIMEOUT_S": "1", "TOLLBOOK_THREADS": "8"}


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One worker with few threads, whose patience is short."""
    with running(database_url=own_database, var_dir=tmp_path_factory.mktemp("var"), environment=QUICK) as made:
        yield made
        books.verify()


def head(account: Account, path: str, *lines: str) -> bytes:
    own = [f"{name}: {value}" for name, value in account.headers.items()]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: gateway", *own, *lines]).encode()


@contextlib.contextmanager
def trickling(gateway: Gateway, start: bytes) -> Iterator[socket.socket]:
    """A client that sends `start`, then a byte every moment for as long as anyone takes it."""
    stopping = threading.Event()
    sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=15)
    sock.sendall(start)

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not stopping.wait(0.05):
                sock.send(b"x")

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    try:
        yield sock
    finally:
        stopping.set()
        thread.join(5)
        sock.close()


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings", "/v1/rerank", "/v1/files"])
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_a_body_that_trickles_is_refused_and_nothing_is_held(gateway: Gateway, path: str, framing: str) -> None:
    account = gateway.account(sync=False)
    begun = b"{" if "Length" in framing else b"fffff\r\n{"
    with trickling(gateway, head(account, path, framing, "", "") + begun) as sock:
        got = read_until(sock, b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 4"), got
    assert books.calls(key_id=account.key.pk) == []


def test_headers_that_trickle_are_cut(gateway: Gateway) -> None:
    with trickling(gateway, head(gateway.account(sync=False), CHAT, "X-Slow: ")) as sock:
        sock.settimeout(10)
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1000) == b""


def test_more_slow_clients_than_threads_keep_others_waiting_for_a_moment_only(gateway: Gateway) -> None:
    account = gateway.account()
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(trickling(gateway, head(account, CHAT, "Content-Length: 100000", "", "") + b"{"))
        assert gateway.chat(account, timeout_s=15).status_code == 200


def test_a_large_body_that_keeps_coming_is_taken(gateway: Gateway) -> None:
    account = gateway.account()
    body = msgspec.json.encode(chat_body(account.model.name, metadata={"padding": "x" * 400}))
    body = body[:-1] + b" " * 5_000_000 + b"}"
    answered = gateway.post(CHAT, body, headers=account.headers)
    assert answered.status_code == 200, answered.text
