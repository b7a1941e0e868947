"""A provider's error, as an answer or inside a stream -> the tree of `providers.errors`; and ours -> the client.

First by what the provider calls it (code, type), then by its words, then by the status: vendors share the statuses,
few share the names, and some send a quota that waiting does not cure as a plain 429.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from msgspec import Struct

from providers.counts import decode
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
from providers.scrub import scrub
from providers.wire.jsontext import dumps
from providers.wire.openai_chat.parts import string

_Kind = type[ProviderError]
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "mistral-correlation-id", "x-ms-request-id")

_BY_NAME: dict[str, _Kind] = {
    "invalid_api_key": InvalidCredential,
    "authentication_error": InvalidCredential,
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "insufficient_balance": QuotaExhausted,
    "credits_exhausted": QuotaExhausted,
    "rate_limit_exceeded": RateLimited,
    "rate_limit_error": RateLimited,
    "ratelimitreached": RateLimited,
    "too_many_requests": RateLimited,
    "context_length_exceeded": ContextTooLong,
    "too_many_prompt_tokens": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
    "content_filter": ContentRefused,
    "content_policy_violation": ContentRefused,
    "responsibleaipolicyviolation": ContentRefused,
    "data_inspection_failed": ContentRefused,
    "moderation_blocked": ContentRefused,
    "model_not_found": ModelNotFound,
    "model_not_available": ModelNotFound,
    "model_not_supported": ModelNotFound,
    "model_decommissioned": ModelNotFound,
    "invalid_model": ModelNotFound,
    "deploymentnotfound": ModelNotFound,
    "permission_error": PermissionDenied,
    "permission_denied": PermissionDenied,
    "organization_restricted": PermissionDenied,
    "overloaded_error": Overloaded,
    "engine_overloaded": Overloaded,
    "server_overloaded": Overloaded,
    "service_unavailable": Overloaded,
    "server_error": UpstreamError,
    "internal_server_error": UpstreamError,
    "internal_error": UpstreamError,
    "api_error": UpstreamError,
    "invalid_request_error": InvalidRequest,
}
# Names that some vendors give to errors of every kind: the words and the status say more.
_VAGUE = frozenset({"invalid_request_error", "api_error", "rate_limit_exceeded"})

_BY_WORDS: tuple[tuple[re.Pattern[str], _Kind], ...] = (
    (
        re.compile(
            r"(?i)maximum context length|context[ _](?:length|window|size)|prompt (?:is )?too long|input is too long"
            r"|too many (?:input |prompt )?tokens|max(?:imum)? context|length of all messages is too long"
            r"|reduce the length of|input token count.{0,40}exceeds|number of tokens.{0,60}exceeds|prompt exceeds max"
            r"|exceeds? the (?:model'?s )?maximum (?:input|number of)|maximum (?:model|prompt|input) length"
            r"|tokens \+ `?max_new_tokens"
        ),
        ContextTooLong,
    ),
    (re.compile(r"(?i)api[ _]key not valid|(?:incorrect|invalid) api[ _]key"), InvalidCredential),
    (
        re.compile(
            r"(?i)exceeded your current quota|insufficient (?:quota|credit|balance|funds)|credit balance is too low"
            r"|requires more credits|out of credits|billing (?:hard limit|details)|spending limit"
            r"|out of call volume quota|(?:usage|monthly|key|credit) limit (?:has been )?(?:reached|exceeded)"
        ),
        QuotaExhausted,
    ),
    (
        re.compile(
            r"(?i)content (?:management|usage)? ?policy|content filter|flagged (?:as|by|for)|requires moderation"
            r"|violates? (?:our |the )?(?:usage|safety|content) |unsafe or sensitive content"
        ),
        ContentRefused,
    ),
    (
        re.compile(
            r"(?i)not a valid model|no such model"
            r"|model.{0,80}(?:does not exist|not found|has been (?:deprecated|decommissioned))"
            r"|model.{0,80} is not supported\. supported models are"
        ),
        ModelNotFound,
    ),
)

_BY_STATUS: dict[int, _Kind] = {
    400: InvalidRequest,
    401: InvalidCredential,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: ModelNotFound,
    405: UpstreamError,  # the method is ours: a wrong base URL
    408: UpstreamError,
    409: UpstreamError,
    412: InvalidRequest,
    413: InvalidRequest,
    422: InvalidRequest,
    424: UpstreamError,  # Azure: what the answer depended on failed
    425: Overloaded,
    429: RateLimited,
    498: Overloaded,  # Groq: flex capacity exceeded
    499: UpstreamError,  # cancelled, and not by us: we would have hung up
    503: Overloaded,
    529: Overloaded,
}
# Gemini says "exceeded your current quota" for a limit per minute too, and adds when it will be over.
_TRANSIENT = re.compile(r"(?i)(?:retry|try again) in \d|retry shortly|temporarily")
# Which findings are believed at which status: a 429 is never a bad request, whatever its words.
_AT_429 = (QuotaExhausted, RateLimited)
_AT_400 = (
    ContextTooLong,
    ContentRefused,
    ModelNotFound,
    QuotaExhausted,
    InvalidCredential,
    PermissionDenied,
    InvalidRequest,
)
_AT_403 = (PermissionDenied, ContentRefused, QuotaExhausted, InvalidCredential)
# Perplexity answers a used-up account with 401.
_AT_401 = (InvalidCredential, QuotaExhausted)
_ALLOWED: dict[int, tuple[_Kind, ...]] = {
    400: _AT_400,
    401: _AT_401,
    412: _AT_400,
    413: _AT_400,
    422: _AT_400,
    403: _AT_403,
    404: (ModelNotFound,),
    429: _AT_429,
}


class _Said(Struct, frozen=True):
    """What an error body says, from whichever of its shapes."""

    message: str = ""
    names: tuple[str, ...] = ()
    param: str = ""
    status: int | None = None


def decode_error(*, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
    """The error of an answer with an error status (or a 200 whose body is an error). Never raises."""
    try:
        value = decode(body)
    except ValueError:
        value = body.decode("utf-8", "replace")
    lowered = {name.lower(): item for name, item in headers.items()}
    return error_from(value, status=status, headers=lowered, provider=provider)


def error_from(
    value: Any, *, status: int | None, headers: Mapping[str, str] | None = None, provider: str = ""
) -> ProviderError:
    """The error for a decoded body or stream event; `status` None where the transport said 200."""
    headers = headers or {}
    said = _said(value)
    status = status if status and status >= 400 else said.status
    kind = _kind(said, status)
    message = scrub(said.message) or f"The provider answered with status {status or 200} and no message."
    common: dict[str, Any] = {
        "provider": provider,
        "status": status,
        "upstream_request_id": next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), ""),
        "upstream_code": scrub(said.names[0]) if said.names else "",
    }
    if issubclass(kind, InvalidRequest):
        return kind(message, param=said.param, **common)
    if issubclass(kind, ModelNotFound):
        return kind(message, **common)
    return kind(message, retry_after_s=retry_after_s(headers), **common)


def _kind(said: _Said, status: int | None) -> _Kind:
    allowed = _ALLOWED.get(status or 0)
    if status is not None and allowed is None:
        return _BY_STATUS.get(status, UpstreamError if status >= 500 else InvalidRequest)
    named = [_BY_NAME[name] for name in said.names if name in _BY_NAME and name not in _VAGUE]
    worded = [kind for pattern, kind in _BY_WORDS if pattern.search(said.message)]
    # At 429 the plain name says less than words of a quota that is used up.
    found = [*worded, *named] if status == 429 else [*named, *worded]
    if status == 429 and _TRANSIENT.search(said.message):
        found = named
    for kind in found:
        if allowed is None or kind in allowed:
            return kind
    if status is not None:
        return _BY_STATUS[status]
    return next((_BY_NAME[name] for name in said.names if name in _BY_NAME), UpstreamError)


def _said(value: Any) -> _Said:
    """{"error": {...}}, {"error": "text"}, {"message": ...}, {"detail": ...}, a list of one of these, or plain text."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str):
        # A page of a proxy is not the provider's words.
        return _Said(message="" if value.lstrip().startswith("<") else value.strip())
    if not isinstance(value, dict):
        return _Said()
    inner = value.get("error")
    if isinstance(inner, str):
        return _Said(message=string(value.get("message")) or inner, names=_names(value.get("code"), value.get("type")))
    error = inner if isinstance(inner, dict) else value
    return _Said(
        message=_message(error),
        names=_names(error.get("code"), _inner_code(error), error.get("type"), error.get("status")),
        param=string(error.get("param")) or _detail_path(error.get("detail")),
        status=_status(error.get("code")) or _status(error.get("status")) or _status(error.get("status_code")),
    )


