"""GET /api/focus/?month=2026-11: one month of the books for FinOps tools."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import IO, Any, cast

from django.http import FileResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from gateway.api import parameters
from gateway.api.exceptions import InvalidParameter
from gateway.api.permissions import sight_of
from gateway.api.serializers import ErrorSerializer
from gateway.api.spend import Negotiation, money_text
from ledger import focus_files
from ledger.focus import Export, FocusError
from ledger.focus_files import Format


class _FileRenderer(BaseRenderer):
    """Files are sent as they are; only errors are rendered, as JSON."""

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        return JSONRenderer().render(data)


class FocusCsvRenderer(_FileRenderer):
    media_type, format = "text/csv", "csv"


class FocusParquetRenderer(_FileRenderer):
    media_type, format = "application/vnd.apache.parquet", "parquet"


class FocusView(APIView):
    renderer_classes = [FocusCsvRenderer, FocusParquetRenderer]
    content_negotiation_class = Negotiation

    @extend_schema(
        operation_id="focus",
        summary="One month as FOCUS 1.2",
        description=(
            "One row per UTC day, key, model, meter and rate, and one per kind of adjustment. The rows add up to the "
            "month's charges and adjustments, which the headers `X-Tollbook-Charged-Usd` and `X-Tollbook-Adjusted-Usd` "
            "say. Calls of unknown cost have no row: `X-Tollbook-Unpriced-Calls` counts them, `what=unpriced` lists "
            "them. For staff, and keys with the scope read-spend or admin."
        ),
        parameters=[
            OpenApiParameter("month", str, required=True, description="Such as 2026-11 (UTC)."),
            OpenApiParameter("format", str, enum=list(focus_files.FORMATS)),
            OpenApiParameter("what", str, enum=["charges", "unpriced"], description="Unpriced is CSV only."),
        ],
        responses={
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, description="A header, then one line per row."),
            (200, "application/vnd.apache.parquet"): OpenApiResponse(OpenApiTypes.BINARY),
            (400, "application/json"): ErrorSerializer,
            (401, "application/json"): ErrorSerializer,
            (403, "application/json"): ErrorSerializer,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        query = request.query_params
        parameters.refuse_unknown(query, known={"month", "format", "what"})
        if not sight_of(request).is_everything:
            raise PermissionDenied("This export holds everyone's spend.")
        unpriced = parameters.choice(query, "what", allowed=("charges", "unpriced")) == "unpriced"
        format = cast(Format, parameters.choice(query, "format", allowed=focus_files.FORMATS) or "csv")
        # To a file first: an export that fails half-way must not look like one that ended.
        out = tempfile.TemporaryFile()  # noqa: SIM115  # the response closes it
        try:
            export = _exported(parameters.text(query, "month") or "", format="csv" if unpriced else format, out=out)
            if unpriced:
                out.seek(0)
                out.truncate()
                focus_files.write_unpriced(export=export, out=out)
        except BaseException:
            out.close()
            raise
        out.seek(0)
        return _response(out, export=export, format="csv" if unpriced else format, unpriced=unpriced)


def _exported(month: str, *, format: Format, out: IO[bytes]) -> Export:
    try:
        export = Export(month=focus_files.month_of(month))
        focus_files.write(export=export, format=format, out=out)
    except focus_files.NoParquet as error:
        raise InvalidParameter(str(error), param="format") from None
    except FocusError as error:
        raise InvalidParameter(str(error), param="month") from None
    return export


def _response(out: IO[bytes], *, export: Export, format: Format, unpriced: bool) -> FileResponse:
    name = f"tollbook-focus-{export.start:%Y-%m}{'.unpriced' if unpriced else ''}.{format}"
    response = FileResponse(out, as_attachment=True, filename=name, content_type=focus_files.CONTENT_TYPES[format])
    response["X-Tollbook-Charged-Usd"] = money_text(export.charged_usd)
    response["X-Tollbook-Adjusted-Usd"] = money_text(export.adjusted_usd)
    response["X-Tollbook-Unpriced-Calls"] = str(export.unpriced_calls)
    return response
