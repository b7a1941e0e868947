"""Which calls to look at, and how that is cut into slices that can be checked one by one, or side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from ledger import ids

_DAY = timedelta(days=1)


class Difference(NamedTuple):
    """`check` is its number and name; `line` says where, what the books say and what they should say."""

    check: str
    line: str


class Scope(NamedTuple):
    """The calls with ids in [first, last), and the windows that lie within [starts_at, ends_at); None: no bound.

    A check that cannot be cut by ids is cut by remainder instead: it looks at what leaves `part` divided by `parts`.
    """

    first: UUID
    last: UUID
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    part: int = 0
    parts: int = 1

    @property
    def is_whole(self) -> bool:
        return self.first == EVERYTHING.first and self.last == EVERYTHING.last


EVERYTHING = Scope(UUID(int=0), UUID(int=2**128 - 1))


class Progress(NamedTuple):
    """How far a verification is: slices done of all, the check at work, and calls rated again so far."""

    check: str
    done: int
    slices: int
    found: int


Report = Callable[[Progress], None]


def since(at: datetime) -> Scope:
    return Scope(ids.floor(at), EVERYTHING.last, at)


def month(first_day: datetime) -> Scope:
    """The calls of one UTC month: one partition."""
    after = (first_day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return Scope(ids.floor(first_day), ids.floor(after), first_day, after)


def by_day(scope: Scope) -> list[Scope]:
    """The scope in slices that each hold the calls of one UTC day and reach up to the next day that has calls.

    Together they are the scope, without a gap: what is kept for a day without calls lies in a slice too.
    """
    cuts = [ids.floor(day) for day in _days(scope)][1:]
    edges = [scope.first, *cuts, scope.last]
    return [scope._replace(first=first, last=last) for first, last in pairwise(edges)]


def by_remainder(scope: Scope, *, parts: int) -> list[Scope]:
    return [scope._replace(part=part, parts=parts) for part in range(parts)]


def _days(scope: Scope) -> Iterator[datetime]:
    """The UTC days that have calls: one look in the primary key for each."""
    first = scope.first
    while row := rows(
        "SELECT id FROM ledger_call WHERE id >= %(first)s AND id < %(last)s ORDER BY id LIMIT 1",
        {"first": first, "last": scope.last},
    ):
        day = datetime.combine(ids.time_of(row[0][0]).date(), time(), tzinfo=UTC)
        yield day
        first = ids.floor(day + _DAY)


def rows(sql: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or {})
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found
