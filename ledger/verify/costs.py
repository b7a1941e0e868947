"""Check 4: every cost, rated again.

The server confirms what it can by exact arithmetic of its own; the rating engine looks at all the rest. A call is
confirmed only where nothing but multiplication is asked for: whole quantities of common meters, each with one rate that
is bound to no time, minimum or quantum, and a unit price that fits 12 decimals, so that no line is ever rounded. The
unit prices come out of the engine itself, once for each sheet, tier and words of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec
from django.db import DataError, transaction

from ledger import prices
from ledger.meters import from_json
from ledger.money import EXACT, QUANTUM_USD
from ledger.prices import PriceBook
from ledger.rating import EVERY_DAY, Conditions, Rate, Sheet, rate
from ledger.verify.scope import Scope, rows

# Meters that nearly all calls are made of. A call with any other goes to the engine.
COMMON = (
    "input", "output", "cache_read", "reasoning", "cache_write_5m", "cache_write_1h", "input_image", "input_audio"
)  # fmt: skip
_FOREVER = 2**62
_COLUMNS = (
    "c.id, c.price_sheet_id, c.meters, c.input_tokens, c.service_tier, c.speed, c.region, c.variant, c.started_at, "
    "c.cost_usd, c.usage_source"
)
# q: a quantity, NULL where the call has no such meter; u: what one costs, NULL where the server cannot tell.
_TERM = "CASE WHEN c.meters ? '{meter}' THEN CASE WHEN {q} >= 0 THEN {q} * p.u{n} END ELSE 0 END"
_Q = "(c.meters -> '{meter}')::numeric"
_TERMS = " + ".join(
    _TERM.format(meter=meter, q=_Q.format(meter=meter), n=n) for n, meter in enumerate(COMMON)
)
_UNITS = ", ".join(f"u{n}" for n in range(len(COMMON)))
# Unit prices and costs have 12 decimals, zeros included. A sum with more of them has a fraction among its quantities:
# equal as text means equal, and whole. A NULL anywhere makes the row doubtful.
_DOUBTFUL = f"""
SELECT {_COLUMNS} FROM ledger_call c
  LEFT JOIN unnest(%(sheets)s::bigint[], %(tiers)s::text[], %(speeds)s::text[], %(regions)s::text[],
    %(variants)s::text[], %(begins)s::bigint[], %(ends)s::bigint[],
    {", ".join(f"%(u{n})s::numeric(24,12)[]" for n in range(len(COMMON)))})
    AS p(sheet, tier, speed, region, variant, begins, ends, {_UNITS})
  ON p.sheet = c.price_sheet_id AND p.tier = c.service_tier AND p.speed = c.speed AND p.region = c.region
    AND p.variant = c.variant AND c.input_tokens >= p.begins AND c.input_tokens < p.ends
WHERE c.id >= %(first)s AND c.id < %(last)s AND NOT coalesce(CASE
    WHEN c.usage_source = 'none' THEN c.cost_usd IS NULL OR c.cost_usd = 0
    WHEN c.price_sheet_id IS NULL THEN c.cost_usd IS NULL
    WHEN p.sheet IS NULL OR c.cost_usd IS NULL OR c.meters - %(common)s::text[] <> '{{}}' THEN false
    ELSE (0.000000000000 + {_TERMS})::text = c.cost_usd::text END, false)
