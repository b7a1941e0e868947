"""The chart of a provider's checks, as the page carries it."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from gateway.desk.charts import health_chart
from providers.models import HealthCheck, Provider
from tests import factories
from tests.gateway.api.callers import by_session


def check(*, minute: int = 0, healthy: bool = True, latency_ms: float = 12.34, **fields: Any) -> HealthCheck:
    at = datetime(2026, 11, 23, 9, minute, tzinfo=UTC)
    return HealthCheck(checked_at=at, healthy=healthy, latency_ms=latency_ms, **fields)


def drawn(page: str) -> dict[str, Any]:
    [data] = re.findall(r'data-value="([^"]*)"', page)
    value: dict[str, Any] = json.loads(html.unescape(data))
    return value


def test_a_failed_check_has_a_colour_of_its_own() -> None:
    data = drawn(health_chart([check(), check(minute=5, healthy=False, latency_ms=5000)]))
    assert data["labels"] == ["11-23 09:00", "11-23 09:05"]
    [bars] = data["datasets"]
    assert bars["data"] == [12.3, 5000]
    well, ill = bars["backgroundColor"]
    assert well != ill


@pytest.mark.django_db
def test_the_providers_page_charts_the_last_day_oldest_first() -> None:
    client, provider = by_session(factories.make_user(superuser=True)), factories.make_provider(name="charted")
    page = reverse("admin:providers_provider_change", args=[provider.pk])
    assert 'class="chart"' not in client.get(page).content.decode()
    now = timezone.now()
    for hours, latency_ms in ((30, 1), (2, 2), (1, 3)):
        Provider.objects.get(pk=provider.pk).health_checks.create(
            checked_at=now - timedelta(hours=hours), healthy=True, latency_ms=latency_ms
        )
    [bars] = drawn(client.get(page).content.decode())["datasets"]
    assert bars["data"] == [2, 3]
