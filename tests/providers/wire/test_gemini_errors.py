"""Google's refusals in our tree, and ours in Google's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers import errors
from providers.sse import Decoder
from providers.wire.gemini import WIRE

QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"


def decoded(status: int, message: str = "no", word: str = "", *details: dict[str, Any]) -> errors.ProviderError:
    body = {"error": {"code": status, "message": message, "status": word, "details": list(details)}}
    return WIRE.decode_error(status=status, body=json.dumps(body).encode(), headers={}, provider="g")


@pytest.mark.parametrize(
    ("status", "message", "word", "kind"),
    [
        (400, "API key expired. Please renew the API key.", "INVALID_ARGUMENT", errors.InvalidCredential),
        (403, "Your API key was reported as leaked.", "PERMISSION_DENIED", errors.InvalidCredential),
        (
            400,
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).",
            "INVALID_ARGUMENT",
            errors.ContextTooLong,
        ),
        (400, "Invalid value at 'contents[0]'", "INVALID_ARGUMENT", errors.InvalidRequest),
        (400, "User location is not supported for the API use.", "FAILED_PRECONDITION", errors.PermissionDenied),
        (401, "Request had invalid authentication credentials.", "UNAUTHENTICATED", errors.InvalidCredential),
        (403, "Permission denied on resource project x.", "PERMISSION_DENIED", errors.PermissionDenied),
        (404, "Requested entity was not found.", "NOT_FOUND", errors.ModelNotFound),
        (404, "File abc was not found.", "NOT_FOUND", errors.InvalidRequest),
        (413, "Request payload size exceeds the limit", "", errors.InvalidRequest),
        (429, "Resource exhausted. Please try again later.", "RESOURCE_EXHAUSTED", errors.RateLimited),
        (429, "Your prepayment credits are depleted.", "RESOURCE_EXHAUSTED", errors.QuotaExhausted),
        (500, "An internal error has occurred: the context length", "INTERNAL", errors.UpstreamError),
        (503, "The model is overloaded.", "UNAVAILABLE", errors.Overloaded),
        (504, "Deadline expired.", "DEADLINE_EXCEEDED", errors.UpstreamError),
        (529, "", "", errors.Overloaded),
    ],
)
def test_each_refusal_has_its_place(status: int, message: str, word: str, kind: type[errors.ProviderError]) -> None:
    error = decoded(status, message, word)
    assert type(error) is kind
    assert error.status == status
    assert error.retryable == ((status == 429 and kind is errors.RateLimited) or status >= 500)


def test_what_google_cancelled_is_no_fault_of_the_request() -> None:
    assert type(decoded(499, "The operation was cancelled.", "CANCELLED")) is errors.UpstreamError
    told = WIRE.decode_error(status=499, body=b"{}", headers={}, provider="g")
    assert type(told) is errors.UpstreamError


@pytest.mark.parametrize(
    ("quota", "kind"),
    [
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", errors.RateLimited),
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", errors.QuotaExhausted),
    ],
)
def test_a_quota_is_told_from_a_rate_by_its_period(quota: str, kind: type[errors.ProviderError]) -> None:
    message = "You exceeded your current quota, please check your plan and billing details."
    error = decoded(429, message, "RESOURCE_EXHAUSTED", {"@type": QUOTA, "violations": [{"quotaId": quota}]})
    assert type(error) is kind


def test_the_wait_stands_among_the_details() -> None:
    assert decoded(429, "no", "", {"retryDelay": "13.5s"}).retry_after_s == 13.5
    assert decoded(429, "no", "", {"retryDelay": "soon"}).retry_after_s is None


def test_a_header_outweighs_the_details() -> None:
    body = b'{"error": {"code": 429, "details": [{"retryDelay": "13s"}]}}'
    error = WIRE.decode_error(status=429, body=body, headers={"Retry-After": "2"}, provider="g")
    assert error.retry_after_s == 2


def test_the_reason_and_the_field_are_kept() -> None:
    violations = {"fieldViolations": [{"field": "contents[0].parts", "description": "no"}]}
    error = decoded(400, "bad", "INVALID_ARGUMENT", violations)
    assert isinstance(error, errors.InvalidRequest)
    assert (error.param, error.upstream_code) == ("contents[0].parts", "INVALID_ARGUMENT")
    assert decoded(403, "no", "PERMISSION_DENIED", {"reason": "SERVICE_DISABLED"}).upstream_code == "SERVICE_DISABLED"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"error": 7}', b'[{"error": {"code": 400}}]'])
def test_an_odd_body_is_still_told_by_its_status(body: bytes) -> None:
    error = WIRE.decode_error(status=400, body=body, headers={}, provider="g")
    assert type(error) is errors.InvalidRequest
    assert error.message == "The provider answered with status 400 and no message."


def test_a_key_in_the_providers_words_is_masked() -> None:
    key = "AIzaSyD-planted-planted-planted-planted"
    assert key not in decoded(400, f"The key {key} is wrong").message


def test_an_error_to_a_client_names_the_code_the_field_and_the_ids() -> None:
    raw = WIRE.encode_error(status=429, code="limit", message="no", param="$.contents", request_id="r", call_id="c")
    error = json.loads(raw)["error"]
    assert (error["code"], error["status"], error["message"]) == (429, "RESOURCE_EXHAUSTED", "no")
    info, field = error["details"]
    assert (info["reason"], info["metadata"]) == ("limit", {"request_id": "r", "call_id": "c"})
    assert field["fieldViolations"][0]["field"] == "$.contents"


def test_an_error_after_the_stream_began_is_one_chunk_that_our_reader_raises() -> None:
    raw = WIRE.encode_stream_error(status=503, code="provider_overloaded", message="no", request_id="r", call_id="c")
    (frame,) = Decoder().feed(raw)
    with pytest.raises(errors.Overloaded, match="no"):
        WIRE.stream_reader().feed(frame)
