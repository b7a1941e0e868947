"""The server: a thread for each connection, requests parsed by hand, replies taken step by step."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from tests.upstream import shapes
from tests.upstream.invoice import Invoice
from tests.upstream.steps import Close, Hang, Pause, Reply, Reset, Send, Signal, Wait

Handler = Callable[["Arrival", Invoice], Reply]


class Arrival(Struct, frozen=True):
    """A request as it came. Header names are in lower case; `connection` counts connections from 1."""

    number: int
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Gone(Exception):
    """The connection is over, for one reason or the other."""


class Upstream:
    """A fake provider at `url`, from its construction to `close`."""

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        invoice: Path | None = None,
        handler: Handler = shapes.reply_to,
        tls: ssl.SSLContext | None = None,
        keep_arrivals: bool = True,
    ) -> None:
        self.invoice = Invoice(invoice)
        self.arrivals: list[Arrival] = []
        self.connections = 0
        self._handler, self._tls, self._keep = handler, tls, keep_arrivals
        self._scripted: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server((host, port), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.host = host
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    def script(self, *replies: Reply) -> None:
        """Answer the next requests with these, one each."""
        with self._changed:
            self._scripted.extend(replies)

    def wait_for_arrivals(self, count: int, *, timeout_s: float = 10.0) -> list[Arrival]:
        """The arrivals, once there are `count`. AssertionError when they do not come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.arrivals) >= count, timeout_s), "too few arrivals"
            return list(self.arrivals)

    def drop_connections(self) -> None:
        """Close every connection, as a provider does with those that were idle for long."""
        with self._changed:
            still_open = list(self._open)
        for sock in still_open:
            _shut(sock)

    def close(self) -> None:
        self._stopping.set()
        _shut(self._listener)
        self._listener.close()
        self.drop_connections()
        self._accepting.join(5)
        self.invoice.close()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                number = self.connections
                self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, raw: socket.socket, number: int) -> None:
        sock = raw
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(raw, server_side=True)
            pending = b""
            while not self._stopping.is_set():
                arrival, pending = self._read(sock, pending, connection=number)
                for step in self._reply_to(arrival):
                    self._take(step, sock)
        except (_Gone, OSError):
            pass
        finally:
            with self._changed:
                self._open.discard(raw)
            _shut(sock)
            sock.close()

    def _read(self, sock: socket.socket, pending: bytes, *, connection: int) -> tuple[Arrival, bytes]:
        while (end := pending.find(b"\r\n\r\n")) < 0:
            pending += _received(sock)
        first, *lines = pending[:end].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        parts, have = [pending[end + 4 :]], len(pending) - end - 4
        length = int(headers.get("content-length", 0))
        while have < length:
            parts.append(_received(sock))
            have += len(parts[-1])
        body = b"".join(parts)
        arrival = Arrival(next(self._numbers), connection, method, path, headers, body[:length])
        return arrival, body[length:]

    def _reply_to(self, arrival: Arrival) -> Reply:
        with self._changed:
            scripted = self._scripted.popleft() if self._scripted else None
            if self._keep:
                self.arrivals.append(arrival)
                self._changed.notify_all()
        return self._handler(arrival, self.invoice) if scripted is None else scripted

    def _take(self, step: object, sock: socket.socket) -> None:
        match step:
            case Send(data=data):
                sock.sendall(data)
            case Wait(event=event):
                while not event.wait(0.05):
                    if self._stopping.is_set():
                        raise _Gone
            case Signal(event=event):
                event.set()
            case Pause(pause_s=pause_s):
                if self._stopping.wait(pause_s):
                    raise _Gone
            case Reset():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                raise _Gone
            case Hang():
                _received(sock)
                raise _Gone
            case Close():
                raise _Gone


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(262_144)
    if not data:
        raise _Gone
    return data


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
