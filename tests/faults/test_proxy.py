"""The proxy does to a connection what it is told, and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.faults.cluster import free_ports
from tests.faults.proxy import READY, Proxy

STARTUP = b"user\0postgres\0application_name\0tollbook writer\0"
WRITE = b'B...[{"request_id":"00"}]'
COMMITTED = b"D...C\x00\x00\x00\rSELECT 1\x00" + READY


class Server:
    """Answers every message with `answer`, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answer, self.received = b"pong", b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while data := sock.recv(65536):
                self.received += data
                sock.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    made = Proxy(port=free_ports().database, target=server.port)
    yield made
    made.close()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as sock:
        yield sock


def ask(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return client.recv(65536)


def test_it_forwards_both_ways(client: socket.socket, server: Server) -> None:
    assert ask(client, b"ping") == b"pong"
    assert server.received == b"ping"


def test_it_eats_the_answer_to_a_write_that_committed(client: socket.socket, proxy: Proxy, server: Server) -> None:
    assert ask(client, STARTUP) == b"pong"
    proxy.eat_replies(1)
    server.answer = COMMITTED
    assert ask(client, WRITE) == b""
    assert server.received == STARTUP + WRITE
    assert (proxy.eaten, proxy.to_eat) == (1, 0)


@pytest.mark.parametrize(("message", "answer"), [(b"SELECT 1", COMMITTED), (WRITE, b"E...an error" + READY)])
def test_it_eats_nothing_else(
    client: socket.socket, proxy: Proxy, server: Server, message: bytes, answer: bytes
) -> None:
    ask(client, STARTUP)
    proxy.eat_replies(1)
    server.answer = answer
    assert ask(client, message) == answer
    assert (proxy.eaten, proxy.to_eat) == (0, 1)


def test_it_eats_no_answer_of_another_connection(client: socket.socket, proxy: Proxy, server: Server) -> None:
    ask(client, STARTUP.replace(b"writer", b"runtime"))
    proxy.eat_replies(1)
    server.answer = COMMITTED
    assert ask(client, WRITE) == COMMITTED


def test_it_cuts_what_is_open_and_lets_new_ones_in(client: socket.socket, proxy: Proxy) -> None:
    ask(client, b"ping")
    proxy.cut()
    assert client.recv(1) == b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as another:
        assert ask(another, b"ping") == b"pong"


def test_a_half_open_connection_says_nothing_until_it_is_healed(
    client: socket.socket, proxy: Proxy, server: Server
) -> None:
    ask(client, b"ping")
    proxy.half_open()
    client.sendall(b"lost")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(1)
    proxy.heal()
    client.settimeout(5)
    assert client.recv(1) == b""
    assert server.received == b"ping"


def test_a_refusing_proxy_opens_nothing(proxy: Proxy, server: Server) -> None:
    proxy.refuses = True
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as refused:
        assert refused.recv(1) == b""
    assert server.received == b""


def test_a_closed_proxy_gives_its_port_back(proxy: Proxy) -> None:
    proxy.close()
    socket.create_server(("127.0.0.1", proxy.port)).close()
