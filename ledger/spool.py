"""Settles on disk while the database is away: each record is length, CRC and the frozen bytes, synced before use.

One file per process, locked by it for life; the files of dead processes are adopted by whoever looks next. A torn tail
(the machine died while writing, or the disk is full) is cut at the first record whose CRC does not fit. Nothing is
copied or rewritten: what is in the ledger is skipped, and a file goes when all of it is. So a full disk can refuse a
new record, but neither hide nor lose an old one; who dies in between replays some records again, which is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct("<II")
MAX_RECORD_BYTES = 64 * 1024 * 1024


class _File:
    """An open spool file, locked by this process. Its records that wait lie from `start` to `end`."""

    __slots__ = ("descriptor", "end", "path", "records", "start")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        self.start = self.end = self.records = 0
        for record in self.waiting():
            self.end += _HEADER.size + len(record)
            self.records += 1

    def waiting(self) -> Iterator[bytes]:
        """The whole records from `start` on, up to the first that is torn."""
        offset = self.start
        while (record := _record_at(self.descriptor, offset)) is not None:
            yield record
            offset += _HEADER.size + len(record)

    def append(self, record: bytes) -> None:
        frame = _HEADER.pack(len(record), zlib.crc32(record)) + record
        try:
            if os.pwrite(self.descriptor, frame, self.end) != len(frame):
                raise OSError("short write to the spool: is the disk full?")
            os.fdatasync(self.descriptor)
        except OSError:
            # A disk that refuses this, too, leaves a torn tail: the next record overwrites it, a reader stops there.
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self.end)
            raise
        self.end += len(frame)
        self.records += 1

    def skip(self, count: int) -> None:
        for record, _ in zip(self.waiting(), range(count), strict=False):
            self.start += _HEADER.size + len(record)
            self.records -= 1

    def empty(self) -> None:
        """Give the disk back what it holds. Every record was skipped."""
        os.ftruncate(self.descriptor, 0)
        self.start = self.end = 0


class Spool:
    """`append` from any thread; `read`, `clear` and `adopt` from the writer's thread. `records` wait in all."""

    def __init__(self, *, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self._path = folder / f"{os.getpid()}-{uuid.uuid4().hex}.spool"
        self._own: _File | None = None
        self._adopted: list[_File] = []
        self.records = 0

    def append(self, record: bytes) -> None:
        """Durable when it returns. Raises OSError when the disk refuses."""
        with self._lock:
            if self._own is None:
                self._own = _File(self._path, self._made())
            self._own.append(record)
            self.records += 1

    def read(self, most: int | None = None) -> list[bytes]:
        """The first `most` whole records, all by default: those of dead processes, then in the order of writing."""
        found: list[bytes] = []
        with self._lock:
            for file in self._files():
                for record in file.waiting():
                    if most is not None and len(found) >= most:
                        return found
                    found.append(record)
        return found

    def clear(self, count: int) -> None:
        """Forget the first `count` records: they are in the ledger now. Raises OSError; none of the others is lost."""
        with self._lock:
            for file in self._files():
                skipped = min(count, file.records)
                file.skip(skipped)
                self.records -= skipped
                count -= skipped
                if file.records == 0:
                    self._remove(file)

    def adopt(self) -> int:
        """Take over the files of processes that are gone, where they lie. Returns how many records they hold."""
        adopted = 0
        for path in sorted(self._folder.glob("*.spool")):
            if path == self._path:
                continue
            file = _taken(path)
            if file is None:
                continue
            with self._lock:
                self._adopted.append(file)
                self.records += file.records
                adopted += file.records
                if file.records == 0:
                    self._remove(file)
        return adopted

    def quarantine(self, record: bytes) -> None:
        """Keep a record that the database rejected, for a person to look at. Raises OSError."""
        with self._lock, (self._folder / "quarantine.jsonl").open("ab") as file:
            file.write(record + b"\n")
            file.flush()
            os.fdatasync(file.fileno())

    def close(self) -> None:
        """What still waits is left to whoever looks next."""
        with self._lock:
            if self._own is not None:
                if self._own.records == 0:
                    self._path.unlink(missing_ok=True)
                os.close(self._own.descriptor)
                self._own = None
            for file in self._adopted:
                os.close(file.descriptor)
            self._adopted = []
            self.records = 0

    # --- inside -------------------------------------------------------------------------------------------

    def _files(self) -> list[_File]:
        return [*self._adopted, self._own] if self._own is not None else list(self._adopted)

    def _remove(self, file: _File) -> None:
        """Nothing waits in it: an adopted file goes, the own one is used again."""
        if file is self._own:
            file.empty()
            return
        file.path.unlink(missing_ok=True)
        self._adopted.remove(file)
        os.close(file.descriptor)

    def _made(self) -> int:
        """The descriptor of this process's own file."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)  # the file's name must survive a crash, not only its bytes
            finally:
                os.close(folder)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _taken(path: Path) -> _File | None:
    """The file of a process that is gone, locked; None when its owner lives or another one was faster."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return _File(path, descriptor)
    except BlockingIOError:
        pass  # its owner lives
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _record_at(descriptor: int, offset: int) -> bytes | None:
    """The record at `offset`; None at the end of the file, and where it is torn."""
    header = os.pread(descriptor, _HEADER.size, offset)
    if len(header) < _HEADER.size:
        return None
    length, crc = _HEADER.unpack(header)
    # No settle is empty; a crash may leave zeros behind the last record that was synced.
    if not 0 < length <= MAX_RECORD_BYTES:
        return None
    record = os.pread(descriptor, length, offset + _HEADER.size)
    return record if len(record) == length and zlib.crc32(record) == crc else None
