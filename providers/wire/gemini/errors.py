"""Google's error bodies -> our error tree, and our errors in Google's shape.

    {"error": {"code": 429, "message": "...", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": ..., ...}]}}

What decides, in this order: the `reason` among the details, words of the message (INVALID_ARGUMENT stands for many
causes), the canonical status, the HTTP status. https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
from providers.retry import retry_after_s
from providers.scrub import scrub
from providers.sse import encode
from providers.unified import Json
from providers.wire.gemini.names import dumps, obj, objects, string

_Kind = type[ProviderError]
_REASONS: dict[str, _Kind] = {
    "API_KEY_INVALID": InvalidCredential,
    "ACCESS_TOKEN_EXPIRED": InvalidCredential,
    "ACCESS_TOKEN_TYPE_UNSUPPORTED": InvalidCredential,
    "ACCOUNT_STATE_INVALID": InvalidCredential,
    "CREDENTIALS_MISSING": InvalidCredential,
    "BILLING_DISABLED": QuotaExhausted,
}
_WORDS: tuple[tuple[re.Pattern[str], _Kind], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"api key (not valid|not found|expired|was reported as leaked)|pass a valid api key", InvalidCredential),
        (r"token count.{0,60}exceeds|exceeds the maximum number of tokens|context (window|length)", ContextTooLong),
        (r"(prepayment|prepaid) credits? (is|are) depleted|billing account.{0,60}(disabled|closed)", QuotaExhausted),
        (r"is not found for api version|publisher model.{0,300}not found|model.{0,200}(does not exist|was not found)",
         ModelNotFound),
        (r"user location is not supported", PermissionDenied),
        (r"blocked by (our |the )?(safety|content|usage)|usage guidelines|responsible ai practices", ContentRefused),
    )
)
_STATUSES: dict[str, _Kind] = {
    "UNAUTHENTICATED": InvalidCredential,
    "PERMISSION_DENIED": PermissionDenied,
    "RESOURCE_EXHAUSTED": RateLimited,
    "NOT_FOUND": ModelNotFound,
    "INVALID_ARGUMENT": InvalidRequest,
    "FAILED_PRECONDITION": InvalidRequest,
    "OUT_OF_RANGE": InvalidRequest,
    "UNAVAILABLE": Overloaded,
    "INTERNAL": UpstreamError,
    "DEADLINE_EXCEEDED": UpstreamError,
    "CANCELLED": UpstreamError,
}
_CODES: dict[int, _Kind] = {
    401: InvalidCredential,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: ModelNotFound,
    405: UpstreamError,  # the method is ours: a wrong base URL
    408: UpstreamError,
    429: RateLimited,
    499: UpstreamError,
    503: Overloaded,
    529: Overloaded,
}
# The status of an error that came inside a 200.
_CODE_OF = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_WORD_OF = {code: word for word, code in _CODE_OF.items()} | {400: "INVALID_ARGUMENT", 504: "DEADLINE_EXCEEDED"}
# What waiting a minute does not cure.
_SPENT = re.compile(r"per_?day|per_?month|prepay", re.IGNORECASE)
_MODEL = re.compile(r"models/([A-Za-z0-9._-]+)")
_OTHER_THING = re.compile(r"\b(file|cached ?content|tuned dataset|corpus)\b", re.IGNORECASE)
_SECONDS = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,9})?)s")
_REQUEST_ID_HEADERS = ("x-goog-request-id", "x-request-id", "x-cloud-trace-context")


class _Said(Struct, frozen=True):
    """What an error body says."""

    message: str = ""
    status: str = ""
    code: int | None = None
    reason: str = ""
    param: str = ""
    wait_s: float | None = None
    quotas: str = ""


def decode_error(*, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
    """The error of an answer with an error status. Its message is scrubbed; a body that is no JSON is not quoted."""
    try:
        value = decode(body)
    except ValueError:
        value = None
    return error_from(value, status=status, headers=headers, provider=provider)


def error_from(
    value: Any, *, status: int | None, headers: Mapping[str, str] | None = None, provider: str = ""
) -> ProviderError:
    """The error in a decoded body or in a chunk of a stream; `status` None where the transport said 200."""
    said = _read(value)
    code = status or said.code or _CODE_OF.get(said.status, 500)
    lower = {name.lower(): item for name, item in (headers or {}).items()}
    kind = _kind(said, code)
    message = scrub(said.message) or f"The provider answered with status {code} and no message."
    common: dict[str, Any] = {
        "provider": provider,
        "status": code,
        "upstream_request_id": next((lower[name] for name in _REQUEST_ID_HEADERS if lower.get(name)), ""),
        "upstream_code": scrub(said.reason or said.status),
    }
    if issubclass(kind, InvalidRequest):
        return kind(message, param=said.param, **common)
    if kind is ModelNotFound:
        named = _MODEL.search(said.message)
        return ModelNotFound(message, model=named[1] if named else "", **common)
    wait_s = retry_after_s(status=code, headers=lower)
    return kind(message, retry_after_s=said.wait_s if wait_s is None else wait_s, **common)


def _kind(said: _Said, code: int) -> _Kind:
    if code >= 500:
        return _CODES.get(code, UpstreamError)
    if code == 429:
        spent = _SPENT.search(said.quotas) or _SPENT.search(said.reason)
        return QuotaExhausted if spent or _worded(said) is QuotaExhausted else RateLimited
    kind = _REASONS.get(said.reason) or _worded(said) or _CODES.get(code) or _STATUSES.get(said.status)
    if kind is ModelNotFound and _OTHER_THING.search(said.message) and not _worded(said):
        return InvalidRequest
    return kind if kind is not None and kind is not RateLimited else InvalidRequest


def _worded(said: _Said) -> _Kind | None:
    return next((kind for words, kind in _WORDS if words.search(said.message)), None)


def _read(value: Any) -> _Said:
    """{"error": {...}}, a list that holds one (a stream as a JSON array), or {"error": "text"} of a proxy before."""
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict) and "error" in item), None)
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return _Said(message=string(error) or string(obj(value).get("message")))
    details = objects(error.get("details"))
    code = error.get("code")
    return _Said(
        message=string(error.get("message")),
        status=string(error.get("status")),
        code=code if isinstance(code, int) and 400 <= code <= 599 else None,
        reason=next((string(detail["reason"]) for detail in details if detail.get("reason")), ""),
        param=next((string(item.get("field")) for item in _inside(details, "fieldViolations")), ""),
        wait_s=next((_seconds(detail["retryDelay"]) for detail in details if "retryDelay" in detail), None),
        quotas=" ".join(
            string(item.get(name)) for item in _inside(details, "violations") for name in ("quotaId", "quotaMetric")
        ),
    )


def _inside(details: list[Json], name: str) -> Iterator[Json]:
    for detail in details:
        yield from objects(detail.get(name))


def _seconds(text: Any) -> float | None:
    found = _SECONDS.fullmatch(text) if isinstance(text, str) else None
    return float(found[1]) if found else None


# --- to the client ----------------------------------------------------------------------------------------


def encode_error(
    *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
) -> bytes:
    """{"error": {...}} as Google writes it. Our stable code, the field and our ids stand among the details."""
    word = _WORD_OF.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
    ids = {name: value for name, value in (("request_id", request_id), ("call_id", call_id)) if value}
    details: list[Json] = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "tollbook", "metadata": ids}
    ]
    if param:
        field = {"field": param, "description": message}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [field]})
    return dumps({"error": {"code": status, "message": message, "status": word, "details": details}})


def encode_stream_error(*, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
    """A chunk that holds the error alone."""
    body = encode_error(status=status, code=code, message=message, request_id=request_id, call_id=call_id)
    return encode(data=body)
