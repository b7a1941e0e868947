"""Our side: what the calls of one provider used and cost, adjustments included, by meter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.db import connection

from ledger import ids, itemised, prices
from ledger.itemised import UNITEMISED, ItemisedCall
from ledger.meters import Quantity, disjoint, from_json
from ledger.models import ApiKey
from ledger.money import EXACT, ZERO_USD, quantize_usd
from ledger.prices import PriceBook
from ledger.rating import Line, rate
from ledger.reconcile.grouping import Names
from ledger.reconcile.spreading import spread
from providers.models import Model, Provider


class Part(NamedTuple):
    """One meter of a call. cost_usd None: unknown."""

    meter: str
    quantity: Decimal
    cost_usd: Decimal | None


class OurCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call as it stands now. `parts` add up to `total_usd`; without any, nobody knows what it used.

    counted_usd: what it counts for against the limits, adjustments included.
    """

    id: UUID
    day: date
    key_id: int
    model_id: int
    served_name: str
    total_usd: Decimal | None
    counted_usd: Decimal
    parts: tuple[Part, ...]


class _Adjustment(NamedTuple):
    call_id: UUID
    delta_usd: Decimal
    settles_unknown: bool
    counted_delta_usd: Decimal
    sheet_id: int | None
    reason: str
    details: dict[str, Any]


_ADJUSTMENTS = """
SELECT a.call_id, a.delta_usd, a.settles_unknown, a.counted_delta_usd, a.price_sheet_id, a.reason, a.details::text
FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id
WHERE c.id >= %s AND c.id < %s AND c.provider_id = %s ORDER BY a.call_id, a.id
"""


def our_calls(*, provider: Provider, first: date, last: date) -> Iterator[OurCall]:
    """The calls of `provider` from `first` to `last`, both days included, oldest first. Needs an open transaction."""
    start = datetime.combine(first, time(), UTC)
    end = datetime.combine(last, time(), UTC) + timedelta(days=1)
    sheets = prices.load()
    adjustments = _adjustments(start, end, provider.pk)
    following = next(adjustments, None)
    for call in itemised.calls(start=start, end=end, provider_id=provider.pk):
        own: list[_Adjustment] = []
        while following is not None and following.call_id <= call.id:
            own.append(following)
            following = next(adjustments, None)
        yield _as_it_stands(call, own, sheets)


def names_of_models(provider: Provider) -> dict[int, Names]:
    """What each model of the provider is called."""
    models = Model.objects.filter(provider=provider).prefetch_related("aliases")
    return {
        model.pk: Names(model.upstream_name, (model.name, *(alias.name for alias in model.aliases.all())))
        for model in models
    }


def key_words(words: Iterable[str]) -> dict[str, int]:
    """{word: key id} for the words that name exactly one of our keys, by its public id or its name."""
    wanted = {word for word in words if word}
    found: dict[str, set[int]] = {}
    for key in ApiKey.objects.filter(public_id__in=wanted) | ApiKey.objects.filter(name__in=wanted):
        for word in {key.public_id, key.name} & wanted:
            found.setdefault(word, set()).add(key.pk)
    return {word: next(iter(keys)) for word, keys in found.items() if len(keys) == 1}


def _adjustments(start: datetime, end: datetime, provider_id: int) -> Iterator[_Adjustment]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(_ADJUSTMENTS, [ids.floor(start), ids.floor(end), provider_id])
        for row in cursor:
            yield _Adjustment._make((*row[:-1], msgspec.json.decode(row[-1])))


def _as_it_stands(call: ItemisedCall, adjustments: list[_Adjustment], sheets: PriceBook) -> OurCall:
    known = call.cost_usd is not None or any(each.settles_unknown for each in adjustments)
    total = sum((each.delta_usd for each in adjustments), call.cost_usd or ZERO_USD)
    return OurCall(
        id=call.id, day=call.day, key_id=call.key_id, model_id=call.model_id, served_name=call.served_name,
        total_usd=total if known else None,
        counted_usd=sum((each.counted_delta_usd for each in adjustments), call.counted_usd),
        parts=tuple(_parts(call, adjustments, sheets, total=total) if known else _unknown(call, adjustments)),
    )  # fmt: skip


