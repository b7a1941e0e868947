"""Quantities x rates -> cost. Pure: no Django, no clock, no float.

A `Sheet` is checked and compiled once; `rate` then looks up one rate for each meter. How a rate is found:

- Service tier and speed are those of the provider's answer. BASE_WORDS are all the base tier, written ''. Any other
  word needs rates of its own for each token or media meter. Fees (searches, requests) are not discounted by tiers,
  so there '' covers every tier that no rate names.
- Region and variant: a value that some rate of the meter names is served by the rates that name it; '' covers the rest.
- The request's whole input picks one cliff for all tokens. A tier, region or variant without a rate at a cliff that
  the base rates have is a missing combination: unpriced, never the rate below the cliff.
- A rate limited to weekdays or to a time window beats one that is not; two that could both win are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from ledger.meters import METERS, MODALITIES, Quantity
from ledger.money import EXACT, LIMIT_USD, QUANTUM_USD, ZERO_USD, format_short

# What providers call the tier that the plain price is for (OpenAI: default, auto; Anthropic: standard,
# standard_only; Groq and Vertex: on_demand). Compared in lower case.
BASE_WORDS = frozenset({"", "default", "standard", "standard_only", "auto", "on_demand"})
EVERY_DAY = 127
NO_SHEET = "no published price"
BEYOND_RANGE = "the cost is beyond the ledger's range"
MAX_REASON = 200
_MAX_VIEWS = 256
_NOTHING = Decimal(0)
_STEP = Decimal("0.000001")
_POWERS_OF_TEN = {10**exponent: exponent for exponent in range(7)}


class SheetError(ValueError):
    """Rates that cannot stand on one sheet: an unknown meter, two that could both apply, a bad number."""


class Rate(Struct, frozen=True):
    """`amount_usd` for every `per` units of `meter`. '' in a condition means any; times are UTC.

    A tier begins above `above_tokens` of total input, or at them with `tier_inclusive`. `minimum` and `quantum` are
    in units: the least quantity billed, and the step it is rounded up to (0: none).
    """

    meter: str
    amount_usd: Decimal
    per: int = 1_000_000
    above_tokens: int = 0
    tier_inclusive: bool = False
    service_tier: str = ""
    speed: str = ""
    region: str = ""
    variant: str = ""
    weekdays: int = EVERY_DAY
    window_start: time | None = None
    window_end: time | None = None
    minimum: Decimal = _NOTHING
    quantum: Decimal = _NOTHING
    zero_reason: str = ""
    id: int | None = None

    @property
    def begins_at(self) -> int:
        """The least total input this rate's cliff applies to; 0 for the base."""
        return self.above_tokens + (not self.tier_inclusive) if self.above_tokens else 0

    @property
    def unit_usd(self) -> Decimal:
        """USD for one unit, exact."""
        return EXACT.scaleb(self.amount_usd, -_POWERS_OF_TEN[self.per])


class Conditions(Struct, frozen=True):
    """What the provider's answer says, and when the call was made (`at`, aware)."""

    at: datetime
    service_tier: str = ""
    speed: str = ""
    region: str = ""
    variant: str = ""


class Line(Struct, frozen=True):
    """One meter of a call, priced. `quantity` is what is billed, `used` what was reported (before the minimum)."""

    meter: str
    quantity: Quantity
    used: Quantity
    rate: Rate
    cost_usd: Decimal

    @property
    def amount_usd(self) -> Decimal:
        return self.rate.amount_usd

    @property
    def per(self) -> int:
        return self.rate.per


class Rating(Struct, frozen=True):
    """`cost_usd` is the sum of `lines`; or None with `unpriced_reason`, and no lines."""

    cost_usd: Decimal | None
    lines: tuple[Line, ...] = ()
    unpriced_reason: str = ""


class _Priced(Struct, frozen=True):
    """A rate with its unit price worked out."""

    rate: Rate
    unit_usd: Decimal
    stepped: bool


class _Cliff(Struct, frozen=True):
    """The rates of one meter from `begins_at` tokens of input on: those bound to times first, most bound first."""

    begins_at: int
    timed: tuple[_Priced, ...]
    always: _Priced | None


class _Slot(Struct, frozen=True):
    """How one meter is priced under one set of conditions. `plain`: the only rate there is, for nearly all meters."""

    plain: _Priced | None
    cliffs: tuple[_Cliff, ...]
    conditions: str


