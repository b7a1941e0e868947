"""A client's request as bytes: read within bounds, unpacked, and refused for what no surface can take."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.utils.http import parse_header_parameters

from gateway.errors import ApiError
from providers.wire import forms

_NUL_ESCAPE = re.compile(rb"\\u0000")
# A NUL by escape, not preceded by an escaping backslash of its own. PostgreSQL's text cannot hold one.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_TAG_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,128}")
MAX_TAGS = 16
MAX_TAG_VALUE = 256


def read_body(meta: Mapping[str, Any]) -> bytes:
    """The request's body, unpacked: text. Raises ApiError request_too_large or invalid_request."""
    return checked(read_bytes(meta))


def read_body_or_form(meta: Mapping[str, Any]) -> bytes:
    """As `read_body`; a form (multipart/form-data) may hold any bytes, and begins with the boundary of its header."""
    body = read_bytes(meta)
    kind, params = parse_header_parameters(str(meta.get("CONTENT_TYPE") or ""))
    # curl calls JSON so, too, unless it is told otherwise.
    if kind == "application/x-www-form-urlencoded" and not body.lstrip().startswith(b"{"):
        raise ApiError(
            "invalid_request",
            "A urlencoded form holds no file: send multipart/form-data with the file in it, or JSON.",
            param="Content-Type",
        )
    if kind != "multipart/form-data":
        if forms.is_form(body):
            raise ApiError("invalid_request", "The body is a form: say so with Content-Type multipart/form-data.")
        return checked(body)
    boundary = params.get("boundary", "")
    # Some clients send a line end first, which belongs to the boundary.
    body = body.lstrip(b"\r\n")
    if not boundary or not body.startswith(b"--" + boundary.encode("ascii", "replace")):
        raise ApiError(
            "invalid_request", "The form does not begin with the boundary of Content-Type.", param="Content-Type"
        )
    return body


def read_bytes(meta: Mapping[str, Any]) -> bytes:
    """The request's body, unpacked, whatever it is. Raises ApiError request_too_large or invalid_request."""
    limit: int = settings.MAX_BODY_BYTES
    length = _length(meta)
    if length is not None and length > limit:
        raise _too_large(limit)
    stream = meta["wsgi.input"]
    try:
        body: bytes = stream.read(limit + 1 if length is None else length)
    except OSError:
        raise ApiError("invalid_request", "The body is cut off, came too slowly, or its chunks are broken.") from None
    if len(body) > limit:
        raise _too_large(limit)
    if length is not None and len(body) < length:
        raise ApiError("invalid_request", "The connection ended before the whole body arrived, or it came too slowly.")
    encoding = str(meta.get("HTTP_CONTENT_ENCODING", "")).strip().lower()
    if encoding == "gzip":
        body = _gunzip(body, limit)
    elif encoding not in ("", "identity"):
        raise ApiError("invalid_request", f"Content-Encoding {encoding!r} is not supported: send gzip or plain JSON.")
    return body


def checked(body: bytes) -> bytes:
    """The body, if it is text that JSON and the ledger can hold. Raises ApiError invalid_request."""
    if not body.strip():
        raise ApiError("invalid_request", "The body is empty: send a JSON object.")
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ApiError("invalid_request", f"The body is not UTF-8: byte {error.start} is wrong.") from None
    if b"\0" in body or _holds_escaped_nul(body):
        raise ApiError("invalid_request", "The body holds a NUL character, which cannot be recorded.")
    return body


def tags(text: str) -> dict[str, str]:
    """`X-Tollbook-Tags: team=search,env=prod` as a dict. Raises ApiError invalid_request."""
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, separator, value = (piece.strip() for piece in pair.partition("="))
        if not separator or not _TAG_NAME.fullmatch(name) or len(value) > MAX_TAG_VALUE or not value.isprintable():
            raise ApiError(
                "invalid_request", f"X-Tollbook-Tags: {pair[:80]!r} is not name=value.", param="X-Tollbook-Tags"
            )
        found[name] = value
    if len(found) > MAX_TAGS:
        raise ApiError("invalid_request", f"X-Tollbook-Tags: at most {MAX_TAGS} tags.", param="X-Tollbook-Tags")
    return found


def timeout_s(text: str) -> float | None:
    """`X-Tollbook-Timeout-S` in seconds above zero; None without one. Raises ApiError invalid_request."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise ApiError(
            "invalid_request", f"X-Tollbook-Timeout-S: {text[:40]!r} is not within 0 to 3600 seconds.",
            param="X-Tollbook-Timeout-S",
        )
    return value


def client_request_id(text: str) -> str:
    """The client's own request id, if it may stand in a header and a log; else ''."""
    return text if _CLIENT_ID.fullmatch(text) else ""


def _holds_escaped_nul(body: bytes) -> bool:
    """One byte is looked for thirty times as fast as six: many bodies hold no backslash, and prose few zeros."""
    at = body.find(b"\\")
    if at < 0:
        return False
    # So few that looking at each costs less than half of what looking for the six costs.
    for _ in range(len(body) // 1000):
        at = body.find(b"0", at)
        if at < 0:
            return False
        if body.startswith(b"0000", at):
            break
        at += 1
    return bool(_NUL_ESCAPE.search(body) and _ESCAPED_NUL.search(body))


def _length(meta: Mapping[str, Any]) -> int | None:
    text = meta.get("CONTENT_LENGTH")
    if text in (None, ""):
        # Without either there is no body; a chunked one is read to its end.
        return None if "chunked" in str(meta.get("HTTP_TRANSFER_ENCODING", "")).lower() else 0
    try:
        return max(0, int(text))
    except ValueError:
        raise ApiError("invalid_request", "Content-Length is not a number.") from None


def _gunzip(body: bytes, limit: int) -> bytes:
    unpack = zlib.decompressobj(wbits=31)
    try:
        plain = unpack.decompress(body, limit + 1)
    except zlib.error:
        raise ApiError("invalid_request", "The body says it is gzip and is not.") from None
    if len(plain) > limit:
        raise _too_large(limit)
    if not unpack.eof or unpack.unused_data:
        raise ApiError("invalid_request", "The gzip body is cut off or has bytes after its end.")
    return plain


def _too_large(limit: int) -> ApiError:
    return ApiError("request_too_large", f"The body is larger than {limit} bytes.")
