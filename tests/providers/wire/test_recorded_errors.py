"""Every recorded refusal of every provider, written out: what it is in our tree, our code, and what the client gets.

And what was never recorded, since it is no provider's: what another server says at a wrong base URL.
"""

from __future__ import annotations

import functools

import pytest

from gateway.routing import may_fall_back
from providers import registry
from providers.adapters.base import ProviderConfig
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
from providers.wire.base import Wire
from tests.providers.adapters.accounts import service_account
from tests.providers.wire.test_odd_counts import WIRES
from tests.recordings import Exchange, answer_bytes, cases, exchanges

Kind = type[ProviderError]
# (our code, the client's status, may another attempt do better)
TOLD: dict[Kind, tuple[str, int, bool]] = {
    InvalidCredential: ("provider_credential_invalid", 502, False),
    PermissionDenied: ("provider_permission_denied", 502, False),
    RateLimited: ("provider_rate_limited", 429, True),
    QuotaExhausted: ("provider_quota_exhausted", 429, False),
    InvalidRequest: ("invalid_request", 400, False),
    ContextTooLong: ("context_too_long", 400, False),
    ContentRefused: ("content_refused", 400, False),
    ModelNotFound: ("provider_model_not_found", 502, False),
    Overloaded: ("provider_overloaded", 503, True),
    UpstreamError: ("provider_error", 502, True),
}
# id of the record -> (provider, API and status; what it is; how long to wait, where the provider says so)
TABLE: dict[str, tuple[str, Kind, float | None]] = {
    "93c3b1df5c83": ("anthropic anthropic.count_tokens 404", ModelNotFound, None),
    "13988a6e4f25": ("anthropic anthropic.messages 400", InvalidRequest, None),
    "a1d29f2dcb6d": ("anthropic anthropic.messages 401", InvalidCredential, None),
    "e04015bfb90f": ("anthropic anthropic.messages 401", InvalidCredential, None),
    "9be4c3d9bd05": ("anthropic anthropic.messages 404", ModelNotFound, None),
    "42375abd8e85": ("azure chat 401", InvalidCredential, None),
    "3bf936fbc47c": ("azure chat 404", ModelNotFound, None),
    "3ab588931956": ("azure chat 429", RateLimited, 1.0),
    "9d1d51010aa5": ("azure embeddings 401", InvalidCredential, None),
    "3d52e14f135e": ("bedrock bedrock.converse 400", ModelNotFound, None),
    "5cf1c2090fc0": ("bedrock bedrock.converse 400", InvalidRequest, None),
    "697f58e7f447": ("bedrock bedrock.converse 400", InvalidRequest, None),
    "bd564bbae800": ("bedrock bedrock.converse 400", InvalidRequest, None),
    "9a93c9188ada": ("bedrock bedrock.converse 400", ModelNotFound, None),
    "9c55342a0bd9": ("bedrock bedrock.converse 403", InvalidCredential, None),
    "59482a892531": ("bedrock bedrock.count_tokens 400", InvalidRequest, None),
    "b958298ba31d": ("bedrock bedrock.invoke 400", ModelNotFound, None),
    "753c0eee99ea": ("bedrock bedrock.invoke 400", ModelNotFound, None),
    "522eac5580d3": ("bedrock bedrock.invoke 403", PermissionDenied, None),
    "5e3808ebe88a": ("bedrock bedrock.invoke 403", InvalidCredential, None),
    "d32906b8e9d8": ("cohere cohere.embed 404", ModelNotFound, None),
    "8118c4abd349": ("cohere cohere.v1.chat 404", ModelNotFound, None),
    "8ed658fd420d": ("cohere cohere.v2.chat 400", ContextTooLong, None),
    "bf71869212f9": ("cohere cohere.v2.chat 401", InvalidCredential, None),
    "300986cefce9": ("deepseek chat 400", ContextTooLong, None),
    "52cbfb8e74ec": ("deepseek chat 401", InvalidCredential, None),
    "1268e9a52dd4": ("deepseek responses 400", InvalidRequest, None),
    "eb88973f4f73": ("gemini gemini.batchEmbedContents 404", ModelNotFound, None),
    "235fd0608a01": ("gemini gemini.countTokens 404", ModelNotFound, None),
    "484fecbc9dfd": ("gemini gemini.generate 400", InvalidCredential, None),
    "618426a7662f": ("gemini gemini.generate 404", ModelNotFound, None),
    "7f2c8022e48a": ("gemini gemini.generate 404", ModelNotFound, None),
    "42ecd3f891ba": ("gemini gemini.generate 429", RateLimited, None),
    "9099dbbd8b6e": ("gemini gemini.generate 429", RateLimited, None),
    "b291c092f04e": ("groq chat 400", InvalidRequest, None),
    "23b4771ab7fe": ("groq chat 404", ModelNotFound, None),
    "82b982df1b56": ("mistral chat 401", InvalidCredential, None),
    "734b16b35606": ("ollama chat 400", ContextTooLong, None),
    "0c2575efd4b2": ("ollama chat 401", InvalidCredential, None),
    "4b04c2470d58": ("ollama ollama.chat 404", ModelNotFound, None),
    "09b0dadaf54c": ("openai chat 400", InvalidRequest, None),
    "468d34703672": ("openai chat 400", InvalidRequest, None),
    "92e8a2781b81": ("openai chat 400", InvalidRequest, None),
    "f586592c080c": ("openai chat 400", InvalidRequest, None),
    "6503c9519c7c": ("openai chat 401", InvalidCredential, None),
    "02e208ae628b": ("openai chat 404", ModelNotFound, None),
    "890410bd8f43": ("openai chat 404", ModelNotFound, None),
    "aaa9b163d8fd": ("openai completions 400", InvalidRequest, None),
    "c092c5f25cd0": ("openai completions 401", InvalidCredential, None),
    "22296eba8583": ("openai completions 401", InvalidCredential, None),
    "17307e21a882": ("openai completions 404", ModelNotFound, None),
    "d58487485166": ("openai embeddings 400", InvalidRequest, None),
    "3d3174aab1d5": ("openai embeddings 404", ModelNotFound, None),
    "b5dcc07acade": ("openai images.edits 400", InvalidRequest, None),
    "38241ff080e7": ("openai images.generations 400", InvalidRequest, None),
    "a99b17349add": ("openai responses 400", ModelNotFound, None),
    "c5dede80cd5f": ("openai responses 400", InvalidRequest, None),
    "a2f3b53ec5f2": ("openai responses 400", InvalidRequest, None),
    "777aad7e5a63": ("openai responses 401", InvalidCredential, None),
    "0d564949491e": ("openrouter chat 400", ContextTooLong, None),
    "87da34b0e471": ("openrouter chat 401", InvalidCredential, None),
    "9a844e765091": ("openrouter chat 429", RateLimited, None),
    "c46684abd699": ("perplexity chat 400", ContextTooLong, None),
    "4890f0c330a5": ("perplexity chat 401", InvalidCredential, None),
    "52d4432667ff": ("vertex gemini.generate 400", InvalidRequest, None),
    "e76046730db7": ("vertex gemini.generate 400", InvalidRequest, None),
    "6660875e3707": ("vertex gemini.generate 404", ModelNotFound, None),
    "94c27ad19978": ("vertex gemini.predict 401", InvalidCredential, None),
    "c0f2a7c29f97": ("voyage embeddings 400", ModelNotFound, None),
    "c24ac69479a0": ("xai responses 400", InvalidCredential, None),
}  # fmt: skip
# What an answer may be at all, whatever its words: for records that the table does not know.
POSSIBLE: dict[int, tuple[Kind, ...]] = {
    400: (InvalidRequest, ContextTooLong, ContentRefused, ModelNotFound, InvalidCredential, QuotaExhausted),
    401: (InvalidCredential, PermissionDenied),
    402: (QuotaExhausted,),
    403: (PermissionDenied, InvalidCredential, QuotaExhausted, ContentRefused, ModelNotFound),
    404: (ModelNotFound, InvalidRequest, PermissionDenied),
    413: (InvalidRequest, ContextTooLong),
    422: (InvalidRequest, ContextTooLong, ContentRefused, ModelNotFound),
    429: (RateLimited, QuotaExhausted, Overloaded),
    500: (UpstreamError, Overloaded),
    502: (UpstreamError, Overloaded),
    503: (Overloaded, UpstreamError),
    504: (UpstreamError, Overloaded),
    529: (Overloaded,),
}
REFUSED = exchanges(failed=True)


