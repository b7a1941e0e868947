"""One kind of damage at a time, written past every guard: verify names it, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from ledger import ids, verify
from ledger.models import Adjustment, Call, DailySpend, Limit, LimitWindow
from tests import factories
from tests.ledger.written import Sender, make_hold, make_priced, make_settle, unknown

pytestmark = pytest.mark.django_db

COUNTED = ("calls", "unpriced_calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
           "reasoning_tokens", "cost_usd", "adjustments_usd")  # fmt: skip
# Every column a batch's hash covers, with another value.
HASHED = {
    "tags": "'{\"a\": 1}'", "surface": "'other'", "requested_name": "'other'", "served_name": "'other'",
    "upstream_request_id": "'other'", "http_status": "201", "error_code": "'other'", "streamed": "true",
    "started_at": "started_at + interval '1 microsecond'", "finished_at": "finished_at + interval '1 microsecond'",
    "first_token_ms": "7", "duration_ms": "duration_ms + 1", "raw_usage": "'{\"a\": 1}'", "usage_flags": "'{odd}'",
    "service_tier": "'default'", "speed": "'standard'", "region": "'eu'", "variant": "'hd'", "stated_cost_usd": "1",
    "usage_source": "'partial'", "price_sheet_id": "NULL", "meters": "'{\"input\": 1000}'",
    "cost_usd": "cost_usd + 0.000000000001", "counted_usd": "counted_usd + 1", "counted_tokens": "counted_tokens + 1",
    "input_tokens": "input_tokens + 1", "cache_read_tokens": "1", "cache_write_tokens": "1", "reasoning_tokens": "1",
    "output_tokens": "output_tokens + 1", "user_id": "user_id + 1", "key_id": "key_id + 1", "team_id": "NULL",
    "model_id": "model_id + 1", "provider_id": "provider_id + 1", "outcome": "'failed'", "windows": "'{}'",
    "position": "position + 5",
}  # fmt: skip
# Of those, what also makes another check speak.
ALSO = {
    "price_sheet_id": {"4 costs"}, "meters": {"4 costs"}, "cost_usd": {"1 rollups", "4 costs"},
    "counted_usd": {"1 windows"}, "counted_tokens": {"1 windows"}, "windows": {"1 windows"},
}  # fmt: skip
for column in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "output_tokens",
               "user_id", "key_id", "team_id", "model_id", "provider_id", "outcome"):  # fmt: skip
    ALSO[column] = {"1 rollups"}


@pytest.fixture
def books() -> Sender:
    """Two batches of calls under limits, one unknown and settled late, one adjusted, one call in flight."""
    key, sheet = make_priced()
    limits = [
        factories.make_limit(key=key, metric=metric, period=period, amount="1000000").pk
        for metric, period in (("usd", "day"), ("tokens", "month"), ("requests", "total"), ("concurrency", "total"))
    ]
    sender = Sender()
    holds = [make_hold(key=key, sheet=sheet, limits=limits) for _ in range(4)]
    sender.write(holds=holds)
    sender.write(settles=[make_settle(holds[0]), unknown(holds[1])])
    sender.write(settles=[make_settle(holds[1]), make_settle(holds[2], outcome="cancelled")])
    call = Call.objects.get(pk=holds[0].id)
    Adjustment.objects.create(
        call=call, delta_usd=Decimal("-0.01"), counted_delta_usd=Decimal("-0.01"), reason="manual", note="a test's"
    )
    assert verify.differences() == []
    return sender


def write(sql: str, *, table: str) -> None:
    """As a super-user who means harm: triggers off, damage, triggers back as they were."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal", (table,)
        )
        triggers = cursor.fetchall()
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(sql)
        for name, state in triggers:
            how = {"A": "ENABLE ALWAYS", "O": "ENABLE", "D": "DISABLE", "R": "ENABLE REPLICA"}[state]
            cursor.execute(f"ALTER TABLE {table} {how} TRIGGER {name}")


def checks() -> set[str]:
    return {difference.check for difference in verify.differences()}


def lines(check: str) -> list[str]:
    return [difference.line for difference in verify.differences() if difference.check == check]


def test_right_books_have_no_difference(books: Sender) -> None:
    assert Call.objects.count() == 3
    assert verify.differences() == []


@pytest.mark.parametrize("column", COUNTED)
def test_it_sees_a_rollup_that_is_off_by_the_smallest_amount(books: Sender, column: str) -> None:
    step = "0.000000000001" if column.endswith("usd") else "1"
    row = DailySpend.objects.filter(outcome="ok", slot__gt=0).get()
    write(f"UPDATE ledger_dailyspend SET {column} = {column} + {step} WHERE id = {row.pk}", table="ledger_dailyspend")
    [found] = verify.differences()
    assert found.check == "1 rollups"
    assert f"rollup {row.day} user {row.user_id} key {row.key_id} model {row.model_id} ok: kept (" in found.line


def test_it_sees_a_rollup_without_calls_and_calls_without_a_rollup(books: Sender) -> None:
    row = DailySpend.objects.filter(outcome="cancelled").get()
    write(f"UPDATE ledger_dailyspend SET day = day - 400 WHERE id = {row.pk}", table="ledger_dailyspend")
    kept, missing = sorted(lines("1 rollups"))
    assert f"{row.day - timedelta(days=400)}" in kept
    assert kept.endswith("calls say (,,,,,,,,)")
    assert "kept (,,,,,,,,)" in missing


