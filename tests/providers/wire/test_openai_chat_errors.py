"""Errors of the chat wire: a provider's into the tree, ours to the client."""

from __future__ import annotations

import json

import pytest

from providers import errors
from providers.unified import (
    Json,
)
from providers.wire.openai_chat import WIRE

LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "context_length_exceeded", "message": "too long"}, errors.ContextTooLong),
        (400, {"message": LONG}, errors.ContextTooLong),
        (413, {"message": "prompt is too long: 9 tokens > 8 maximum"}, errors.ContextTooLong),
        (400, {"code": "content_filter", "message": "filtered"}, errors.ContentRefused),
        (
            400,
            {"code": "x", "message": "y", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
            errors.ContentRefused,
        ),
        (403, {"code": 403, "message": "The input was flagged by moderation"}, errors.ContentRefused),
        (400, {"type": "invalid_model", "message": "Invalid model: x"}, errors.ModelNotFound),
        (400, {"code": 400, "message": "foo/bar is not a valid model ID"}, errors.ModelNotFound),
        (400, {"code": 400, "message": "API key not valid. Please pass a valid API key."}, errors.InvalidCredential),
        (400, {"message": "Your credit balance is too low"}, errors.QuotaExhausted),
        (400, {"type": "invalid_request_error", "param": "n", "message": "n is bad"}, errors.InvalidRequest),
        (422, {"message": "bad"}, errors.InvalidRequest),
        (418, {"message": "teapot"}, errors.InvalidRequest),
        (401, {"message": LONG}, errors.InvalidCredential),
        (402, {"message": "Insufficient Balance"}, errors.QuotaExhausted),
        (403, {"message": "Country not supported"}, errors.PermissionDenied),
        (404, {"message": "nope"}, errors.ModelNotFound),
        (429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}, errors.QuotaExhausted),
        (429, {"code": "rate_limit_exceeded", "message": "Please try again in 20ms"}, errors.RateLimited),
        (429, {"code": 429, "message": "You exceeded your current quota. Please retry in 14s."}, errors.RateLimited),
        (429, {"message": LONG}, errors.RateLimited),
        (498, {"message": "capacity"}, errors.Overloaded),
        (500, {"message": LONG}, errors.UpstreamError),
        (502, {"message": "bad gateway"}, errors.UpstreamError),
        (503, {"message": "overloaded"}, errors.Overloaded),
        (529, {"message": "overloaded"}, errors.Overloaded),
    ],
)
def test_an_error_has_its_place_in_the_tree(status: int, error: Json, kind: type[errors.ProviderError]) -> None:
    raw = json.dumps({"error": error}).encode()
    decoded = WIRE.decode_error(status=status, body=raw, headers={"X-Request-ID": "r1"}, provider="p")
    assert type(decoded) is kind
    assert (decoded.status, decoded.provider, decoded.upstream_request_id) == (status, "p", "r1")
    assert decoded.message == error["message"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # Azure
        (403, {"error": {"code": "403", "message": "Out of call volume quota for it"}}, errors.QuotaExhausted),
        (424, {"error": {"code": "FailedDependency", "message": "no"}}, errors.UpstreamError),
        # Fireworks
        (412, {"error": {"message": "Account x is suspended: monthly spending limit"}}, errors.QuotaExhausted),
        (412, {"error": {"message": "a condition"}}, errors.InvalidRequest),
        # Groq
        (400, {"error": {"code": "model_decommissioned", "message": "no"}}, errors.ModelNotFound),
        (400, {"error": {"message": "The model `x` has been decommissioned."}}, errors.ModelNotFound),
        (400, {"error": {"code": "organization_restricted", "message": "no"}}, errors.PermissionDenied),
        # Hugging Face, and its own server
        (400, {"error": {"code": "model_not_supported", "message": "no"}}, errors.ModelNotFound),
        (422, {"error": {"message": "`inputs` tokens + `max_new_tokens` must be <= 4097."}}, errors.ContextTooLong),
        # llama.cpp, vLLM
        (400, {"error": {"type": "exceed_context_size_error", "message": "no"}}, errors.ContextTooLong),
        (400, {"error": {"message": "the request exceeds the available context size"}}, errors.ContextTooLong),
        (400, {"message": "The prompt (9) is longer than the maximum model length of 8"}, errors.ContextTooLong),
        # OpenRouter
        (403, {"error": {"code": 403, "message": "Key limit exceeded (monthly limit)."}}, errors.QuotaExhausted),
        # Perplexity
        (401, {"error": {"type": "insufficient_quota", "message": "You exceeded your quota"}}, errors.QuotaExhausted),
        # Voyage
        (400, {"detail": "the total number of tokens in your batch exceeds the maximum"}, errors.ContextTooLong),
        # xAI
        (400, {"error": "This model's maximum prompt length is 8 but the request has 9."}, errors.ContextTooLong),
        (403, {"error": "Content violates usage guidelines."}, errors.ContentRefused),
        # Z.AI
        (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, errors.ContextTooLong),
        (400, {"error": {"message": "System detected potentially unsafe or sensitive content"}}, errors.ContentRefused),
        (429, {"error": {"message": "Usage limit reached for 5 hour."}}, errors.QuotaExhausted),
        (429, {"error": {"message": "Rate limit reached for requests"}}, errors.RateLimited),
        (499, {"message": "cancelled"}, errors.UpstreamError),
    ],
    ids=str,
)
def test_what_one_vendor_alone_says_has_its_place(status: int, body: Json, kind: type[errors.ProviderError]) -> None:
    assert type(WIRE.decode_error(status=status, body=json.dumps(body).encode(), headers={}, provider="p")) is kind


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"error": "just words"}', "just words"),
        (b'{"detail": "Invalid thing"}', "Invalid thing"),
        (b'{"detail": [{"loc": ["body", "n"], "msg": "too small"}, {"msg": "bad"}]}', "too small; bad"),
        (b'{"object": "error", "message": "words", "code": 400}', "words"),
        (b'[{"error": {"code": 400, "message": "in a list"}}]', "in a list"),
        (b"plain words", "plain words"),
        (b"<html><h1>nginx at 10.0.0.1</h1></html>", "The provider answered with status 400 and no message."),
        (b"", "The provider answered with status 400 and no message."),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[]", "The provider answered with status 400 and no message."),
        (b"null", "The provider answered with status 400 and no message."),
        (b'{"error": {"message": {"detail": "nested"}}}', "nested"),
        (b'{"error": {"message": "short", "metadata": {"raw": "the reason"}}}', "short: the reason"),
    ],
)
def test_it_finds_the_words_in_every_shape_of_an_error(raw: bytes, message: str) -> None:
    assert WIRE.decode_error(status=400, body=raw, headers={}, provider="p").message == message


