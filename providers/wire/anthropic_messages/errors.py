"""Anthropic's error bodies -> our error tree, and our errors in Anthropic's shape.

    {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_..."}

What an error is, is told by three things, the first that decides: words of the message (one type stands for many
causes), the error's type, the status. The first two blame the request only where the status leaves it open: another
server at a wrong base URL answers 404 in words and types of its own. https://platform.claude.com/docs/en/api/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from providers.errors import (
    ContentRefused,
    ContextTooLong,
    InvalidCredential,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UpstreamError,
)
from providers.retry import retry_after_s
from providers.scrub import scrub
from providers.sse import encode
from providers.unified import Json
from providers.wire.anthropic_messages.jsontext import dumps, loads

# What a message says, for statuses 400 to 499. Also the words of hosts that serve the same bodies.
_WORDS: tuple[tuple[re.Pattern[str], type[ProviderError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (
            r"prompt is too long|exceeds? (the )?(model'?s )?(context|maximum context)|exceed context limit",
            ContextTooLong,
        ),
        (r"input is too long for (the )?requested model|too many (input )?tokens in (the )?prompt", ContextTooLong),
        (r"credit balance is too low|(usage|spend|spending) limits?\b", QuotaExhausted),
        (r"blocked by (the )?content filter|content filtering policy", ContentRefused),
        (r"organization has been disabled|account has been disabled", PermissionDenied),
        (r"security token .*(expired|invalid)|invalid (bearer token|x-api-key)", InvalidCredential),
        (r"model identifier is invalid", ModelNotFound),
    )
)
# Codes under error.details.error_code that waiting a moment does not cure.
_SPENT = re.compile(r"(spend_limit|billing|credit)")

_TYPES: dict[str, type[ProviderError]] = {
    "authentication_error": InvalidCredential,
    "billing_error": QuotaExhausted,
    "permission_error": PermissionDenied,
    "not_found_error": ModelNotFound,
    "request_too_large": InvalidRequest,
    "invalid_request_error": InvalidRequest,
    "rate_limit_error": RateLimited,
    "overloaded_error": Overloaded,
    "api_error": UpstreamError,
    "timeout_error": UpstreamError,
}
_STATUSES: dict[int, type[ProviderError]] = {
    401: InvalidCredential,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: ModelNotFound,
    405: UpstreamError,  # the method is ours: a wrong base URL
    408: UpstreamError,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}
# An error inside a stream has no status of its own: the one its type has as a whole answer.
_TYPE_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_WORD_OF_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# "messages.1.content.0.text: Field required"
_PARAM = re.compile(r"^([a-z_]+(?:\.[A-Za-z0-9_-]+)*): ")
_MODEL = re.compile(r"^model: (\S+)")
# What else than a model may not be found.
_OTHER_THING = re.compile(r"\b(file|container|skill|batch)\b", re.IGNORECASE)


class _Said(Struct, frozen=True):
    """What an error body says."""

    type: str = ""
    message: str = ""
    code: str = ""
    request_id: str = ""


def decode_error(*, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
    """The error of an answer with an error status. Its message is scrubbed; a body that is no JSON is not quoted."""
    try:
        said = _read(loads(body))
    except ValueError:
        said = _Said()
    lower = {name.lower(): value for name, value in headers.items()}
    request_id = said.request_id or _request_id(lower)
    wait_s = retry_after_s(status=status, headers=lower)
    return _build(said, status=status, provider=provider, request_id=request_id, wait_s=wait_s)


def error_of(event: Json) -> ProviderError:
    """The error that an `error` event of a stream, or an error body under status 200, carries."""
    said = _read(event)
    status = _TYPE_STATUSES.get(said.type, 500)
    return _build(said, status=status, provider="", request_id=said.request_id, wait_s=None)


def encode_error(
    *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
) -> bytes:
    """An error body. `code` is our stable code, beside Anthropic's own type word for the status."""
    return dumps(_body(status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id))


def encode_stream_error(*, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
    """An `error` event."""
    body = _body(status=status, code=code, message=message, param="", request_id=request_id, call_id=call_id)
    return encode(data=dumps(body), event="error")


def _body(*, status: int, code: str, message: str, param: str, request_id: str, call_id: str) -> Json:
    word = _WORD_OF_STATUS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": word, "message": message, "code": code, "param": param or None},
        "request_id": request_id or None,
        "call_id": call_id or None,
    }


def _read(raw: Any) -> _Said:
    if not isinstance(raw, dict):
        return _Said()
    error = raw.get("error")
    if not isinstance(error, dict):
        # Hosts of this wire in front of the model say {"message": ...} alone, or {"error": "..."}.
        return _Said(message=_word(raw.get("message")) or _word(error), request_id=_word(raw.get("request_id")))
    details = error.get("details")
    return _Said(
        type=_word(error.get("type")),
        message=_word(error.get("message")),
        code=_word(details.get("error_code")) if isinstance(details, dict) else "",
        request_id=_word(raw.get("request_id")),
    )


def _build(said: _Said, *, status: int, provider: str, request_id: str, wait_s: float | None) -> ProviderError:
    kind = _kind(said, status)
    message = scrub(said.message) or f"The provider answered with status {status} and no message."
    common: dict[str, Any] = {
        "provider": provider,
        "status": status,
        "upstream_request_id": request_id,
        "upstream_code": said.code or said.type,
    }
    if issubclass(kind, InvalidRequest):
        found = _PARAM.match(said.message)
        return kind(message, param=found[1] if found else "", **common)
    if kind is ModelNotFound:
        named = _MODEL.match(said.message)
        return ModelNotFound(message, model=named[1] if named else "", **common)
    return kind(message, retry_after_s=wait_s, **common)


def _kind(said: _Said, status: int) -> type[ProviderError]:
    kind = _told(said, status)
    if kind is ModelNotFound and _OTHER_THING.search(said.message):
        return InvalidRequest
    if kind is not None and not (issubclass(kind, InvalidRequest) and _is_ours(kind, status)):
        return kind
    return _STATUSES.get(status) or (UpstreamError if status >= 500 else InvalidRequest)


def _told(said: _Said, status: int) -> type[ProviderError] | None:
    """By the words, then by the type."""
    if status < 500:
        for words, kind in _WORDS:
            if words.search(said.message):
                return kind
        if status == 429 and _SPENT.search(said.code):
            return QuotaExhausted
    return _TYPES.get(said.type)


def _is_ours(kind: type[ProviderError], status: int) -> bool:
    """Whether the status says that the request is not to blame. Content filters answer 403, too."""
    return status >= 500 or (status in _STATUSES and not (status == 403 and kind is ContentRefused))


def _request_id(headers: Mapping[str, str]) -> str:
    return headers.get("request-id") or headers.get("x-request-id") or headers.get("x-amzn-requestid") or ""


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
