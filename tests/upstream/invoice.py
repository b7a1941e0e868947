"""The provider's own book: a line for each request that arrived, on disk before its answer begins."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Line(Struct, frozen=True):
    """`billed` False: the provider did no work that it charges for. Counts are tokens, input with cached ones."""

    arrival: int
    at: float
    request_id: str
    path: str
    model: str
    stream: bool
    status: int
    billed: bool
    input_tokens: int
    output_tokens: int
    idempotency_key: str = ""


class Invoice:
    """Appends lines to a file; those who write at the same time share one fsync."""

    def __init__(self, path: Path | None) -> None:
        self._descriptor = -1 if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._write_lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._written = self._synced = 0
        self.lines: list[Line] = []

    def add(self, **fields: Any) -> None:
        line = Line(at=time.time(), **fields)
        with self._write_lock:
            self.lines.append(line)
            if self._descriptor < 0:
                return
            os.write(self._descriptor, msgspec.json.encode(line) + b"\n")
            self._written += 1
            mine = self._written
        with self._sync_lock:
            if self._synced >= mine:
                return
            upto = self._written
            os.fdatasync(self._descriptor)
            self._synced = upto

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read(path: Path) -> list[Line]:
    """The lines of an invoice file, in the order in which requests arrived; a torn last line is left out."""
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    lines = [msgspec.json.decode(line, type=Line) for line in whole.splitlines()]
    return sorted(lines, key=lambda line: line.arrival)