def test_it_names_the_parameter() -> None:
    for raw in (b'{"error": {"message": "x", "param": "a.b"}}', b'{"detail": [{"loc": ["a", "b"], "msg": "x"}]}'):
        error = WIRE.decode_error(status=422, body=raw, headers={}, provider="p")
        assert isinstance(error, errors.InvalidRequest)
        assert (error.param, error.client_status) == ("a.b", 422)


def test_no_key_leaks_through_an_error() -> None:
    raw = b'{"error": {"message": "Incorrect API key provided: sk-live1234567890. See", "code": "sk-live1234567890"}}'
    error = WIRE.decode_error(status=401, body=raw, headers={}, provider="p")
    assert "1234567890" not in error.message + error.upstream_code


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "1", "retry-after-ms": "0"}, 1),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
    ],
)
def test_it_reads_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert WIRE.decode_error(status=429, body=b"{}", headers=headers, provider="p").retry_after_s == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (429, "rate_limit_error"), (502, "api_error")],
)
def test_our_errors_have_the_shape_of_this_wire(status: int, kind: str) -> None:
    raw = WIRE.encode_error(status=status, code="a_code", message="words", param="$.n", request_id="r", call_id="c")
    assert json.loads(raw) == {
        "error": {
            "message": "words",
            "type": kind,
            "param": "$.n",
            "code": "a_code",
            "request_id": "r",
            "call_id": "c",
        }
    }