def _message(error: dict[str, Any]) -> str:
    message = error.get("message")
    if isinstance(message, dict):
        message = message.get("message") or message.get("detail")
    if not isinstance(message, str) or not message:
        message = _detail_text(error.get("detail"))
    metadata = error.get("metadata")
    raw = string(metadata.get("raw")) if isinstance(metadata, dict) else ""
    return f"{message}: {raw}" if raw else message


def _detail_text(detail: Any) -> str:
    """`detail` is a text, or a list of {"loc": [...], "msg": ...} from servers that validate that way."""
    if isinstance(detail, list):
        return "; ".join(string(item.get("msg")) for item in detail if isinstance(item, dict))
    return string(detail)


def _detail_path(detail: Any) -> str:
    first = detail[0] if isinstance(detail, list) and detail else None
    path = first.get("loc") if isinstance(first, dict) else None
    return ".".join(str(step) for step in path) if isinstance(path, list) else ""


def _inner_code(error: dict[str, Any]) -> Any:
    """Azure's content filter names itself one level down."""
    inner = error.get("innererror") or error.get("inner_error")
    return inner.get("code") if isinstance(inner, dict) else None


def _names(*values: Any) -> tuple[str, ...]:
    return tuple(value.lower() for value in values if isinstance(value, str) and value)


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599 else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms`, or `retry-after` in seconds or as a date (against the answer's own Date).

    `headers` have lower-case names. None when nothing usable is said.
    """
    readers: tuple[tuple[str, Callable[[str], float | None]], ...] = (
        ("retry-after-ms", lambda text: _number(text, 1000)),
        ("retry-after", lambda text: _number(text, 1)),
        ("retry-after", lambda text: _seconds_until(text, headers.get("date", ""))),
    )
    for name, reader in readers:
        seconds = reader(headers[name]) if headers.get(name) else None
        # Azure sends `retry-after-ms: 0` beside `retry-after: 1`.
        if seconds:
            return seconds
    return None


def _number(text: str, per_second: int) -> float | None:
    try:
        seconds = float(text) / per_second
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e9 else None


def _seconds_until(text: str, now: str) -> float | None:
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(now)).total_seconds())
    except (TypeError, ValueError):
        return None


# --- to the client ----------------------------------------------------------------------------------------

_TYPES = {401: "authentication_error", 402: "billing_error", 403: "permission_error", 429: "rate_limit_error"}


def encode_error(
    *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
) -> bytes:
    """{"error": {...}} as OpenAI writes it, with our request and call ids inside."""
    error = {
        "message": message,
        "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error"),
        "param": param or None,
        "code": code,
        "request_id": request_id or None,
        "call_id": call_id or None,
    }
    return dumps({"error": error})
