"""What the SQL functions should do, in plain Python: the books as dictionaries, one batch after the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from ledger import ids
from ledger.rows import HoldRow, SettleRow

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Place = tuple[int, datetime]


class Refused(Exception):
    """The batch is refused as a whole; `code` is the SQLSTATE."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Limit:
    metric: str
    period: str
    amount: Decimal
    blocks: bool = True
    enabled: bool = True


@dataclass
class Window:
    used: Decimal = Decimal(0)
    held: Decimal = Decimal(0)


@dataclass
class Writer:
    lease_until: datetime
    seq: int = 0
    batches: int = 0
    state: str = "live"


@dataclass
class Held:
    row: HoldRow
    writer: UUID
    places: list[Place]


@dataclass
class Call:
    outcome: str
    cost: Decimal | None
    counted_usd: Decimal
    counted_tokens: int
    places: list[Place]
    is_settled: bool
    is_late: bool = False
    adjusted: Decimal = Decimal(0)


@dataclass
class Sums:
    calls: int = 0
    unpriced: int = 0
    tokens: int = 0
    cost: Decimal = Decimal(0)
    adjusted: Decimal = Decimal(0)


@dataclass
class Answer:
    """`refused`: ordinal -> the limits that had no room or no price; `room`: limit -> what is left."""

    refused: dict[int, set[int]] = field(default_factory=dict)
    room: dict[int, Decimal] = field(default_factory=dict)
    admitted: set[Place] = field(default_factory=set)


