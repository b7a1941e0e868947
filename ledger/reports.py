"""What was spent, from the daily rollups only: a report costs the same on a ledger of a million or fifty million calls.

Calls whose cost is unknown add nothing to `cost_usd`; `unpriced_calls` says how many they are, so that nobody takes a
sum of known costs for the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
from django.contrib.auth import get_user_model
from django.db.models import DecimalField, Q, Sum

from ledger.models import ApiKey, DailySpend, Team
from providers.models import Model, Provider

DIMENSIONS = ("user", "team", "key", "model", "provider", "day")
FILTERS = ("user", "team", "key", "model", "provider", "outcome")
_CACHED = ("cached",)
# Outcomes whose calls count as answered. What is neither answered nor cancelled by the client failed.
_ANSWERED = ("ok", "cached")
_CANCELLED = ("cancelled",)
_COUNTS = (
    "calls",
    "unpriced_calls",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)
_ZERO = Decimal(0)
# More rows than anybody reads, and about as many as a spreadsheet takes.
MAX_ROWS = 200_000


class UnknownReport(ValueError):
    """There is no such grouping or filter, or the period ends before it begins. `param` names which argument."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class Named(msgspec.Struct, frozen=True):
    """One user, team, key, model or provider. `id` None and an empty name: calls that belong to no team."""

    id: int | None
    name: str


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over calls. Tokens are wholes: input holds what was read from and written to caches, output the reasoning.

    cost_usd: the known costs as charged; adjustments_usd: later corrections, signed; total_usd: both.
    ok_calls + failed_calls + cancelled_calls = calls; of ok_calls, cached_calls were answered by the response cache.
    """

    calls: int = 0
    ok_calls: int = 0
    failed_calls: int = 0
    cancelled_calls: int = 0
    cached_calls: int = 0
    unpriced_calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: Decimal = _ZERO
    adjustments_usd: Decimal = _ZERO

    @property
    def total_usd(self) -> Decimal:
        return self.cost_usd + self.adjustments_usd

    @property
    def cost_is_known(self) -> bool:
        """False where every call's cost is unknown: then `cost_usd` and `total_usd` are sums of nothing, not zero."""
        return self.calls > self.unpriced_calls or not self.calls or self.adjustments_usd != 0

    @property
    def cache_hit_rate(self) -> Decimal:
        """The part of the answered calls that the response cache answered: 0 to 1, four decimals."""
        return (Decimal(self.cached_calls) / max(1, self.ok_calls)).quantize(Decimal("0.0001"))


class SpendRow(Sums, frozen=True, kw_only=True):
    """The sums of one group. A dimension that was not asked for is None."""

    user: Named | None = None
    team: Named | None = None
    key: Named | None = None
    model: Named | None = None
    provider: Named | None = None
    day: date | None = None


def spend(
    *, group_by: Sequence[str], start: date, end: date, filters: Mapping[str, object] | None = None
) -> list[SpendRow]:
    """Spend from `start` to `end`, both days included (UTC days of the requests), one row per group, in group order.

    `group_by`: any of DIMENSIONS; none gives one row, or no row where there were no calls. `filters`: name in FILTERS
    -> the id (for outcome: the word), a collection of them, or None (team: calls without a team).
    Raises UnknownReport; a report of more than MAX_ROWS rows is one.
    """
    for name in group_by:
        if name not in DIMENSIONS:
            raise UnknownReport(f"Cannot group by {name!r}: use {', '.join(DIMENSIONS)}.", param="group_by")
    if start > end:
        raise UnknownReport(f"The period begins on {start} and ends before, on {end}.", param="from")
    columns = list(dict.fromkeys(name if name == "day" else f"{name}_id" for name in group_by))
    days = DailySpend.objects.filter(_condition(filters or {}), day__range=(start, end)).order_by()
    if columns:
        found = list(days.values(*columns).annotate(**_aggregates())[: MAX_ROWS + 1])
    else:
        found = [days.aggregate(**_aggregates())]
    if len(found) > MAX_ROWS:
        raise UnknownReport(f"More than {MAX_ROWS} rows: group by less or ask for fewer days.", param="group_by")
    names = {name: names_of(name, {row[f"{name}_id"] for row in found}) for name in group_by if name != "day"}
    # Without groups there is one row of NULLs even where there is nothing.
    rows = [_row(values, names=names) for values in found if values["sum_calls"] is not None]
    return sorted(rows, key=lambda row: _place(row, group_by))