class _View(Struct, frozen=True):
    """A sheet as one set of conditions sees it."""

    slots: dict[str, _Slot]
    rolls: dict[str, str]
    has_request_fee: bool


class Sheet(Struct, frozen=True, kw_only=True, eq=False):
    """All rates of one model, in one book, from `valid_from` on. Raises SheetError for rates that do not fit."""

    id: int | None = None
    model_id: int | None = None
    book: str = ""
    valid_from: datetime | None = None
    rates: tuple[Rate, ...] = ()
    discontinued: bool = False
    # Views by the words of the answer, filled as they are met. Threads may build one twice; both are the same.
    views: dict[tuple[str, str, str, str], _View] = msgspec.field(default_factory=dict)
    # What `ledger.bounds` worked out, by what it depends on; `has_cliffs`: the input's size decides which rates apply.
    slopes: dict[Any, Any] = msgspec.field(default_factory=dict)
    has_cliffs: bool = False

    def __post_init__(self) -> None:
        rates = tuple(_normalised(rate) for rate in self.rates)
        _refuse_ambiguity(rates)
        msgspec.structs.force_setattr(self, "rates", rates)
        msgspec.structs.force_setattr(self, "has_cliffs", any(rate.begins_at for rate in rates))


def rate(
    *, sheet: Sheet | None, meters: Mapping[str, Quantity], input_total: int, conditions: Conditions
) -> Rating:
    """What disjoint `meters` cost on `sheet`; `input_total` (all input tokens, cached included) picks the cliff.

    Each line is rounded half-even at 12 decimals. No meters: nothing was used, cost 0 and no request fee. A meter
    without an applicable rate makes the whole call unpriced. A call is one request unless `requests` says more; only a
    sheet without any rate for requests leaves them out.
    """
    if sheet is None:
        return Rating(None, (), NO_SHEET)
    key = (conditions.service_tier, conditions.speed, conditions.region, conditions.variant)
    view = sheet.views.get(key) or _view(sheet, key)
    billable = meters if view.rolls.keys().isdisjoint(meters) else _rolled_up(meters, view.rolls)
    if view.has_request_fee and meters and "requests" not in meters:
        billable = {**billable, "requests": 1}
    lines: list[Line] = []
    missing: list[str] = []
    total = ZERO_USD
    try:
        for meter, quantity in billable.items():
            slot = view.slots.get(meter)
            priced = None if slot is None else slot.plain or _choose(slot, input_total, conditions.at)
            if priced is None or quantity < 0:
                # A sheet without any fee per request asks for none; one with a fee that fits no condition is no gift.
                if meter != "requests" or slot is not None:
                    missing.append(_reason(meter, quantity, slot, input_total))
                continue
            billed = _stepped(quantity, priced.rate) if priced.stepped else quantity
            cost = EXACT.quantize(EXACT.multiply(priced.unit_usd, billed), QUANTUM_USD)
            total = EXACT.add(total, cost)
            lines.append(Line(meter, billed, quantity, priced.rate, cost))
    except InvalidOperation:
        return Rating(None, (), BEYOND_RANGE)
    if missing:
        return Rating(None, (), "; ".join(missing)[:MAX_REASON])
    return Rating(total, tuple(lines)) if total < LIMIT_USD else Rating(None, (), BEYOND_RANGE)


def explain(line: Line) -> str:
    """"24 input tokens x 0.15 per 1,000,000 = 0.0000036", and what else shaped the line."""
    text = (
        f"{line.quantity:,} {METERS[line.meter].label} x {format_short(line.amount_usd)} per {line.per:,}"
        f" = {format_short(line.cost_usd)}"
    )
    notes = [line.rate.zero_reason] if not line.amount_usd else []
    if line.used != line.quantity:
        notes.append(f"{line.used:,} used")
    notes += _condition_words(line.rate)
    return f"{text} ({', '.join(notes)})" if notes else text


def base_word(word: str) -> str:
    """A service tier or speed as rates name it: '' for every word of the base tier, else lower case."""
    lowered = word.strip().lower()
    return "" if lowered in BASE_WORDS else lowered


# --- compiling --------------------------------------------------------------------------------------------


