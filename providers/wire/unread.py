"""Text that admission does not read: it is checked to be text, but no string is made of it.

Most bytes of a request are its messages' text, which a body that passes through needs nowhere. To step over a string
takes a third of the time of decoding it, where it has escapes or letters beyond ASCII.
"""

from __future__ import annotations

from msgspec import Raw

from providers.errors import InvalidRequest
from providers.unified import Json
from providers.wire.base import json_object

_TEXT, _NULL = b'"n'


def read(body: bytes) -> Json:
    """The JSON object that admission went over: its texts are read only now. Raises InvalidRequest."""
    try:
        return json_object(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param="$") from error


def is_text(raw: Raw) -> bool:
    view = memoryview(raw)
    return view.nbytes > 0 and view[0] == _TEXT


def is_absent(raw: Raw) -> bool:
    """Not given, or null."""
    view = memoryview(raw)
    return view.nbytes == 0 or view[0] == _NULL
