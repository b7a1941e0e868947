"""What a batch writes: one line for each request that ended, appended and synced, found again after a crash.

A line's `id` ends in the number of the line it answers, so that the files themselves say what is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import Struct


class _Written(Struct):
    id: str


class Record(Struct, frozen=True):
    """`body` is JSON, `status` its HTTP status. Without them `code` and `message` say why nobody was asked."""

    number: int
    custom_id: str
    status: int = 0
    request_id: str = ""
    body: bytes = b""
    code: str = ""
    message: str = ""

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300


_written = msgspec.json.Decoder(_Written)


def encode(record: Record, *, batch_id: str) -> bytes:
    """The line of a record, with its end of line."""
    response = None
    if record.status:
        response = {"status_code": record.status, "request_id": record.request_id, "body": _on_one_line(record.body)}
    error = {"code": record.code, "message": record.message} if record.code else None
    row = {
        "id": f"batch_req_{batch_id.removeprefix('batch_')}_{record.number}",
        "custom_id": record.custom_id,
        "response": response,
        "error": error,
    }
    return msgspec.json.encode(row) + b"\n"


def _on_one_line(body: bytes) -> msgspec.Raw:
    """The JSON without the line breaks that some providers write; what is no JSON at all, as a text."""
    try:
        return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(body.decode("utf-8", "replace")))


class Results:
    """A file of records: `numbers` of those in it, `append` more. For one process at a time."""

    def __init__(self, path: Path, *, batch_id: str) -> None:
        self._batch_id = batch_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self.count = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        _sync_folder(path.parent)

    def numbers(self) -> Iterator[int]:
        """The lines answered so far. What a crash left half written is cut off. Read it whole before appending."""
        self.count = whole = 0
        with open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            for raw in file:
                number = _number(raw)
                if number is None:
                    break
                whole += len(raw)
                self.count += 1
                yield number
        os.ftruncate(self._descriptor, whole)

    def append(self, records: Iterable[Record]) -> None:
        """Write these records; they are on the disk on return."""
        lines = [encode(record, batch_id=self._batch_id) for record in records]
        left = memoryview(b"".join(lines))
        if not left:
            return
        while left:
            left = left[os.write(self._descriptor, left) :]
        os.fdatasync(self._descriptor)
        self.count += len(lines)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _number(raw: bytes) -> int | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        return int(_written.decode(raw).id.rpartition("_")[2])
    except (msgspec.DecodeError, ValueError):
        return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
