"""Bedrock's errors -> our tree. An answer names its kind in a header, a stream in the type of a frame.

    x-amzn-errortype: ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/
    {"message": "The provided model identifier is invalid."}

What an error is, is told by the words of its message (one kind stands for many causes), then by its kind, then by the
status. https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

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
from providers.unified import Json
from providers.wire.jsontext import dumps

_Kind = type[ProviderError]

_WORDS: tuple[tuple[re.Pattern[str], _Kind], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (
            r"security token .*(expired|invalid)|api key .*(expired|invalid)|signature .*does not match",
            InvalidCredential,
        ),
        (r"too many tokens per day|daily (token|request)s? (limit|quota)", QuotaExhausted),
        (
            r"input is too long|prompt is too long|too many (input )?tokens|exceeds? the (model'?s )?(maximum )?context"
            r"|maximum context length|input length and .max_tokens. exceed|maximum input length",
            ContextTooLong,
        ),
        (r"model identifier is invalid|could not resolve the foundation model|model .*end of its life", ModelNotFound),
        (r"blocked by (the )?(content filter|guardrail)|content filtering policy", ContentRefused),
    )
)
_NAMES: dict[str, _Kind] = {
    "accessdenied": PermissionDenied,
    "expiredtoken": InvalidCredential,
    "incompletesignature": InvalidCredential,
    "invalidclienttokenid": InvalidCredential,
    "invalidsignature": InvalidCredential,
    "missingauthenticationtoken": InvalidCredential,
    "signaturedoesnotmatch": InvalidCredential,
    "unrecognizedclient": InvalidCredential,
    "requestexpired": InvalidCredential,
    "optinrequired": PermissionDenied,
    "throttling": RateLimited,
    "toomanyrequests": RateLimited,
    "modelnotready": RateLimited,
    "servicequotaexceeded": QuotaExhausted,
    "resourcenotfound": ModelNotFound,
    "validation": InvalidRequest,
    "serialization": InvalidRequest,
    "conflict": InvalidRequest,
    "serviceunavailable": Overloaded,
    "internalserver": UpstreamError,
    "internalfailure": UpstreamError,
    "modelerror": UpstreamError,
    "modelstreamerror": UpstreamError,
    "modeltimeout": UpstreamError,
}
_STATUSES: dict[int, _Kind] = {
    401: InvalidCredential,
    402: QuotaExhausted,
    403: PermissionDenied,
    404: ModelNotFound,
    405: UpstreamError,  # the method is ours: a wrong base URL
    408: UpstreamError,
    424: UpstreamError,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}
# Words are believed only where they can be true: no message makes an overload a bad request.
_WORDED = frozenset({400, 403, 404, 413, 422, 429})
# "messages.2.content.0.document.source.type: Field required", as the model behind the API wrote it.
_PARAM = re.compile(r"\b((?:messages|system|tools|tool_choice|inferenceConfig|toolConfig)(?:\.[A-Za-z0-9_\[\]]+)+)\b")


def decode_error(*, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
    """The error of an answer with an error status. Its message is scrubbed; a body that is no JSON is not quoted."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        value = {}
    said = value if isinstance(value, dict) else {}
    lowered = {name.lower(): item for name, item in headers.items()}
    name = lowered.get("x-amzn-errortype") or said.get("__type") or said.get("code")
    error = _made(said, name=name, status=status, provider=provider)
    error.upstream_request_id = lowered.get("x-amzn-requestid", "")
    error.retry_after_s = retry_after_s(status=status, headers=lowered)
    return error


def error_of_frame(*, event: str, data: bytes) -> ProviderError:
    """The error of an exception frame inside a stream, whose `event` is the exception's type."""
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        value = {}
    said = value if isinstance(value, dict) else {}
    status = said.get("originalStatusCode")
    return _made(
        {**said, "message": said.get("originalMessage") or said.get("message")},
        name=said.get("code") if event == "error" else event,
        status=status if isinstance(status, int) and not isinstance(status, bool) and 400 <= status < 600 else None,
    )


def _made(said: Json, *, name: Any, status: int | None, provider: str = "") -> ProviderError:
    message = said.get("message") or said.get("Message")
    text = scrub(message) if isinstance(message, str) else ""
    word = name.partition(":")[0].rpartition("#")[2] if isinstance(name, str) else ""
    kind = _kind(text, word, status)
    text = text or f"The provider answered with {word or f'status {status}'} and no message."
    common: dict[str, Any] = {"provider": provider, "status": status, "upstream_code": scrub(word)}
    if issubclass(kind, InvalidRequest):
        found = _PARAM.search(text)
        return kind(text, param=found[1] if found else "", **common)
    return kind(text, **common)


def _kind(text: str, name: str, status: int | None) -> _Kind:
    if status is None or status in _WORDED:
        for pattern, kind in _WORDS:
            # At 429 "too many tokens" is a rate, not a size.
            if pattern.search(text) and not (kind is ContextTooLong and (status == 429 or _is_throttling(name))):
                return kind
    named = _NAMES.get(name.lower().removesuffix("exception").removesuffix("error")) or _NAMES.get(
        name.lower().removesuffix("exception")
    )
    if named is not None and (status is None or status < 500 or named in (UpstreamError, Overloaded)):
        return named
    if status is None:
        return UpstreamError
    return _STATUSES.get(status, UpstreamError if status >= 500 else InvalidRequest)


def _is_throttling(name: str) -> bool:
    return name.lower().startswith(("throttling", "toomany"))


def encode_error(
    *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
) -> bytes:
    """An error body as the Converse API writes it, with our stable code as its type."""
    said = {"message": message, "__type": code, "param": param, "requestId": request_id, "callId": call_id}
    return dumps({key: value for key, value in said.items() if value})
