"""A health check that costs money is a call in the books, held before it is sent."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import msgspec

from ledger.models import ApiKey
from providers.models import HealthCheck
from tests import factories
from tests.live import books
from tests.live.database import ROOT
from tests.live.gateway import Gateway, usd


def check(gateway: Gateway, *names: str) -> subprocess.CompletedProcess[str]:
    """`manage.py check_providers` in a process of its own."""
    command = [sys.executable, "manage.py", "check_providers", *names]
    return subprocess.run(
        command, cwd=ROOT, env=gateway.environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_check_that_costs_money_is_a_call_in_the_books(gateway: Gateway) -> None:
    account = gateway.account(wire="anthropic", provider={"settings": {"health_model": "fake-model"}})
    provider = account.model.provider
    since = len(gateway.upstream.arrivals)
    done = check(gateway, provider.name)
    assert (done.returncode, "healthy" in done.stdout) == (0, True), done.stderr
    (arrival,) = gateway.upstream.arrivals[since:]
    assert msgspec.json.decode(arrival.body)["max_tokens"] == 1
    (call,) = books.calls(provider=provider)
    assert (call.surface, call.outcome, call.user.username) == ("health", "ok", "tollbook-health")
    assert call.input_tokens > 0
    assert call.cost_usd == usd(call.input_tokens, call.output_tokens)
    books.verify()
    # The next one is under the same key, which nobody can use.
    assert check(gateway, provider.name).returncode == 0
    assert ApiKey.objects.filter(user__username="tollbook-health").count() == 1
    assert HealthCheck.objects.filter(provider=provider, healthy=True).count() == 2


def test_a_paid_check_that_fails_is_a_call_too(gateway: Gateway) -> None:
    account = gateway.account(
        wire="anthropic", upstream_name="fake-503", provider={"settings": {"health_model": "fake-503"}}
    )
    done = check(gateway, account.model.provider.name)
    assert (done.returncode, "UNHEALTHY" in done.stdout) == (1, True), done.stderr
    (call,) = books.calls(provider=account.model.provider)
    assert (call.surface, call.outcome, call.http_status) == ("health", "failed", 503)
    assert call.cost_usd == Decimal(0)


def test_a_paid_check_that_a_limit_refuses_is_not_sent(gateway: Gateway) -> None:
    account = gateway.account(wire="anthropic", provider={"settings": {"health_model": "fake-model"}})
    factories.make_limit(model=account.model, metric="requests", period="day", amount="0.5")
    gateway.sync()
    since = len(gateway.upstream.arrivals)
    done = check(gateway, account.model.provider.name)
    assert (done.returncode, "Not checked" in done.stdout) == (1, True), done.stderr
    assert gateway.upstream.arrivals[since:] == []
    assert books.calls(provider=account.model.provider) == []


def test_a_paid_check_of_a_model_that_is_not_in_the_catalog_is_not_sent(gateway: Gateway) -> None:
    account = gateway.account(wire="anthropic", provider={"settings": {"health_model": "nobody-knows"}})
    since = len(gateway.upstream.arrivals)
    done = check(gateway, account.model.provider.name)
    assert (done.returncode, "'nobody-knows'" in done.stdout) == (1, True), done.stderr
    assert gateway.upstream.arrivals[since:] == []
