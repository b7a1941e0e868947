"""Cohere's errors {"id", "message", "error_type"} -> the tree; and ours -> a client of this wire.

https://docs.cohere.com/reference/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from providers import sse
from providers.counts import decode
from providers.errors import ContentRefused, ProviderError, QuotaExhausted, RateLimited, UpstreamError
from providers.scrub import scrub
from providers.unified import Json
from providers.wire.jsontext import dumps
from providers.wire.openai_chat import errors as openai
from providers.wire.openai_chat.parts import string

# A trial key has so many calls a month: waiting does not cure that.
_MONTHLY = re.compile(r"(?i)calls? ?/ ?month|per month|monthly")
_REFUSED_TOKEN = 498


def decode_error(*, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
    """The error of an answer with an error status. Never raises."""
    try:
        value = decode(body)
    except ValueError:
        value = body.decode("utf-8", "replace")
    lowered = {name.lower(): item for name, item in headers.items()}
    error = openai.error_from(_named(value), status=status, headers=lowered, provider=provider)
    request_id = string(value.get("id")) if isinstance(value, dict) else ""
    error.upstream_request_id = error.upstream_request_id or request_id
    if status == _REFUSED_TOKEN:
        return _as(ContentRefused, error)
    if isinstance(error, RateLimited) and _MONTHLY.search(error.message):
        return _as(QuotaExhausted, error)
    return error


def _named(value: object) -> object:
    """`error_type` is what others call the code."""
    return {**value, "code": value.get("error_type")} if isinstance(value, dict) else value


def _as(kind: type[ProviderError], error: ProviderError) -> ProviderError:
    return kind(
        error.message,
        provider=error.provider,
        status=error.status,
        upstream_request_id=error.upstream_request_id,
        upstream_code=error.upstream_code,
    )


def failed_generation(value: Json) -> UpstreamError:
    """A 200 whose generation failed on the way: `error` in the last event, or a finish reason alone."""
    reason = string(value.get("finish_reason")) or "ERROR"
    return UpstreamError(
        scrub(string(value.get("error"))) or f"The provider broke off the answer: {reason}.", upstream_code=reason
    )


def encode_error(
    *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
) -> bytes:
    """{"id", "message"} as Cohere writes it, with our code, ids and field beside them."""
    value = {"id": call_id or request_id, "message": message, "code": code, "param": param or None}
    return dumps(value | {"request_id": request_id or None, "call_id": call_id or None})


def encode_stream_error(*, code: str, message: str, request_id: str, call_id: str) -> bytes:
    """A message-end whose finish reason is ERROR: Cohere's clients know no event for errors and skip others."""
    value = {"type": "message-end", "id": call_id or request_id, "delta": {"error": message, "finish_reason": "ERROR"}}
    told = value | {"code": code, "request_id": request_id or None, "call_id": call_id or None}
    return sse.encode(data=dumps(told), event="message-end")
