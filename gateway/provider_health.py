"""What is known of the providers' health: the newest check of each, its recent calls, the breakers of this process."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import OuterRef, Subquery
from django.utils import timezone
from msgspec import Struct

from gateway import runtime
from gateway.breaker import State
from ledger import provider_rates
from ledger.provider_rates import Recent
from providers.models import HealthCheck, Model, Provider

RECENT = timedelta(hours=1)
MOST_POINTS = 10_000


class Report(Struct, frozen=True):
    """`breakers`: model name -> state, of the targets that this process has called."""

    provider: Provider
    newest: HealthCheck | None
    recent: Recent
    breakers: dict[str, State]


def reports(*, names: Iterable[str] = ()) -> list[Report]:
    """The named providers, or all, by name."""
    chosen = Provider.objects.defer("credential_secret").order_by("name")
    names = list(names)
    if names:
        chosen = chosen.filter(name__in=names)
    providers = list(chosen)
    newest = newest_checks([row.pk for row in providers])
    rates = provider_rates.recent(since=timezone.now() - RECENT)
    breakers = _breakers()
    return [
        Report(row, newest.get(row.pk), rates.get(row.pk, Recent()), breakers.get(row.pk, {})) for row in providers
    ]


def newest_checks(provider_ids: Iterable[int]) -> dict[int, HealthCheck]:
    """By provider id; a provider never checked is not in it."""
    of_provider = HealthCheck.objects.filter(provider=OuterRef("pk")).order_by("-checked_at", "-id")
    newest = (
        Provider.objects.filter(pk__in=list(provider_ids))
        .annotate(newest=Subquery(of_provider.values("pk")[:1]))
        .values("newest")
    )
    return {check.provider_id: check for check in HealthCheck.objects.filter(pk__in=newest)}


def points(*, provider_ids: Iterable[int], since: datetime) -> list[HealthCheck]:
    """The checks of these providers since then, oldest first, the newest MOST_POINTS of them: what a chart draws."""
    found = HealthCheck.objects.filter(provider__in=list(provider_ids), checked_at__gte=since)
    return list(found.select_related("provider").defer("provider__credential_secret")[:MOST_POINTS])[::-1]


def _breakers() -> dict[int, dict[str, State]]:
    current = runtime.started()
    states = current.breaker_states() if current is not None else {}
    found: dict[int, dict[str, State]] = {}
    for pk, name, provider_id in Model.objects.filter(pk__in=states).values_list("pk", "name", "provider_id"):
        found.setdefault(provider_id, {})[name] = states[pk]
    return found
