"""What can go wrong at a provider, as one tree.

ProviderError
+-- ConnectionFailed                 no connection, or it broke before any byte of the answer
+-- Timeout(timeout_s, phase)        connect, first_byte, idle or total
+-- InvalidCredential                the provider refused our credential (401)
+-- PermissionDenied                 the credential may not do this (403)
+-- RateLimited(retry_after_s)       429
+-- QuotaExhausted                   429 or 402 that waiting does not cure
+-- InvalidRequest(param)            400, 413, 422
|   +-- ContextTooLong
|   +-- ContentRefused               a content filter refused the request
|   +-- Unsupported                  the request cannot be said on this provider's wire (found before sending)
+-- ModelNotFound(model)             404
+-- Overloaded                       503, 529
+-- UpstreamError                    any other 5xx
+-- MalformedAnswer                  not what the wire promises
+-- StreamInterrupted                the stream ended before its last event

Messages are for clients: they quote the provider's own words with secrets and internals removed.
"""

from __future__ import annotations

from typing import Literal

Phase = Literal["connect", "first_byte", "idle", "total"]


class ProviderError(Exception):
    """A call at `provider` failed. `code` is our stable name; `client_status` is what our client gets."""

    code = "provider_error"
    client_status = 502
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        upstream_request_id: str = "",
        retry_after_s: float | None = None,
        upstream_code: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.status = status
        self.upstream_request_id = upstream_request_id
        self.retry_after_s = retry_after_s
        self.upstream_code = upstream_code


class ConnectionFailed(ProviderError):
    code = "provider_unreachable"
    retryable = True


class Timeout(ProviderError):
    code = "provider_timeout"
    client_status = 504

    def __init__(self, message: str, *, timeout_s: float, phase: Phase, provider: str = "") -> None:
        super().__init__(message, provider=provider)
        self.timeout_s = timeout_s
        self.phase = phase
        # Nothing was received yet: another attempt may do better. The total deadline leaves no time for one.
        self.retryable = phase in ("connect", "first_byte")


class InvalidCredential(ProviderError):
    code = "provider_credential_invalid"


class PermissionDenied(ProviderError):
    code = "provider_permission_denied"


class RateLimited(ProviderError):
    code = "provider_rate_limited"
    client_status = 429
    retryable = True


class QuotaExhausted(ProviderError):
    code = "provider_quota_exhausted"
    client_status = 429


class InvalidRequest(ProviderError):
    code = "invalid_request"
    client_status = 400

    def __init__(
        self,
        message: str,
        *,
        param: str = "",
        provider: str = "",
        status: int | None = None,
        upstream_request_id: str = "",
        upstream_code: str = "",
    ) -> None:
        super().__init__(
            message,
            provider=provider,
            status=status,
            upstream_request_id=upstream_request_id,
            upstream_code=upstream_code,
        )
        self.param = param
        if status in (413, 422):
            self.client_status = status


class ContextTooLong(InvalidRequest):
    code = "context_too_long"


class ContentRefused(InvalidRequest):
    code = "content_refused"


class Unsupported(InvalidRequest):
    code = "unsupported_parameter"


class ModelNotFound(ProviderError):
    code = "provider_model_not_found"

    def __init__(
        self,
        message: str,
        *,
        model: str = "",
        provider: str = "",
        status: int | None = None,
        upstream_request_id: str = "",
        upstream_code: str = "",
    ) -> None:
        super().__init__(
            message,
            provider=provider,
            status=status,
            upstream_request_id=upstream_request_id,
            upstream_code=upstream_code,
        )
        self.model = model


class Overloaded(ProviderError):
    code = "provider_overloaded"
    client_status = 503
    retryable = True


class UpstreamError(ProviderError):
    code = "provider_error"
    retryable = True


class MalformedAnswer(ProviderError):
    code = "provider_malformed_answer"


class StreamInterrupted(ProviderError):
    code = "provider_stream_interrupted"
