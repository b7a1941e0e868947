"""GET /api/limits/: the limits that apply to the caller, and how much of each is left."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.api import parameters
from gateway.api.permissions import sight_of
from gateway.api.serializers import ErrorSerializer, LimitsSerializer
from gateway.api.spend import money_text
from ledger import limit_reader
from ledger.models import ApiKey, Limit


class LimitsView(APIView):
    renderer_classes = [JSONRenderer]

    @extend_schema(
        operation_id="limits",
        summary="Limits with what is used, held and left",
        description=(
            "Every limit that can refuse a call of the caller: its own, its user's and team's, the models' and "
            "everyone's. Who sees everyone's spend sees every limit."
        ),
        responses={200: LimitsSerializer, 400: ErrorSerializer, 401: ErrorSerializer},
    )
    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, known=())
        return Response({"limits": [_shown(state) for state in limit_reader.states(_limits(request))]})


def _limits(request: Request) -> QuerySet[Limit]:
    sight, key = sight_of(request), request.auth
    if sight.is_everything:
        return limit_reader.limits_of_everyone()
    if isinstance(key, ApiKey):
        return limit_reader.limits_of_key(key)
    return limit_reader.limits_of_user(sight.user_id or 0)


def _shown(state: limit_reader.LimitState) -> dict[str, Any]:
    limit = state.limit
    return {
        "id": limit.pk,
        "subject": limit.subject,
        "subject_name": str(limit.key or limit.user or limit.team or limit.model or ""),
        "metric": limit.metric,
        "period": limit.period,
        "action": limit.action,
        "amount": money_text(limit.amount),
        "used": money_text(state.used),
        "held": money_text(state.held),
        "remaining": money_text(state.remaining),
        "starts_at": state.starts_at,
        "resets_at": state.resets_at,
    }
