"""The view every model-calling surface shares: authenticate, read, relay, answer in the surface's own shape.

A DRF view without serializers, parsers or negotiation: bytes in, bytes out.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar
from uuid import UUID

import psycopg
from django.db import Error as DjangoDatabaseError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway import cache, idempotency
from gateway.api import parsing
from gateway.api.authentication import client_address, failed_keys, key_text
from gateway.asking import Caller
from gateway.errors import ApiError, ledger_unavailable
from gateway.keyring import Principal
from gateway.relay import Streamed, relay
from gateway.runtime import Runtime, runtime
from gateway.watcher import client_socket
from ledger import faults
from ledger.ids import new_request_id
from providers.errors import InvalidRequest, ProviderError
from providers.wire.base import Wire

log = logging.getLogger("tollbook.api")


def authenticate(current: Runtime, meta: dict[str, Any]) -> Principal:
    """The caller behind a request's headers. Raises ApiError; an address with many bad keys is refused for a while."""
    try:
        return current.keyring.authenticate(key_text(meta), version=current.snapshot.version)
    except ApiError as error:
        if error.code == "invalid_key":
            error.headers["WWW-Authenticate"] = 'Bearer realm="tollbook"'
            wait_s = failed_keys.record(client_address(meta))
            if wait_s:
                raise ApiError(
                    "too_many_bad_keys", "Too many wrong API keys from this address.", retry_after_s=wait_s
                ) from None
        raise


class SurfaceView(APIView):
    """A surface names its `wire` and its `surface` word; `post` tells the rest."""

    wire: ClassVar[Wire]
    surface: ClassVar[str]
    authentication_classes = ()
    permission_classes = ()
    # OPTIONS tells nothing that a client of a wire asks for: it is a method like any other that is not allowed.
    metadata_class = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """No negotiation, no throttles: a surface speaks one content type, and limits are the ledger's."""

    def finalize_response(  # type: ignore[override]
        self, request: Request, response: HttpResponseBase, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """Nothing to render, and no Vary: there is one representation."""
        return response

    def handle_exception(self, exc: Exception) -> HttpResponse:  # type: ignore[override]
        return self.refusal(exc, request_id=getattr(self, "request_id", None))

    def read(self, meta: dict[str, Any]) -> bytes:
        """The request's body. Raises ApiError."""
        return parsing.read_body(meta)

    @extend_schema(exclude=True)
    def post(self, request: Request) -> HttpResponseBase:
        meta = request._request.META
        self.request_id = new_request_id()
        current = runtime()
        principal = authenticate(current, meta)
        body = self.read(meta)
        caller = Caller(
            principal=principal,
            client_request_id=parsing.client_request_id(meta.get("HTTP_X_REQUEST_ID", "")),
            tags=parsing.tags(meta["HTTP_X_TOLLBOOK_TAGS"]) if "HTTP_X_TOLLBOOK_TAGS" in meta else {},
            timeout_s=parsing.timeout_s(meta.get("HTTP_X_TOLLBOOK_TIMEOUT_S", "")),
            cache=cache.mode(meta.get("HTTP_X_TOLLBOOK_CACHE"), principal=principal),
            idempotency=idempotency.read(meta.get("HTTP_IDEMPOTENCY_KEY"), surface=self.surface, body=body),
            client=client_socket(meta),
        )
        answer = relay(
            runtime=current, wire=self.wire, surface=self.surface, body=body, caller=caller, request_id=self.request_id
        )
        if isinstance(answer, Streamed):
            # A copy: the stream's own, which an idempotency key keeps, stay whole.
            headers = {**answer.headers, **STREAM_HEADERS}
            kind = headers.pop("Content-Type", "text/event-stream")
            return StreamingHttpResponse(answer.chunks, content_type=kind, headers=headers)
        kind = answer.headers.pop("Content-Type", self.wire.content_type)
        return _response(answer.body, content_type=kind, headers=answer.headers, kind=_Answer)

    # --- errors -------------------------------------------------------------------------------------------

    def refusal(self, exc: Exception, *, request_id: UUID | None) -> HttpResponse:
        """Any exception as the surface's error."""
        error = known_error(exc)
        ours = str(request_id or new_request_id())
        shown = parsing.client_request_id(self.request.META.get("HTTP_X_REQUEST_ID", "")) or ours
        call = getattr(exc, "call_id", "") or ""
        body = self.wire.encode_error(
            status=error.status,
            code=error.code,
            message=error.message,
            param=error.param,
            request_id=ours,
            call_id=call,
        )
        headers = {"X-Request-Id": shown, **error.headers}
        if call:
            headers["X-Tollbook-Call-Id"] = call
        return _response(body, status=error.status, content_type="application/json", headers=headers)

    def http_method_not_allowed(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        allowed = ", ".join(method for method in self.allowed_methods if method != "OPTIONS")
        error = ApiError(
            "method_not_allowed", f"{request.method} is not allowed here: {allowed}.", headers={"Allow": allowed}
        )
        return self.refusal(error, request_id=None)


class _Answer(HttpResponse):
    """What a provider answered. The server closes it once it is sent."""

    def close(self) -> None:
        super().close()
        faults.point("answered")


def _response(
    body: bytes, *, content_type: str, headers: dict[str, str], status: int = 200,
    kind: type[HttpResponse] = HttpResponse,
) -> HttpResponse:
    """A whole answer. Its length is told here: no middleware does it for /v1/."""
    headers["Content-Length"] = str(len(body))
    return kind(body, status=status, content_type=content_type, headers=headers)


STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def known_error(exc: Exception) -> ApiError:
    """What a client is told of an exception. What is not one of ours is logged whole and told as nothing."""
    if isinstance(exc, ApiError):
        return exc
    if isinstance(exc, ProviderError):
        wait_s = exc.retry_after_s
        return ApiError(
            exc.code,
            exc.message,
            status=exc.client_status,
            param=exc.param if isinstance(exc, InvalidRequest) else "",
            retry_after_s=int(wait_s) + 1 if wait_s is not None else None,
        )
    if isinstance(exc, psycopg.Error | DjangoDatabaseError):
        return ledger_unavailable()
    if isinstance(exc, RecursionError):
        return ApiError("invalid_request", "The body is nested too deeply.")
    log.error("defect", exc_info=exc)
    return ApiError("internal_error", "The gateway failed. Its log has the reason under this request id.")
