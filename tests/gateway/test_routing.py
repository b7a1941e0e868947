"""Which targets a name leads to, and in which order they are tried."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway import routing
from gateway.breaker import LEAST_CALLS, Breaker, FirstBytes
from gateway.errors import ApiError
from gateway.keyring import Principal
from gateway.snapshot import RouteInfo, RouteLeg, Snapshot, Target
from ledger.prices import PriceBook
from ledger.rating import Rate, Sheet
from providers import errors
from providers.wire.base import Admitted

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def target(number: int, **fields: Any) -> Target:
    return Target(
        model_id=number,
        provider_id=number,
        provider_name=f"provider-{number}",
        name=f"model-{number}",
        upstream_name=f"model-{number}",
        adapter=fields.pop("adapter", object()),
        **fields,
    )


def sheet(model: int, *, input_usd: str) -> Sheet:
    rates = (Rate("input", Decimal(input_usd)), Rate("output", Decimal(input_usd)))
    return Sheet(id=model, model_id=model, book="list", valid_from=LONG_AGO, rates=rates)


def snapshot(*legs: RouteLeg, strategy: str = "priority", sheets: tuple[Sheet, ...] = ()) -> Snapshot:
    targets = {leg.target.name: leg.target for leg in legs}
    route = RouteInfo("chat", strategy, legs)
    return Snapshot(version=1, targets=targets, routes={"chat": route}, limits=[], prices=PriceBook(sheets))


def runtime() -> Any:
    breakers: dict[int, Breaker] = {}
    seen: dict[int, FirstBytes] = {}
    return SimpleNamespace(
        breaker=lambda model: breakers.setdefault(model, Breaker()),
        first_bytes=lambda model: seen.setdefault(model, FirstBytes()),
    )


def admitted(name: str = "chat", **fields: Any) -> Admitted:
    return Admitted(model=name, stream=False, fields=fields.pop("fields", {}), **fields)


def principal(*allowed: str, scopes: frozenset[str] = frozenset({"call"})) -> Principal:
    return Principal(1, 1, None, scopes, frozenset(allowed))


def names(snap: Snapshot, *, asked: Admitted | None = None, on: Any = None, who: Principal | None = None) -> list[str]:
    found = routing.resolve(
        runtime=on or runtime(),
        snapshot=snap,
        admitted=asked or admitted(),
        body_bytes=400,
        principal=who or principal(),
    )
    return [each.name for each in found]


def test_priority_goes_first_to_the_lowest_number() -> None:
    snap = snapshot(RouteLeg(target(1), 2, 1), RouteLeg(target(2), 1, 1))
    assert names(snap) == ["model-2", "model-1"]


def test_a_model_or_an_unknown_name_needs_no_route() -> None:
    snap = snapshot(RouteLeg(target(1), 1, 1))
    assert names(snap, asked=admitted("model-1")) == ["model-1"]
    with pytest.raises(ApiError) as refusal:
        names(snap, asked=admitted("nobody"))
    assert refusal.value.code == "model_not_found"


def test_the_cheapest_is_found_by_the_live_sheets_and_an_unpriced_one_comes_last() -> None:
    legs = [RouteLeg(target(n), 1, 1) for n in (1, 2, 3)]
    snap = snapshot(*legs, strategy="cheapest", sheets=(sheet(2, input_usd="5"), sheet(3, input_usd="0.5")))
    assert names(snap) == ["model-3", "model-2", "model-1"]


def test_the_fastest_is_found_by_recent_first_bytes() -> None:
    legs = [RouteLeg(target(n), 1, 1) for n in (1, 2)]
    on = runtime()
    on.first_bytes(1).note(2.0)
    on.first_bytes(2).note(0.2)
    assert names(snapshot(*legs, strategy="fastest"), on=on) == ["model-2", "model-1"]


def test_weights_are_shares_and_zero_is_never_drawn() -> None:
    legs = [RouteLeg(target(1), 1, 9), RouteLeg(target(2), 1, 1), RouteLeg(target(3), 1, 0)]
    snap = snapshot(*legs, strategy="weighted")
    first = [names(snap)[0] for _ in range(2000)]
    assert "model-3" not in first
    # 1,800 expected; ten standard deviations of a fair draw are 134.
    assert 1660 < first.count("model-1") < 1940


def test_an_open_breaker_is_skipped_unless_all_are_open() -> None:
    snap = snapshot(RouteLeg(target(1), 1, 1), RouteLeg(target(2), 2, 1))
    on = runtime()
    for _ in range(LEAST_CALLS):
        on.breaker(1).record(ok=False)
    assert names(snap, on=on) == ["model-2"]
    for _ in range(LEAST_CALLS):
        on.breaker(2).record(ok=False)
    assert names(snap, on=on) == ["model-1", "model-2"]


def test_a_target_without_the_capability_or_the_context_is_left_out() -> None:
    blind = target(1, capabilities=frozenset({"chat", "tools"}))
    small = target(2, context_window=50)
    able = target(3, capabilities=frozenset({"chat", "vision"}), context_window=100_000)
    snap = snapshot(*(RouteLeg(each, n, 1) for n, each in enumerate((blind, small, able))))
    assert names(snap, asked=admitted(media={"image": 1})) == ["model-3"]
    assert names(snap, asked=admitted(fields={"tools": msgspec.Raw(b"[]")})) == ["model-1"]


def test_a_key_may_be_allowed_the_route_alone() -> None:
    snap = snapshot(RouteLeg(target(1), 1, 1))
    assert names(snap, who=principal("chat")) == ["model-1"]
    with pytest.raises(ApiError) as refusal:
        names(snap, who=principal("model-1"))
    assert refusal.value.code == "model_not_allowed"
    with pytest.raises(ApiError) as refusal:
        names(snap, who=principal(scopes=frozenset({"read-spend"})))
    assert refusal.value.code == "scope_missing"


@pytest.mark.parametrize(
    ("error", "falls_back"),
    [
        (errors.Overloaded("busy"), True),
        (errors.RateLimited("slow down"), True),
        (errors.InvalidCredential("no"), True),
        (errors.ContextTooLong("long"), True),
        (errors.ModelNotFound("who"), True),
        (errors.InvalidRequest("bad"), False),
        (errors.ContentRefused("no"), False),
    ],
)
def test_only_errors_that_another_provider_may_not_have_fall_back(
    error: errors.ProviderError, falls_back: bool
) -> None:
    assert routing.may_fall_back(error) is falls_back
