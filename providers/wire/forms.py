"""Forms (multipart/form-data) as bytes: where each part begins and ends, so that one can be changed and no other is.

A form tells its boundary in its first line, so its bytes need no header beside them. Splitting is done here, because a
parser that hands out copies cannot say where a part stood; the header of a part is read by the standard library.
What readers of forms disagree about (a name given twice, a name in RFC 2231's way, an encoding of its own, bytes after
the end) is refused: a provider must not see another field than the one that was checked.
https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.message import Message
from email.parser import HeaderParser

from msgspec import Struct

from providers.errors import InvalidRequest

MAX_PARTS = 256
MAX_HEADER_BYTES = 8 * 1024
# RFC 2046 allows a space within a boundary, which some clients quote and others do not: none sends one.
_FIRST_LINE = re.compile(rb"--([0-9A-Za-z'()+_,./:=?-]{1,70})[ \t]*\r\n")
_AFTER_MARK = re.compile(rb"(--)?[ \t]*(?:\r\n|\Z)")
# A line end that is not CR LF, and one that folds a line.
_ODD_LINE_END = re.compile(r"(?<!\r)\n|\r(?!\n)|\n[ \t]")
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})


class Part(Struct, frozen=True):
    """One part. Its content is `body[start:end]` of the form; `is_file`: it has a file's name, be it an empty one."""

    name: str
    start: int
    end: int
    is_file: bool = False
    filename: str = ""
    content_type: str = ""


class Form(Struct, frozen=True):
    """A form and its parts, in order."""

    body: bytes
    boundary: bytes
    parts: tuple[Part, ...]

    def files(self) -> list[Part]:
        return [part for part in self.parts if part.is_file]

    def file(self, name: str) -> bytes | None:
        """The content of the first file in the field `name`."""
        return next((self.content(part) for part in self.files() if part.name == name), None)

    def content(self, part: Part) -> bytes:
        return self.body[part.start : part.end]

    def texts(self) -> dict[str, list[str]]:
        """The fields that are no files, by name. Raises InvalidRequest for one that is no UTF-8 or holds a NUL."""
        found: dict[str, list[str]] = {}
        for part in self.parts:
            if not part.is_file:
                found.setdefault(part.name, []).append(self._text(part))
        return found

    def with_field(self, name: str, value: str) -> bytes:
        """The form with another text in its one field `name`; every other byte as it was."""
        (part,) = (part for part in self.parts if part.name == name)
        return b"".join((self.body[: part.start], value.encode(), self.body[part.end :]))

    def _text(self, part: Part) -> str:
        try:
            text = self.content(part).decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"The field {part.name!r} is not UTF-8.", param=part.name) from None
        if "\0" in text:
            raise InvalidRequest(
                f"The field {part.name!r} holds a NUL character, which cannot be recorded.", param=part.name
            )
        return text


def is_form(body: bytes) -> bool:
    """Whether the bytes are a form: no JSON begins with two hyphens."""
    return body.startswith(b"--")


def content_type(body: bytes) -> str:
    """What the header must say of a form."""
    found = _FIRST_LINE.match(body)
    boundary = found[1].decode() if found else ""
    return f'multipart/form-data; boundary="{boundary}"'


def without_boundary(body: bytes) -> bytes:
    """Equal bytes for equal forms: clients make up a new boundary for each attempt."""
    found = _FIRST_LINE.match(body)
    return body.replace(b"--" + found[1], b"--") if found else body


def parse(body: bytes) -> Form:
    """Raises InvalidRequest whose param is the field that is wrong, or "body" for the form itself."""
    first = _FIRST_LINE.match(body)
    if first is None:
        raise _wrong("The form does not begin with its boundary.")
    parts = tuple(_parts(body, mark=b"\r\n--" + first[1], start=first.end()))
    return Form(body, first[1], parts)


def _parts(body: bytes, *, mark: bytes, start: int) -> Iterator[Part]:
    for _ in range(MAX_PARTS):
        # The line end before a boundary belongs to it: for an empty header block that is the one just read.
        end, after, is_last = _next_mark(body, mark, start - 2)
        yield _part(body, start, end)
        if is_last:
            if body[after:].strip(b" \t\r\n"):
                raise _wrong("There are bytes after the end of the form.")
            return
        start = after
    raise _wrong(f"The form has more than {MAX_PARTS} parts.")


def _next_mark(body: bytes, mark: bytes, start: int) -> tuple[int, int, bool]:
    """(where the part ends, where the next begins, whether the form is over)."""
    at = start
    while (at := body.find(mark, at)) >= 0:
        line = _AFTER_MARK.match(body, at + len(mark))
        if line is not None:
            if line[1] is None and line.end() == len(body):
                break
            return at, line.end(), line[1] is not None
        at += len(mark)
    raise _wrong("The form is cut off: its closing boundary is missing.")


def _part(body: bytes, start: int, end: int) -> Part:
    head_end = body.find(b"\r\n\r\n", start, end)
    if head_end < 0 or head_end - start > MAX_HEADER_BYTES:
        raise _wrong("A part of the form has no header, or one that is too long.")
    header = _header(body[start:head_end])
    name = _name(header)
    if str(header.get("Content-Transfer-Encoding", "")).strip().lower() not in _PLAIN_ENCODINGS:
        raise InvalidRequest(f"The field {name!r} is encoded for mail: send its bytes as they are.", param=name)
    filename = header.get_filename(None)
    return Part(
        name=name,
        start=head_end + 4,
        end=end,
        is_file=filename is not None,
        filename=filename or "",
        content_type=header.get_content_type() if "Content-Type" in header else "",
    )


def _header(raw: bytes) -> Message:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _wrong("The header of a part of the form is not UTF-8.") from None
    if "\0" in text:
        raise _wrong("A name in the form holds a NUL character.")
    if _ODD_LINE_END.search(text):
        raise _wrong("The header of a part of the form is broken.")
    header = HeaderParser().parsestr(text + "\r\n\r\n")
    if header.defects or str(header.get_payload()).strip():
        raise _wrong("The header of a part of the form is broken.")
    return header


def _name(header: Message) -> str:
    dispositions = header.get_all("Content-Disposition", [])
    params = header.get_params([], header="Content-Disposition") if len(dispositions) == 1 else []
    told = [key.lower() for key, _ in params]
    names = [value for key, value in params if key.lower() == "name"]
    if not told or told[0] != "form-data" or len(names) != 1 or told.count("filename") > 1:
        raise _wrong("A part of the form needs one Content-Disposition: form-data with one name.")
    name = names[0]
    if not isinstance(name, str) or not name:
        raise _wrong("A part of the form needs a name in plain characters.")
    return name


def _wrong(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="body")


def single(texts: Mapping[str, list[str]], name: str) -> str:
    """The one text of a field, '' without it. Raises InvalidRequest when the field stands twice in the form."""
    values = texts.get(name, [])
    if len(values) > 1:
        raise InvalidRequest(f"The field {name!r} stands in the form {len(values)} times.", param=name)
    return values[0] if values else ""
