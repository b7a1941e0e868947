"""A TCP proxy whose connections can be delayed, cut, half-opened, refused; and that can eat an answer to a commit."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

READY = b"Z\x00\x00\x00\x05I"
CHUNK_BYTES = 262_144


class _Pair:
    """One client's connection and the one to the server behind it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.first_bytes = b""
        self.wrote = False

    def close(self) -> None:
        for sock in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class Proxy:
    """Listens on `port` of 127.0.0.1 and forwards to `target`, as its public switches say at that moment."""

    def __init__(self, *, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.delay_s = 0.0
        self.refuses = False
        self.eaten = 0
        self._to_eat = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    # --- switches -----------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End every connection now; new ones are let in."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def half_open(self) -> None:
        """Forward nothing, and end nothing: each side believes that the other one is there."""
        self._flowing.clear()

    def heal(self) -> None:
        """Forward again. What waited in a half-open connection is lost with it."""
        self.delay_s, self.refuses = 0.0, False
        with self._lock:
            self._to_eat = 0
        if not self._flowing.is_set():
            self.cut()
            self._flowing.set()

    def eat_replies(self, count: int) -> None:
        """Let the next `count` writes of the ledger commit, drop what PostgreSQL answers, and end the connection."""
        with self._lock:
            self._to_eat = count

    @property
    def to_eat(self) -> int:
        return self._to_eat

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone would leave the port to the waiting `accept`
        self._listener.close()
        self._flowing.set()
        self.cut()

    # --- threads ------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(client, server)
        with self._lock:
            self._pairs.add(pair)
        back = threading.Thread(target=self._pump, args=(pair, server, client, self._answered), daemon=True)
        back.start()
        self._pump(pair, client, server, self._asked)
        back.join()
        with self._lock:
            self._pairs.discard(pair)

    def _pump(
        self, pair: _Pair, source: socket.socket, sink: socket.socket, seen: Callable[[_Pair, bytes], bool]
    ) -> None:
        """Forward until either side ends, or until `seen` says that these bytes must not arrive."""
        try:
            while data := source.recv(CHUNK_BYTES):
                self._flowing.wait()
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not seen(pair, data):
                    break
                sink.sendall(data)
        except OSError:
            pass  # ended by either side, or by a fault: the other direction must end, too
        finally:
            pair.close()

    def _asked(self, pair: _Pair, data: bytes) -> bool:
        if len(pair.first_bytes) < 2048:
            pair.first_bytes += data
        if b"tollbook writer" in pair.first_bytes and (b'"request_id"' in data or b'"outcome"' in data):
            pair.wrote = True
        return True

    def _answered(self, pair: _Pair, data: bytes) -> bool:
        """Whether the answer may arrive. It is eaten when it is the one to a write that PostgreSQL has committed."""
        if not pair.wrote:
            return True
        with self._lock:
            if self._to_eat and data.endswith(READY) and b"C\x00\x00\x00\rSELECT 1\x00" in data:
                self._to_eat -= 1
                self.eaten += 1
                return False
        pair.wrote = False
        return True
