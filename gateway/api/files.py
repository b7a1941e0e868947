"""/v1/files: upload the requests of a batch, read what batches wrote. OpenAI's wire.

An upload goes to the disk piece by piece: it is never in memory as a whole.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler, StopUpload
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from gateway import files
from gateway.api.owned import OwnedView, found, page, unix_s
from gateway.errors import ApiError
from gateway.models import StoredFile

# What the form has beside the file: boundaries, headers, the other fields.
FORM_BYTES = 64 * 1024


class _ToUpload(FileUploadHandler):
    """Writes the one field `file` to an Upload; other files are read and forgotten."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.upload: files.Upload | None = None
        self.filename = ""
        self.problem: ApiError | None = None

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        if self.field_name == "file" and self.upload is None:
            self.upload, self.filename = files.Upload(), self.file_name or "file"

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        if self.field_name != "file" or self.upload is None:
            return
        try:
            self.upload.write(raw_data)
        except ApiError as error:
            self.problem = error
            raise StopUpload(connection_reset=True) from None

    def file_complete(self, file_size: int) -> None:
        return None

    def discard(self) -> None:
        if self.upload is not None:
            self.upload.discard()


class FilesView(OwnedView):
    """The caller's files, and a new one."""

    surface = "files"
    http_method_names = ["get", "post", "head", "options"]

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        rows, purpose = files.owned_by(self.caller()), request.GET.get("purpose")
        if purpose:
            rows = rows.filter(purpose=purpose.replace("\0", ""))
        return page(request.GET, rows, shown=_shown, usual=10_000, most=10_000)

    @extend_schema(exclude=True)
    def post(self, request: Request) -> HttpResponseBase:
        principal = self.caller()
        form = request._request
        if int(form.META.get("CONTENT_LENGTH") or 0) > settings.MAX_FILE_BYTES + FORM_BYTES:
            raise files.too_large()
        if form.content_type != "multipart/form-data":
            raise ApiError("invalid_request", "Send multipart/form-data with the fields file and purpose.")
        handler = _ToUpload(form)
        try:
            _read_form(form, handler)
            purpose = form.POST.get("purpose")
            if purpose != StoredFile.Purpose.BATCH:
                raise ApiError("invalid_request", "The purpose is 'batch': no other is known here.", param="purpose")
            if any(name.startswith("expires_after") for name in form.POST):
                days = settings.FILES_KEPT_DAYS
                raise ApiError(
                    "unsupported_parameter", f"Files are kept for {days} days: leave it out.", param="expires_after"
                )
            if handler.upload is None:
                raise ApiError("invalid_request", "The form has no field 'file' with a file in it.", param="file")
            name = handler.filename.replace("\0", "")[:255]
            return JsonResponse(_shown(handler.upload.keep(principal=principal, filename=name)))
        except BaseException:
            handler.discard()
            raise


def _read_form(form: HttpRequest, handler: _ToUpload) -> None:
    """Read the whole form. Raises ApiError."""
    form.upload_handlers = [handler]
    try:
        form.POST.keys()
    except (MultiPartParserError, SuspiciousOperation, RequestDataTooBig):
        raise ApiError("invalid_request", "The form could not be read: it is broken off or malformed.") from None
    if handler.problem is not None:
        raise handler.problem


class FileView(OwnedView):
    """One file: what is known of it, and its end."""

    surface = "files"
    http_method_names = ["get", "delete", "head", "options"]

    @extend_schema(exclude=True)
    def get(self, request: Request, file_id: str) -> HttpResponse:
        return JsonResponse(_shown(found(files.owned_by(self.caller()), file_id, what="file")))

    @extend_schema(exclude=True)
    def delete(self, request: Request, file_id: str) -> HttpResponse:
        files.delete(found(files.owned_by(self.caller()), file_id, what="file"))
        return JsonResponse({"id": file_id, "object": "file", "deleted": True})


class FileContentView(OwnedView):
    """The bytes of one file."""

    surface = "files"
    http_method_names = ["get", "head", "options"]

    @extend_schema(exclude=True)
    def get(self, request: Request, file_id: str) -> HttpResponseBase:
        row = found(files.owned_by(self.caller()), file_id, what="file")
        try:
            content = files.path_of(row.pk).open("rb")
        except FileNotFoundError:
            raise ApiError("not_found", f"The bytes of {row.pk} are gone.") from None
        return FileResponse(content, content_type="application/octet-stream", filename=row.filename, as_attachment=True)


def _shown(row: StoredFile) -> dict[str, Any]:
    return {
        "id": row.pk,
        "object": "file",
        "bytes": row.size_bytes,
        "created_at": unix_s(row.created_at),
        "expires_at": unix_s(row.created_at + timedelta(days=settings.FILES_KEPT_DAYS)),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": "processed",
        "status_details": None,
    }
