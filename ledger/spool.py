"""Settles on disk while the database is away: each record is length, CRC and the frozen bytes, synced before use.

One file per process, locked by it for life; the files of dead processes are adopted by whoever starts next. A torn
tail (the machine died while writing) is cut at the first record whose CRC does not fit.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import uuid
import zlib
from pathlib import Path

_HEADER = struct.Struct("<II")
MAX_RECORD_BYTES = 64 * 1024 * 1024


class Spool:
    """`append` from any thread; `read` and `clear` from the writer's thread."""

    def __init__(self, *, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._path = folder / f"{os.getpid()}-{uuid.uuid4().hex}.spool"
        self._descriptor: int | None = None
        self.records = 0

    def append(self, record: bytes) -> None:
        """Durable when it returns. Raises OSError when the disk refuses."""
        with self._lock:
            descriptor = self._open()
            end = os.lseek(descriptor, 0, os.SEEK_END)
            frame = _HEADER.pack(len(record), zlib.crc32(record)) + record
            try:
                if os.write(descriptor, frame) != len(frame):
                    raise OSError("short write to the spool: is the disk full?")
                os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
            self.records += 1

    def read(self) -> list[bytes]:
        """Every whole record, in the order they were written."""
        with self._lock:
            return _records(self._path.read_bytes()) if self._descriptor is not None else []

    def clear(self, count: int) -> None:
        """Forget the first `count` records: they are in the ledger now."""
        with self._lock:
            if self._descriptor is None:
                return
            rest = _records(self._path.read_bytes())[count:]
            os.ftruncate(self._descriptor, 0)
            for record in rest:
                os.write(self._descriptor, _HEADER.pack(len(record), zlib.crc32(record)) + record)
            os.fdatasync(self._descriptor)
            self.records = len(rest)

    def adopt(self) -> int:
        """Take over the records of processes that are gone. Returns how many."""
        adopted = 0
        for path in sorted(self._folder.glob("*.spool")):
            if path == self._path:
                continue
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for record in _records(path.read_bytes()):
                    self.append(record)
                    adopted += 1
                path.unlink()
            except BlockingIOError:
                continue  # its owner lives
            finally:
                os.close(descriptor)
        return adopted

    def quarantine(self, record: bytes) -> None:
        """Keep a record that the database rejected, for a person to look at."""
        with self._lock, (self._folder / "quarantine.jsonl").open("ab") as file:
            file.write(record + b"\n")
            file.flush()
            os.fdatasync(file.fileno())

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                if self.records == 0:
                    self._path.unlink(missing_ok=True)
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)  # the file's name must survive a crash, not only its bytes
            finally:
                os.close(folder)
            self._descriptor = descriptor
        return self._descriptor


def _records(data: bytes) -> list[bytes]:
    """The whole records of a spool's bytes, up to the first that is torn."""
    found: list[bytes] = []
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, crc = _HEADER.unpack_from(data, offset)
        start = offset + _HEADER.size
        record = data[start : start + length]
        if length > MAX_RECORD_BYTES or len(record) != length or zlib.crc32(record) != crc:
            break
        found.append(record)
        offset = start + length
    return found
