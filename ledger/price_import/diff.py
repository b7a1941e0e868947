"""What list prices would change for one model. Pure: stored sheets and source sheets in, changes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct, structs

from ledger.money import EXACT, format_short
from ledger.price_import.source import SourceSheet
from ledger.publishing import content_sha256
from ledger.rating import Rate, Sheet

# new: the model's first list prices.       changed: a later sheet, with its date.
# undated: other prices for an instant already published; their true date is not known.
# outlier: a price moved by more than OUTLIER times.      seed: differs from the model's seed prices.
# pending: drafted before, waits to be published.  removed: the data set no longer has the model.
Kind = Literal["new", "changed", "undated", "outlier", "seed", "pending", "removed", "unchanged"]
PUBLISHED_AT_ONCE: frozenset[Kind] = frozenset({"new", "changed"})
DRAFTED: frozenset[Kind] = frozenset({"undated", "seed"})
# Written only after a second confirmation, and then as a draft.
CONFIRMED: frozenset[Kind] = frozenset({"outlier"})
OUTLIER = 3
# Between these the unit has slipped: a price per 1,000 written per 1,000,000, or the reverse.
_UNIT_SLIPS = (500, 2000)
_Place = tuple[str, int, str, str, str, str, int, str]


class StoredSheet(Struct, frozen=True):
    """A sheet in the database: `digest` is its content hash; `rates` as rating takes them."""

    book: str
    valid_from: datetime
    is_draft: bool
    digest: str
    rates: tuple[Rate, ...]
    is_discontinued: bool = False


class RateChange(Struct, frozen=True):
    """One price before and after, in USD per `per` units; None where there was or will be none."""

    label: str
    old_usd: Decimal | None
    new_usd: Decimal | None
    per: int
    place: _Place | None = None

    @staticmethod
    def place_of(rate: Rate) -> _Place:
        """Which line of a sheet a rate is: its meter and conditions."""
        return _place(rate)

    @property
    def percent(self) -> Decimal | None:
        """The change in percent, one decimal; None from or to nothing, and from zero."""
        if not self.old_usd or self.new_usd is None:
            return None
        return EXACT.divide((self.new_usd - self.old_usd) * 100, self.old_usd).quantize(Decimal("0.1"))

    @property
    def is_outlier(self) -> bool:
        if not self.old_usd or not self.new_usd:
            return False
        return self.new_usd > self.old_usd * OUTLIER or self.old_usd > self.new_usd * OUTLIER

    @property
    def is_unit_slip(self) -> bool:
        """Whether it moved about a thousandfold."""
        if not self.old_usd or not self.new_usd:
            return False
        least, most = min(self.old_usd, self.new_usd), max(self.old_usd, self.new_usd)
        return least * _UNIT_SLIPS[0] <= most <= least * _UNIT_SLIPS[1]

    def __str__(self) -> str:
        old, new = ("none" if usd is None else format_short(usd) for usd in (self.old_usd, self.new_usd))
        percent = "" if self.percent is None else f" ({self.percent:+}%)"
        return f"{self.label}: {old} -> {new} per {self.per:,}{percent}"


class Conflict(Struct, frozen=True):
    """One price three ways, per `per` units: the list before, the list now, what an override or contract charges."""

    label: str
    base_usd: Decimal | None
    theirs_usd: Decimal | None
    mine_usd: Decimal | None
    per: int
    book: str

    def __str__(self) -> str:
        base, theirs, mine = (
            "none" if usd is None else format_short(usd) for usd in (self.base_usd, self.theirs_usd, self.mine_usd)
        )
        return f"{self.label}: list {base} -> {theirs}, {self.book} {mine} per {self.per:,}"


class Change(Struct, frozen=True):
    """What the import would do about one source sheet (`sheet`; None for a removed model)."""

    kind: Kind
    valid_from: datetime
    sheet: SourceSheet | None
    rates: tuple[RateChange, ...] = ()
    old_rates: tuple[Rate, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


def compare(*, source: Sequence[SourceSheet], stored: Sequence[StoredSheet], now: datetime) -> list[Change]:
    """The changes that bring the `list` book of one model to `source`. Pure; the same again yields nothing new.

    Prices that differ from a seed price are never published by the import: all new sheets of such a model become
    drafts for the admin. So do prices that changed without a date (from `now`) and outliers.
    """
    listed = [sheet for sheet in stored if sheet.book == "list"]
    changes = [_compare_one(sheet, listed=listed, now=now) for sheet in source]
    changes = [_with_conflicts(change, stored) for change in changes]
    seed = _in_force([sheet for sheet in stored if sheet.book == "seed"], now)
    if seed is not None:
        differing = [_against_seed(change, seed) for change in changes]
        if any(change.kind == "seed" for change in differing):
            return [_held_back(change) for change in differing]
    return changes


def rate_changes(old: Iterable[Rate], new: Iterable[Rate]) -> tuple[RateChange, ...]:
    """Prices that differ between two sheets, per unit and condition, in the new sheet's order."""
    before = {_place(rate): rate for rate in old}
    after = {_place(rate): rate for rate in new}
    changes = []
    for place in dict.fromkeys((*after, *before)):
        was, will = before.get(place), after.get(place)
        per = max(rate.per for rate in (was, will) if rate is not None)
        change = RateChange(_label(was or will), _per(was, per), _per(will, per), per, place)
        if change.old_usd != change.new_usd:
            changes.append(change)
    return tuple(changes)


