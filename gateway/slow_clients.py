"""Clients that send too slowly: whoever has not sent what was waited for in time is read no further.

gunicorn waits for the rest of a request as long as its client likes, and each waits on a thread of its own. What is
waited for is noted here, and the watcher's thread ends what is late: the thread that reads finds the end of the input.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from gunicorn.http.errors import ParseException

# So much of a body, or its rest, within CLIENT_TIMEOUT_S.
STEP_BYTES = 1024 * 1024


class _Wait(NamedTuple):
    sock: socket.socket
    ends_at: float


_waits: dict[int, _Wait] = {}
_numbers = itertools.count(1)


def begin(sock: socket.socket) -> int:
    """From now on this client has CLIENT_TIMEOUT_S to send what is waited for; give the number to `end`."""
    number = next(_numbers)
    _waits[number] = _Wait(sock, time.monotonic() + settings.CLIENT_TIMEOUT_S)
    return number


def end(number: int) -> None:
    """It has come, or is not waited for any more. May be called again."""
    _waits.pop(number, None)


def cut_late(now: float) -> None:
    """End the input of every client whose time is over; what it can still be told is told."""
    for number, wait in list(_waits.items()):
        if now > wait.ends_at:
            end(number)
            with contextlib.suppress(OSError):
                socket.socket.shutdown(wait.sock, socket.SHUT_RD)


class TimedInput:
    """`wsgi.input` whose reads are waited for no longer than that. A body that was late ends early.

    Raises OSError, and nothing else, when the input is broken, as what reads it expects.
    """

    def __init__(self, stream: Any, sock: socket.socket) -> None:
        self._stream = stream
        self._sock = sock

    def read(self, size: int | None = None) -> bytes:
        left = -1 if size is None or size < 0 else size
        first = self._step(left)
        if len(first) < STEP_BYTES:
            return first
        parts, left = [first], left - len(first) if left >= 0 else left
        while left and (part := self._step(left)):
            parts.append(part)
            left = left - len(part) if left > 0 else left
        return b"".join(parts)

    def readline(self, size: int | None = None) -> bytes:
        number = begin(self._sock)
        try:
            line: bytes = self._stream.readline(size)
        finally:
            end(number)
        return line

    def readlines(self, hint: int | None = None) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def _step(self, left: int) -> bytes:
        number = begin(self._sock)
        try:
            part: bytes = self._stream.read(STEP_BYTES if left < 0 else min(left, STEP_BYTES))
        except ParseException as error:
            raise OSError(f"The chunks of the body are broken: {type(error).__name__}.") from error
        finally:
            end(number)
        return part