def _normalised(rate: Rate) -> Rate:
    if rate.meter not in METERS:
        raise SheetError(f"unknown meter {rate.meter!r}; the vocabulary is in ledger/meters.py")
    if rate.per not in _POWERS_OF_TEN:
        raise SheetError(f"{rate.meter}: per {rate.per!r} is not 1, 10, 100 ... 1,000,000")
    if not all(number.is_finite() and number >= 0 for number in (rate.amount_usd, rate.minimum, rate.quantum)):
        raise SheetError(f"{rate.meter}: amounts, minimum and quantum are zero or more")
    if not (is_step(rate.minimum) and is_step(rate.quantum)):
        raise SheetError(f"{rate.meter}: minimum and quantum are below 10^12 and have at most 6 decimals")
    if not 1 <= rate.weekdays <= EVERY_DAY:
        raise SheetError(f"{rate.meter}: weekdays {rate.weekdays!r} is no mask of seven days")
    if (rate.window_start is None) != (rate.window_end is None):
        raise SheetError(f"{rate.meter}: a time window needs its start and its end")
    if rate.window_start is not None and rate.window_start == rate.window_end:
        raise SheetError(f"{rate.meter}: the time window {rate.window_start} to {rate.window_end} is empty")
    return msgspec.structs.replace(rate, service_tier=base_word(rate.service_tier), speed=base_word(rate.speed))


def is_step(quantity: Decimal) -> bool:
    """Whether a minimum or a quantum can be kept as it is: NUMERIC(18,6) would round or refuse it."""
    return quantity < LIMIT_USD and EXACT.quantize(quantity, _STEP) == quantity


_SAME_PLACE = attrgetter("meter", "service_tier", "speed", "region", "variant", "begins_at")


def _refuse_ambiguity(rates: Iterable[Rate]) -> None:
    """SheetError when two rates could both win for one call."""
    places: dict[Any, list[Rate]] = {}
    for rate in rates:
        others = places.setdefault(_SAME_PLACE(rate), [])
        for other in others:
            if _boundness(rate) == _boundness(other) and _times_overlap(rate, other):
                raise SheetError(f"two rates for {rate.meter!r} apply under the same conditions")
        others.append(rate)


def _boundness(rate: Rate) -> int:
    return (rate.weekdays != EVERY_DAY) + (rate.window_start is not None)


def _times_overlap(one: Rate, other: Rate) -> bool:
    if not one.weekdays & other.weekdays:
        return False
    return any(a < d and c < b for a, b in _spans(one) for c, d in _spans(other))


def _spans(rate: Rate) -> list[tuple[int, int]]:
    """The window as microseconds of the day, [start, end); two spans when it passes midnight."""
    if rate.window_start is None or rate.window_end is None:
        return [(0, _microseconds(time.max) + 1)]
    start, end = _microseconds(rate.window_start), _microseconds(rate.window_end)
    return [(start, end)] if start < end else [(start, _microseconds(time.max) + 1), (0, end)]


def _microseconds(at: time) -> int:
    return ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond


def _view(sheet: Sheet, key: tuple[str, str, str, str]) -> _View:
    by_meter: dict[str, list[Rate]] = {}
    for rate in sheet.rates:
        by_meter.setdefault(rate.meter, []).append(rate)
    rolls = {
        code: meter.part_of
        for code, meter in METERS.items()
        if meter.rolls_up and code not in by_meter and not _priced_apart_uncached(code, by_meter)
    }
    slots = {meter: _slot(meter, rates, key) for meter, rates in by_meter.items()}
    view = _View(slots, rolls, "requests" in slots)
    # The words come from providers: a stream of ever new ones must not grow this without end.
    if len(sheet.views) >= _MAX_VIEWS:
        sheet.views.clear()
    sheet.views[key] = view
    return view


# Where a sheet prices audio apart from text, cached audio is not cached text: it needs a rate of its own.
_UNCACHED = {f"cache_read_{modality}": f"input_{modality}" for modality in MODALITIES}


def _priced_apart_uncached(code: str, by_meter: Mapping[str, object]) -> bool:
    return _UNCACHED.get(code) in by_meter


