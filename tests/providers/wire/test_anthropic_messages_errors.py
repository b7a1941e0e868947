"""Anthropic's errors in our tree, and ours in Anthropic's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.routing import may_fall_back
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
from providers.wire.anthropic_messages import WIRE
from tests.recordings import Exchange, answer_bytes, cases, exchanges


def body(kind: str, message: str = "No.", **details: Any) -> bytes:
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


def decode(status: int, data: bytes, headers: dict[str, str] | None = None) -> ProviderError:
    return WIRE.decode_error(status=status, body=data, headers=headers or {}, provider="anthropic")


@pytest.mark.parametrize(
    ("status", "data", "kind"),
    [
        (400, body("invalid_request_error", "messages: Field required"), InvalidRequest),
        (400, body("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"), ContextTooLong),
        (
            400,
            body(
                "invalid_request_error", "input length and `max_tokens` exceed context limit: 197202 + 21333 > 200000"
            ),
            ContextTooLong,
        ),
        (400, body("invalid_request_error", "Your credit balance is too low to access the API."), QuotaExhausted),
        (400, body("invalid_request_error", "You have reached your specified API usage limits."), QuotaExhausted),
        (400, body("invalid_request_error", "Output blocked by content filtering policy"), ContentRefused),
        (400, body("invalid_request_error", "This organization has been disabled."), PermissionDenied),
        (401, body("authentication_error", "invalid x-api-key"), InvalidCredential),
        (402, body("billing_error"), QuotaExhausted),
        (403, body("permission_error"), PermissionDenied),
        (404, body("not_found_error", "model: nothing-like-it"), ModelNotFound),
        (404, body("not_found_error", "File not found: file_1"), InvalidRequest),
        (413, body("request_too_large", "Request exceeds the maximum size"), InvalidRequest),
        (422, body("invalid_request_error"), InvalidRequest),
        (429, body("rate_limit_error", "This would exceed your rate limit of 50 requests per minute"), RateLimited),
        (429, body("rate_limit_error", error_code="contract_spend_limit_reached"), QuotaExhausted),
        (500, body("api_error", "Internal server error"), UpstreamError),
        (504, body("timeout_error"), UpstreamError),
        (529, body("overloaded_error", "Overloaded"), Overloaded),
        (503, b"<html>upstream at 10.0.0.7 is down</html>", Overloaded),
        (502, b"", UpstreamError),
        (401, b"[]", InvalidCredential),
        (418, b'{"error": "teapot"}', InvalidRequest),
        (403, body("invalid_request_error", "Output blocked by content filtering policy"), ContentRefused),
        (403, body("invalid_request_error", "Not for you"), PermissionDenied),
        (429, body("invalid_request_error", "Slow down"), RateLimited),
        (500, body("invalid_request_error", "Oops"), UpstreamError),
        (400, b'{"message": "The provided model identifier is invalid."}', ModelNotFound),
        (403, b'{"message": "The security token included in the request is expired"}', InvalidCredential),
        (400, b'{"message": "Input is too long for requested model."}', ContextTooLong),
    ],
)
def test_each_error_body_has_its_place_in_the_tree(status: int, data: bytes, kind: type[ProviderError]) -> None:
    error = decode(status, data)
    assert type(error) is kind
    assert (error.provider, error.status) == ("anthropic", status)
    assert error.message


@pytest.mark.parametrize(
    ("status", "data", "kind"),
    [
        (404, body("invalid_request_error", "Invalid URL (POST /v1/v1/messages)"), ModelNotFound),
        (404, b'{"error":{"message":"input is too long for requested model","type":"x"}}', ModelNotFound),
        (404, b'{"detail": "Not Found"}', ModelNotFound),
        (404, b'{"message": "No such file or container"}', ModelNotFound),
        (404, b'{"error": "file not found"}', ModelNotFound),
        (404, b"<html>404 page not found</html>", ModelNotFound),
        (404, b"", ModelNotFound),
        (405, b"<html>405 Not Allowed</html>", UpstreamError),
        (405, b'{"detail": "Method Not Allowed"}', UpstreamError),
    ],
)
def test_a_wrong_base_url_is_never_the_clients_fault(status: int, data: bytes, kind: type[ProviderError]) -> None:
    error = decode(status, data)
    assert type(error) is kind
    assert may_fall_back(error)
    assert error.client_status == 502


def test_an_error_keeps_what_helps_to_find_it() -> None:
    error = decode(429, body("rate_limit_error", error_code="ramp_limit_exceeded"), {"Retry-After": "7"})
    assert (error.upstream_request_id, error.retry_after_s, error.upstream_code) == (
        "req_1",
        7.0,
        "ramp_limit_exceeded",
    )
    assert decode(500, b"", {"Request-Id": "req_2"}).upstream_request_id == "req_2"


def test_it_names_the_field_the_provider_names() -> None:
    error = decode(400, body("invalid_request_error", "messages.1.content.0.text: Field required"))
    assert isinstance(error, InvalidRequest)
    assert error.param == "messages.1.content.0.text"
    missing = decode(404, body("not_found_error", "model: nothing-like-it"))
    assert isinstance(missing, ModelNotFound)
    assert missing.model == "nothing-like-it"
    assert decode(413, body("request_too_large")).client_status == 413


def test_messages_hold_no_secret_and_no_page_of_a_proxy() -> None:
    leaky = decode(401, body("authentication_error", "Bad key sk-ant-api03-abcdefgh12345678"))
    assert "abcdefgh12345678" not in leaky.message
    assert "10.0.0.7" not in decode(503, b"<html>upstream at 10.0.0.7 is down</html>").message


# Recorded status -> where its bodies may stand in the tree.
_BY_STATUS: dict[int, tuple[type[ProviderError], ...]] = {
    400: (InvalidRequest, QuotaExhausted, ModelNotFound, PermissionDenied),
    401: (InvalidCredential,),
    402: (QuotaExhausted,),
    403: (PermissionDenied, InvalidCredential),
    404: (ModelNotFound, InvalidRequest),
    413: (InvalidRequest,),
    422: (InvalidRequest,),
    429: (RateLimited, QuotaExhausted),
    529: (Overloaded,),
}
_FAILED = exchanges(failed=True, where=lambda item: item["api"] in ("anthropic.messages", "bedrock.invoke"))


@pytest.mark.parametrize("exchange", cases(_FAILED))
def test_each_recorded_error_is_mapped(exchange: Exchange) -> None:
    error = decode(exchange["status"], answer_bytes(exchange), exchange["response_headers_subset"])
    assert isinstance(error, _BY_STATUS.get(exchange["status"], (UpstreamError,)))
    assert error.status == exchange["status"]
    said = json.loads(answer_bytes(exchange))
    assert error.message == (said["error"]["message"] if "error" in said else said["message"])
    assert error.upstream_request_id == (said.get("request_id") or error.upstream_request_id)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_our_errors_speak_anthropics_words(status: int, word: str) -> None:
    said = json.loads(
        WIRE.encode_error(status=status, code="our_code", message="m", param="$.model", request_id="r", call_id="c")
    )
    assert said == {
        "type": "error",
        "error": {"type": word, "message": "m", "code": "our_code", "param": "$.model"},
        "request_id": "r",
        "call_id": "c",
    }


def test_an_error_in_a_stream_is_an_error_event_that_reads_back() -> None:
    data = WIRE.encode_stream_error(status=529, code="provider_overloaded", message="Later", request_id="r", call_id="")
    assert data.startswith(b"event: error\ndata: {")
    assert data.endswith(b"}\n\n")
    assert type(decode(529, data.split(b"data: ", 1)[1])) is Overloaded
