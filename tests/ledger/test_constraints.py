"""What is final stays as it is, whoever asks: also for a session that switches triggers off by its replication role.

A bad row for each single constraint and trigger is in test_every_constraint.py.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import DatabaseError

from ledger.models import PriceSheet
from tests import factories
from tests.ledger.good_rows import make_adjustment, settled_call

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
