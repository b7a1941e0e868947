"""Two sides, group by group: what is equal, what differs, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from ledger.money import EXACT
from ledger.reconcile.export import Line
from ledger.reconcile.grouping import Group

ROUNDING_USD = Decimal("0.000001")
_ZERO = Decimal(0)


class Class(StrEnum):
    """Why a group is as it is; the value is what people read."""

    EQUAL = "equal"
    ROUNDING = "rounding"
    MISSING_HERE = "usage missing here"
    MISSING_THERE = "usage missing there"
    PRICE_DIFFERS = "price differs"
    CREDIT = "credit or discount"
    UNMATCHED = "unmatched"


# What is left to find out. A different price is known for what it is, a credit is none of a call's cost.
UNEXPLAINED = frozenset({Class.MISSING_HERE, Class.MISSING_THERE, Class.UNMATCHED})
# What adjustments of calls can put right.
POSTABLE = frozenset({Class.MISSING_HERE, Class.MISSING_THERE, Class.PRICE_DIFFERS, Class.UNMATCHED})


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a group. None: that side does not say. `unknown_calls` of ours have no known cost."""

    quantity: Decimal | None = None
    amount_usd: Decimal | None = None
    calls: int = 0
    unknown_calls: int = 0
    rows: tuple[int, ...] = ()
    label: str = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One group, classed. `diff_usd`: theirs - ours; a side that says no amount counts as 0 in it."""

    group: Group
    kind: Class
    theirs: Sum | None
    ours: Sum | None
    note: str = ""

    @property
    def theirs_usd(self) -> Decimal:
        return (self.theirs.amount_usd if self.theirs else None) or _ZERO

    @property
    def ours_usd(self) -> Decimal:
        return (self.ours.amount_usd if self.ours else None) or _ZERO

    @property
    def diff_usd(self) -> Decimal:
        return EXACT.subtract(self.theirs_usd, self.ours_usd)

    @property
    def ours_is_unknown(self) -> bool:
        """Whether all our calls of this group are of unknown cost: then `ours_usd` is no amount to show."""
        return self.ours is not None and 0 < self.ours.calls == self.ours.unknown_calls


class ClassTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The groups of one class: how many, what each side says, and the sum of the differences without their sign.

    None: the export has no amounts.
    """

    groups: int
    theirs_usd: Decimal | None
    ours_usd: Decimal
    apart_usd: Decimal | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Every group, in order of day, model, meter. `has_amounts` False: only quantities were compared.

    model_ids: the export's names of our models, where one name is one model.
    """

    differences: tuple[Difference, ...]
    has_amounts: bool
    model_ids: Mapping[str, int] = {}

    @property
    def totals(self) -> dict[Class, ClassTotal]:
        """By class, those that occur."""
        found: dict[Class, ClassTotal] = {}
        for kind in Class:
            own = [each for each in self.differences if each.kind == kind]
            if own:
                found[kind] = ClassTotal(
                    groups=len(own),
                    theirs_usd=sum((each.theirs_usd for each in own), _ZERO) if self.has_amounts else None,
                    ours_usd=sum((each.ours_usd for each in own), _ZERO),
                    apart_usd=sum((abs(each.diff_usd) for each in own), _ZERO) if self.has_amounts else None,
                )
        return found

    @property
    def unexplained_percent(self) -> Decimal | None:
        """What is unexplained, in per cent of what the provider says (of quantities where it says no amounts).

        None when the provider says nothing at all.
        """
        whole = sum((abs(_size(each, self.has_amounts)[0]) for each in self.differences), _ZERO)
        apart = sum(
            (abs(_size(each, self.has_amounts)[1]) for each in self.differences if each.kind in UNEXPLAINED), _ZERO
        )
        if not whole:
            return None if apart or not self.differences else _ZERO
        return EXACT.divide(apart * 100, whole).quantize(Decimal("0.0001"))


def match(
    *, theirs: Mapping[Group, Sum], ours: Mapping[Group, Sum], known_models: Iterable[str], odd: Iterable[Line],
    has_amounts: bool,
) -> Report:
    """Class every group of both sides. `odd`: credits, and lines of no meter we know; each stands by itself."""
    known = {*known_models, ""}
    found = [
        _classed(group, theirs.get(group), ours.get(group), known=group.model in known, has_amounts=has_amounts)
        for group in {**theirs, **ours}
    ]
    found += [_odd(line) for line in odd]
    found.sort(key=lambda each: (each.group, each.theirs.rows if each.theirs else ()))
    return Report(differences=tuple(found), has_amounts=has_amounts)


def _classed(group: Group, theirs: Sum | None, ours: Sum | None, *, known: bool, has_amounts: bool) -> Difference:
    kind, note = _class(theirs, ours, known=known, has_amounts=has_amounts)
    return Difference(group=group, kind=kind, theirs=theirs, ours=ours, note=note)


def _class(theirs: Sum | None, ours: Sum | None, *, known: bool, has_amounts: bool) -> tuple[Class, str]:
    if theirs is None:
        empty = ours is None or not (ours.quantity or ours.amount_usd)
        return (Class.EQUAL, "") if empty else (Class.MISSING_THERE, "the export has no line for it")
    if ours is None:
        if not theirs.quantity and not theirs.amount_usd:
            return Class.EQUAL, ""
        return (Class.MISSING_HERE, "no call of ours") if known else (Class.UNMATCHED, "no model of ours has this name")
    more = _more(theirs.quantity, ours.quantity)
    if not has_amounts:
        return (Class.EQUAL, "") if not more else _missing(more)
    apart = abs((theirs.amount_usd or _ZERO) - (ours.amount_usd or _ZERO))
    if apart < ROUNDING_USD and not more:
        return (Class.ROUNDING, "") if apart else (Class.EQUAL, "")
    if more:
        return _missing(more)
    if ours.unknown_calls:
        return Class.PRICE_DIFFERS, f"{ours.unknown_calls} calls of unknown cost"
    if theirs.quantity is None or ours.quantity is None:
        return Class.UNMATCHED, "the export says no quantity: add the usage export of these days"
    return Class.PRICE_DIFFERS, "same usage, another price"


def _missing(more: Decimal) -> tuple[Class, str]:
    if more > 0:
        return Class.MISSING_HERE, f"{more:f} more there"
    return Class.MISSING_THERE, f"{-more:f} more here"


def _more(theirs: Decimal | None, ours: Decimal | None) -> Decimal:
    return _ZERO if theirs is None or ours is None else EXACT.subtract(theirs, ours)


def _odd(line: Line) -> Difference:
    kind = Class.CREDIT if line.is_credit else Class.UNMATCHED
    return Difference(
        group=Group(line.day, line.model, line.meter or "", ""),
        kind=kind,
        theirs=Sum(quantity=line.quantity, amount_usd=line.amount_usd, rows=(line.row,), label=line.label),
        ours=None,
        note=line.label or ("a credit" if line.is_credit else "no meter of ours"),
    )


def _size(each: Difference, has_amounts: bool) -> tuple[Decimal, Decimal]:
    """(what they say, how far apart) in USD, or in units."""
    if has_amounts:
        return each.theirs_usd, each.diff_usd
    theirs = (each.theirs.quantity if each.theirs else None) or _ZERO
    ours = (each.ours.quantity if each.ours else None) or _ZERO
    return theirs, theirs - ours
