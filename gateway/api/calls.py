"""GET /api/calls/ and /api/calls/{id}/: what happened, call by call, and why it cost what it cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from django.http import QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.api import parameters
from gateway.api.pagination import CallPagination
from gateway.api.permissions import Sight, sight_of
from gateway.api.serializers import CallDetailSerializer, CallPageSerializer, ErrorSerializer
from gateway.api.spend import money_text
from ledger import call_reader
from ledger.models import Adjustment, Call
from ledger.money import format_short
from ledger.rating import Line, explain

_IDENTIFIED = ("user", "team", "key", "model", "provider")
_PARAMETERS = {
    *_IDENTIFIED, "outcome", "from", "to", "request_id", "upstream_request_id", "unpriced", "cursor", "page_size"
}  # fmt: skip
# Fields of the row that are shown as they are.
_PLAIN = (
    "id", "request_id", "attempt", "tags", "surface", "requested_name", "served_name", "upstream_request_id",
    "outcome", "http_status", "error_code", "streamed", "started_at", "finished_at", "first_token_ms", "duration_ms",
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "meters",
    "usage_source", "usage_flags", "service_tier", "price_sheet_id", "cost_source", "unpriced_reason",
)  # fmt: skip
_ZERO = Decimal(0)
_MOMENT = "A day such as 2026-11-30 (UTC) or an instant with a zone."


class CallListView(APIView):
    renderer_classes = [JSONRenderer]

    @extend_schema(
        operation_id="calls",
        summary="Calls, newest first",
        description="A key without the scope read-spend or admin sees its own calls, a user who is not staff theirs.",
        parameters=[
            *(OpenApiParameter(name, str, many=True, description="A name or an id.") for name in _IDENTIFIED),
            OpenApiParameter("outcome", str, enum=list(Call.Outcome.values)),
            OpenApiParameter("from", str, description=f"{_MOMENT} Included."),
            OpenApiParameter("to", str, description=f"{_MOMENT} A day is included, an instant is not."),
            OpenApiParameter("request_id", OpenApiTypes.UUID),
            OpenApiParameter("upstream_request_id", str),
            OpenApiParameter("unpriced", bool, description="true: only calls whose cost is unknown to this day."),
            OpenApiParameter("cursor", str, description="From `next` or `previous` of another page."),
            OpenApiParameter("page_size", int, description="1 to 200; 50 unless told."),
        ],
        responses={200: CallPageSerializer, 400: ErrorSerializer, 401: ErrorSerializer},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        parameters.refuse_unknown(query, known=_PARAMETERS)
        wanted = _wanted(query, sight=sight_of(request))
        pages = CallPagination()
        page = pages.paginate_queryset(call_reader.calls(wanted), request, view=self) or []
        return pages.get_paginated_response([_shown(detail) for detail in call_reader.named(page)])


class CallView(APIView):
    renderer_classes = [JSONRenderer]

    @extend_schema(
        operation_id="call",
        summary="One call with its rating lines",
        description="The lines are rated now, from the row and the sheet it names; `sum_check` compares them with it.",
        responses={200: CallDetailSerializer, 401: ErrorSerializer, 404: ErrorSerializer},
    )
    def get(self, request: Request, call_id: UUID) -> Response:
        # Somebody else's call is not found, rather than forbidden: that would tell that it exists.
        wanted = _wanted(QueryDict(), sight=sight_of(request))
        call = call_reader.calls(wanted).filter(id=call_id).first()
        if call is None:
            raise NotFound(f"There is no call {call_id} that you may see.")
        return Response(_explained(call_reader.explained(call)))


def _wanted(query: QueryDict, *, sight: Sight) -> call_reader.CallFilter:
    chosen = sight.narrowed(dict(parameters.chosen(query, names=_IDENTIFIED, sight=sight)))
    start, end = parameters.instants(query)
    return call_reader.CallFilter(
        **{f"{name}s": tuple(values) for name, values in chosen.items()},
        outcome=parameters.choice(query, "outcome", allowed=Call.Outcome.values),
        start=start,
        end=end,
        request_id=parameters.uuid(query, "request_id"),
        upstream_request_id=parameters.text(query, "upstream_request_id"),
        unpriced=parameters.flag(query, "unpriced"),
    )


def _shown(detail: call_reader.CallDetail) -> dict[str, Any]:
    call = detail.call
    return {
        **{name: getattr(call, name) for name in _PLAIN},
        **{name: {"id": named.id, "name": named.name} for name, named in detail.names.items()},
        "cost_usd": _money_or_none(call.cost_usd),
        "stated_cost_usd": _money_or_none(call.stated_cost_usd),
        "adjustments_usd": money_text(sum((a.delta_usd for a in detail.adjustments), start=_ZERO)),
        "total_usd": _money_or_none(detail.total_usd),
    }


def _explained(detail: call_reader.CallDetail) -> dict[str, Any]:
    return {
        **_shown(detail),
        "raw_usage": detail.call.raw_usage,
        "batch_seq": detail.call.batch_seq,
        "position": detail.call.position,
        "lines": [_line(line) for line in detail.lines],
        "sum_check": {
            "lines_usd": _money_or_none(detail.lines_usd),
            "cost_usd": _money_or_none(detail.call.cost_usd),
            "equal": detail.adds_up,
        },
        "adjustments": [_adjustment(adjustment) for adjustment in detail.adjustments],
    }


def _line(line: Line) -> dict[str, Any]:
    return {
        "meter": line.meter,
        "quantity": format_short(line.quantity),
        "amount_usd": money_text(line.amount_usd),
        "per": line.per,
        "cost_usd": money_text(line.cost_usd),
        "text": explain(line),
    }


def _adjustment(adjustment: Adjustment) -> dict[str, Any]:
    return {
        "delta_usd": money_text(adjustment.delta_usd),
        "settles_unknown": adjustment.settles_unknown,
        "reason": adjustment.reason,
        "note": adjustment.note,
        "reference": adjustment.reference,
        "created_at": adjustment.created_at,
    }


def _money_or_none(amount: Decimal | None) -> str | None:
    return None if amount is None else money_text(amount)
