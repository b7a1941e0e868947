"""The routes for people and finance, and those for whoever runs the process."""

from __future__ import annotations

from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.permissions import AllowAny

from gateway import metrics
from gateway.api.calls import CallListView, CallView
from gateway.api.focus import FocusView
from gateway.api.health import healthz, readyz
from gateway.api.limits import LimitsView
from gateway.api.prices import ComparePricesView, EstimateView, PricesView
from gateway.api.provider_health import ProvidersHealthView
from gateway.api.spend import SpendView

# The schema and its pages hold no data, so they open without a login: a developer reads them before having a key.
_OPEN = {"permission_classes": [AllowAny], "authentication_classes": []}

urlpatterns = [
    path("api/spend/", SpendView.as_view(), name="api-spend"),
    path("api/calls/", CallListView.as_view(), name="api-calls"),
    path("api/calls/<uuid:call_id>/", CallView.as_view(), name="api-call"),
    path("api/focus/", FocusView.as_view(), name="api-focus"),
    path("api/limits/", LimitsView.as_view(), name="api-limits"),
    path("api/prices/", PricesView.as_view(), name="api-prices"),
    path("api/prices/compare/", ComparePricesView.as_view(), name="api-prices-compare"),
    path("api/prices/estimate/", EstimateView.as_view(), name="api-prices-estimate"),
    path("api/providers/health/", ProvidersHealthView.as_view(), name="api-providers-health"),
    path("api/schema/", SpectacularAPIView.as_view(**_OPEN), name="api-schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="api-schema", **_OPEN), name="api-docs"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics.exposition, name="metrics"),
]
