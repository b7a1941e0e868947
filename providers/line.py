"""The connection of one call, as another thread may end it: while it connects, waits for its headers, or streams."""

from __future__ import annotations

import contextlib
import socket
import threading


class Line:
    """Holds the socket while it is the call's own: one that went back to its pool belongs to somebody else."""

    def __init__(self) -> None:
        self.is_cut = False
        self._sock: socket.socket | None = None
        self._lock = threading.Lock()

    def connected(self, sock: socket.socket) -> None:
        with self._lock:
            self._sock = sock
            if self.is_cut:
                _shut(sock)

    def released(self) -> None:
        """The connection is about to serve other calls."""
        with self._lock:
            self._sock = None

    def cut(self) -> None:
        """End the call: whoever waits on its socket wakes at once. May be called at any time, and again."""
        with self._lock:
            self.is_cut = True
            if self._sock is not None:
                _shut(self._sock)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the method of a TLS socket: that one takes its state away from the thread which reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
