"""GET /api/spend/: what was spent, in groups, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, QueryDict
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.api import parameters
from gateway.api.exceptions import InvalidParameter
from gateway.api.permissions import sight_of
from gateway.api.serializers import ErrorSerializer, SpendSerializer
from ledger import reports
from ledger.models import Call
from ledger.money import format_usd, quantize_usd

_IDENTIFIED = ("user", "team", "key", "model", "provider")
_PARAMETERS = {"group_by", "from", "to", "outcome", "format", *_IDENTIFIED}
_SUMS = (
    "calls",
    "ok_calls",
    "failed_calls",
    "cancelled_calls",
    "cached_calls",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
_RATES = ("cache_hit_rate",)
# null where the cost of no call of a group is known.
_KNOWN_COSTS = ("cost_usd", "total_usd")
_MONEY = ("cost_usd", "adjustments_usd", "total_usd")
# What a spreadsheet takes for the beginning of a formula, also in the wide forms some of them fold.
_FORMULA_STARTS = tuple("=+-@\t\r\n|%＝＋－＠")


class CsvRenderer(BaseRenderer):
    """The rows of a report: no totals row, so that adding up a column gives the total and not twice the total."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        response = (renderer_context or {}).get("response")
        if response is not None and response.exception:
            return JSONRenderer().render(data)
        columns = [column for group in data["group_by"] for column in _columns(group)] + [*_SUMS, *_MONEY]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(columns)
        names = frozenset(_IDENTIFIED)
        for row in data["rows"]:
            writer.writerow([safe_cell(row[name]) if name in names else row[name] for name in columns])
        return text.getvalue().encode()


class Negotiation(DefaultContentNegotiation):
    """As DRF's, but an unknown ?format= is an error that says so, where DRF answers that there is no such page."""

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str | None) -> list[BaseRenderer]:
        offered = list(renderers)
        found = [renderer for renderer in offered if renderer.format == format]
        if not found:
            known = ", ".join(renderer.format for renderer in offered)
            raise InvalidParameter(f"'format' is one of {known}, not {format!r}.", param="format")
        return found


class SpendView(APIView):
    renderer_classes = [JSONRenderer, CsvRenderer]
    content_negotiation_class = Negotiation

    @extend_schema(
        operation_id="spend",
        summary="Spend in groups",
        description=(
            "Served from the daily rollups. Sums of exact decimals, as strings. `cost_usd` holds the known costs only: "
            "`unpriced_calls` says how many calls have no known cost; where that is all of them, `cost_usd` is null. "
            "Staff, and keys with the scope read-spend or admin, see everyone's; anyone else their own."
        ),
        parameters=[
            OpenApiParameter("group_by", str, description=f"Any of {', '.join(reports.DIMENSIONS)}, by commas."),
            OpenApiParameter("from", OpenApiTypes.DATE, description="First day, UTC. Default: the first of the month."),
            OpenApiParameter("to", OpenApiTypes.DATE, description="Last day, included, UTC. Default: today."),
            *(OpenApiParameter(name, str, many=True, description="A name or an id.") for name in _IDENTIFIED),
            OpenApiParameter("outcome", str, enum=list(Call.Outcome.values)),
            OpenApiParameter("format", str, enum=["json", "csv"]),
        ],
        responses={
            (200, "application/json"): SpendSerializer,
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, description="The rows, one line each."),
            (400, "application/json"): ErrorSerializer,
            (401, "application/json"): ErrorSerializer,
        },
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        parameters.refuse_unknown(query, known=_PARAMETERS)
        group_by = _group_by(query)
        start, end = parameters.period(query, today=timezone.now().date())
        report = _report(group_by=group_by, start=start, end=end, filters=_filters(request, query))
        return Response(report, headers=_file_name(request, start=start, end=end))


def _group_by(query: QueryDict) -> list[str]:
    given = [name.strip() for value in query.getlist("group_by") for name in value.split(",")]
    for name in given:
        if name and name not in reports.DIMENSIONS:
            raise InvalidParameter(f"Cannot group by {name!r}: use {', '.join(reports.DIMENSIONS)}.", param="group_by")
    return list(dict.fromkeys(name for name in given if name))


def _filters(request: Request, query: QueryDict) -> dict[str, Any]:
    sight = sight_of(request)
    filters: dict[str, Any] = dict(parameters.chosen(query, names=_IDENTIFIED, sight=sight))
    outcome = parameters.choice(query, "outcome", allowed=Call.Outcome.values)
    return sight.narrowed(filters | ({"outcome": outcome} if outcome else {}))


def _report(*, group_by: list[str], start: date, end: date, filters: Mapping[str, Any]) -> dict[str, Any]:
    try:
        rows = reports.spend(group_by=group_by, start=start, end=end, filters=filters)
    except reports.UnknownReport as error:
        raise InvalidParameter(str(error), param=error.param) from error
    return {
        "from": start.isoformat(),
        "to": end.isoformat(),
        "group_by": group_by,
        "rows": [{**_groups(row, group_by), **_sums(row)} for row in rows],
        "totals": _sums(reports.totals(rows)),
    }


def _columns(group: str) -> tuple[str, ...]:
    return (group,) if group == "day" else (f"{group}_id", group)


def _groups(row: reports.SpendRow, group_by: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for group in group_by:
        value = getattr(row, group)
        shown |= {"day": value.isoformat()} if group == "day" else {f"{group}_id": value.id, group: value.name}
    return shown


def _sums(sums: reports.Sums) -> dict[str, Any]:
    counts = {name: getattr(sums, name) for name in _SUMS}
    rates = {name: str(getattr(sums, name)) for name in _RATES}
    money: dict[str, str | None] = {name: money_text(getattr(sums, name)) for name in _MONEY}
    if not sums.cost_is_known:
        money |= dict.fromkeys(_KNOWN_COSTS)
    return counts | rates | money


def money_text(amount: Decimal) -> str:
    """All twelve decimals, never an exponent."""
    return format_usd(quantize_usd(amount))


def safe_cell(text: str) -> str:
    """`text` such that no spreadsheet runs it: what looks like a formula begins with an apostrophe."""
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA_STARTS) else text


def _file_name(request: Request | HttpRequest, *, start: date, end: date) -> dict[str, str]:
    if getattr(getattr(request, "accepted_renderer", None), "format", "") != "csv":
        return {}
    return {"Content-Disposition": f'attachment; filename="tollbook-spend-{start}-{end}.csv"'}