def _unknown(call: ItemisedCall, adjustments: list[_Adjustment]) -> Iterator[Part]:
    for meter, quantity in _meters(call, adjustments).items():
        yield Part(meter, Decimal(quantity), None)


def _parts(
    call: ItemisedCall, adjustments: list[_Adjustment], sheets: PriceBook, *, total: Decimal
) -> Iterator[Part]:
    """The lines of the sheet that explains the total; else the lines as charged, with what was corrected since."""
    if not adjustments and call.lines:
        yield from (Part(line.meter, Decimal(line.used), line.cost_usd) for line in call.lines)
        return
    meters = _meters(call, adjustments)
    noted = _noted(adjustments)
    rest = total - sum(noted.values(), ZERO_USD)
    lines = _lines(call, meters, adjustments, sheets, wanted=(total, rest))
    if lines is not None and _sum(lines) == total:
        noted = {}
    costs = _spread_over(lines or call.lines, meters, rest if noted else total)
    quantities = {line.meter: Decimal(line.used) for line in lines or call.lines} or meters
    for meter in dict.fromkeys((*costs, *noted, *quantities)):
        cost = EXACT.add(costs.get(meter, ZERO_USD), noted.get(meter, ZERO_USD))
        yield Part(meter, Decimal(quantities.get(meter, 0)), cost)


def _meters(call: ItemisedCall, adjustments: list[_Adjustment]) -> dict[str, Quantity]:
    """The quantities of a call; those that came late are in the adjustment that brought them."""
    if call.meters:
        return call.meters
    late = next((each.details.get("meters") for each in adjustments if each.reason == "late_settlement"), None)
    return disjoint(from_json(late)).meters if isinstance(late, dict) else {}


def _noted(adjustments: list[_Adjustment]) -> dict[str, Decimal]:
    """What earlier reconciliations corrected, by meter: they wrote it down."""
    found: dict[str, Decimal] = {}
    for each in adjustments:
        for meter, amount in (each.details.get("parts") or {}).items() if each.reason == "reconcile" else ():
            found[meter] = EXACT.add(found.get(meter, ZERO_USD), Decimal(amount))
    return found


def _lines(
    call: ItemisedCall, meters: dict[str, Quantity], adjustments: list[_Adjustment], sheets: PriceBook,
    *, wanted: tuple[Decimal, Decimal],
) -> tuple[Line, ...] | None:
    """The lines of the newest sheet of the call and its adjustments that give the total, or the total less notes."""
    sheet_ids = [each.sheet_id for each in reversed(adjustments) if each.sheet_id is not None]
    for sheet_id in dict.fromkeys([*sheet_ids, *([call.sheet_id] if call.sheet_id is not None else [])]):
        rating = rate(
            sheet=sheets.sheet(sheet_id), meters=meters, input_total=call.input_total, conditions=call.conditions
        )
        if rating.lines and rating.cost_usd in wanted:
            return rating.lines
    return None


def _spread_over(lines: tuple[Line, ...], meters: dict[str, Quantity], total: Decimal) -> dict[str, Decimal]:
    if lines:
        if _sum(lines) == total:
            return {line.meter: line.cost_usd for line in lines}
        shares = spread(quantize_usd(total), [line.cost_usd for line in lines])
        return {line.meter: share for line, share in zip(lines, shares, strict=True)}
    if len(meters) == 1:
        return {next(iter(meters)): total}
    return {UNITEMISED: total} if total else {}


def _sum(lines: tuple[Line, ...]) -> Decimal:
    return sum((line.cost_usd for line in lines), ZERO_USD)
