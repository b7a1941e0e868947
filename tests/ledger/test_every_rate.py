"""Each meter under each condition a rate can have, at the edge where it begins to apply and where it no longer does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from ledger.meters import METERS
from ledger.rating import Conditions, Rate, Rating, Sheet, explain, rate

TUESDAY = datetime(2026, 11, 24, 12, tzinfo=UTC)
MICROSECOND_BEFORE = {"second": 59, "microsecond": 999_999}
PLAIN, SPECIAL = Decimal(1), Decimal(3)


class Edge(NamedTuple):
    """A call on a sheet with a plain rate of 1 and one of 3 under conditions; `expected`: what a unit costs."""

    rate: Mapping[str, Any]
    expected: Decimal | None
    input_total: int = 0
    at: datetime = TUESDAY
    words: Mapping[str, str] = {}


def at(day: int, hour: int, minute: int = 0, **fields: int) -> datetime:
    """An instant of November 2026; the 20th is a Friday, the 23rd a Monday."""
    return datetime(2026, 11, day, hour, minute, tzinfo=UTC).replace(**fields)


ABOVE: dict[str, Any] = {"above_tokens": 1_000}
FROM: dict[str, Any] = {"above_tokens": 1_000, "tier_inclusive": True}
WEEKEND: dict[str, Any] = {"weekdays": 0b1100000}
NIGHT: dict[str, Any] = {"window_start": time(22), "window_end": time(6)}
FRIDAY_NIGHT: dict[str, Any] = {**NIGHT, "weekdays": 0b0010000}
EDGES: dict[str, Edge] = {
    "a long input begins above its number": Edge(ABOVE, SPECIAL, input_total=1_001),
    "and not at it": Edge(ABOVE, PLAIN, input_total=1_000),
    "an inclusive one begins at it": Edge(FROM, SPECIAL, input_total=1_000),
    "and not below": Edge(FROM, PLAIN, input_total=999),
    "a tier": Edge({"service_tier": "batch"}, SPECIAL, words={"service_tier": "batch"}),
    "a tier in other letters": Edge({"service_tier": "batch"}, SPECIAL, words={"service_tier": " Batch"}),
    "no tier": Edge({"service_tier": "batch"}, PLAIN),
    "the plain tier by its name": Edge({"service_tier": "batch"}, PLAIN, words={"service_tier": "default"}),
    "a speed": Edge({"speed": "fast"}, SPECIAL, words={"speed": "fast"}),
    "no speed": Edge({"speed": "fast"}, PLAIN, words={"speed": "standard"}),
    "a region": Edge({"region": "eu"}, SPECIAL, words={"region": "eu"}),
    "another region": Edge({"region": "eu"}, PLAIN, words={"region": "us"}),
    "a variant": Edge({"variant": "high"}, SPECIAL, words={"variant": "high"}),
    "another variant": Edge({"variant": "high"}, PLAIN, words={"variant": "low"}),
    "the last moment of a weekend": Edge(WEEKEND, SPECIAL, at=at(22, 23, 59, **MICROSECOND_BEFORE)),
    "the first of Monday": Edge(WEEKEND, PLAIN, at=at(23, 0)),
    "the last moment before a weekend": Edge(WEEKEND, PLAIN, at=at(20, 23, 59, **MICROSECOND_BEFORE)),
    "the first of Saturday": Edge(WEEKEND, SPECIAL, at=at(21, 0)),
    "just before a night": Edge(NIGHT, PLAIN, at=at(24, 21, 59, **MICROSECOND_BEFORE)),
    "its first moment": Edge(NIGHT, SPECIAL, at=at(24, 22)),
    "just before midnight": Edge(NIGHT, SPECIAL, at=at(24, 23, 59, **MICROSECOND_BEFORE)),
    "midnight": Edge(NIGHT, SPECIAL, at=at(25, 0)),
    "its last moment": Edge(NIGHT, SPECIAL, at=at(25, 5, 59, **MICROSECOND_BEFORE)),
    "just after it": Edge(NIGHT, PLAIN, at=at(25, 6)),
    "Friday night": Edge(FRIDAY_NIGHT, SPECIAL, at=at(20, 23)),
    "the morning after it, which is Saturday": Edge(FRIDAY_NIGHT, PLAIN, at=at(21, 1)),
    "the morning of Friday": Edge(FRIDAY_NIGHT, SPECIAL, at=at(20, 1)),
}
ANY = Edge({}, None)
METER_CODES = sorted(METERS)


def make_rate(meter: str, amount: Decimal, **fields: Any) -> Rate:
    return Rate(meter, amount, per=1, **fields)


def rated(meter: str, *rates: Rate, used: int = 1, edge: Edge = ANY) -> Rating:
    return rate(
        sheet=Sheet(rates=rates), meters={meter: used}, input_total=edge.input_total,
        conditions=Conditions(at=edge.at, **edge.words),
    )  # fmt: skip


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("meter", METER_CODES)
def test_a_condition_holds_up_to_its_edge(meter: str, edge: Edge) -> None:
    found = rated(meter, make_rate(meter, PLAIN), make_rate(meter, SPECIAL, **edge.rate), edge=edge, used=2)
    assert (found.cost_usd, found.unpriced_reason) == (edge.expected and edge.expected * 2, "")
    assert [line.meter for line in found.lines] == [meter]


NO_SUCH_RATE: dict[str, tuple[Mapping[str, Any], Edge]] = {
    "at service tier 'flex'": ({"service_tier": "batch"}, Edge({}, None, words={"service_tier": "flex"})),
    "at speed 'fast'": ({"service_tier": "batch"}, Edge({}, None, words={"speed": "fast"})),
    "at service tier 'batch', 1,001 input tokens": (
        ABOVE, Edge({"service_tier": "batch"}, None, input_total=1_001, words={"service_tier": "batch"})
    ),
    "at service tier 'batch', region 'eu'": (
        {"region": "eu"}, Edge({"service_tier": "batch"}, None, words={"service_tier": "batch", "region": "eu"})
    ),
    "at speed 'fast', variant 'high'": (
        {"variant": "high"}, Edge({"speed": "fast"}, None, words={"speed": "fast", "variant": "high"})
    ),
}  # fmt: skip
UNDISCOUNTED = [code for code in METER_CODES if not METERS[code].is_fee]


@pytest.mark.parametrize(("words", "case"), NO_SUCH_RATE.items(), ids=NO_SUCH_RATE)
@pytest.mark.parametrize("meter", UNDISCOUNTED)
def test_a_missing_combination_is_unpriced_and_says_which(
    meter: str, words: str, case: tuple[Mapping[str, Any], Edge]
) -> None:
    one, edge = case
    rates = [make_rate(meter, PLAIN), make_rate(meter, SPECIAL, **one)]
    if edge.rate:
        rates.append(make_rate(meter, SPECIAL, **edge.rate))
    found = rated(meter, *rates, edge=edge)
    assert (found.cost_usd, found.lines, found.unpriced_reason) == (None, (), f"no rate for {meter!r} {words}")


@pytest.mark.parametrize("meter", sorted(set(METER_CODES) - set(UNDISCOUNTED)))
def test_a_fee_costs_the_same_in_a_tier_or_speed_that_no_rate_names(meter: str) -> None:
    rates = (make_rate(meter, PLAIN), make_rate(meter, SPECIAL, service_tier="batch"))
    for words in ({"service_tier": "flex"}, {"speed": "fast"}):
        assert rated(meter, *rates, edge=Edge({}, None, words=words)).cost_usd == PLAIN


@pytest.mark.parametrize("meter", METER_CODES)
@pytest.mark.parametrize(("fields", "edge", "why"), [
    (WEEKEND, Edge({}, None), "at this time of the week"),
    (NIGHT, Edge({}, None), "at this time of the week"),
    (ABOVE, Edge({}, None, input_total=1_000), "at 1,000 input tokens"),
    ({"region": "eu"}, Edge({}, None, words={"region": "us"}), ""),
    ({"variant": "high"}, Edge({}, None), ""),
])  # fmt: skip
def test_outside_every_rate_a_meter_is_unpriced(meter: str, fields: Mapping[str, Any], edge: Edge, why: str) -> None:
    found = rated(meter, make_rate(meter, SPECIAL, **fields), edge=edge)
    assert (found.cost_usd, found.unpriced_reason) == (None, f"no rate for {meter!r} {why}".strip())


@pytest.mark.parametrize("meter", sorted(set(METER_CODES) - {"requests"}))
def test_a_meter_that_the_sheet_does_not_know_is_unpriced(meter: str) -> None:
    other = "credits" if meter != "credits" else "pages"
    found = rated(meter, make_rate(other, PLAIN))
    assert found.cost_usd is None
    whole = METERS[meter].part_of if METERS[meter].rolls_up else meter
    assert found.unpriced_reason == f"no rate for {whole!r}"


# minimum, quantum, used -> billed
STEPS = [(10, 0, 1, 10), (10, 0, 10, 10), (10, 0, 11, 11), (0, 4, 1, 4), (0, 4, 4, 4), (0, 4, 5, 8), (10, 4, 1, 12)]


@pytest.mark.parametrize("meter", METER_CODES)
@pytest.mark.parametrize(("minimum", "quantum", "used", "billed"), STEPS)
def test_the_least_and_the_step_shape_what_is_billed(
    meter: str, minimum: int, quantum: int, used: int, billed: int
) -> None:
    found = rated(meter, make_rate(meter, SPECIAL, minimum=Decimal(minimum), quantum=Decimal(quantum)), used=used)
    assert [(line.used, line.quantity, line.cost_usd) for line in found.lines] == [(used, billed, SPECIAL * billed)]


@pytest.mark.parametrize("meter", METER_CODES)
def test_free_has_its_reason_on_the_line(meter: str) -> None:
    found = rated(meter, make_rate(meter, Decimal(0), zero_reason="free because it is ours"), used=5)
    assert (found.cost_usd, found.unpriced_reason) == (0, "")
    [line] = found.lines
    assert explain(line) == f"5 {METERS[meter].label} x 0 per 1 = 0 (free because it is ours)"
