"""urllib3's pools and connections with what it lacks: eviction of idle connections and deadlines that hold.

A `Clock` runs the deadlines of one call. It travels through requests and urllib3 in the place of their timeout object
and re-arms the socket's timeout before every single read and write, so that a server which trickles a byte a second,
be it in a header, in a chunk size or in the body, cannot outlive the total.

Leans on `_get_conn`, `_put_conn`, `_make_request`, `_new_conn` of urllib3 2.x; tests/providers/test_pool.py guards it.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import time
from functools import lru_cache
from ssl import SSLContext, SSLError
from typing import Any

import certifi
import urllib3
from msgspec import Struct
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.util import connection as urllib3_connection
from urllib3.util.ssl_ import create_urllib3_context

from providers import address
from providers.errors import ConnectionFailed, Phase, ProviderError, Timeout
from providers.line import Line

_WRITE_BYTES = 256 * 1024
_SWEEP_INTERVAL_S = 10.0


class NotSent(ConnectionFailed):
    """No connection could be made: the provider saw nothing of the request, so nothing can have been billed."""


class Deadlines(Struct, frozen=True):
    """Seconds, each above zero. `first_byte_s` counts from the sending of the request; None: no limit but the total."""

    connect_s: float = 5.0
    first_byte_s: float | None = None
    idle_s: float = 30.0
    total_s: float = 30.0


class Clock(urllib3.Timeout):
    """The deadlines of one call, running since its construction. Not for use by two calls."""

    def __init__(self, deadlines: Deadlines, *, line: Line | None = None) -> None:
        # urllib3 sees these two, but every wait of a connection below is armed by the clock itself.
        super().__init__(connect=deadlines.connect_s, read=deadlines.total_s)
        self.deadlines = deadlines
        self.line = line or Line()
        self.reader: AnswerReader | None = None
        self.total_at = time.monotonic() + deadlines.total_s
        self.first_byte_by: float | None = None
        self.first_byte_at: float | None = None

    def clone(self) -> Clock:
        """urllib3 clones the timeout of each request; this one already belongs to one."""
        return self

    def start_connect(self) -> float:
        return time.monotonic()

    def request_begins(self) -> None:
        """The connection stands and the first byte of the request is about to be written."""
        if self.first_byte_by is None:
            first_byte_s = self.deadlines.first_byte_s
            self.first_byte_by = self.total_at if first_byte_s is None else time.monotonic() + first_byte_s

    def received(self) -> None:
        if self.first_byte_at is None:
            self.first_byte_at = time.monotonic()

    def wait(self, *, connect_by: float | None = None) -> tuple[float, Phase]:
        """How long the next socket operation may block, and by which deadline. Raises Timeout when none is left."""
        now = time.monotonic()
        total = self.total_at - now
        if connect_by is not None:
            left, phase = connect_by - now, "connect"
        elif self.first_byte_at is None and self.first_byte_by is not None:
            left, phase = self.first_byte_by - now, "first_byte"
        else:
            left, phase = self.deadlines.idle_s, "idle"
        if total <= left:
            left, phase = total, "total"
        known: Phase = phase  # type: ignore[assignment]  # mypy widens the literals above to str
        if left <= 0:
            raise self.expired(known)
        return left, known

    def expired(self, phase: Phase) -> Timeout:
        """The error for a deadline that passed."""
        deadlines = self.deadlines
        limits = {
            "connect": deadlines.connect_s,
            "first_byte": deadlines.first_byte_s or deadlines.total_s,
            "idle": deadlines.idle_s,
            "total": deadlines.total_s,
        }
        # What is left of a total after the work before it has more digits than anybody reads.
        message = _TIMEOUT_WORDS[phase].format(round(limits[phase], 2))
        return Timeout(message, timeout_s=limits[phase], phase=phase)


_TIMEOUT_WORDS: dict[str, str] = {
    "connect": "No connection to the provider within {:g} s.",
    "first_byte": "The provider did not begin to answer within {:g} s.",
    "idle": "The provider sent nothing for {:g} s in the middle of its answer.",
    "total": "The provider did not finish its answer within {:g} s.",
}


class _TimedReader(io.RawIOBase):
    """The receiving half of a socket, each read bounded by the clock."""

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self._sock, self._clock = sock, clock
        self._raw = sock.makefile("rb", buffering=0)
        self._silent_s = 0.0
        self.only_looking = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.only_looking:
            return None
        timeout_s, phase = self._clock.wait()
        self._sock.settimeout(timeout_s)
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            raise self._clock.expired(phase) from None
        if count:
            self._clock.received()
            self._silent_s = 0.0
        return count

    def is_silent(self, *, for_s: float) -> bool:
        """Whether nothing arrives for so long. Raises Timeout when a deadline passes first.

        The silences of calls in a row add up, until something is read.
        """
        if getattr(self._sock, "pending", int)():
            return False
        left_s, phase = self._clock.wait()
        if phase != "total":
            left_s -= self._silent_s
        waited_s = max(0.0, min(for_s, left_s))
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if poll.poll(waited_s * 1000):
            return False
        if left_s <= for_s:
            raise self._clock.expired(phase)
        self._silent_s += waited_s
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()


class AnswerReader(io.BufferedReader):
    """A buffered reader that can tell, and leaves http.client's place in the answer as it is."""

    def __init__(self, timed: _TimedReader) -> None:
        super().__init__(timed, 65536)
        self._timed = timed

    def is_silent(self, *, for_s: float) -> bool:
        """Whether a read would find nothing to give for `for_s` seconds. Raises Timeout."""
        self._timed.only_looking = True
        try:
            ahead = self.peek()
        finally:
            self._timed.only_looking = False
        # What ends a chunk is left in the buffer until the next one is read, and is no answer by itself.
        return ahead in (b"", b"\r", b"\r\n") and self._timed.is_silent(for_s=for_s)


