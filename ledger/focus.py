"""The books of one month as FOCUS 1.2 rows: what FinOps tools read.

One row per UTC day of the calls x key x model x meter x rate. The rows of a month add up to its charges and its
adjustments to the last digit. A call whose cost is unknown has no row, because a row must have a cost and 0 would be
a lie: such calls are counted in a table of their own (`Unpriced`).

Columns: https://focus.finops.org/focus-specification/v1-2/
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from django.db import connection

from ledger import itemised, money, reports
from ledger.archived_months import dropped_months
from ledger.itemised import ItemisedCall
from ledger.list_prices import ListPrices, list_cost_usd
from ledger.meters import METERS, Quantity
from ledger.models import Adjustment, ApiKey
from ledger.money import EXACT, ZERO_USD, format_short
from ledger.rating import Rate
from ledger.reports import Named
from providers.models import Model, Provider

Value = str | Decimal | datetime | int | None
PER_MILLION = Decimal(1_000_000)
# What a FOCUS file holds, in this order; the kind says how a writer stores it.
COLUMNS: dict[str, str] = {
    "BilledCost": "money", "BillingAccountId": "text", "BillingAccountName": "text", "BillingCurrency": "text",
    "BillingPeriodEnd": "instant", "BillingPeriodStart": "instant", "ChargeCategory": "text", "ChargeClass": "text",
    "ChargeDescription": "text", "ChargeFrequency": "text", "ChargePeriodEnd": "instant",
    "ChargePeriodStart": "instant", "ConsumedQuantity": "number", "ConsumedUnit": "text", "ContractedCost": "money",
    "ContractedUnitPrice": "number", "EffectiveCost": "money", "InvoiceIssuerName": "text", "ListCost": "money",
    "ListUnitPrice": "number", "PricingCategory": "text", "PricingQuantity": "number", "PricingUnit": "text",
    "ProviderName": "text", "PublisherName": "text", "ResourceId": "text", "ResourceName": "text",
    "ServiceCategory": "text", "ServiceName": "text", "SkuId": "text", "SkuMeter": "text",
    "SkuPriceDetails": "text", "SkuPriceId": "text", "SubAccountId": "text", "SubAccountName": "text",
    "Tags": "text", "x_AdjustmentReason": "text", "x_Calls": "count", "x_PriceSheetId": "count",
}  # fmt: skip
UNPRICED_COLUMNS: dict[str, str] = {
    "ChargePeriodStart": "instant", "ProviderName": "text", "Model": "text", "ResourceId": "text", "UserName": "text",
    "Reason": "text", "Calls": "count", "Meters": "text",
}  # fmt: skip
_CONDITIONS = ("above_tokens", "tier_inclusive", "service_tier", "speed", "region", "variant", "weekdays")


class FocusError(ValueError):
    """A month that cannot be exported. The message says why."""


class Place(NamedTuple):
    """Who used what: the part of a row's identity that calls and adjustments share."""

    key_id: int
    user_id: int
    team_id: int | None
    model_id: int
    provider_id: int


class Priced(NamedTuple):
    """What a row is of, beside its place: a meter, the sheet and rate that priced it, and the list's rate for it."""

    meter: str
    sheet_id: int | None
    rate: Rate | None
    listed: Rate | None


class _Sum:
    """What a row adds up: used and billed quantities, cost as charged and at list prices, calls."""

    __slots__ = ("billed", "calls", "cost_usd", "list_usd", "used")

    def __init__(self) -> None:
        self.used: Decimal = Decimal(0)
        self.billed: Decimal = Decimal(0)
        self.cost_usd = ZERO_USD
        self.list_usd = ZERO_USD
        self.calls = 0

    def add(self, *, used: Quantity, billed: Quantity, cost_usd: Decimal, list_usd: Decimal) -> None:
        self.used = EXACT.add(self.used, Decimal(used))
        self.billed = EXACT.add(self.billed, Decimal(billed))
        self.cost_usd = EXACT.add(self.cost_usd, cost_usd)
        self.list_usd = EXACT.add(self.list_usd, list_usd)
        self.calls += 1


_Sums = dict[tuple[Place, Priced], _Sum]


