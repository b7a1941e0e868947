"""At which grain an export and our calls are compared: the finest that both know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import NamedTuple

import msgspec

from ledger.meters import METERS
from ledger.reconcile.export import Export


class Group(NamedTuple):
    """What is compared as one. A part that the export does not tell apart is ''."""

    day: date
    model: str
    meter: str
    key: str


class Names(msgspec.Struct, frozen=True):
    """What one of our models is called: by the provider, by us."""

    upstream: str
    others: tuple[str, ...]


class Grain(msgspec.Struct, frozen=True, kw_only=True):
    """Which of model, meter and key the export tells apart.

    whole_meters: meters that it does not split by model (tools). keys: its words for our keys -> our key's id.
    """

    models: frozenset[str]
    by_meter: bool
    whole_meters: frozenset[str]
    keys: Mapping[str, int]

    def theirs(self, *, day: date, model: str, meter: str, key: str) -> Group:
        return Group(day, "" if meter in self.whole_meters else model, meter, key if key in self.keys else "")

    def ours(self, *, day: date, served: str, names: Names, meter: str, key_id: int) -> Group:
        """Where a meter of one of our calls belongs: under the name of its model that the export uses."""
        candidates = (served, names.upstream, *names.others)
        found = next((name for name in candidates if name in self.models), names.upstream)
        key = next((word for word, known in self.keys.items() if known == key_id), "") if self.keys else ""
        split = bool(self.models) and meter not in self.whole_meters
        return Group(day, found if split else "", meter if self.by_meter else "", key)


def grain_of(export: Export, *, keys: Mapping[str, int]) -> Grain:
    """`keys`: names of our keys -> id. Keys count only where every line that names one names one of ours."""
    usage = [line for line in export.lines if not line.is_credit]
    named = {line.key for line in usage if line.key}
    known = {word: keys[word] for word in named if word in keys}
    return Grain(
        models=frozenset(line.model for line in usage if line.model),
        by_meter=any(line.meter != "" for line in usage),
        whole_meters=frozenset(line.meter for line in usage if line.meter and not line.model),
        keys=known if len(known) == len(named) and all(line.key for line in usage) else {},
    )


class Folds(msgspec.Struct, frozen=True):
    """Meters that only one side tells apart, within a day and model: they count as the meter they are part of."""

    groups: frozenset[Group]

    def of(self, group: Group) -> Group:
        while group in self.groups:
            group = group._replace(meter=METERS[group.meter].part_of)
        return group


def folds(theirs: Iterable[Group], ours: Iterable[Group]) -> Folds:
    """Reasoning is output, image tokens are input, where the other side has no line for them."""
    left, right, found = set(theirs), set(ours), set()
    # Parts of parts stand later in the vocabulary than what they are part of.
    for code in reversed(list(METERS)):
        if not METERS[code].rolls_up:
            continue
        for group in {each for each in left ^ right if each.meter == code}:
            found.add(group)
            for side in (left, right):
                if group in side:
                    side.remove(group)
                    side.add(group._replace(meter=METERS[code].part_of))
    return Folds(frozenset(found))
