"""/v1/batches: many requests as one job. OpenAI's wire; docs/batches.md says what differs."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from gateway.api import parsing
from gateway.api.owned import OwnedView, found, page, unix_s
from gateway.batches import jobs
from gateway.batches.asking import ENDPOINTS
from gateway.errors import ApiError
from gateway.models import BatchJob

# Which field msgspec speaks of.
_FIELD = re.compile(r"(?:field |at )`(?:\$\.)?([A-Za-z_.]+)")
MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512


class _NewBatch(msgspec.Struct, forbid_unknown_fields=True):
    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None
    # Known to OpenAI's clients; files here are kept for one time only.
    output_expires_after: None = None


class BatchesView(OwnedView):
    """The caller's batches, and a new one."""

    surface = "batches"
    http_method_names = ["get", "post", "head", "options"]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        return page(request.GET, jobs.owned_by(self.caller()), shown=_shown, usual=20, most=100)

    @extend_schema(exclude=True)
    def post(self, request: Request) -> HttpResponse:
        principal = self.caller()
        asked = _asked(parsing.read_body(request._request.META))
        job = jobs.create(
            principal=principal,
            input_file_id=asked.input_file_id,
            endpoint=asked.endpoint,
            metadata=asked.metadata or {},
        )
        return JsonResponse(_shown(job))


class BatchView(OwnedView):
    """One batch, and how far it is."""

    surface = "batches"
    http_method_names = ["get", "head", "options"]

    @extend_schema(exclude=True)
    def get(self, request: Request, batch_id: str) -> HttpResponse:
        return JsonResponse(_shown(found(jobs.owned_by(self.caller()), batch_id, what="batch")))


class BatchCancelView(OwnedView):
    """The wish that a batch end."""

    surface = "batches"
    http_method_names = ["post", "options"]

    @extend_schema(exclude=True)
    def post(self, request: Request, batch_id: str = "") -> HttpResponse:
        job = found(jobs.owned_by(self.caller()), batch_id, what="batch")
        cancelled = jobs.cancel(job.pk)
        job.refresh_from_db()
        if not cancelled and job.state not in (BatchJob.State.CANCELLING, BatchJob.State.CANCELLED):
            raise ApiError("invalid_request", f"A batch that is {job.state} cannot be cancelled.", status=409)
        return JsonResponse(_shown(job))


def _asked(body: bytes) -> _NewBatch:
    try:
        asked = msgspec.json.decode(body, type=_NewBatch)
    except (msgspec.DecodeError, RecursionError) as error:
        field = _FIELD.search(str(error))
        raise ApiError(
            "invalid_request", f"The body is no new batch: {str(error)[:300]}.", param=field[1] if field else ""
        ) from None
    if asked.endpoint not in ENDPOINTS:
        raise ApiError("invalid_request", f"'endpoint' is one of {', '.join(ENDPOINTS)}.", param="endpoint")
    metadata = asked.metadata or {}
    too_long = any(len(name) > MAX_METADATA_KEY or len(value) > MAX_METADATA_VALUE for name, value in metadata.items())
    if len(metadata) > MAX_METADATA or too_long:
        raise ApiError(
            "invalid_request",
            f"'metadata' has at most {MAX_METADATA} pairs, of {MAX_METADATA_KEY} and {MAX_METADATA_VALUE} characters.",
            param="metadata",
        )
    return asked


def _shown(job: BatchJob) -> dict[str, Any]:
    return {
        "id": job.pk,
        "object": "batch",
        "endpoint": job.endpoint,
        "errors": {"object": "list", "data": job.refused} if job.refused else None,
        "input_file_id": job.input_file_id,
        "completion_window": job.completion_window,
        "status": job.state,
        "output_file_id": job.output_file_id or None,
        "error_file_id": job.error_file_id or None,
        "created_at": unix_s(job.created_at),
        "in_progress_at": unix_s(job.in_progress_at),
        "expires_at": unix_s(job.expires_at),
        "finalizing_at": unix_s(job.finalizing_at),
        "completed_at": unix_s(job.completed_at),
        "failed_at": unix_s(job.failed_at),
        "expired_at": unix_s(job.expired_at),
        "cancelling_at": unix_s(job.cancelling_at),
        "cancelled_at": unix_s(job.cancelled_at),
        "request_counts": {"total": job.total, "completed": job.completed, "failed": job.failed},
        "metadata": job.metadata or None,
        "tollbook": {"waits_for": job.waits_for or None},
    }