def _compare_one(sheet: SourceSheet, *, listed: Sequence[StoredSheet], now: datetime) -> Change:
    digest = content_sha256(Sheet(rates=sheet.rates))
    published = [each for each in listed if not each.is_draft]
    # An undated change was published from the day it was found, which is after the day the data set gives.
    if any(each.digest == digest and each.valid_from >= sheet.valid_from for each in published):
        return Change("unchanged", sheet.valid_from, sheet)
    before = _in_force(published, sheet.valid_from)
    old = before.rates if before else ()
    changed = rate_changes(old, sheet.rates)
    draft = next((each for each in listed if each.is_draft and each.digest == digest), None)
    if draft is not None:
        return Change("pending", draft.valid_from, sheet, changed, old)
    if before is None:
        return Change("changed" if published else "new", sheet.valid_from, sheet, changed, old)
    undated = before.valid_from == sheet.valid_from
    starts = max(now, sheet.valid_from) if undated else sheet.valid_from
    if any(change.is_outlier for change in changed):
        return Change("outlier", starts, sheet, changed, old)
    return Change("undated" if undated else "changed", starts, sheet, changed, old)


def _with_conflicts(change: Change, stored: Sequence[StoredSheet]) -> Change:
    """Prices that the list changes and somebody set by hand. The hand-set price goes on; a person should know."""
    if change.sheet is None or change.kind == "unchanged":
        return change
    for book in ("contract", "override"):
        published = [each for each in stored if each.book == book and not each.is_draft]
        ours = _in_force(published, change.valid_from)
        if ours is not None and not ours.is_discontinued:
            return structs.replace(change, conflicts=tuple(_conflicts(change, ours)))
    return change


def _conflicts(change: Change, ours: StoredSheet) -> Iterator[Conflict]:
    mine = {_place(rate): rate for rate in ours.rates}
    for moved in change.rates:
        rate = mine.get(moved.place) if moved.place is not None else None
        mine_usd = _per(rate, moved.per)
        # Where the list comes to what we charge already, nobody has to decide anything.
        if rate is not None and mine_usd != moved.new_usd:
            yield Conflict(moved.label, moved.old_usd, moved.new_usd, mine_usd, moved.per, ours.book)


def _against_seed(change: Change, seed: StoredSheet) -> Change:
    if change.sheet is None or change.kind == "unchanged":
        return change
    places = {_place(rate) for rate in seed.rates}
    both = rate_changes(seed.rates, (rate for rate in change.sheet.rates if _place(rate) in places))
    if not both:
        return change
    kind: Kind = "pending" if change.kind == "pending" else "seed"
    return structs.replace(change, kind=kind, rates=both, old_rates=seed.rates)


def _held_back(change: Change) -> Change:
    """A new sheet of a model whose other list prices wait for the admin waits with them."""
    return structs.replace(change, kind="seed") if change.kind == "new" else change


def _in_force(sheets: Sequence[StoredSheet], at: datetime) -> StoredSheet | None:
    begun = [sheet for sheet in sheets if sheet.valid_from <= at]
    return max(begun, key=lambda sheet: sheet.valid_from, default=None)


def _place(rate: Rate) -> _Place:
    return (
        rate.meter, rate.begins_at, rate.service_tier, rate.speed, rate.region, rate.variant, rate.weekdays,
        str(rate.window_start or ""),
    )


def _label(rate: Rate | None) -> str:
    if rate is None:
        return ""
    meter, begins_at, *words = _place(rate)
    conditions = [word for word in words[:4] if isinstance(word, str) and word]
    if begins_at:
        conditions.append(f"from {begins_at:,} input tokens")
    if rate.window_start is not None:
        conditions.append(f"{rate.window_start:%H:%M} to {rate.window_end:%H:%M}")
    return meter + (f" ({', '.join(conditions)})" if conditions else "")


def _per(rate: Rate | None, per: int) -> Decimal | None:
    return None if rate is None else EXACT.multiply(rate.unit_usd, per)