ORDER BY c.id
"""  # noqa: S608  # of constants of this module
_MET = """
SELECT DISTINCT price_sheet_id, service_tier, speed, region, variant FROM ledger_call
WHERE id >= %(first)s AND id < %(last)s AND price_sheet_id IS NOT NULL
"""
_MODELS = "SELECT DISTINCT model_id FROM ledger_pricesheet WHERE id = ANY (%(sheets)s)"
_ALL = f"SELECT {_COLUMNS} FROM ledger_call c WHERE c.id >= %(first)s AND c.id < %(last)s ORDER BY c.id"  # noqa: S608  # the same


class Piece(NamedTuple):
    """What one unit of each common meter costs on a sheet, for the words of an answer and a range of total input."""

    sheet: int
    words: tuple[str, ...]
    begins: int
    ends: int
    units: tuple[Decimal | None, ...]


def costs(scope: Scope) -> Iterator[str]:
    """Every cost, computed again from its meters and its sheet, is the cost in the row."""
    bounds = {"first": scope.first, "last": scope.last}
    met = rows(_MET, bounds)
    models = {model for (model,) in rows(_MODELS, {"sheets": sorted({sheet for sheet, *_ in met})})}
    sheets = prices.load(model_ids=models)
    pieces = [piece for sheet, *words in met for piece in pieces_of(sheets.sheet(sheet), tuple(words))]
    for row in _doubtful(bounds, pieces):
        line = _difference(row, sheets)
        if line:
            yield line


def _doubtful(bounds: dict[str, Any], pieces: list[Piece]) -> list[tuple[Any, ...]]:
    """The calls that the server does not confirm."""
    try:
        # A savepoint: a meter that is no number at all stops the server. It does not stop the engine.
        with transaction.atomic():
            return rows(_DOUBTFUL, {**bounds, **_arrays(pieces), "common": list(COMMON)})
    except DataError:
        return rows(_ALL, bounds)


def _arrays(pieces: list[Piece]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "sheets": [piece.sheet for piece in pieces],
        "begins": [piece.begins for piece in pieces],
        "ends": [piece.ends for piece in pieces],
    }
    for n, name in enumerate(("tiers", "speeds", "regions", "variants")):
        columns[name] = [piece.words[n] for piece in pieces]
    for n in range(len(COMMON)):
        columns[f"u{n}"] = [piece.units[n] for piece in pieces]
    return columns


def pieces_of(sheet: Sheet | None, words: tuple[str, ...]) -> Iterator[Piece]:
    """The pieces of a sheet for the words (service tier, speed, region, variant) of an answer; none with a fee."""
    if sheet is None or sheet.id is None or any(each.meter == "requests" for each in sheet.rates):
        return
    begins = sorted({0, *(each.begins_at for each in sheet.rates)})
    for begin, end in zip(begins, [*begins[1:], _FOREVER], strict=True):
        yield Piece(sheet.id, words, begin, end, tuple(_unit(sheet, meter, begin, words) for meter in COMMON))


def _unit(sheet: Sheet, meter: str, input_total: int, words: tuple[str, ...]) -> Decimal | None:
    """What the engine charges for one of `meter`, where it would charge n times that for n of it at any time."""
    tier, speed, region, variant = words
    conditions = Conditions(
        at=datetime(2026, 1, 1, tzinfo=UTC), service_tier=tier, speed=speed, region=region, variant=variant
    )
    lines = rate(sheet=sheet, meters={meter: 1}, input_total=input_total, conditions=conditions).lines
    if len(lines) != 1 or not all(_is_plain(each) for each in sheet.rates if each.meter == lines[0].meter):
        return None
    unit = lines[0].rate.unit_usd
    exact = EXACT.quantize(unit, QUANTUM_USD)
    return exact if exact == unit else None


def _is_plain(rate: Rate) -> bool:
    return rate.weekdays == EVERY_DAY and rate.window_start is None and not rate.minimum and not rate.quantum


def _difference(row: tuple[Any, ...], sheets: PriceBook) -> str:
    call, sheet_id, meters, input_total, tier, speed, region, variant, started_at, cost, usage_source = row
    if usage_source == "none":
        # Nothing to rate: such a call is unknown, or it used nothing.
        wrong = cost is not None and cost != 0
        return f"call {call}: cost {cost} without usage" if wrong else ""
    sheet = sheets.sheet(sheet_id) if sheet_id is not None else None
    if sheet_id is not None and sheet is None:
        return f"call {call}: its price sheet {sheet_id} is not among the published ones"
    try:
        quantities = from_json(_decoded(meters))
    except (TypeError, ValueError, InvalidOperation) as error:
        return f"call {call}: its meters cannot be read: {error}"
    conditions = Conditions(at=started_at, service_tier=tier, speed=speed, region=region, variant=variant)
    again = rate(sheet=sheet, meters=quantities, input_total=input_total, conditions=conditions).cost_usd
    if again != cost:
        return f"call {call}: cost {cost if cost is not None else 'unknown'}, sheet {sheet_id} gives {again}"
    return ""


def _decoded(meters: Any) -> dict[str, int | str]:
    decoded: Any = msgspec.json.decode(meters) if isinstance(meters, str) else meters
    if not isinstance(decoded, dict):
        raise TypeError(f"{decoded!r} is no object")
    return decoded
