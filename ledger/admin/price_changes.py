"""Old -> new, rate by rate, with the change in per cent and a warning where a unit may have slipped."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from ledger.models import Rate
from ledger.prices import unit_price_usd
from providers.admin_base import exact

_PER_MTOK = Decimal(1_000_000)
_SUSPICIOUS = Decimal(3)
_UNIT_SLIP = Decimal(500)
_CONDITIONS = (
    "meter",
    "above_tokens",
    "tier_inclusive",
    "service_tier",
    "speed",
    "region",
    "variant",
    "weekdays",
    "window_start",
    "window_end",
)


class RateChange(Struct, frozen=True):
    """One line of the comparison; prices are USD per 1M units as text, '' where there is none."""

    what: str
    old: str
    new: str
    percent: str
    warning: str


def changes_of(*, old: Iterable[Rate], new: Iterable[Rate]) -> list[RateChange]:
    """Every rate of either sheet, equal ones too, in the order of the meters."""
    before, after = ({_identity(rate): rate for rate in rates} for rates in (old, new))
    return [
        _change(before.get(identity), after.get(identity))
        for identity in sorted(before.keys() | after.keys(), key=lambda identity: tuple(map(str, identity)))
    ]


def _identity(rate: Rate) -> tuple[object, ...]:
    return tuple(getattr(rate, name) for name in _CONDITIONS)


def _change(old: Rate | None, new: Rate | None) -> RateChange:
    was, becomes = (None if rate is None else unit_price_usd(rate) * _PER_MTOK for rate in (old, new))
    percent, warning = _compared(was, becomes)
    named = new or old
    assert named is not None
    return RateChange(_words(named), exact(was), exact(becomes), percent, warning)


def _compared(old: Decimal | None, new: Decimal | None) -> tuple[str, str]:
    if old is None:
        return "new", ""
    if new is None:
        return "removed", "calls with this meter become unpriced"
    if old == new:
        return "=", ""
    if not old or not new:
        return "", "free before" if not old else "free from then on"
    ratio = new / old
    apart = max(ratio, 1 / ratio)
    warning = "about x1000: check the unit" if apart > _UNIT_SLIP else f"x{apart:.1f}" if apart > _SUSPICIOUS else ""
    return f"{(ratio - 1) * 100:+.2f} %", warning


def _words(rate: Rate) -> str:
    conditions = [rate.service_tier, rate.speed, rate.region, rate.variant]
    if rate.above_tokens:
        conditions.append(f"above {rate.above_tokens:,}")
    if rate.window_start:
        conditions.append(f"{rate.window_start:%H:%M}-{rate.window_end:%H:%M}")
    return ", ".join([rate.meter, *(word for word in conditions if word)])
