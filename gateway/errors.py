"""What the gateway itself refuses, before or instead of a call: status, stable code, and what to do."""

from __future__ import annotations

# Every code a client can meet, with its status; documented in docs/errors.md, which a test compares with this.
CODES: dict[str, int] = {
    "invalid_request": 400,
    "unsupported_parameter": 400,
    "context_too_long": 400,
    "content_refused": 400,
    "invalid_key": 401,
    "unpriced_model": 402,
    "model_not_allowed": 403,
    "scope_missing": 403,
    "model_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_conflict": 409,
    "idempotency_indeterminate": 409,
    "request_too_large": 413,
    "idempotency_mismatch": 422,
    "limit_reached": 429,
    "too_many_bad_keys": 429,
    "provider_rate_limited": 429,
    "provider_quota_exhausted": 429,
    "internal_error": 500,
    "provider_error": 502,
    "provider_unreachable": 502,
    "provider_credential_invalid": 502,
    "provider_permission_denied": 502,
    "provider_model_not_found": 502,
    "provider_malformed_answer": 502,
    "provider_stream_interrupted": 502,
    "ledger_unavailable": 503,
    "provider_overloaded": 503,
    "provider_timeout": 504,
}


class ApiError(Exception):
    """An error answer. `param` is the field it is about; `headers` go with it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str = "",
        status: int | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
        call_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.status = status or CODES[code]
        self.call_id = call_id
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, retry_after_s))


def ledger_unavailable() -> ApiError:
    return ApiError(
        "ledger_unavailable",
        "The ledger cannot be written now, so nothing was sent to the provider. Try again in a second.",
        retry_after_s=1,
    )
