"""Errors of the /api/ endpoints, all in one shape:

    {"error": {"message": ..., "type": ..., "param": ..., "code": ..., "request_id": ...}}

`code` is stable. Clients never see a stack trace, SQL or a setting; those are in the log, under the same request id.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

_logger = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class InvalidParameter(exceptions.APIException):
    """A query parameter that is not what it must be: 400, naming it."""

    status_code = 400
    default_code = "invalid_request"

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


# status -> (type, code). The codes are those of gateway/errors.py.
_WORDS = {
    400: ("invalid_request_error", "invalid_request"),
    401: ("authentication_error", "invalid_key"),
    403: ("permission_error", "scope_missing"),
    404: ("not_found_error", "not_found"),
    405: ("invalid_request_error", "method_not_allowed"),
    406: ("invalid_request_error", "invalid_request"),
    415: ("invalid_request_error", "invalid_request"),
    429: ("rate_limit_error", "too_many_bad_keys"),
    503: ("service_unavailable_error", "ledger_unavailable"),
}


def handle(exc: Exception, context: Mapping[str, Any]) -> Response:
    """The answer to any exception of a view. Headers: X-Request-Id, and Retry-After and WWW-Authenticate where due."""
    request = context.get("request")
    request_id = request_id_of(request.META if request is not None else {})
    headers = {"X-Request-Id": request_id}
    if isinstance(exc, OperationalError | InterfaceError):
        # The class alone: the text of a database error holds addresses and SQL.
        _logger.error("database away: %s", type(exc).__name__, extra={"request_id": request_id})
        headers["Retry-After"] = "1"
        return _answer(503, "The ledger's database is away: try again.", headers=headers)
    exc = _as_api_exception(exc)
    if not isinstance(exc, exceptions.APIException):
        _logger.error("unexpected error", exc_info=exc, extra={"request_id": request_id})
        return _answer(500, "Something went wrong here. The log has it under the request id.", headers=headers)
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if wait_s := getattr(exc, "wait", None):
        headers["Retry-After"] = str(math.ceil(wait_s))
    message, param = _message(exc.detail)
    return _answer(exc.status_code, message, param=getattr(exc, "param", param), headers=headers)


def request_id_of(meta: Mapping[str, Any]) -> str:
    """The client's X-Request-Id where it is short and plain, else a new one."""
    given = str(meta.get("HTTP_X_REQUEST_ID", ""))
    return given if _REQUEST_ID.fullmatch(given) else str(uuid4())


def _as_api_exception(exc: Exception) -> Exception:
    if isinstance(exc, Http404):
        return exceptions.NotFound()
    if isinstance(exc, PermissionDenied):
        return exceptions.PermissionDenied()
    return exc


def _message(detail: Any) -> tuple[str, str | None]:
    """The first message of DRF's detail, and the field it is about."""
    param = None
    while isinstance(detail, dict | list) and detail:
        if isinstance(detail, dict):
            field, detail = next(iter(detail.items()))
            param = str(field) if param is None else f"{param}.{field}"
        else:
            detail = detail[0]
    return str(detail), param


def _answer(status: int, message: str, *, headers: dict[str, str], param: str | None = None) -> Response:
    kind, code = _WORDS.get(status, ("api_error", "internal_error"))
    error = {
        "message": message,
        "type": kind,
        "param": param,
        "code": code,
        "request_id": headers["X-Request-Id"],
    }
    # An error is JSON also where the client asked for CSV.
    return Response({"error": error}, status=status, headers=headers, content_type="application/json")