@functools.cache
def wire_of(provider: str, *, api: str) -> Wire:
    """The wire by whose rules an adapter of this provider reads refusals, whatever was asked of it."""
    adapter = {("ollama", "ollama.chat"): "ollama_native"}.get((provider, api), provider)
    credential = {"vertex": service_account("http://127.0.0.1:9/token"), "bedrock": "AKIA0000:secret"}
    config = ProviderConfig(
        name="p", adapter=adapter if adapter in registry.names() else "openai_compatible",
        base_url="http://127.0.0.1:9", allow_plain_http=True, allow_private_address=True,
        credential=credential.get(provider, "sk-planted-0123456789"),
    )  # fmt: skip
    return registry.build(config).wire


def decoded(exchange: Exchange) -> ProviderError:
    return wire_of(exchange["provider"], api=exchange["api"]).decode_error(
        status=exchange["status"],
        body=answer_bytes(exchange),
        headers=exchange["response_headers_subset"] or {},
        provider="p",
    )


@pytest.mark.parametrize("exchange", cases([item for item in REFUSED if item["id"] in TABLE]))
def test_a_recorded_refusal_is_what_the_table_says(exchange: Exchange) -> None:
    where, kind, retry_after_s = TABLE[exchange["id"]]
    error = decoded(exchange)
    assert f"{exchange['provider']} {exchange['api']} {exchange['status']}" == where
    assert type(error) is kind
    assert (error.code, error.client_status, error.retryable) == TOLD[kind]
    assert error.retry_after_s == retry_after_s
    assert (error.status, error.provider) == (exchange["status"], "p")
    assert error.message


@pytest.mark.parametrize("exchange", cases(REFUSED))
def test_no_refusal_is_what_its_status_cannot_mean(exchange: Exchange) -> None:
    error = decoded(exchange)
    assert type(error) in POSSIBLE.get(exchange["status"], tuple(TOLD))
    assert error.code == TOLD[type(error)][0]
    assert error.message


@pytest.mark.parametrize("name", sorted(WIRES))
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html><h1>404 Not Found</h1></html>"),
        (404, b'{"error": {"message": "Invalid URL (POST /v1/v1/x)", "type": "invalid_request_error", "code": null}}'),
        (404, b'{"detail": "Not Found"}'),
        (404, b""),
        (405, b"<html><h1>405 Not Allowed</h1></html>"),
        (405, b'{"detail": "Method Not Allowed"}'),
    ],
)
def test_a_wrong_base_url_is_not_the_clients_fault_on_any_wire(name: str, status: int, body: bytes) -> None:
    error = WIRES[name].decode_error(status=status, body=body, headers={}, provider="p")
    assert may_fall_back(error)
    assert error.client_status == 502
