"""Rules the database states by itself: each bad row is written past Python, by SQL, and refused by name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Model as DjangoModel
from django.db.utils import DatabaseError

from ledger.ids import call_id, new_request_id
from ledger.models import Adjustment, Call, Hold, PriceSheet
from tests import factories
from tests.ledger.rows import Pen, make_hold, make_settle

pytestmark = pytest.mark.django_db


def execute(query: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query, list(values) or None)


def refusal(query: str, *values: Any) -> tuple[str | None, str]:
    """(constraint name, message) of the error that `query` must meet."""
    with pytest.raises(DatabaseError) as caught, transaction.atomic():
        execute(query, *values)
    cause: Any = caught.value.__cause__
    return cause.diag.constraint_name, str(cause)


def copy_of(row: DjangoModel, changes: dict[str, str]) -> str:
    """An INSERT of the same row but for `changes`: column -> SQL."""
    table = row._meta.db_table
    columns = [str(field.column) for field in row._meta.local_fields]
    if "id" not in changes:
        columns.remove("id")
    values = [changes.get(column, f'"{column}"') for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    return f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} FROM {table} WHERE id = '{row.pk}'"


def make_held() -> Hold:
    key, model = factories.make_key(), factories.make_model()
    hold = make_hold(key=key, model=model)
    Pen().write(holds=[hold])
    return Hold.objects.get()


def make_adjustment() -> Adjustment:
    return Adjustment.objects.create(
        call=settled_call(), delta_usd=1, counted_delta_usd=1, reason="manual", reference="invoice-1"
    )


def settled_call() -> Call:
    hold, pen = make_hold(key=factories.make_key(), model=factories.make_model()), Pen()
    pen.write(holds=[hold])
    pen.write(settles=[make_settle(hold)])
    return Call.objects.get()


def other_ids(attempt: int = 1) -> dict[str, str]:
    request_id = new_request_id()
    identifier = call_id(request_id=request_id, attempt=attempt)
    return {"id": f"'{identifier}'", "request_id": f"'{request_id}'", "attempt": str(attempt)}


BAD_CALLS = {
    "call_outcome_known": {"outcome": "'fine'"},
    "call_usage_source_known": {"usage_source": "'guessed'"},
    "call_cost_source_known": {"cost_source": "'magic'"},
    "call_cost_not_negative": {"cost_usd": "-0.000000000001"},
    "call_unknown_cost_has_reason": {"cost_usd": "NULL"},
    "call_id_is_request_and_attempt": {"attempt": "2"},
}


@pytest.mark.parametrize(("name", "changes"), BAD_CALLS.items(), ids=BAD_CALLS)
def test_a_bad_call_is_refused(name: str, changes: dict[str, str]) -> None:
    assert refusal(copy_of(factories.make_call(), {**other_ids(), **changes}))[0] == name


@pytest.mark.parametrize("changes", [
    {"cost_usd": "NULL", "cost_source": "'unknown'"}, {"unpriced_reason": "'why'"}, {"cost_source": "'unknown'"},
])  # fmt: skip
def test_a_cost_is_known_or_has_a_reason_never_both(changes: dict[str, str]) -> None:
    assert refusal(copy_of(factories.make_call(), {**other_ids(), **changes}))[0] == "call_unknown_cost_has_reason"


@pytest.mark.parametrize("column", [
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "duration_ms",
    "first_token_ms", "counted_usd", "counted_tokens",
])  # fmt: skip
def test_no_number_of_a_call_is_negative(column: str) -> None:
    changes = {**other_ids(), column: "-1"}
    assert refusal(copy_of(factories.make_call(), changes))[0] == "call_numbers_not_negative"


def test_a_call_cannot_be_inserted_twice() -> None:
    call = factories.make_call()
    same = {"id": f"'{call.id}'"}
    assert "duplicate key" in refusal(copy_of(call, same))[1]


def test_another_id_cannot_claim_the_same_request_and_attempt() -> None:
    call = factories.make_call()
    stolen = {**other_ids(), "request_id": f"'{call.request_id}'"}
    assert refusal(copy_of(call, stolen))[0] == "call_id_is_request_and_attempt"


BAD_HOLDS = {
    "hold_bounds_not_negative": {"bound_usd": "-1"},
    "hold_id_is_request_and_attempt": {"attempt": "9"},
}


@pytest.mark.parametrize(("name", "changes"), BAD_HOLDS.items(), ids=BAD_HOLDS)
def test_a_bad_hold_is_refused(name: str, changes: dict[str, str]) -> None:
    assert refusal(copy_of(make_held(), {**other_ids(), **changes}))[0] == name


# name -> (the good row, what is wrong with its copy)
BAD_ROWS: dict[str, tuple[Callable[[], DjangoModel], dict[str, str]]] = {
    "limit_amount_not_negative": (factories.make_limit, {"amount": "-1"}),
    "limit_metric_known": (factories.make_limit, {"metric": "'euro'"}),
    "limit_period_known": (factories.make_limit, {"period": "'decade'"}),
    "limit_action_known": (factories.make_limit, {"action": "'shout'"}),
    "limit_mode_known": (factories.make_limit, {"mode": "'lax'"}),
    "limit_names_its_subject": (factories.make_limit, {"subject": "'key'"}),
    "limit_concurrency_has_no_period": (factories.make_limit, {"metric": "'concurrency'"}),
    "limit_once": (factories.make_limit, {}),
    "adjustment_reason_known": (make_adjustment, {"reason": "'mood'"}),
    "adjustment_reference_once": (make_adjustment, {}),
    "apikey_secret_hashed": (factories.make_key, {"public_id": "'other'", "secret_sha256": "'secret'"}),
    "apikey_scopes_known": (factories.make_key, {"public_id": "'other'", "scopes": "'{root}'"}),
    "model_upstream_name_once": (factories.make_model, {"name": "'other'"}),
    "model_output_tokens_positive": (
        factories.make_model, {"name": "'o'", "upstream_name": "'o'", "max_output_tokens": "0"}
    ),
    "model_default_output_within_max": (
        factories.make_model,
        {"name": "'o'", "upstream_name": "'o'", "max_output_tokens": "5", "default_max_output_tokens": "6"},
    ),
    "provider_timeouts_positive": (factories.make_provider, {"name": "'o'", "timeout_s": "0"}),
    "provider_disconnect_policy_known": (factories.make_provider, {"name": "'o'", "disconnect_policy": "'hope'"}),
    "provider_credential_ref_form": (factories.make_provider, {"name": "'o'", "credential_ref": "'sk-secret'"}),
    "pricesheet_book_known": (lambda: factories.make_sheet(published=False), {"book": "'napkin'"}),
    "pricesheet_source_known": (lambda: factories.make_sheet(published=False), {"source": "'hearsay'"}),
    "pricesheet_begins_as_draft": (factories.make_sheet, {"valid_from": "now()"}),
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), BAD_ROWS.items(), ids=BAD_ROWS)
def test_a_bad_row_is_refused_by_name(name: str, case: tuple[Callable[[], DjangoModel], dict[str, str]]) -> None:
    make, changes = case
    assert refusal(copy_of(make(), changes))[0] == name


BAD_RATES = {
    "rate_amount_not_negative": {"meter": "'requests'", "amount_usd": "-1"},
    "rate_zero_has_reason": {"meter": "'requests'", "amount_usd": "0"},
    "rate_per_power_of_ten": {"meter": "'requests'", "per": "7"},
    "rate_weekdays_mask": {"meter": "'requests'", "weekdays": "128"},
    "rate_window_whole": {"meter": "'requests'", "window_start": "'08:00'"},
    "rate_quantities_not_negative": {"meter": "'requests'", "minimum": "-1"},
    "rate_conditions_once": {},
}


@pytest.mark.parametrize(("name", "changes"), BAD_RATES.items(), ids=BAD_RATES)
def test_a_bad_rate_is_refused(name: str, changes: dict[str, str]) -> None:
    rate = factories.make_sheet(published=False).rates.first()
    assert rate is not None
    assert refusal(copy_of(rate, changes))[0] == name


def test_windows_never_go_below_zero() -> None:
    limit = factories.make_limit()
    insert = "INSERT INTO ledger_limitwindow (limit_id, starts_at, used, held) VALUES (%s, now(), %s, %s)"
    assert refusal(insert, limit.pk, -1, 0)[0] == "limitwindow_used_not_negative"
    assert refusal(insert, limit.pk, 0, -1)[0] == "limitwindow_held_not_negative"
    execute(insert, limit.pk, 0, 0)
    assert refusal(insert, limit.pk, 0, 0)[0] == "limitwindow_once"


def test_only_one_late_settlement_a_call() -> None:
    adjustment = make_adjustment()
    late = {"reason": "'late_settlement'", "reference": "''"}
    execute(copy_of(adjustment, late))
    assert refusal(copy_of(adjustment, late))[0] == "adjustment_one_late_settlement"


def test_an_adjustment_needs_its_call() -> None:
    nobody = {"call_id": other_ids()["id"], "reference": "''"}
    assert refusal(copy_of(make_adjustment(), nobody))[0] == "adjustment_of_a_call"


def test_two_live_writers_cannot_share_a_slot() -> None:
    Pen()
    Pen()
    assert refusal("UPDATE ledger_writer SET slot = 1")[0] == "writer_slot_of_one_live"
    assert refusal("UPDATE ledger_writer SET state = 'asleep'")[0] == "writer_state_known"


@pytest.mark.parametrize("change", ["metric = 'tokens'", "period = 'week'", "subject = 'everyone', key_id = NULL"])
def test_what_a_limit_measures_is_fixed(change: str) -> None:
    factories.make_limit(key=factories.make_key())
    assert refusal(f"UPDATE ledger_limit SET {change}")[0] == "limit_measure_fixed"


def test_amount_and_switches_of_a_limit_may_change() -> None:
    limit = factories.make_limit()
    execute("UPDATE ledger_limit SET amount = 1, enabled = false, action = 'alert'")
    limit.refresh_from_db()
    assert (limit.amount, limit.enabled, limit.action) == (Decimal(1), False, "alert")


# --- append-only ----------------------------------------------------------------------------------------------

def act_as(role: str) -> None:
    """Rows written before are checked first: PostgreSQL truncates no table whose foreign keys wait to be checked."""
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    execute(f"SET LOCAL session_replication_role = {role}")


FROZEN = ["ledger_call", "ledger_adjustment", "ledger_batch"]


def partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ledger_call'::regclass")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("statement", [
    "UPDATE {table} SET id = id", "DELETE FROM {table}", "TRUNCATE {table}", "TRUNCATE {table} CASCADE",
])  # fmt: skip
@pytest.mark.parametrize("table", FROZEN)
def test_the_ledger_is_append_only(table: str, statement: str, role: str) -> None:
    make_adjustment()
    act_as(role)
    assert "append-only" in refusal(statement.format(table=table))[1]
    execute("SET LOCAL session_replication_role = origin")


@pytest.mark.parametrize("role", ["origin", "replica"])
def test_every_partition_is_append_only(role: str) -> None:
    call = settled_call()
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM ledger_call")
        (filled,) = cursor.fetchone()
    assert filled in partitions()
    assert len(partitions()) >= 4
    act_as(role)
    assert "append-only" in refusal(f"UPDATE {filled} SET cost_usd = 0 WHERE id = %s", call.id)[1]
    assert "append-only" in refusal(f"DELETE FROM {filled}")[1]
    for partition in partitions():
        assert "append-only" in refusal(f"TRUNCATE {partition}")[1], partition
    execute("SET LOCAL session_replication_role = origin")


def test_a_new_partition_is_protected_too() -> None:
    execute("SELECT ledger_make_partitions(now() + interval '5 years', 1)")
    assert all("append-only" in refusal(f"TRUNCATE {partition}")[1] for partition in partitions())


def test_every_unique_key_of_the_calls_holds_the_partition_key() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT i.indexrelid::regclass::text FROM pg_index i WHERE i.indrelid = 'ledger_call'::regclass "
            "AND i.indisunique AND NOT "
            "(SELECT attnum FROM pg_attribute WHERE attrelid = i.indrelid AND attname = 'id') = ANY (i.indkey)"
        )
        assert cursor.fetchall() == []


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("statement", [
    "UPDATE ledger_pricesheet SET valid_from = now()", "DELETE FROM ledger_pricesheet",
    "UPDATE ledger_rate SET per = 10",
    "DELETE FROM ledger_rate", "TRUNCATE ledger_rate", "TRUNCATE ledger_pricesheet CASCADE",
])  # fmt: skip
def test_a_published_price_is_frozen(statement: str, role: str) -> None:
    factories.make_sheet()
    act_as(role)
    assert refusal(statement)[0] in (
        "pricesheet_published_is_frozen", "rate_of_published_is_frozen", "prices_never_truncated",
    )  # fmt: skip
    execute("SET LOCAL session_replication_role = origin")
    assert PriceSheet.objects.filter(status="published").count() == 1


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("statement", ["DELETE FROM ledger_apikey", "TRUNCATE ledger_apikey CASCADE"])
def test_keys_are_never_deleted(statement: str, role: str) -> None:
    factories.make_key()
    act_as(role)
    assert "append-only" in (message := refusal(statement)[1]) or "never deleted" in message
    execute("SET LOCAL session_replication_role = origin")


@pytest.mark.parametrize("column", ["user_id", "key_id", "model_id", "provider_id"])
def test_who_has_calls_cannot_be_deleted(column: str) -> None:
    settled_call()
    table = {"user_id": "auth_user", "key_id": "ledger_apikey", "model_id": "providers_model"}.get(
        column, "providers_provider"
    )
    # The foreign keys are checked at once, not when the transaction would end.
    execute("SET CONSTRAINTS ALL IMMEDIATE")
    refusal(f"DELETE FROM {table} WHERE id IN (SELECT {column} FROM ledger_dailyspend)")
