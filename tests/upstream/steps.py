"""What a reply is made of: steps that the server takes one after the other on the connection."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from msgspec import Struct


class Send(Struct, frozen=True):
    data: bytes


class Wait(Struct, frozen=True):
    """Go on when a test sets `event`."""

    event: threading.Event


class Signal(Struct, frozen=True):
    """Tell a test that the steps before this one were taken."""

    event: threading.Event


class Pause(Struct, frozen=True):
    """For a server in a process of its own, which no test can signal."""

    pause_s: float


class Close(Struct, frozen=True):
    """End the connection in the usual way."""


class Reset(Struct, frozen=True):
    """End the connection with a TCP reset."""


class Hang(Struct, frozen=True):
    """Nothing more, until the client leaves or the server ends."""


Step = Send | Wait | Signal | Pause | Close | Reset | Hang
Reply = tuple[Step, ...]


def head(*, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Fake", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def answer(
    *,
    body: bytes,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
    cut_at: int | None = None,
) -> Reply:
    """A whole answer with its length. `cut_at`: send only that many bytes of the body, then close."""
    known = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
    first = head(status=status, headers=known)
    return (Send(first + body),) if cut_at is None else (Send(first + body[:cut_at]), Close())


def events(
    pieces: Iterable[bytes | Step],
    *,
    headers: Mapping[str, str] | None = None,
    content_type: str = "text/event-stream",
    ends: bool = True,
) -> Reply:
    """A chunked stream: each piece of bytes is one chunk of the encoding, other steps are taken between them.

    `ends` False leaves out the last chunk and closes: a stream that was cut.
    """
    known = {"Content-Type": content_type, "Transfer-Encoding": "chunked", **(headers or {})}
    steps: list[Step] = [Send(head(headers=known))]
    steps += [Send(chunked(piece)) if isinstance(piece, bytes) else piece for piece in pieces]
    return (*steps, Send(b"0\r\n\r\n")) if ends else (*steps, Close())


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def trickle(data: bytes, *, pause_s: float) -> Reply:
    """One byte at a time, a pause after each."""
    return tuple(step for byte in data for step in (Send(bytes([byte])), Pause(pause_s)))


def no_answer() -> Reply:
    return (Hang(),)
