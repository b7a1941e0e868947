"""Notices clients that have left while the provider is at work. One thread looks for all open calls of a process.

A client is gone when it has closed its side of the connection or reset it. One that sends its next request early is
not: bytes that wait to be read say nothing. A call whose provider is to be read on after that gets its time for it
(`OpenCall.may_drain`); any other is ended at once, in whatever phase it is.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings

from gateway import slow_clients
from gateway.open_calls import OpenCall

log = logging.getLogger("tollbook.watcher")

INTERVAL_S = 0.5
# Linux says when the other side has closed without anything being read; elsewhere one has to peek.
_CLOSED = getattr(select, "POLLRDHUP", 0)
_BROKEN = select.POLLHUP | select.POLLERR


def client_socket(meta: Mapping[str, Any]) -> socket.socket | None:
    """The socket of a request's client, where the server gives it out; one who stops reading will be cut off."""
    sock = meta.get("gunicorn.socket")
    if not isinstance(sock, socket.socket):
        return None
    # The kernel's own timeout: it begins anew with whatever the client takes, and leaves reading alone.
    seconds, micros = divmod(int(settings.CLIENT_TIMEOUT_S * 1_000_000), 1_000_000)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, micros))
    return sock


def closed(socks: Iterable[socket.socket]) -> set[int]:
    """The descriptors among `socks` whose other side is gone. Waits for nothing and reads nothing."""
    by_fd = {fd: sock for sock in socks if (fd := sock.fileno()) >= 0}
    poll = select.poll()
    for fd in by_fd:
        poll.register(fd, _CLOSED or select.POLLIN)
    return {fd for fd, events in poll.poll(0) if events & (_CLOSED | _BROKEN) or _at_its_end(by_fd[fd], events)}


def hang_up(sock: socket.socket) -> None:
    """End the connection of a client who has left or takes nothing: the server need not wait for its goodbye."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _at_its_end(sock: socket.socket, events: int) -> bool:
    if _CLOSED or not events & select.POLLIN:
        return False
    try:
        return socket.socket.recv(sock, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Watcher:
    """Looks at the clients of `open_calls`, a dict that others fill and empty meanwhile."""

    def __init__(self, open_calls: Mapping[int, OpenCall]) -> None:
        self._open_calls = open_calls
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def look(self) -> None:
        """End or let drain every call whose client has left; end those whose time to drain is over."""
        calls = [call for call in list(self._open_calls.values()) if not call.interrupted]
        now = time.monotonic()
        watched: list[tuple[socket.socket, int, OpenCall]] = []
        for call in calls:
            if call.drains_until is not None:
                if now > call.drains_until:
                    call.interrupt("client_gone")
            elif call.client is not None:
                watched.append((call.client, call.client.fileno(), call))
        gone = closed(sock for sock, _, _ in watched)
        for sock, fd, call in watched:
            # A descriptor that changed hands since then tells of somebody else.
            if fd in gone and sock.fileno() == fd and not call.may_drain():
                call.interrupt("client_gone")

    def _watch(self) -> None:
        while not self._stopping.wait(INTERVAL_S):
            try:
                self.look()
                slow_clients.cut_late(time.monotonic())
            except Exception:
                # The thread must live: without it nobody notices who leaves.
                log.exception("watcher_defect")