class Export:
    """A month being exported. Iterate `rows` first; then `charged_usd`, `adjusted_usd` and `unpriced` are complete.

    Memory: the rows of one day, and the names of who used what.
    """

    def __init__(self, *, month: date) -> None:
        self.start = datetime(month.year, month.month, 1, tzinfo=UTC)
        self.end = (self.start + timedelta(days=32)).replace(day=1)
        self.charged_usd = ZERO_USD
        self.adjusted_usd = ZERO_USD
        self.unpriced: dict[tuple[date, Place, str], _Unpriced] = {}
        self._names = _Names()
        if self.start.date() in dropped_months():
            raise FocusError(
                f"{month:%Y-%m} was archived and dropped: bring its calls back with manage.py partitions --restore"
                f" {month:%Y-%m}, export, and drop it again."
            )

    @property
    def total_usd(self) -> Decimal:
        """Charges and adjustments: what the rows' BilledCost add up to."""
        return EXACT.add(self.charged_usd, self.adjusted_usd)

    @property
    def unpriced_calls(self) -> int:
        return sum(each.calls for each in self.unpriced.values())

    def rows(self) -> Iterator[dict[str, Value]]:
        """Each row as {column: value}; read within one transaction, so that they agree with each other."""
        with itemised.one_snapshot():
            day: date | None = None
            sums: _Sums = {}
            settled = _settled(self.start, self.end)
            listed = ListPrices.load()
            for call in itemised.calls(start=self.start, end=self.end):
                if call.day != day:
                    yield from self._charges(day, sums)
                    day, sums = call.day, {}
                self._add(call, sums, prices=listed, settled=call.id in settled)
            yield from self._charges(day, sums)
            yield from self._corrections()

    def unpriced_rows(self) -> Iterator[dict[str, Value]]:
        """One row per day x key x model x reason of the calls whose cost nobody knows to this day."""
        for (day, place, reason), each in sorted(self.unpriced.items(), key=lambda item: str(item[0])):
            names = self._names.of(place)
            yield {
                "ChargePeriodStart": _midnight(day), "ProviderName": names.provider.name,
                "Model": names.model.upstream_name, "ResourceId": names.key.public_id, "UserName": names.user.name,
                "Reason": reason, "Calls": each.calls,
                "Meters": json.dumps({meter: format_short(Decimal(n)) for meter, n in sorted(each.meters.items())}),
            }  # fmt: skip

    def _add(self, call: ItemisedCall, sums: _Sums, *, prices: ListPrices, settled: bool) -> None:
        place = Place(call.key_id, call.user_id, call.team_id, call.model_id, call.provider_id)
        if call.cost_usd is None:
            if not settled:
                self.unpriced.setdefault((call.day, place, call.unpriced_reason), _Unpriced()).add(call)
            return
        self.charged_usd = EXACT.add(self.charged_usd, call.cost_usd)
        for line in call.lines:
            listed = prices.of(call, line)
            list_usd = line.cost_usd if listed is line.rate else list_cost_usd(listed, line.quantity)
            found = sums.setdefault((place, Priced(line.meter, call.sheet_id, line.rate, listed)), _Sum())
            found.add(used=line.used, billed=line.quantity, cost_usd=line.cost_usd, list_usd=list_usd)
        if not call.lines and call.cost_usd:
            found = sums.setdefault((place, Priced(itemised.UNITEMISED, call.sheet_id, None, None)), _Sum())
            found.add(used=0, billed=0, cost_usd=call.cost_usd, list_usd=call.cost_usd)

    def _charges(self, day: date | None, sums: _Sums) -> Iterator[dict[str, Value]]:
        if day is None:
            return
        for (place, priced), each in sums.items():
            names = self._names.of(place)
            row = self._common(names, day=day, cost_usd=each.cost_usd)
            row |= {"ChargeCategory": "Usage", "ChargeFrequency": "Usage-Based", "PricingCategory": "Standard"}
            row |= {"x_Calls": each.calls, "x_PriceSheetId": priced.sheet_id, "ListCost": each.list_usd}
            yield row | _quantities(names, priced, each)

    def _corrections(self) -> Iterator[dict[str, Value]]:
        """One row per day x key x model x reason x sheet of the adjustments of this month's calls."""
        labels = dict(Adjustment.Reason.choices)
        for day, place, reason, sheet_id, delta_usd, calls in _adjustments(self.start, self.end):
            self.adjusted_usd = EXACT.add(self.adjusted_usd, delta_usd)
            names = self._names.of(place)
            row = self._common(names, day=day, cost_usd=delta_usd)
            yield row | {
                "ChargeCategory": "Adjustment", "ChargeClass": "Correction", "ChargeFrequency": "One-Time",
                "ChargeDescription": f"{names.model.upstream_name}: {labels.get(reason, reason)}",
                "x_AdjustmentReason": reason, "x_Calls": calls, "x_PriceSheetId": sheet_id,
            }  # fmt: skip

    def _common(self, names: _Named, *, day: date, cost_usd: Decimal) -> dict[str, Value]:
        row: dict[str, Value] = dict.fromkeys(COLUMNS)
        tags = {"user": names.user.name} | ({"team": names.team.name} if names.team.id is not None else {})
        return row | {
            "BilledCost": cost_usd, "EffectiveCost": cost_usd, "ContractedCost": cost_usd, "ListCost": cost_usd,
            "BillingAccountId": str(names.provider.pk), "BillingAccountName": names.provider.name,
            "BillingCurrency": "USD", "BillingPeriodStart": self.start, "BillingPeriodEnd": self.end,
            "ChargePeriodStart": _midnight(day), "ChargePeriodEnd": _midnight(day) + timedelta(days=1),
            "InvoiceIssuerName": names.provider.name, "ProviderName": names.provider.name,
            "PublisherName": names.provider.adapter, "ServiceCategory": "AI and Machine Learning",
            "ServiceName": names.model.upstream_name, "ResourceId": names.key.public_id,
            "ResourceName": names.key.name or names.key.public_id,
            "SubAccountId": None if names.team.id is None else str(names.team.id),
            "SubAccountName": names.team.name or None, "Tags": json.dumps(tags, ensure_ascii=False),
        }  # fmt: skip


