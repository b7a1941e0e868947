"""The lines of a batch's input: read one by one, so that a file may be larger than memory. No Django, no database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

MAX_LINES = 50_000
MAX_CUSTOM_ID = 512
# What is told of a bad file; the rest would say the same again.
MOST_FAULTS = 50
_BOM = b"\xef\xbb\xbf"


class Line(Struct, frozen=True):
    """One request. `number` is its line in the file, from 1; `body` are the bytes as the client wrote them."""

    number: int
    custom_id: str
    model: str
    body: bytes


class Fault(Struct, frozen=True):
    """What is wrong with a line, or with the file (line None), as the API tells it."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BadLine(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Entry(Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(Struct):
    model: str
    stream: bool | None = None


_entry = msgspec.json.Decoder(_Entry)
_body = msgspec.json.Decoder(_Body)


def read(raw: bytes, *, number: int, endpoint: str) -> Line:
    """The request in a line. Raises BadLine."""
    if number == 1:
        raw = raw.removeprefix(_BOM)
    try:
        entry = _entry.decode(raw)
    except msgspec.ValidationError as error:
        raise _bad("missing_required_parameter", f"This line is no request: {error}.", number) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad("invalid_json_line", f"This line is not a JSON object: {str(error)[:200]}.", number) from None
    if not 0 < len(entry.custom_id) <= MAX_CUSTOM_ID:
        raise _bad("invalid_custom_id", f"custom_id has 1 to {MAX_CUSTOM_ID} characters.", number, "custom_id")
    if entry.method != "POST":
        raise _bad("invalid_method", f"The method is POST, not {entry.method[:20]!r}.", number, "method")
    if entry.url != endpoint:
        raise _bad(
            "mismatched_url", f"The url {entry.url[:80]!r} is not the batch's endpoint {endpoint!r}.", number, "url"
        )
    return Line(number=number, custom_id=entry.custom_id, model=_model(entry.body, number), body=bytes(entry.body))


def _model(raw: msgspec.Raw, number: int) -> str:
    try:
        body = _body.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad("invalid_request", f"The body is not a request: {str(error)[:200]}.", number, "body") from None
    if body.stream:
        raise _bad("unsupported_parameter", "A request of a batch cannot stream: leave 'stream' out.", number, "stream")
    return body.model


def _bad(code: str, message: str, number: int, param: str | None = None) -> BadLine:
    return BadLine(Fault(code, message, param, number))


def validate(path: Path, *, endpoint: str, max_line_bytes: int) -> tuple[int, list[Fault]]:
    """How many requests the file holds, and what is wrong with it: at most MOST_FAULTS of it."""
    faults: list[Fault] = []
    seen: dict[bytes, int] = {}
    for number, raw in walk(path, max_line_bytes=max_line_bytes):
        if len(seen) >= MAX_LINES:
            return len(seen), [Fault("too_many_requests", f"A batch has at most {MAX_LINES} requests.")]
        try:
            if len(raw) > max_line_bytes:
                raise _bad("request_too_large", f"This line is longer than {max_line_bytes} bytes.", number)
            line = read(raw, number=number, endpoint=endpoint)
        except BadLine as error:
            faults.append(error.fault)
        else:
            # A digest: 50,000 long ids would be megabytes.
            first = seen.setdefault(hashlib.blake2b(line.custom_id.encode(), digest_size=16).digest(), number)
            if first != number:
                faults.append(
                    Fault("duplicate_custom_id", f"This custom_id is that of line {first}, too.", "custom_id", number)
                )
        if len(faults) >= MOST_FAULTS:
            break
    if not seen and not faults:
        faults.append(Fault("empty_file", "The file holds no requests."))
    return len(seen), faults


def walk(path: Path, *, max_line_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with its number; of one that is too long only so much as shows that."""
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(max_line_bytes + 1):
            number += 1
            if len(raw) > max_line_bytes:
                _skip_rest(file, raw)
            if raw.strip():
                yield number, raw


def _skip_rest(file: BinaryIO, raw: bytes) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(65536)
