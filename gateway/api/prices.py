"""GET /api/prices/ and /api/prices/compare/, POST /api/prices/estimate/: what things cost, and what a request would."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.api import parameters, parsing
from gateway.api.exceptions import InvalidParameter
from gateway.api.permissions import sight_of
from gateway.api.price_serializers import ComparisonSerializer, EstimateSerializer, PricesSerializer
from gateway.api.serializers import ErrorSerializer
from gateway.api.spend import money_text
from gateway.errors import ApiError
from gateway.plan import FALLBACK_OUTPUT_TOKENS, MOST_SEARCHES
from gateway.settlement import estimated_input_tokens
from ledger import bounds, price_list, prices
from ledger.models import ApiKey, PriceSheet, Rate
from ledger.money import format_short
from ledger.rating import Conditions, Sheet, explain, rate
from providers.errors import InvalidRequest
from providers.models import Model
from providers.wire import anthropic_messages, openai_chat
from providers.wire.base import Admitted, Wire

_WIRES: dict[str, Wire] = {"chat": openai_chat.WIRE, "messages": anthropic_messages.WIRE}
_MOST_TOKENS = 10**12
_ERRORS = {400: ErrorSerializer, 401: ErrorSerializer}
_CONDITIONS = ("service_tier", "speed", "region", "variant")


class PricesView(APIView):
    renderer_classes = [JSONRenderer]

    @extend_schema(
        operation_id="prices",
        summary="Prices in force, or all there ever were",
        description="A key that may call only some models, without the scope read-spend or admin, sees only those.",
        parameters=[
            OpenApiParameter("model", str, many=True, description="A name or an alias; repeat for several."),
            OpenApiParameter("at", OpenApiTypes.DATETIME, description="In force at this instant. Default: now."),
            OpenApiParameter("history", bool, description="true: every sheet ever published, newest first."),
        ],
        responses={200: PricesSerializer, **_ERRORS},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        parameters.refuse_unknown(query, known={"model", "at", "history"})
        names = [name.strip() for name in query.getlist("model") if name.strip()]
        models = _visible(request, names or None)
        at, history = _instant(query), parameters.flag(query, "history")
        if history and parameters.text(query, "at") is not None:
            raise InvalidParameter("'history' shows all instants: leave 'at' out.", param="at")
        found = price_list.sheets(model_ids=[model.pk for model in models], at=None if history else at)
        return Response({"at": None if history else at, "prices": [_sheet(sheet) for sheet in found]})


class ComparePricesView(APIView):
    renderer_classes = [JSONRenderer]

    @extend_schema(
        operation_id="compare_prices",
        summary="What so many tokens cost at each model, cheapest first",
        description="Models without a price for that usage come last, with a null cost and the reason.",
        parameters=[
            OpenApiParameter("input", int, description="Input tokens, cached ones included."),
            OpenApiParameter("output", int, description="Output tokens."),
            OpenApiParameter("cache_read", int, description="Of the input, read from a cache."),
            OpenApiParameter("models", str, description="Names or aliases, by commas. Default: every enabled model."),
        ],
        responses={200: ComparisonSerializer, **_ERRORS},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        parameters.refuse_unknown(query, known={"input", "output", "cache_read", "models"})
        totals = {name: _tokens(query, name) for name in ("input", "output", "cache_read")}
        if totals["cache_read"] > totals["input"]:
            raise InvalidParameter("'cache_read' is a part of 'input' and cannot exceed it.", param="cache_read")
        names = [name.strip() for value in query.getlist("models") for name in value.split(",") if name.strip()]
        found = price_list.compare(models=_visible(request, names or None), totals=totals, at=timezone.now())
        return Response({**totals, "models": [_compared(each) for each in found]})


class EstimateView(APIView):
    renderer_classes = [JSONRenderer]
    parser_classes = [JSONParser]

    @extend_schema(
        operation_id="estimate_price",
        summary="What a request would cost, at least and at most",
        description=(
            "The body is that of POST /v1/chat/completions, or with surface=messages of POST /v1/messages. Nothing is "
            "sent or held. low_usd: its text at four bytes a token and no output; high_usd: what a strict "
            "limit would hold."
        ),
        parameters=[OpenApiParameter("surface", str, enum=list(_WIRES), description="Default: chat.")],
        request=OpenApiTypes.OBJECT,
        responses={200: EstimateSerializer, 404: ErrorSerializer, **_ERRORS},
    )
    def post(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, known={"surface"})
        surface = parameters.choice(request.query_params, "surface", allowed=list(_WIRES)) or "chat"
        body = request._request.body
        admitted = _admitted(_WIRES[surface], body)
        model = _visible(request, [admitted.model]).first()
        if model is None:
            raise NotFound(f"There is no model {admitted.model[:200]!r} that you may call.")
        return Response(_estimate(model, admitted, body_bytes=len(body), at=timezone.now()))


def _visible(request: Request, names: list[str] | None) -> QuerySet[Model]:
    """The models asked for, and of those only the ones that the caller's key may call."""
    if names and any("\0" in name for name in names):
        raise InvalidParameter("A name holds a NUL character.", param="model")
    found = price_list.models_named(names)
    key = request.auth
    if isinstance(key, ApiKey) and key.allowed_models and not sight_of(request).is_everything:
        found = found.filter(pk__in=price_list.models_named(key.allowed_models).values("pk"))
    return found