def totals(rows: Iterable[Sums]) -> Sums:
    """The sums of all rows, exact."""
    fields = Sums.__struct_fields__
    sums: dict[str, Any] = dict.fromkeys(fields, 0) | {"cost_usd": _ZERO, "adjustments_usd": _ZERO}
    for row in rows:
        for field in fields:
            sums[field] += getattr(row, field)
    return Sums(**sums)


def names_of(dimension: str, ids: Iterable[int | None]) -> dict[int | None, Named]:
    """The names of users, teams, keys, models or providers by id; None is the one without a name."""
    wanted = [identifier for identifier in set(ids) if identifier is not None]
    found: dict[int | None, Named] = {None: Named(id=None, name="")}
    found |= {identifier: Named(id=identifier, name=f"#{identifier}") for identifier in wanted}
    for identifier, name in _name_rows(dimension, wanted):
        found[identifier] = Named(id=identifier, name=name)
    return found


def _name_rows(dimension: str, ids: Sequence[int]) -> Iterable[tuple[int, str]]:
    match dimension:
        case "user":
            return get_user_model().objects.filter(pk__in=ids).values_list("pk", "username")
        case "team":
            return Team.objects.filter(pk__in=ids).values_list("pk", "name")
        case "key":
            return ((key.pk, str(key)) for key in ApiKey.objects.filter(pk__in=ids).only("public_id", "name"))
        case "model":
            return Model.objects.filter(pk__in=ids).values_list("pk", "name")
        case "provider":
            return Provider.objects.filter(pk__in=ids).values_list("pk", "name")
    raise UnknownReport(f"{dimension!r} has no names.", param=dimension)


def _condition(filters: Mapping[str, object]) -> Q:
    condition = Q()
    for name, value in filters.items():
        if name not in FILTERS:
            raise UnknownReport(f"Cannot filter by {name!r}: use {', '.join(FILTERS)}.", param=name)
        column = name if name == "outcome" else f"{name}_id"
        if value is None:
            condition &= Q(**{f"{column}__isnull": True})
        elif isinstance(value, list | tuple | set | frozenset):
            condition &= Q(**{f"{column}__in": list(value)})
        else:
            condition &= Q(**{column: value})
    return condition


def _aggregates() -> dict[str, Sum]:
    """The sums, under names that are not those of the columns they add."""
    money = DecimalField(max_digits=40, decimal_places=12)
    return {f"sum_{name}": Sum(name) for name in _COUNTS} | {
        "sum_ok_calls": Sum("calls", filter=Q(outcome__in=_ANSWERED)),
        "sum_cached_calls": Sum("calls", filter=Q(outcome__in=_CACHED)),
        "sum_cancelled_calls": Sum("calls", filter=Q(outcome__in=_CANCELLED)),
        "sum_cost_usd": Sum("cost_usd", output_field=money),
        "sum_adjustments_usd": Sum("adjustments_usd", output_field=money),
    }


def _row(values: Mapping[str, Any], *, names: Mapping[str, Mapping[int | None, Named]]) -> SpendRow:
    fields: dict[str, Any] = {name: int(values[f"sum_{name}"]) for name in _COUNTS}
    fields |= {name: named[values[f"{name}_id"]] for name, named in names.items()}
    ok, cancelled = int(values["sum_ok_calls"] or 0), int(values["sum_cancelled_calls"] or 0)
    return SpendRow(
        **fields,
        ok_calls=ok,
        cancelled_calls=cancelled,
        cached_calls=int(values["sum_cached_calls"] or 0),
        failed_calls=fields["calls"] - ok - cancelled,
        cost_usd=values["sum_cost_usd"],
        adjustments_usd=values["sum_adjustments_usd"],
        day=values.get("day"),
    )


def _place(row: SpendRow, group_by: Sequence[str]) -> tuple[Any, ...]:
    """Where a row stands: by the names of its groups, in the order asked for; the id keeps namesakes apart."""
    place: list[Any] = []
    for name in group_by:
        value = getattr(row, name)
        place += [value] if name == "day" else [value.name.casefold(), value.name, value.id or 0]
    return tuple(place)
