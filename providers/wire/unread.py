"""Text that admission does not read: it is checked to be text, but no string is made of it.

Most bytes of a request are its messages' text, which a body that passes through needs nowhere. To step over a string
takes a third of the time of decoding it, where it has escapes or letters beyond ASCII.
"""

from __future__ import annotations

import ctypes
from typing import Any

import msgspec
from msgspec import Raw

from providers.errors import InvalidRequest
from providers.unified import Json
from providers.wire.base import json_object

_TEXT, _NULL = b'"n'
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
# Below this, a second pass costs less than finding out what it could leave out.
_WORTH_CUTTING = 16_384


class _Buffer(ctypes.Structure):
    """Python's `Py_buffer` (stable ABI, docs.python.org/3/c-api/buffer.html): where an object keeps its bytes."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_Buffer)]
_release_buffer.restype = None


def read(body: bytes) -> Json:
    """The JSON object that admission went over: its texts are read only now. Raises InvalidRequest."""
    try:
        return json_object(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param="$") from error


def told_with_its_path(
    body: bytes, error: msgspec.ValidationError, *, reader: msgspec.json.Decoder[Any]
) -> msgspec.ValidationError:
    """`error`, or what `reader`, which reads all, has to say of the same body: it knows the whole path."""
    try:
        reader.decode(body)
    except msgspec.ValidationError as told:
        return told
    return error


def is_text(raw: Raw) -> bool:
    view = memoryview(raw)
    return view.nbytes > 0 and view[0] == _TEXT


def is_absent(raw: Raw) -> bool:
    """Not given, or null."""
    view = memoryview(raw)
    return view.nbytes == 0 or view[0] == _NULL


def fields(body: bytes, name: str, *, first: Raw, last: Raw) -> dict[str, Raw]:
    """Every top-level field of a body as it came; the list in field `name` is not gone over again.

    `first` and `last` are values at the same depth within the first and the last element of that list, as a decoder
    told them of this very `body` (which so is known to be JSON). With all from the one to the other cut out and `0` put
    there, it is the same object with a short list: where that list lies tells where the whole one does. Where either is
    absent, or is no view on the body, the body is read once more. Raises DecodeError and RecursionError.
    """
    if len(body) < _WORTH_CUTTING:
        return _FIELDS.decode(body)
    began, ends = _offset(first, body), _offset(last, body)
    if began is None or ends is None or ends < began:
        return _FIELDS.decode(body)
    ends += memoryview(last).nbytes
    short = body[:began] + b"0" + body[ends:]
    found = _FIELDS.decode(short)
    at = _offset(found[name], short)
    length = memoryview(found[name]).nbytes
    if at is None or not at < began < at + length:
        return _FIELDS.decode(body)
    found[name] = Raw(memoryview(body)[at : at + length - 1 + ends - began])
    return found


def _offset(raw: Raw, body: bytes) -> int | None:
    """Where in `body` a part of it begins; None for what is not a part of it."""
    offset, length = _address(raw) - _address(body), memoryview(raw).nbytes
    return offset if length and 0 <= offset <= len(body) - length else None


def _address(held: Raw | bytes) -> int:
    buffer = _Buffer()
    _get_buffer(held, buffer, 0)
    address: int = buffer.buf or 0
    _release_buffer(buffer)
    return address
