"""Active health checks: one provider or all at once; each result is a row, a check that costs money also a call.

Such a call is held before it is sent, like any other, under a key of its own: `tollbook-health`, surface `health`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from django.contrib.auth.models import User
from django.utils import timezone

from gateway.errors import ApiError, ledger_unavailable
from gateway.limits import refused
from gateway.open_calls import OpenCall
from gateway.runtime import Runtime, runtime
from gateway.settlement import Ending, ending_of_error
from gateway.snapshot import Snapshot, Target
from ledger import bounds, keys
from ledger.ids import call_id, new_request_id
from ledger.models import ApiKey
from ledger.rating import Sheet
from ledger.rows import HoldRow
from ledger.writer import LedgerRejected, LedgerUnavailable
from providers import registry
from providers.adapters.base import HEALTH_TIMEOUT_S, Adapter, Health, text_setting
from providers.errors import ProviderError
from providers.models import HealthCheck, Provider
from providers.unified import Usage

SYSTEM_USER = "tollbook-health"
SURFACE = "health"
KEPT_DAYS = 30
MOST_AT_ONCE = 32
# What a paid check can use at most: a word in, a token out, and what a provider wraps around them.
PAID_INPUT_TOKENS, PAID_OUTPUT_TOKENS = 100, 16
HOLD_MARGIN_S = 60.0


def check(providers: Sequence[Provider]) -> list[HealthCheck]:
    """Check these providers in parallel and keep what was found, in their order. Takes about HEALTH_TIMEOUT_S at most.

    Raises database errors only: whatever else goes wrong is a provider that is not healthy.
    """
    probes = [_probe(row) for row in providers]
    if not probes:
        return []
    with ThreadPoolExecutor(min(MOST_AT_ONCE, len(probes))) as pool:
        found = list(pool.map(lambda probe: probe(), probes))
    rows = [
        HealthCheck(
            provider=provider,
            checked_at=health.checked_at,
            healthy=health.healthy,
            latency_ms=health.latency_ms,
            error=health.error.replace("\0", "")[:500],
        )
        for provider, health in zip(providers, found, strict=True)
    ]
    HealthCheck.objects.bulk_create(rows)
    HealthCheck.objects.filter(checked_at__lt=timezone.now() - timedelta(days=KEPT_DAYS)).delete()
    return rows


def enabled_providers() -> list[Provider]:
    return list(Provider.objects.filter(enabled=True).order_by("name"))


def _probe(row: Provider) -> Callable[[], Health]:
    """The check of one provider, ready to run in a thread that uses no connection of Django's."""
    try:
        adapter = registry.adapter_for(row)
        model = text_setting(adapter.config, "health_model")
    except (ProviderError, ValueError) as error:
        # The detail is for administrators, who alone see this.
        problem = str(getattr(error, "detail", "") or error)
        return lambda: _unhealthy(problem)
    if not model:
        return lambda: adapter.health_check(timeout_s=HEALTH_TIMEOUT_S)
    key = _system_key()
    current = runtime()
    return lambda: _paid(adapter, provider_id=row.pk, model=model, key=key, current=current)


def _unhealthy(error: str) -> Health:
    return Health(healthy=False, latency_ms=0.0, checked_at=datetime.now(UTC), error=error or "unknown")


def _system_key() -> ApiKey:
    """The key that paid checks are booked under. Nobody has its text."""
    user, made = User.objects.get_or_create(username=SYSTEM_USER)
    if made:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    found = ApiKey.objects.filter(user=user, revoked_at__isnull=True).order_by("id").first()
    return found or keys.create_key(user=user, name="health checks")[0]


# --- a check that costs money -------------------------------------------------------------------------------


def _paid(adapter: Adapter, *, provider_id: int, model: str, key: ApiKey, current: Runtime) -> Health:
    """Hold, check, settle."""
    try:
        snapshot = current.snapshot
        target = _target(snapshot, provider_id=provider_id, name=model)
        call = _held(current, snapshot, target, key=key)
    except ApiError as error:
        return _unhealthy(f"Not checked: {error.message}")
    health = adapter.health_check(timeout_s=HEALTH_TIMEOUT_S)
    try:
        call.settle(_ending(health, adapter))
    except ProviderError as error:
        call.settle(msgspec.structs.replace(ending_of_error(error), outcome="failed", may_have_billed=True))
        return msgspec.structs.replace(health, healthy=False, error=error.message)
    return health


def _target(snapshot: Snapshot, *, provider_id: int, name: str) -> Target:
    for target in snapshot.targets.values():
        if target.provider_id == provider_id and name in (target.upstream_name, target.name):
            return target
    raise ApiError(
        "model_not_found", f"the setting health_model names {name!r}, which is no enabled model of this provider."
    )


def _held(current: Runtime, snapshot: Snapshot, target: Target, *, key: ApiKey) -> OpenCall:
    """The committed hold of a check. Raises ApiError."""
    sheet = snapshot.prices.sheet_at(model_id=target.model_id, at=datetime.now(UTC))
    request_id = new_request_id()
    limits = snapshot.limits_for(key=key.pk, user=key.user_id, team=key.team_id, model=target.model_id)
    hold = HoldRow(
        id=call_id(request_id=request_id, attempt=1),
        request_id=request_id,
        attempt=1,
        key=key.pk,
        user=key.user_id,
        team=key.team_id,
        model=target.model_id,
        provider=target.provider_id,
        sheet=sheet.id if sheet is not None else None,
        surface=SURFACE,
        name=target.name,
        streamed=False,
        tags={},
        usd=_bound_usd(sheet),
        tokens=PAID_INPUT_TOKENS + PAID_OUTPUT_TOKENS,
        limits=tuple(limit.id for limit in limits),
        deadline_s=HEALTH_TIMEOUT_S + HOLD_MARGIN_S,
    )
    try:
        verdict = current.writer.hold(hold)
    except LedgerUnavailable:
        raise ledger_unavailable() from None
    except LedgerRejected:
        raise ApiError("internal_error", "the ledger rejected the call.") from None
    if verdict.refusal is not None:
        # Nothing was held: there is no call to name.
        raise refused(verdict.refusal, snapshot=snapshot, call_id="")
    return OpenCall(
        runtime=current, snapshot=snapshot, hold=hold, target=target, sheet=sheet, input_estimate=PAID_INPUT_TOKENS
    )


def _bound_usd(sheet: Sheet | None) -> Decimal | None:
    if sheet is None:
        return None
    return bounds.upper_bound_usd(sheet=sheet, input_tokens=PAID_INPUT_TOKENS, output_tokens=PAID_OUTPUT_TOKENS)


def _ending(health: Health, adapter: Adapter) -> Ending:
    """How a paid check ended. Raises ProviderError for an answer that cannot be read."""
    if health.failure is not None:
        return ending_of_error(health.failure)
    usage, served = adapter.wire.read_usage(health.answer) if health.answer else (Usage(), "")
    return Ending(outcome="ok", usage=usage, served_name=served, http_status=200)