class _TimedSocket:
    """What http.client's response needs of a socket: a file to read from."""

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self._sock, self._clock = sock, clock

    def makefile(self, mode: str) -> io.BufferedReader:
        self._clock.reader = AnswerReader(_TimedReader(self._sock, self._clock))
        return self._clock.reader


class _Timed(HTTPConnection):
    """A connection whose every wait obeys `clock`, and that calls allowed addresses only."""

    clock: Clock
    allow_private_address: bool = False
    idle_since: float = 0.0

    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError:
            raise self.clock.expired(_connect_phase(self.clock)) from None
        except (OSError, HTTPError, ValueError) as error:
            raise _not_sent(error) from None

    def _new_conn(self) -> socket.socket:
        """A TCP connection to the first address of the host that takes one, within the connect deadline for all."""
        connect_by = time.monotonic() + self.clock.deadlines.connect_s
        failure: OSError = OSError("no address")
        for ip in address.resolve(self._dns_host, self.port, allow_private_address=self.allow_private_address):
            timeout_s, phase = self.clock.wait(connect_by=connect_by)
            try:
                sock = urllib3_connection.create_connection(
                    (ip, self.port), timeout_s, socket_options=self.socket_options
                )
            except TimeoutError:
                failure = TimeoutError(phase)
            except OSError as error:
                failure = error
            else:
                # The TLS handshake that may follow has what is left of the connect deadline.
                sock.settimeout(self.clock.wait(connect_by=connect_by)[0])
                return sock
        raise failure

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.clock.line.connected(self.sock)
        if self.clock.line.is_cut:
            raise NotSent("The call was ended before it was sent.")
        self.clock.request_begins()
        view = memoryview(data)
        for start in range(0, len(view), _WRITE_BYTES):
            timeout_s, phase = self.clock.wait()
            self.sock.settimeout(timeout_s)
            try:
                self.sock.sendall(view[start : start + _WRITE_BYTES])
            except TimeoutError:
                raise self.clock.expired(phase) from None

    def response_class(self, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        return http.client.HTTPResponse(_TimedSocket(sock, self.clock), *args, **kwargs)  # type: ignore[arg-type]


class TimedHTTPConnection(_Timed):
    pass


class TimedHTTPSConnection(_Timed, HTTPSConnection):
    pass


def _connect_phase(clock: Clock) -> Phase:
    return "total" if time.monotonic() >= clock.total_at else "connect"


def _not_sent(error: Exception) -> ProviderError:
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    if isinstance(cause, (SSLError, urllib3.exceptions.SSLError, ValueError)):
        failed = NotSent("The provider's TLS certificate or handshake was not accepted.")
        # A certificate does not become valid within a second.
        failed.retryable = False
        return failed
    if isinstance(cause, socket.gaierror):
        return NotSent("The provider's host name does not resolve.")
    return NotSent("No connection to the provider could be made.")


class _Pool(HTTPConnectionPool):
    """Keeps up to `maxsize` idle connections, none longer than `idle_s`; opens more while more are busy."""

    idle_s: float
    allow_private_address: bool
    _retired = False
    _swept_at = 0.0

    def _make_request(self, conn: Any, *args: Any, **kwargs: Any) -> Any:
        conn.clock = kwargs["timeout"]
        conn.allow_private_address = self.allow_private_address
        return super()._make_request(conn, *args, **kwargs)

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn: Any = super()._get_conn(timeout)
        if conn.sock is not None and time.monotonic() - conn.idle_since > self.idle_s:
            conn.close()
        return conn

    def _put_conn(self, conn: Any) -> None:
        if conn is None or conn.is_closed:
            return
        if self._retired or self.pool is None or self.pool.full():
            conn.close()
            return
        conn.clock.line.released()
        conn.idle_since = time.monotonic()
        super()._put_conn(conn)
        if conn.idle_since - self._swept_at > _SWEEP_INTERVAL_S:
            self._swept_at = conn.idle_since
            self.evict_idle()

    def evict_idle(self) -> None:
        """Close what has been idle too long. The pool is a stack: what lies at its bottom is otherwise never met."""
        self._close_idle_since(time.monotonic() - self.idle_s)

    def retire(self) -> None:
        """Keep no connection any more. Calls in flight end as usual, and their connections close behind them."""
        self._retired = True
        self._close_idle_since(float("inf"))

    def idle_count(self) -> int:
        """Open connections that wait for a request."""
        if self.pool is None:
            return 0
        with self.pool.mutex:
            return sum(conn is not None and not conn.is_closed for conn in self.pool.queue)

    def _close_idle_since(self, moment: float) -> None:
        if self.pool is None:
            return
        with self.pool.mutex:
            idle = self.pool.queue
            old = [conn for conn in idle if conn is not None and conn.idle_since < moment]
            idle[:] = [conn for conn in idle if conn is not None and conn.idle_since >= moment]
        for conn in old:
            conn.close()


class TimedHTTPConnectionPool(_Pool):
    ConnectionCls = TimedHTTPConnection


class TimedHTTPSConnectionPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = TimedHTTPSConnection


def open_pool(
    *,
    scheme: str,
    host: str,
    port: int,
    idle_connections: int,
    idle_s: float,
    allow_private_address: bool,
    ca_bundle: str = "",
) -> TimedHTTPConnectionPool | TimedHTTPSConnectionPool:
    """A pool for one host. `ca_bundle` is the path of a PEM file to trust instead of the usual authorities."""
    pool: TimedHTTPConnectionPool | TimedHTTPSConnectionPool
    if scheme == "https":
        pool = TimedHTTPSConnectionPool(
            host,
            port,
            maxsize=idle_connections,
            block=False,
            socket_options=_socket_options(),
            ssl_context=_tls_context(ca_bundle or certifi.where()),
            cert_reqs="CERT_REQUIRED",
        )
    else:
        pool = TimedHTTPConnectionPool(
            host, port, maxsize=idle_connections, block=False, socket_options=_socket_options()
        )
    pool.idle_s, pool.allow_private_address = idle_s, allow_private_address
    return pool


@lru_cache
def _tls_context(ca_bundle: str) -> SSLContext:
    # Reading the authorities takes 20 ms of CPU: once a process, not once a connection.
    context = create_urllib3_context()
    context.load_verify_locations(ca_bundle)
    return context


def _socket_options() -> list[tuple[int, int, int]]:
    """Send at once; find out within about a minute that the other side is gone. What a system lacks is left out."""
    wanted = [("TCP_NODELAY", 1), ("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 3)]
    wanted.append(("TCP_USER_TIMEOUT", 60_000))
    known = [(getattr(socket, name), value) for name, value in wanted if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *((socket.IPPROTO_TCP, name, value) for name, value in known)]