@dataclass
class Books:
    limits: dict[int, Limit] = field(default_factory=dict)
    windows: dict[Place, Window] = field(default_factory=dict)
    writers: dict[UUID, Writer] = field(default_factory=dict)
    holds: dict[UUID, Held] = field(default_factory=dict)
    calls: dict[UUID, Call] = field(default_factory=dict)
    rollups: dict[tuple[date, str], Sums] = field(default_factory=lambda: defaultdict(Sums))

    def fence(self, *, now: datetime, grace: timedelta) -> set[UUID]:
        gone = {id for id, each in self.writers.items() if each.state == "live" and each.lease_until < now - grace}
        for each in gone:
            self.writers[each].state = "fenced"
        return gone

    def write(
        self, *, writer: UUID, seq: int, settles: Sequence[SettleRow], holds: Sequence[HoldRow], now: datetime,
        lease: timedelta,
    ) -> Answer:  # fmt: skip
        """A batch that was not sent before. Raises Refused, and then nothing has changed."""
        sender = self.writers[writer]
        if sender.state != "live":
            raise Refused("TB001")
        if seq != sender.seq + 1:
            raise Refused("TB002")
        self._refuse_wrong_rows(settles, holds)
        inserted = [self._settle(row) for row in settles]
        answer = self._hold(writer, holds, now)
        sender.seq, sender.lease_until = seq, now + lease
        sender.batches += any(inserted)
        return answer

    def _refuse_wrong_rows(self, settles: Sequence[SettleRow], holds: Sequence[HoldRow]) -> None:
        if any(row.id not in self.holds and row.id not in self.calls for row in settles):
            raise Refused("TB003")
        moving = [row.id for row in settles if row.id in self.holds or self._is_late(row)]
        if len(moving) != len(set(moving)) or any(row.id in self.holds for row in holds):
            raise Refused("23505")

    def _is_late(self, row: SettleRow) -> bool:
        call = self.calls.get(row.id)
        return call is not None and call.outcome == "abandoned" and not call.is_late

    def _settle(self, row: SettleRow) -> bool:
        """Whether a call was inserted."""
        held = self.holds.pop(row.id, None)
        if held is None:
            if self._is_late(row):
                self._settle_late(row)
            return False
        bound = held.row.usd or Decimal(0)
        usd = row.cost_usd if row.cost_usd is not None else bound
        is_blank = row.cost_usd is None and row.usage_source == "none"
        tokens = held.row.tokens if is_blank else row.input_tokens + row.output_tokens
        for place in held.places:
            if place in self.windows:
                metric = self.limits[place[0]].metric
                self.windows[place].held -= need(metric, bound, held.row.tokens)
                self.windows[place].used += 0 if metric == "concurrency" else need(metric, usd, tokens)
        self.calls[row.id] = Call(row.outcome, row.cost_usd, usd, tokens, held.places, row.cost_usd is not None)
        sums = self.rollups[ids.time_of(row.id).date(), row.outcome]
        sums.calls += 1
        sums.unpriced += row.cost_usd is None
        sums.tokens += row.input_tokens + row.output_tokens
        sums.cost += row.cost_usd or 0
        return True

    def _settle_late(self, row: SettleRow) -> None:
        """Whatever was said of the call in between, cost and counts end at what the provider reported."""
        call = self.calls[row.id]
        call.is_late = True
        delta, tokens = Decimal(0), 0
        counted = Decimal(0)
        if row.cost_usd is not None:
            delta = row.cost_usd - (call.cost or 0) - call.adjusted
            counted = row.cost_usd - call.counted_usd
        if row.cost_usd is not None or row.usage_source != "none":
            tokens = row.input_tokens + row.output_tokens - call.counted_tokens
        self.adjust(row.id, delta=delta, usd=counted, tokens=tokens, settles=row.cost_usd is not None)

    def adjust(self, id: UUID, *, delta: Decimal, usd: Decimal, tokens: int = 0, settles: bool = False) -> None:
        """`usd` and `tokens` are what the windows move by; `settles`: the cost is known from now on."""
        call = self.calls[id]
        for place in call.places:
            if place in self.windows:
                metric = self.limits[place[0]].metric
                self.windows[place].used += {"usd": usd, "tokens": Decimal(tokens)}.get(metric, Decimal(0))
        sums = self.rollups[ids.time_of(id).date(), call.outcome]
        sums.adjusted += delta
        sums.unpriced -= settles and not call.is_settled
        call.is_settled = call.is_settled or settles
        call.adjusted += delta
        call.counted_usd += usd
        call.counted_tokens += tokens

    def _hold(self, writer: UUID, holds: Sequence[HoldRow], now: datetime) -> Answer:
        answer = Answer()
        room: dict[Place, Decimal] = {}
        for row in holds:
            for place in self.places(row, now):
                self.windows.setdefault(place, Window())
                room[place] = self.room(place, now)
        for ordinal, row in enumerate(holds, start=1):
            places = self.places(row, now)
            without = {place[0] for place in places if self._lacks(place, row, room[place])}
            if without:
                answer.refused[ordinal] = without
                continue
            for place in places:
                amount = need(self.limits[place[0]].metric, row.usd or Decimal(0), row.tokens)
                room[place] -= amount
                self.windows[place].held += amount
                if self.limits[place[0]].blocks:
                    answer.admitted.add(place)
            self.holds[row.id] = Held(row, writer, places)
        told = {place: left for place, left in room.items() if self.limits[place[0]].metric in ("requests", "tokens")}
        answer.room = {place[0]: left for place, left in told.items()}
        return answer

    def _lacks(self, place: Place, row: HoldRow, room: Decimal) -> bool:
        limit = self.limits[place[0]]
        if not limit.blocks:
            return False
        if limit.metric == "usd" and row.usd is None:
            return True
        return need(limit.metric, row.usd or Decimal(0), row.tokens) > room

    def places(self, row: HoldRow, now: datetime) -> list[Place]:
        found = [(id, self.limits[id]) for id in row.limits if id in self.limits]
        return [(id, start_of(limit.period, now)) for id, limit in found if limit.enabled]

    def room(self, place: Place, now: datetime) -> Decimal:
        """What is left of a window; a sliding minute also counts the part of the minute before that is in view."""
        limit, window = self.limits[place[0]], self.windows[place]
        left = limit.amount - window.used - window.held
        before = self.windows.get((place[0], place[1] - timedelta(minutes=1)))
        if limit.period == "minute" and before is not None:
            left -= (before.used + before.held) * (60 - now.second) / 60
        return left

    def delete_limit(self, id: int) -> None:
        del self.limits[id]
        self.windows = {place: window for place, window in self.windows.items() if place[0] != id}


def need(metric: str, usd: Decimal, tokens: int) -> Decimal:
    return {"usd": usd, "tokens": Decimal(tokens)}.get(metric, Decimal(1))


def start_of(period: str, at: datetime) -> datetime:
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    starts: dict[str, Any] = {
        "minute": at.replace(second=0, microsecond=0),
        "hour": at.replace(minute=0, second=0, microsecond=0),
        "day": midnight,
        "week": midnight - timedelta(days=at.weekday()),
        "month": midnight.replace(day=1),
        "total": EPOCH,
    }
    found: datetime = starts[period]
    return found