class _Unpriced:
    __slots__ = ("calls", "meters")

    def __init__(self) -> None:
        self.calls = 0
        self.meters: dict[str, Decimal] = {}

    def add(self, call: ItemisedCall) -> None:
        self.calls += 1
        for meter, quantity in call.meters.items():
            self.meters[meter] = EXACT.add(self.meters.get(meter, Decimal(0)), Decimal(quantity))


class _Named(msgspec.Struct, frozen=True):
    key: ApiKey
    user: Named
    team: Named
    model: Model
    provider: Provider


class _Names:
    """Names by place, looked up once each."""

    def __init__(self) -> None:
        self._found: dict[Place, _Named] = {}

    def of(self, place: Place) -> _Named:
        if place not in self._found:
            self._found[place] = _Named(
                ApiKey.objects.get(pk=place.key_id),
                reports.names_of("user", [place.user_id])[place.user_id],
                reports.names_of("team", [place.team_id])[place.team_id],
                Model.objects.get(pk=place.model_id),
                Provider.objects.defer("credential_secret").get(pk=place.provider_id),
            )
        return self._found[place]


def _quantities(names: _Named, priced: Priced, each: _Sum) -> dict[str, Value]:
    """What a row says of quantity and price. Tokens are priced by the million, all else by the piece."""
    meter, _, rate, listed = priced
    if rate is None or listed is None:
        return _whole(names)
    tokens = METERS[meter].unit == "token"
    step = PER_MILLION if tokens else Decimal(1)
    unit = "Tokens" if tokens else _plural(METERS[meter].unit)
    details = _conditions(rate)
    sku = f"{names.provider.name}/{names.model.upstream_name}"
    return {
        "ChargeDescription": f"{names.model.upstream_name}: {METERS[meter].label}",
        "ConsumedQuantity": each.used, "ConsumedUnit": unit, "PricingQuantity": EXACT.divide(each.billed, step),
        "PricingUnit": f"1000000 {unit}" if tokens else unit, "ListUnitPrice": EXACT.multiply(listed.unit_usd, step),
        "ContractedUnitPrice": EXACT.multiply(rate.unit_usd, step),
        "SkuId": f"{sku}/{METERS[meter].side or METERS[meter].family}",
        "SkuMeter": METERS[meter].label, "SkuPriceDetails": json.dumps({f"x_{name}": v for name, v in details.items()}),
        "SkuPriceId": "/".join([sku, meter, *(f"{name}={value}" for name, value in details.items())]),
    }  # fmt: skip


def _whole(names: _Named) -> dict[str, Value]:
    """A cost that its rating lines do not explain: one piece, at its cost, without a price."""
    return {
        "ChargeDescription": f"{names.model.upstream_name}: not itemised", "PricingQuantity": Decimal(1),
        "PricingUnit": "Calls", "SkuId": f"{names.provider.name}/{names.model.upstream_name}",
    }  # fmt: skip


def _conditions(rate: Rate) -> dict[str, str | int | bool]:
    """The conditions of a rate that are not the plain ones; never a date or an amount."""
    plain = Rate(meter=rate.meter, amount_usd=rate.amount_usd)
    found = {name: getattr(rate, name) for name in _CONDITIONS if getattr(rate, name) != getattr(plain, name)}
    if rate.window_start is not None and rate.window_end is not None:
        found["window"] = f"{rate.window_start:%H:%M:%S}-{rate.window_end:%H:%M:%S}"
    return found


def _plural(unit: str) -> str:
    words = unit.title()
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("ch") else f"{words}s"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


_ADJUSTMENTS = """
SELECT ledger_id_day(c.id), c.key_id, c.user_id, c.team_id, c.model_id, c.provider_id, a.reason, a.price_sheet_id,
  sum(a.delta_usd), count(DISTINCT c.id)
FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id
WHERE c.id >= ledger_id_floor(%s) AND c.id < ledger_id_floor(%s)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""


def _adjustments(start: datetime, end: datetime) -> Iterator[tuple[date, Place, str, int | None, Decimal, int]]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(_ADJUSTMENTS, [start, end])
        for day, key, user, team, model, provider, reason, sheet_id, delta_usd, calls in cursor:
            yield day, Place(key, user, team, model, provider), reason, sheet_id, money.quantize_usd(delta_usd), calls


def _settled(start: datetime, end: datetime) -> set[Any]:
    """The calls of unknown cost whose cost an adjustment settled."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT call_id FROM ledger_adjustment WHERE settles_unknown"
            " AND call_id >= ledger_id_floor(%s) AND call_id < ledger_id_floor(%s)",
            [start, end],
        )
        return {call_id for (call_id,) in cursor}

