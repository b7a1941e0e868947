"""The SQL functions against a model of the books: any order of batches, crashes, limit changes and days gone by.

TOLLBOOK_LONG_TESTS=1 runs a hundred times as many steps. One transaction holds it all and is rolled back, so every
example begins with empty books; the functions' clock is replaced by one that the machine turns.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import Error, connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ledger import models as stored
from ledger import verify
from ledger.models import Adjustment, Limit
from ledger.rows import HoldRow, SettleRow
from tests.ledger import books_model as model
from tests.ledger.written import LEASE_S, Sender, make_hold, make_priced, make_settle, unknown

IS_LONG = os.environ.get("TOLLBOOK_LONG_TESTS") == "1"
# Examples, and steps of each.
EXAMPLES, STEPS = (1500, 100) if IS_LONG else (50, 30)
LEASE, GRACE = timedelta(seconds=LEASE_S), timedelta(seconds=5)
# One instant for all examples, so that the same choices lead to the same books; tomorrow: no lease has run out then.
BEGAN = (datetime.now(UTC) + timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
# No longer than the partitions reach.
FURTHEST = timedelta(days=45)
MEASURES = [
    ("usd", "minute"), ("usd", "day"), ("usd", "total"), ("tokens", "hour"), ("tokens", "month"),
    ("requests", "minute"), ("requests", "week"), ("concurrency", "total"),
]  # fmt: skip
BOUNDS = st.sampled_from(["0.5", "1", "2.000000000001", None])
AMOUNTS = st.sampled_from(["0", "1", "2", "3", "5000", "100000"])
_CLOCKED = """
SELECT p.proname::text, pg_get_functiondef(p.oid) FROM pg_proc p
WHERE p.pronamespace = current_schema()::regnamespace AND p.prosrc LIKE '%clock_timestamp()%'
"""


def turn_clock(at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('test.clock', %s, false)", (at.isoformat(),))


def replace_clock() -> set[str]:
    """Let the functions read the clock the machine turns. Returns their names."""
    with connection.cursor() as cursor:
        cursor.execute(_CLOCKED)
        found = cursor.fetchall()
        for _, definition in found:
            cursor.execute(definition.replace("clock_timestamp()", "current_setting('test.clock')::timestamptz"))
    return {name for name, _ in found}


class BooksMachine(RuleBasedStateMachine):
    clocked: set[str] = set()

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.savepoint()
        self.books = model.Books()
        self.senders: list[Sender] = []
        self.last: dict[UUID, tuple[list[SettleRow], list[HoldRow], Any]] = {}
        self.now = BEGAN
        turn_clock(self.now)
        self.key, self.sheet = make_priced()

    def teardown(self) -> None:
        try:
            assert [found for found in verify.differences() if not self._is_the_clock(found)] == []
        finally:
            transaction.savepoint_rollback(self.savepoint)

    def _is_the_clock(self, found: verify.Difference) -> bool:
        return any(found.line.startswith(f"function {name} is not the one") for name in self.clocked)

    # --- time, writers, limits ----------------------------------------------------------------------------

    @initialize(measures=st.lists(st.sampled_from(MEASURES), min_size=1, max_size=4, unique=True), amount=AMOUNTS)
    def open_the_books(self, measures: list[tuple[str, str]], amount: str) -> None:
        self.register()
        for metric, period in measures:
            self._add_limit(metric, period, amount, blocks=True)

    @rule(seconds=st.sampled_from([15, 30, 45, 60, 3600, 86_400, 7 * 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.now = min(self.now + timedelta(seconds=seconds), BEGAN + FURTHEST)
        turn_clock(self.now)

    @precondition(lambda self: len(self.senders) < 4)
    @rule()
    def register(self) -> None:
        sender = Sender()
        taken = {each.slot for each in self.senders if self.books.writers[each.id].state == "live"}
        assert sender.slot == min(set(range(1, 6)) - taken)
        self.senders.append(sender)
        self.books.writers[sender.id] = model.Writer(self.now + LEASE)

    @rule()
    def fence(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT ledger_fence(%s)", (GRACE.total_seconds(),))
            fenced = {row[0] for row in cursor.fetchall()}
        assert fenced == self.books.fence(now=self.now, grace=GRACE)

    @precondition(lambda self: len(self.books.limits) < 6)
    @rule(measure=st.sampled_from(MEASURES), amount=AMOUNTS, blocks=st.booleans())
    def add_limit(self, measure: tuple[str, str], amount: str, blocks: bool) -> None:
        taken = {(each.metric, each.period, each.blocks) for each in self.books.limits.values()}
        if (*measure, blocks) not in taken:
            self._add_limit(*measure, amount, blocks=blocks)

    def _add_limit(self, metric: str, period: str, amount: str, *, blocks: bool) -> None:
        made = Limit.objects.create(
            subject="key", key=self.key, metric=metric, period=period, amount=Decimal(amount),
            action="block" if blocks else "alert",
        )  # fmt: skip
        self.books.limits[made.pk] = model.Limit(metric, period, Decimal(amount), blocks)

    @precondition(lambda self: self.books.limits)
    @rule(data=st.data(), amount=AMOUNTS, enabled=st.booleans())
    def change_limit(self, data: st.DataObject, amount: str, enabled: bool) -> None:
        id = data.draw(st.sampled_from(sorted(self.books.limits)))
        Limit.objects.filter(pk=id).update(amount=Decimal(amount), enabled=enabled)
        self.books.limits[id].amount, self.books.limits[id].enabled = Decimal(amount), enabled

    @precondition(lambda self: self.books.limits)
    @rule(data=st.data())
    def delete_limit(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(sorted(self.books.limits)))
        Limit.objects.get(pk=id).delete()
        self.books.delete_limit(id)

    # --- batches ------------------------------------------------------------------------------------------

    @rule(
        data=st.data(), bounds=st.lists(st.tuples(BOUNDS, st.integers(0, 3000), st.booleans()), max_size=4),
        settled=st.integers(0, 4),
    )  # fmt: skip
    def batch(self, data: st.DataObject, bounds: list[tuple[str | None, int, bool]], settled: int) -> None:
        holds = [
            make_hold(
                key=self.key, sheet=self.sheet, usd=usd, tokens=tokens, dispatched=dispatched, at=self.now,
                limits=self._some_limits(data),
            )
            for usd, tokens, dispatched in bounds
        ]  # fmt: skip
        open_ = list(self.books.holds)
        ended = data.draw(st.lists(st.sampled_from(open_), max_size=settled, unique=True)) if open_ else []
        settles = [self._ending(data, self.books.holds[id].row) for id in ended]
        if holds or settles:
            self._send(data.draw(st.sampled_from(self.senders)), settles=settles, holds=holds)

    def _some_limits(self, data: st.DataObject) -> list[int]:
        there = sorted(self.books.limits)
        return sorted(data.draw(st.sets(st.sampled_from(there)))) if there else []

    def _ending(self, data: st.DataObject, hold: HoldRow) -> SettleRow:
        how = data.draw(st.sampled_from(["ok", "ok", "cancelled", "failed", "abandoned", "abandoned"]))
        if how == "abandoned":
            return unknown(hold)
        if how == "failed":
            return make_settle(
                hold, outcome=how, cost_usd=Decimal(0), cost_source="nothing_used", usage_source="none", meters={},
                input_tokens=0, output_tokens=0,
            )  # fmt: skip
        input, output = data.draw(st.integers(1, 4000)), data.draw(st.integers(1, 4000))
        return make_settle(
            hold, outcome=how, cost_usd=Decimal(3 * input + 6 * output) / 100_000, input_tokens=input,
            output_tokens=output, meters={"input": input, "output": output},
        )  # fmt: skip

    @precondition(lambda self: any(each.state == "live" for each in self.books.writers.values()))
    @rule(data=st.data(), cents=st.integers(-50, 300), settles=st.booleans())
    def adjust_what_was_swept_and_settle_it_late(self, data: st.DataObject, cents: int, settles: bool) -> None:
        """A reconciliation may say what a swept call cost before the call itself does."""
        living = next(each for each in self.senders if self.books.writers[each.id].state == "live")
        hold = make_hold(key=self.key, sheet=self.sheet, at=self.now)
        self._send(living, settles=[], holds=[hold])
        self._send(living, settles=[unknown(hold)], holds=[])
        self._adjust(hold.id, delta=Decimal(cents) / 100, settles=settles)
        self._settle_again(data, hold.id, times=1)

    @precondition(lambda self: self.books.calls)
    @rule(data=st.data(), times=st.integers(1, 2))
    def settle_what_has_ended(self, data: st.DataObject, times: int) -> None:
        """Twice is once; what was swept is settled late; two late settles in a batch are refused as a whole."""
        self._settle_again(data, data.draw(st.sampled_from(list(self.books.calls))), times=times)

    def _settle_again(self, data: st.DataObject, id: UUID, *, times: int) -> None:
        hold = HoldRow(**(dict.fromkeys(HoldRow.__struct_fields__) | {"id": id}))  # type: ignore[arg-type]
        rows = [self._ending(data, hold)] * times
        self._send(data.draw(st.sampled_from(self.senders)), settles=rows, holds=[])

    @rule(data=st.data())
    def settle_a_stranger(self, data: st.DataObject) -> None:
        stranger = make_hold(key=self.key, sheet=self.sheet, at=self.now)
        self._send(data.draw(st.sampled_from(self.senders)), settles=[make_settle(stranger)], holds=[])

    @precondition(lambda self: self.books.holds)
    @rule(data=st.data(), again=st.booleans())
    def hold_or_settle_twice_in_one_batch(self, data: st.DataObject, again: bool) -> None:
        row = self.books.holds[data.draw(st.sampled_from(list(self.books.holds)))].row
        sender = data.draw(st.sampled_from(self.senders))
        if again:
            self._send(sender, settles=[], holds=[row])
        else:
            self._send(sender, settles=[make_settle(row)] * 2, holds=[])

    @rule(data=st.data(), off_by=st.sampled_from([-1, 1, 2]))
    def skip_a_batch(self, data: st.DataObject, off_by: int) -> None:
        sender = data.draw(st.sampled_from(self.senders))
        hold = make_hold(key=self.key, sheet=self.sheet, at=self.now)
        self._send(sender, settles=[], holds=[hold], seq=sender.seq + 1 + off_by)

    @precondition(lambda self: self.last)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """The newest batch again, also by a writer that was fenced meanwhile: the same answer, and nothing moves."""
        sender = data.draw(st.sampled_from([each for each in self.senders if each.id in self.last]))
        settles, holds, answer = self.last[sender.id]
        assert sender.write(settles=settles, holds=holds, seq=sender.seq) == answer

    @precondition(lambda self: any(each.state == "live" for each in self.books.writers.values()))
    @rule()
    def sweep(self) -> None:
        """As the sweeper does: end what dead writers left, through one that lives."""
        living = next(each for each in self.senders if self.books.writers[each.id].state == "live")
        left = [each.row for each in self.books.holds.values() if self.books.writers[each.writer].state != "live"]
        settles = [
            unknown(row) if row.dispatched else make_settle(
                row, outcome="abandoned", cost_usd=Decimal(0), cost_source="nothing_used", usage_source="none",
                meters={}, input_tokens=0, output_tokens=0,
            )
            for row in left
        ]  # fmt: skip
        if settles:
            self._send(living, settles=settles, holds=[])

    def _send(
        self, sender: Sender, *, settles: list[SettleRow], holds: list[HoldRow], seq: int | None = None
    ) -> None:
        """Send the batch and let the model judge the answer, or the refusal."""
        wanted: model.Answer | str
        try:
            wanted = self.books.write(
                writer=sender.id, seq=sender.seq + 1 if seq is None else seq, settles=settles, holds=holds,
                now=self.now, lease=LEASE,
            )  # fmt: skip
        except model.Refused as refusal:
            wanted = refusal.code
        if isinstance(wanted, str):
            assert code_of(lambda: sender.write(settles=settles, holds=holds, seq=seq)) == wanted
            return
        answer = sender.write(settles=settles, holds=holds)
        self.last[sender.id] = (settles, holds, answer)
        self._judge(answer or {"refused": {}, "room": {}}, wanted)

    def _judge(self, answer: dict[str, Any], wanted: model.Answer) -> None:
        assert {int(ordinal) for ordinal in answer["refused"]} == set(wanted.refused)
        for ordinal, why in answer["refused"].items():
            assert why["limit"] in wanted.refused[int(ordinal)]
        assert {int(limit): Decimal(str(room)) for limit, room in answer["room"].items()} == wanted.room
        for place in wanted.admitted:
            assert self.books.room(place, self.now) >= 0, "admitted beyond the limit"

    @precondition(lambda self: self.books.calls)
    @rule(data=st.data(), cents=st.integers(-300, 300), settles=st.booleans())
    def adjust(self, data: st.DataObject, cents: int, settles: bool) -> None:
        self._adjust(data.draw(st.sampled_from(list(self.books.calls))), delta=Decimal(cents) / 100, settles=settles)

    def _adjust(self, id: UUID, *, delta: Decimal, settles: bool) -> None:
        call = self.books.calls[id]
        settles = settles and not call.is_settled
        usd = max(delta, -call.counted_usd)
        Adjustment.objects.create(
            call_id=id, delta_usd=delta, counted_delta_usd=usd, settles_unknown=settles, reason="manual"
        )
        self.books.adjust(id, delta=delta, usd=usd, settles=settles)

    # --- what must hold after every step ------------------------------------------------------------------

    @invariant()
    def windows_are_as_the_model_says(self) -> None:
        rows = stored.LimitWindow.objects.values_list("limit_id", "starts_at", "used", "held")
        found = {(limit, at): (used, held) for limit, at, used, held in rows}
        assert found == {place: (window.used, window.held) for place, window in self.books.windows.items()}
        for place, (_, held) in found.items():
            mine = [each.row for each in self.books.holds.values() if place in each.places]
            metric = self.books.limits[place[0]].metric
            assert held == sum(model.need(metric, row.usd or Decimal(0), row.tokens) for row in mine)

    @invariant()
    def every_call_is_there_once_and_every_hold_is_open(self) -> None:
        assert set(stored.Hold.objects.values_list("id", flat=True)) == set(self.books.holds)
        rows = stored.Call.objects.values_list("id", "outcome", "cost_usd")
        assert {id: (outcome, cost) for id, outcome, cost in rows} == {
            id: (call.outcome, call.cost) for id, call in self.books.calls.items()
        }

    @invariant()
    def rollups_are_the_sums_of_the_calls(self) -> None:
        found: dict[Any, model.Sums] = {}
        for row in stored.DailySpend.objects.all():
            sums = found.setdefault((row.day, row.outcome), model.Sums())
            sums.calls += row.calls
            sums.unpriced += row.unpriced_calls
            sums.tokens += row.input_tokens + row.output_tokens
            sums.cost += row.cost_usd
            sums.adjusted += row.adjustments_usd
        assert found == dict(self.books.rollups)

    @invariant()
    def writers_stand_where_the_model_says(self) -> None:
        rows = stored.Writer.objects.values_list("id", "state", "seq", "batches", "lease_until")
        assert {row[0]: row[1:] for row in rows} == {
            id: (each.state, each.seq, each.batches, each.lease_until) for id, each in self.books.writers.items()
        }


def code_of(write: Callable[[], object]) -> str:
    """The SQLSTATE that the database refuses with; '' when it does not."""
    try:
        with transaction.atomic():
            write()
    except Error as error:
        return str(getattr(error.__cause__, "sqlstate", "") or "")
    return ""


@pytest.mark.django_db
def test_the_books_are_what_the_model_says_after_every_step() -> None:
    BooksMachine.clocked = replace_clock()
    assert {"ledger_write", "ledger_register_writer", "ledger_fence", "settle_batch"} <= BooksMachine.clocked
    profile = settings(
        deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=not IS_LONG,
        max_examples=EXAMPLES, stateful_step_count=STEPS,
    )  # fmt: skip
    run_state_machine_as_test(BooksMachine, settings=profile)