@pytest.mark.parametrize("metric", ["usd", "tokens", "requests", "concurrency"])
@pytest.mark.parametrize(("column", "check"), [("used", "1 windows"), ("held", "2 holds")])
def test_it_sees_a_window_that_is_off(books: Sender, metric: str, column: str, check: str) -> None:
    window = LimitWindow.objects.get(limit__metric=metric)
    write(f"UPDATE ledger_limitwindow SET {column} = {column} + 0.5 WHERE id = {window.pk}", table="ledger_limitwindow")
    [found] = verify.differences()
    assert found.check == check
    assert found.line.startswith(f"limit {window.limit_id} window {window.pk}")


def test_it_sees_a_hold_that_vanished_and_one_that_outlived_its_writer(books: Sender) -> None:
    write("UPDATE ledger_writer SET lease_until = now() - interval '2 minutes'", table="ledger_writer")
    [left] = verify.differences()
    assert left.check == "2 holds"
    assert left.line.endswith("was never closed: run manage.py sweep")
    write("DELETE FROM ledger_hold", table="ledger_hold")
    assert {check for check, _ in verify.differences()} == {"2 holds"}
    assert len(verify.differences()) == Limit.objects.count()


@pytest.mark.parametrize("column", HASHED)
def test_it_sees_a_changed_column_of_a_call(books: Sender, column: str) -> None:
    call = Call.objects.filter(outcome="ok").get()
    write(f"UPDATE ledger_call SET {column} = {HASHED[column]} WHERE id = '{call.pk}'", table="ledger_call")
    assert lines("3 hashes") == [f"batch {call.batch_seq} of writer {books.id}: its hash is not that of its calls"]
    assert checks() == {"3 hashes"} | ALSO.get(column, set())


def test_every_column_of_a_call_is_hashed_or_part_of_where_it_stands() -> None:
    columns = {field.column for field in Call._meta.concrete_fields}
    placed = {"id", "request_id", "attempt", "writer_id", "batch_seq"}
    unpriced = {"unpriced_reason", "cost_source"}  # tied to the cost by a constraint
    assert columns == set(HASHED) | placed | unpriced


def test_it_sees_a_call_that_was_removed(books: Sender) -> None:
    call = Call.objects.filter(outcome="cancelled").get()
    write(f"DELETE FROM ledger_call WHERE id = '{call.pk}'", table="ledger_call")
    assert lines("3 hashes") == [f"batch 2 of writer {books.id}: 0 calls found, 1 recorded"]
    assert checks() == {"1 rollups", "1 windows", "3 hashes"}


def test_it_sees_a_call_that_was_slipped_in(books: Sender) -> None:
    call = Call.objects.filter(outcome="ok").get()
    call.pk = ids.call_id(request_id=(request_id := ids.new_request_id()), attempt=1)
    call.request_id, call.position = request_id, 9
    call.save(force_insert=True)
    assert lines("3 hashes") == [f"batch 1 of writer {books.id}: 3 calls found, 2 recorded"]
    assert checks() == {"1 rollups", "1 windows", "3 hashes"}


def test_it_sees_a_batch_that_was_cut_out_and_one_that_was_hashed_anew(books: Sender) -> None:
    write("UPDATE ledger_batch SET hash = sha256(hash) WHERE seq = 1", table="ledger_batch")
    assert lines("3 chain") == [f"batch 2 of writer {books.id} does not follow the batch before it"]
    assert lines("3 hashes") == [f"batch 1 of writer {books.id}: its hash is not that of its calls"]
    write("DELETE FROM ledger_batch WHERE seq = 2", table="ledger_batch")
    assert lines("3 chain") == [f"batch 2 of writer {books.id} is not the last of its writer's row"]


def test_it_sees_a_head_that_is_not_the_last_batch(books: Sender) -> None:
    write("UPDATE ledger_writer SET head = sha256(head)", table="ledger_writer")
    [found] = verify.differences()
    assert found == ("3 chain", f"batch 2 of writer {books.id} is not the last of its writer's row")


def test_it_sees_an_adjustment_that_was_changed_or_removed(books: Sender) -> None:
    write("UPDATE ledger_adjustment SET delta_usd = delta_usd - 1 WHERE reason = 'manual'", table="ledger_adjustment")
    assert checks() == {"1 rollups"}
    write("DELETE FROM ledger_adjustment WHERE reason = 'manual'", table="ledger_adjustment")
    assert checks() == {"1 rollups", "1 windows"}


def test_a_part_of_the_books_is_checked_without_its_neighbours(books: Sender) -> None:
    """A window that began before the part counts calls that the part does not hold."""
    tomorrow = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    key, sheet = make_priced()
    limit = factories.make_limit(key=key, period="month")
    hold = make_hold(key=key, sheet=sheet, limits=[limit.pk], at=tomorrow + timedelta(hours=1))
    books.write(holds=[hold])
    books.write(settles=[make_settle(hold)])
    this_month = tomorrow.replace(day=1) if tomorrow.day > 1 else (tomorrow - timedelta(days=1)).replace(day=1)
    for scope in (verify.since(tomorrow), verify.month(this_month)):
        assert verify.differences(scope) == []
    row = DailySpend.objects.get(day=tomorrow.date())
    write(f"UPDATE ledger_dailyspend SET calls = calls + 1 WHERE id = {row.pk}", table="ledger_dailyspend")
    assert [found.check for found in verify.differences(verify.since(tomorrow))] == ["1 rollups"]
    assert verify.differences(verify.since(tomorrow + timedelta(days=1))) == []
