from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from gateway import watcher


@pytest.fixture(params=["told by the system", "by peeking"])
def pair(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's socket and its client's, on a system that tells of a close and on one that does not."""
    if request.param == "by peeking":
        monkeypatch.setattr(watcher, "_CLOSED", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield server, client


def is_gone(sock: socket.socket) -> bool:
    return watcher.closed([sock]) == {sock.fileno()}


def test_one_who_waits_is_there(pair: tuple[socket.socket, socket.socket]) -> None:
    assert watcher.closed([pair[0]]) == set()


def test_one_who_sends_early_is_there_and_loses_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    client.sendall(b"GET /")
    assert not is_gone(server)
    assert server.recv(10) == b"GET /"


def test_one_who_closed_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    assert is_gone(pair[0])


def test_one_who_reset_the_connection_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert is_gone(server)


def test_a_socket_that_is_closed_here_is_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    assert watcher.closed([pair[0]]) == set()


def test_who_is_hung_up_on_hears_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    watcher.hang_up(server)
    watcher.hang_up(server)
    assert client.recv(1) == b""


def test_a_request_without_a_server_of_ours_has_no_client() -> None:
    assert watcher.client_socket({"gunicorn.socket": object()}) is None
    assert watcher.client_socket({}) is None
