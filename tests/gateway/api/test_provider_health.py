"""Checks, recent calls and breakers at /api/providers/health/, in the admin and by the command."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway import health_checks, provider_health
from gateway.breaker import Breaker
from ledger import provider_rates
from providers.adapters.base import Health
from providers.adapters.sandbox import Sandbox
from providers.models import HealthCheck, Provider
from tests import factories
from tests.gateway.api.callers import by_key, by_session, make_call_at, make_person
from tests.gateway.api.test_schema import fields_of

pytestmark = pytest.mark.django_db
URL = "/api/providers/health/"


def make_check(provider: Provider, *, minutes_ago: int = 0, error: str = "") -> HealthCheck:
    at = timezone.now() - timedelta(minutes=minutes_ago)
    return HealthCheck.objects.create(
        provider=provider, checked_at=at, healthy=not error, latency_ms=12.5, error=error
    )


def auditor() -> Client:
    return by_key(make_person("auditor", scopes=("read-spend",)).text)


def admin() -> Client:
    return by_key(make_person("admin-key", scopes=("admin",)).text)


def test_the_newest_check_of_each_provider_is_shown() -> None:
    well, ill, new = (factories.make_provider(name=name) for name in ("a-well", "b-ill", "c-new"))
    make_check(well, minutes_ago=10, error="was down")
    make_check(well, minutes_ago=1)
    make_check(ill, minutes_ago=5)
    make_check(ill, minutes_ago=2, error="refused")
    rows = auditor().get(URL).json()["providers"]
    assert [(row["name"], row["check"] and (row["check"]["healthy"], row["check"]["error"])) for row in rows] == [
        ("a-well", (True, "")), ("b-ill", (False, "refused")), (new.name, None),
    ]  # fmt: skip
    (one,) = auditor_again().get(URL, {"provider": "b-ill"}).json()["providers"]
    assert one["name"] == "b-ill"


def auditor_again() -> Client:
    return by_key(make_person("auditor-2", scopes=("read-spend",)).text)


def test_checks_of_the_last_hours_come_oldest_first() -> None:
    provider, other = factories.make_provider(), factories.make_provider()
    for minutes in (200, 30, 90):
        make_check(provider, minutes_ago=minutes)
    make_check(other)
    answer = auditor().get(URL, {"hours": "2", "provider": provider.name}).json()
    at = [datetime.fromisoformat(check["checked_at"]) for check in answer["checks"]]
    assert len(at) == 2
    assert at == sorted(at)


def test_the_answer_has_the_fields_of_the_schema() -> None:
    from gateway.api import provider_health as api

    make_check(factories.make_provider())
    answer = auditor().get(URL, {"hours": "1"}).json()
    assert set(answer) == fields_of(api.ProvidersHealthSerializer)
    (row,) = answer["providers"]
    assert set(row) == fields_of(api.ProviderHealthSerializer)
    assert set(row["recent"]) == fields_of(api.RecentSerializer)
    assert set(row["check"]) == set(answer["checks"][0]) == fields_of(api.HealthCheckSerializer)


@pytest.mark.parametrize("query", [{"hours": "0"}, {"hours": "721"}, {"hours": "x"}, {"what": "1"}, {"provider": "\0"}])
def test_a_wrong_parameter_is_refused(query: dict[str, str]) -> None:
    assert auditor().get(URL, query).status_code == 400


def test_who_may_look_and_who_may_check() -> None:
    factories.make_provider()
    plain, staff = make_person("plain"), make_person("boss", staff=True)
    callers = {
        "nobody": (Client(), 401, 401),
        "plain key": (by_key(plain.text), 403, 403),
        "plain session": (by_session(plain.user), 403, 403),
        "read-spend": (auditor(), 200, 403),
        "admin": (admin(), 200, 200),
        "staff": (by_session(staff.user), 200, 200),
    }
    for who, (client, may_look, may_check) in callers.items():
        assert (client.get(URL).status_code, client.post(URL).status_code) == (may_look, may_check), who


def test_a_check_of_all_leaves_the_disabled_out_and_one_by_name_does_not() -> None:
    on, off = factories.make_provider(name="on"), factories.make_provider(name="off", enabled=False)
    client = admin()
    assert client.post(f"{URL}?check=1").status_code == 200
    assert (on.health_checks.count(), off.health_checks.count()) == (1, 0)
    (row,) = client.post(f"{URL}?provider=off").json()["providers"]
    assert (row["name"], row["check"]["healthy"]) == ("off", True)
    assert client.post(f"{URL}?provider=nobody").status_code == 404


def test_a_provider_that_is_not_set_up_is_not_healthy_and_hinders_no_other() -> None:
    factories.make_provider(name="a-broken", adapter="anthropic")
    factories.make_provider(name="b-works")
    broken, works = health_checks.check(health_checks.enabled_providers())
    assert (broken.healthy, works.healthy) == (False, True)
    assert broken.error


def test_all_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    together = threading.Barrier(5, timeout=10)

    def meet(self: Sandbox, *, timeout_s: float = 0) -> Health:
        together.wait()
        return Health(healthy=True, latency_ms=1, checked_at=datetime.now(UTC))

    monkeypatch.setattr(Sandbox, "health_check", meet)
    providers = [factories.make_provider() for _ in range(5)]
    assert [check.healthy for check in health_checks.check(providers)] == [True] * 5


def test_checks_past_their_age_are_forgotten() -> None:
    provider = factories.make_provider()
    make_check(provider, minutes_ago=31 * 24 * 60)
    kept = make_check(provider, minutes_ago=29 * 24 * 60)
    (new,) = health_checks.check([provider])
    assert set(HealthCheck.objects.values_list("pk", flat=True)) == {kept.pk, new.pk}


def test_recent_calls_count_what_says_something_about_the_provider() -> None:
    model, key = factories.make_model(), factories.make_key()
    now = timezone.now()

    def call(minutes: int, **fields: Any) -> None:
        make_call_at(now - timedelta(minutes=minutes), key=key, model=model, **fields)

    for minutes, duration in ((1, 100), (2, 300), (3, 200)):
        call(minutes, duration_ms=duration, first_token_ms=duration // 10)
    call(4, outcome="failed", http_status=503, duration_ms=9)
    call(5, outcome="refused", http_status=429, duration_ms=9)
    call(6, outcome="refused", http_status=400, duration_ms=9)
    call(7, outcome="cancelled", duration_ms=9)
    call(8, surface="health", duration_ms=9)
    call(70, duration_ms=9)
    (report,) = provider_health.reports(names=[model.provider.name])
    assert report.recent == provider_rates.Recent(calls=5, ok=3, p50_ms=200.0, p50_first_token_ms=20.0)
    assert report.recent.success_rate == 0.6
    assert provider_rates.Recent().success_rate is None


def test_the_breakers_of_this_process_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = factories.make_model(name="flaky"), factories.make_model()
    breaker = Breaker()
    for _ in range(5):
        breaker.record(ok=False)

    class Running:
        def breaker_states(self) -> dict[int, str]:
            return {model.pk: breaker.state}

    monkeypatch.setattr("gateway.runtime.started", Running)
    (report,) = provider_health.reports(names=[model.provider.name])
    assert report.breakers == {"flaky": "open"}
    (quiet,) = provider_health.reports(names=[other.provider.name])
    assert quiet.breakers == {}


def test_the_command_fails_when_a_provider_is_not_healthy() -> None:
    factories.make_provider(name="a-broken", adapter="anthropic")
    factories.make_provider(name="b-works")
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_providers", stdout=out)
    assert ended.value.code == 1
    broken, works = out.getvalue().splitlines()
    assert broken.startswith("a-broken")
    assert "UNHEALTHY" in broken
    assert works.split()[:2] == ["b-works", "healthy"]
    call_command("check_providers", "b-works", stdout=out)
    with pytest.raises(CommandError):
        call_command("check_providers", "nobody", stdout=out)


def test_the_admin_checks_the_chosen_and_shows_the_result() -> None:
    client = by_session(factories.make_user(superuser=True))
    chosen, left = factories.make_provider(name="chosen"), factories.make_provider(name="left")
    listed = reverse("admin:providers_provider_changelist")
    page = client.post(listed, {"action": "check_now", "_selected_action": [chosen.pk]}, follow=True).content.decode()
    assert (chosen.health_checks.count(), left.health_checks.count()) == (1, 0)
    assert "chosen: healthy" in page
    assert "not checked" in page
    make_check(chosen, error="<b>down</b>")
    changed = client.get(reverse("admin:providers_provider_change", args=[chosen.pk])).content.decode()
    assert "&lt;b&gt;down&lt;/b&gt;" in changed
    assert client.get(reverse("admin:providers_healthcheck_changelist")).status_code == 200


def test_who_may_only_look_is_offered_no_check() -> None:
    from django.contrib.auth.models import Permission

    viewer = factories.make_user(staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_provider"))
    provider = factories.make_provider()
    client = by_session(viewer)
    listed = reverse("admin:providers_provider_changelist")
    assert "check_now" not in client.get(listed).content.decode()
    client.post(listed, {"action": "check_now", "_selected_action": [provider.pk]})
    assert provider.health_checks.count() == 0