def _instant(query: QueryDict) -> datetime:
    value = parameters.text(query, "at")
    if value is None:
        return timezone.now()
    try:
        moment = parse_datetime(value.replace(" ", "+") if "T" in value else value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidParameter(f"'at' is an instant such as 2026-11-30T12:00:00Z, not {value!r}.", param="at")
    return moment


def _tokens(query: QueryDict, name: str) -> int:
    value = parameters.text(query, name) or "0"
    if not (value.isascii() and value.isdigit() and len(value) <= 13 and int(value) <= _MOST_TOKENS):
        raise InvalidParameter(f"{name!r} is a number of tokens from 0 to {_MOST_TOKENS}, not {value!r}.", param=name)
    return int(value)


def _admitted(wire: Wire, body: bytes) -> Admitted:
    try:
        return wire.admit(parsing.checked(body))
    except ApiError as error:
        raise InvalidParameter(error.message, param=error.param or "$") from None
    except InvalidRequest as error:
        raise InvalidParameter(error.message, param=error.param or "$") from None
    except RecursionError:
        raise InvalidParameter("The body is nested too deeply.", param="$") from None


def _estimate(model: Model, admitted: Admitted, *, body_bytes: int, at: datetime) -> dict[str, Any]:
    sheet = prices.get_pricing(model, at)
    tokens = estimated_input_tokens(body_bytes=body_bytes, admitted=admitted)
    least = min(tokens, model.context_window or _MOST_TOKENS)
    most = _most_input(model, admitted, body_bytes=body_bytes)
    cap = admitted.max_output_tokens or model.default_max_output_tokens or model.max_output_tokens
    output = (cap or FALLBACK_OUTPUT_TOKENS) * admitted.n
    conditions = Conditions(at=at, service_tier=admitted.service_tier)
    low = rate(sheet=sheet, meters={"input": least} if least else {}, input_total=least, conditions=conditions)
    high = _high(sheet, admitted, input_tokens=most, output_tokens=output // admitted.n)
    return {
        "model": model.name,
        "price_sheet_id": sheet.id if sheet is not None else None,
        "input_tokens_low": least,
        "input_tokens_high": most,
        "output_tokens_high": output,
        "low_usd": None if low.cost_usd is None else money_text(low.cost_usd),
        "high_usd": None if high is None else money_text(high),
        "unpriced_reason": low.unpriced_reason,
        "lines": [explain(line) for line in low.lines],
    }


def _most_input(model: Model, admitted: Admitted, *, body_bytes: int) -> int:
    if admitted.server_tools and model.context_window:
        return model.context_window
    size = admitted.media_bytes * 3 // 4
    media = [
        bounds.Media(kind=kind, size_bytes=0 if n else size)  # type: ignore[arg-type]  # the wires' kinds are these
        for kind, count in admitted.media.items()
        for n in range(count)
    ]
    return bounds.input_bound_tokens(
        body_bytes=body_bytes, media_bytes=admitted.media_bytes, message_count=admitted.message_count, media=media,
        strict=True, context_window=model.context_window,
    )  # fmt: skip


def _high(sheet: Sheet | None, admitted: Admitted, *, input_tokens: int, output_tokens: int) -> Decimal | None:
    if sheet is None:
        return None
    fees = dict.fromkeys(("web_searches", "file_searches"), MOST_SEARCHES) if admitted.server_tools else None
    return bounds.upper_bound_usd(
        sheet=sheet, input_tokens=input_tokens, output_tokens=output_tokens, n=admitted.n,
        service_tier=admitted.service_tier, fees=fees,
    )  # fmt: skip


def _sheet(sheet: PriceSheet) -> dict[str, Any]:
    return {
        "id": sheet.pk,
        "model": sheet.model.name,
        "provider": sheet.model.provider.name,
        "book": sheet.book,
        "valid_from": sheet.valid_from,
        "discontinued": sheet.discontinued,
        "history_unknown": sheet.history_unknown,
        "source": sheet.source,
        "source_url": sheet.source_url,
        "reason": sheet.reason,
        "published_at": sheet.published_at,
        "rates": _rates(sheet.rates.all()),
    }


def _rates(rates: Iterable[Rate]) -> list[dict[str, Any]]:
    return [
        {
            "meter": rate.meter,
            "amount_usd": money_text(rate.amount_usd),
            "per": rate.per,
            "above_tokens": rate.above_tokens,
            "tier_inclusive": rate.tier_inclusive,
            **{name: getattr(rate, name) for name in _CONDITIONS},
            "weekdays": rate.weekdays,
            "window_start": rate.window_start,
            "window_end": rate.window_end,
            "minimum": format_short(rate.minimum),
            "quantum": format_short(rate.quantum),
            "zero_reason": rate.zero_reason,
        }
        for rate in rates
    ]


def _compared(found: price_list.Compared) -> dict[str, Any]:
    cost = found.rating.cost_usd
    return {
        "model": found.name,
        "provider": found.provider,
        "price_sheet_id": found.sheet_id,
        "cost_usd": None if cost is None else money_text(cost),
        "unpriced_reason": found.rating.unpriced_reason,
        "lines": [explain(line) for line in found.rating.lines],
    }
