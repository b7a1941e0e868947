"""Errors of the responses wire: the bodies of the chat wire, and what a stream or a failed response says of itself.

    event: error                {"type": "error", "code": "server_error", "message": "...", "sequence_number": 7}
    event: response.failed      {"response": {"status": "failed", "error": {"code": "...", "message": "..."}}}
"""

from __future__ import annotations

from typing import Any

from providers import sse
from providers.counts import decode
from providers.errors import ProviderError
from providers.unified import Json
from providers.wire.jsontext import dumps
from providers.wire.openai_chat.errors import decode_error, encode_error, error_from

__all__ = ["decode_error", "encode_error", "encode_stream_error", "error_of_event", "error_of_response"]

# Codes that only a response has, in the words that the table of the chat wire knows.
_CODES = {
    "invalid_prompt": "content_filter",
    "cyber_policy": "content_filter",
    "bio_policy": "content_filter",
    "image_content_policy_violation": "content_filter",
    "vector_store_timeout": "server_error",
    "server_is_overloaded": "overloaded_error",
    "slow_down": "rate_limit_error",
}


def error_of_response(response: Json) -> ProviderError:
    """The error of a response whose status is "failed"."""
    return _error(response.get("error"))


def error_of_event(value: Json) -> ProviderError:
    """The error of an "error" event, flat as OpenAI writes it or nested as others do."""
    return _error(value["error"] if isinstance(value.get("error"), dict) else value)


def _error(said: Any) -> ProviderError:
    error = dict(said) if isinstance(said, dict) else {}
    code = error.get("code")
    if isinstance(code, str):
        error["code"] = {"rate_limit_exceeded": "rate_limit_error"}.get(code) or _CODES.get(code, code)
    if error.get("type") == "error":
        del error["type"]
    found = error_from({"error": error}, status=None)
    if isinstance(code, str):
        found.upstream_code = code
    return found


def encode_stream_error(*, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
    """An "error" event. OpenAI's own client raises on the `error` object in it, and reads the flat fields as an event.

    Its place in the sequence is not known here: 0, which no client orders by.
    """
    body = decode(
        encode_error(status=status, code=code, message=message, request_id=request_id, call_id=call_id)
    )
    event = {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 0, **body}
    return sse.encode(event="error", data=dumps(event))