def _slot(meter: str, rates: list[Rate], key: tuple[str, str, str, str]) -> _Slot:
    wanted = _wanted(meter, rates, key)
    chosen = [rate for rate in rates if _conditions_of(rate) == wanted]
    base = [rate for rate in rates if _conditions_of(rate) == ("", "", "", "")]
    begins = sorted({rate.begins_at for rate in (*chosen, *base)}, reverse=True)
    cliffs = tuple(_cliff(begin, [rate for rate in chosen if rate.begins_at == begin]) for begin in begins)
    only = cliffs[0] if len(cliffs) == 1 and cliffs[0].begins_at == 0 and not cliffs[0].timed else None
    names = ("service tier", "speed", "region", "variant")
    words = ", ".join(f"{name} {word!r}" for name, word in zip(names, wanted, strict=True) if word)
    return _Slot(only.always if only else None, cliffs, words)


_conditions_of = attrgetter("service_tier", "speed", "region", "variant")


def _wanted(meter: str, rates: list[Rate], key: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    """The conditions a rate must name to serve an answer that says `key`."""
    tier, speed, region, variant = key
    tier, speed = base_word(tier), base_word(speed)
    if METERS[meter].is_fee:
        tier = tier if any(rate.service_tier == tier for rate in rates) else ""
        speed = speed if any(rate.speed == speed for rate in rates) else ""
    region = region if any(rate.region == region for rate in rates) else ""
    variant = variant if any(rate.variant == variant for rate in rates) else ""
    return tier, speed, region, variant


def _cliff(begins_at: int, rates: list[Rate]) -> _Cliff:
    priced = sorted((_priced(rate) for rate in rates), key=lambda priced: -_boundness(priced.rate))
    timed = tuple(each for each in priced if _boundness(each.rate))
    return _Cliff(begins_at, timed, next((each for each in priced if not _boundness(each.rate)), None))


def _priced(rate: Rate) -> _Priced:
    return _Priced(rate, rate.unit_usd, bool(rate.minimum or rate.quantum))


# --- one call ---------------------------------------------------------------------------------------------


def _rolled_up(meters: Mapping[str, Quantity], rolls: Mapping[str, str]) -> dict[str, Quantity]:
    merged: dict[str, Quantity] = {}
    for meter, quantity in meters.items():
        target = rolls.get(meter, meter)
        merged[target] = merged[target] + quantity if target in merged else quantity
    return merged


def _choose(slot: _Slot, input_total: int, at: datetime) -> _Priced | None:
    for cliff in slot.cliffs:
        if input_total >= cliff.begins_at:
            if cliff.timed:
                moment = at.astimezone(UTC)
                for priced in cliff.timed:
                    if _in_force(priced.rate, moment):
                        return priced
            return cliff.always
    return None


def _in_force(rate: Rate, moment: datetime) -> bool:
    """Whether the UTC weekday and time of `moment` are the rate's; past midnight the new weekday counts."""
    if not rate.weekdays >> moment.weekday() & 1:
        return False
    now = _microseconds(moment.time())
    return any(start <= now < end for start, end in _spans(rate))


def _stepped(quantity: Quantity, rate: Rate) -> Quantity:
    """The quantity billed: at least the minimum, rounded up to the quantum. Nothing used stays nothing."""
    if not quantity:
        return quantity
    billed = max(Decimal(quantity), rate.minimum)
    if rate.quantum:
        steps = EXACT.divide(billed, rate.quantum).to_integral_value(ROUND_CEILING, EXACT)
        billed = EXACT.multiply(steps, rate.quantum)
    return int(billed) if billed == int(billed) else billed


def _reason(meter: str, quantity: Quantity, slot: _Slot | None, input_total: int) -> str:
    if quantity < 0:
        return f"negative quantity of {meter!r}"
    if slot is None:
        return f"no rate for {meter!r}"
    cliff = next((cliff for cliff in slot.cliffs if input_total >= cliff.begins_at), None)
    words = [slot.conditions] if slot.conditions else []
    if slot.cliffs and (cliff is None or cliff.begins_at):
        words.append(f"{input_total:,} input tokens")
    if cliff is not None and cliff.timed:
        words.append("this time of the week")
    return f"no rate for {meter!r}" + (f" at {', '.join(words)}" if words else "")


def _condition_words(rate: Rate) -> list[str]:
    words = [rate.service_tier, rate.speed, rate.region, rate.variant]
    if rate.above_tokens:
        words.append(f"{'from' if rate.tier_inclusive else 'above'} {rate.above_tokens:,} input tokens")
    if _boundness(rate):
        words.append("at certain times")
    return [word for word in words if word]
