"""GET and POST /api/providers/health/: how the providers are, and a check of them now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway import health_checks, provider_health
from gateway.api import parameters
from gateway.api.exceptions import InvalidParameter
from gateway.api.permissions import sight_of
from gateway.api.serializers import ErrorSerializer
from ledger.models import ApiKey
from providers.models import HealthCheck, Provider

MOST_HOURS = health_checks.KEPT_DAYS * 24


class HealthCheckSerializer(serializers.Serializer[Any]):
    provider = serializers.CharField()
    checked_at = serializers.DateTimeField()
    healthy = serializers.BooleanField()
    latency_ms = serializers.FloatField()
    error = serializers.CharField(allow_blank=True)


class RecentSerializer(serializers.Serializer[Any]):
    calls = serializers.IntegerField(help_text="Of the last hour, the newest 5,000: answered, or failed by a provider.")
    ok = serializers.IntegerField()
    success_rate = serializers.FloatField(allow_null=True, help_text="From 0 to 1; null: no calls.")
    p50_ms = serializers.FloatField(allow_null=True, help_text="Median duration of the successful ones.")
    p50_first_token_ms = serializers.FloatField(allow_null=True, help_text="Of the streamed ones.")


class ProviderHealthSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    adapter = serializers.CharField()
    enabled = serializers.BooleanField()
    check = HealthCheckSerializer(allow_null=True, help_text="The newest; null: never checked.")
    recent = RecentSerializer()
    breakers = serializers.DictField(
        child=serializers.ChoiceField(["closed", "open", "half_open"]),
        help_text="By model: the circuit breakers of the process that answers.",
    )


class ProvidersHealthSerializer(serializers.Serializer[Any]):
    providers = ProviderHealthSerializer(many=True)
    checks = HealthCheckSerializer(many=True, help_text="With `hours`: every check since then, oldest first.")


_ERRORS = {400: ErrorSerializer, 401: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer}
_PROVIDER = OpenApiParameter("provider", str, many=True, description="A name; repeat for several. Default: all.")


class ProvidersHealthView(APIView):
    renderer_classes = [JSONRenderer]

    @extend_schema(
        operation_id="providers_health",
        summary="The newest check of each provider, its recent calls and breakers",
        description="For staff, and keys with the scope read-spend or admin. Checks are kept for 30 days.",
        parameters=[_PROVIDER, OpenApiParameter("hours", int, description="Also the checks of so many hours back.")],
        responses={200: ProvidersHealthSerializer, **_ERRORS},
    )
    def get(self, request: Request) -> Response:
        query = request.query_params
        parameters.refuse_unknown(query, known={"provider", "hours"})
        if not sight_of(request).is_everything:
            raise PermissionDenied("The health of the providers is for staff, and keys that see everything.")
        return _answer(_chosen(request), hours=_hours(parameters.text(query, "hours")))

    @extend_schema(
        operation_id="check_providers",
        summary="Check providers now, all at once",
        description=(
            "For staff, and keys with the scope admin. Takes ten seconds at most. Without `provider`: every enabled "
            "one. A provider set up with a `health_model` is asked for one token: a call in the ledger."
        ),
        parameters=[_PROVIDER, OpenApiParameter("check", int, enum=[1], description="May be left out.")],
        request=None,
        responses={200: ProvidersHealthSerializer, **_ERRORS},
    )
    def post(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, known={"provider", "check"})
        if not _may_check(request):
            raise PermissionDenied("Checking providers is for staff, and keys with the scope admin.")
        chosen = _chosen(request)
        health_checks.check(chosen or health_checks.enabled_providers())
        return _answer(chosen, hours=0)


def _may_check(request: Request) -> bool:
    key = request.auth
    if isinstance(key, ApiKey):
        return str(ApiKey.Scope.ADMIN) in key.scopes
    return request.user.is_staff or request.user.is_superuser


def _chosen(request: Request) -> list[Provider]:
    """The providers asked for; none: all. Raises NotFound."""
    names = {name.strip() for name in request.query_params.getlist("provider")} - {""}
    if any("\0" in name for name in names):
        raise InvalidParameter("A name holds a NUL character.", param="provider")
    found = list(Provider.objects.filter(name__in=names).order_by("name")) if names else []
    missing = sorted(names - {row.name for row in found})
    if missing:
        raise NotFound(f"There is no provider {missing[0][:100]!r}.")
    return found


def _hours(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MOST_HOURS):
        raise InvalidParameter(f"'hours' is a whole number from 1 to {MOST_HOURS}, not {text!r}.", param="hours")
    return int(text)


def _answer(chosen: list[Provider], *, hours: int) -> Response:
    found = provider_health.reports(names=[row.name for row in chosen])
    ids = [report.provider.pk for report in found]
    since = timezone.now() - timedelta(hours=hours)
    points = provider_health.points(provider_ids=ids, since=since) if hours else []
    return Response({"providers": [_shown(report) for report in found], "checks": [_check(point) for point in points]})


def _shown(report: provider_health.Report) -> dict[str, Any]:
    provider, newest, recent = report.provider, report.newest, report.recent
    return {
        "name": provider.name,
        "adapter": provider.adapter,
        "enabled": provider.enabled,
        "check": _check(newest, name=provider.name) if newest is not None else None,
        "recent": {
            "calls": recent.calls,
            "ok": recent.ok,
            "success_rate": recent.success_rate,
            "p50_ms": recent.p50_ms,
            "p50_first_token_ms": recent.p50_first_token_ms,
        },
        "breakers": report.breakers,
    }


def _check(check: HealthCheck, *, name: str = "") -> dict[str, Any]:
    return {
        "provider": name or check.provider.name,
        "checked_at": check.checked_at,
        "healthy": check.healthy,
        "latency_ms": check.latency_ms,
        "error": check.error,
    }
