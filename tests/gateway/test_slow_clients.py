from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize

from gateway import slow_clients
from gateway.slow_clients import STEP_BYTES, TimedInput

MUCH_LATER_S = 10_000.0


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's socket and its client's."""
    server, client = socket.socketpair()
    with server, client:
        yield server, client
    assert not slow_clients._waits, "what was waited for is forgotten at the end"


class Counted(io.BytesIO):
    """Keeps how much each read asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked: list[int | None] = []

    def read(self, size: int | None = None) -> bytes:
        self.asked.append(size)
        return super().read(size)


def test_who_is_late_finds_the_end_of_the_input_and_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    got: list[bytes] = []
    number = slow_clients.begin(server)
    reading = threading.Thread(target=lambda: got.append(server.recv(10)))
    reading.start()
    slow_clients.cut_late(time.monotonic() + MUCH_LATER_S)
    reading.join(5)
    slow_clients.end(number)
    assert got == [b""]
    server.sendall(b"HTTP/1.1 400")
    assert client.recv(20) == b"HTTP/1.1 400"


def test_who_is_in_time_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    number = slow_clients.begin(server)
    slow_clients.cut_late(time.monotonic())
    slow_clients.end(number)
    slow_clients.cut_late(time.monotonic() + MUCH_LATER_S)
    client.sendall(b"in time")
    assert server.recv(10) == b"in time"


def test_an_end_that_comes_twice_ends_nobody_elses_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    server, _ = pair
    first = slow_clients.begin(server)
    slow_clients.end(first)
    second = slow_clients.begin(server)
    slow_clients.end(first)
    slow_clients.cut_late(time.monotonic() + MUCH_LATER_S)
    slow_clients.end(second)
    assert server.recv(10) == b""


@pytest.mark.parametrize("size", [0, 1, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES, 9 * STEP_BYTES])
def test_it_reads_what_is_asked_for(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    data = bytes(range(256)) * (4 * STEP_BYTES // 256) + b"rest"
    timed = TimedInput(Counted(data), pair[0])
    assert timed.read(size) == data[:size]
    assert timed.read() == data[size:]
    assert timed.read() == b""


def test_each_step_of_a_large_body_has_its_own_time(pair: tuple[socket.socket, socket.socket]) -> None:
    stream = Counted(b"x" * (2 * STEP_BYTES + 5))
    TimedInput(stream, pair[0]).read(2 * STEP_BYTES + 5)
    assert stream.asked == [STEP_BYTES, STEP_BYTES, 5]


def test_lines_are_lines(pair: tuple[socket.socket, socket.socket]) -> None:
    timed = TimedInput(io.BytesIO(b"one\ntwo\nthree"), pair[0])
    assert timed.readline() == b"one\n"
    assert list(timed) == [b"two\n", b"three"]
    assert TimedInput(io.BytesIO(b"one\ntwo"), pair[0]).readlines() == [b"one\n", b"two"]


def test_broken_chunks_are_an_error_of_the_input(pair: tuple[socket.socket, socket.socket]) -> None:
    class Broken:
        def read(self, size: int) -> bytes:
            raise InvalidChunkSize(b"zz")

    broken: Any = Broken()
    with pytest.raises(OSError, match="InvalidChunkSize"):
        TimedInput(broken, pair[0]).read(10)
