"""What keeps the books, switched off piece by piece: verify names the piece."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection

from ledger import verify
from ledger.verify import declared, installed
from tests import factories
from tests.ids import call_id

pytestmark = pytest.mark.django_db
TABLES = ("ledger_call", "ledger_adjustment", "ledger_batch", "ledger_anchor", "ledger_call_default")
# The append-only triggers are looked at table by table.
NAMED = [each for each in installed.triggers() if each.function != "ledger_refuse_change"]


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(sql)


def found() -> list[str]:
    differences = verify.differences()
    assert {check for check, _ in differences} <= {"5 guards"}
    return [line for _, line in differences]


def partition() -> str:
    return f"ledger_call_{datetime.now(UTC):%Y_%m}"


def test_a_migrated_database_has_all_its_guards() -> None:
    assert found() == []


@pytest.mark.parametrize("trigger", ["append_only", "append_only_truncate"])
@pytest.mark.parametrize("table", [*TABLES, "this month"])
@pytest.mark.parametrize("how", ["DISABLE TRIGGER {}", "ENABLE TRIGGER {}", "ENABLE REPLICA TRIGGER {}"])
def test_it_sees_a_table_that_may_be_changed(table: str, trigger: str, how: str) -> None:
    name = partition() if table == "this month" else table
    run(f"ALTER TABLE ONLY {name} {how.format(trigger)}")
    assert f"{name} is not append-only: its triggers are missing or not ENABLE ALWAYS" in found()


def test_it_sees_a_trigger_that_refuses_only_some_changes() -> None:
    run("DROP TRIGGER append_only ON ledger_batch")
    run(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger_batch FOR EACH ROW WHEN (OLD.seq > 5) "
        "EXECUTE FUNCTION ledger_refuse_change(); ALTER TABLE ledger_batch ENABLE ALWAYS TRIGGER append_only"
    )
    assert found() == ["ledger_batch is not append-only: its triggers are missing or not ENABLE ALWAYS"]


@pytest.mark.parametrize("trigger", NAMED, ids=lambda each: f"{each.name} of {each.table}")
def test_it_sees_each_trigger_that_is_gone_or_off_or_another(trigger: installed.Trigger) -> None:
    run(f"ALTER TABLE {trigger.table} DISABLE TRIGGER {trigger.name}")
    if trigger.table.startswith("ledger_"):
        assert f"trigger {trigger.name} of {trigger.table} is disabled" in found()
    run(f"DROP TRIGGER {trigger.name} ON {trigger.table}")
    assert found() == [f"{trigger.table} lacks its trigger {trigger.name}"]
    run(
        f"CREATE TRIGGER {trigger.name} AFTER TRUNCATE ON {trigger.table} EXECUTE FUNCTION {trigger.function}();"
        f"ALTER TABLE {trigger.table} ENABLE ALWAYS TRIGGER {trigger.name}"
    )
    assert found() == [f"trigger {trigger.name} of {trigger.table} is not the one that was installed"]


def test_it_sees_a_trigger_that_a_replication_role_switches_off() -> None:
    run("ALTER TABLE ledger_adjustment ENABLE TRIGGER adjustment_applies")
    assert found() == ["trigger adjustment_applies of ledger_adjustment is not ENABLE ALWAYS"]


@pytest.mark.parametrize("name", sorted(installed.functions()))
def test_it_sees_each_function_whose_text_was_changed(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_functiondef(oid), prosrc FROM pg_proc WHERE proname = %s AND pronamespace = "
            "current_schema()::regnamespace",
            (name,),
        )
        for definition, body in cursor.fetchall():
            cursor.execute(definition.replace(body, f"{body} -- harmless"))
    [line] = found()
    assert line.startswith(f"function {name} is not the one that was installed: its text begins ")


def test_it_sees_a_function_that_runs_as_its_owner_or_is_volatile_or_gone() -> None:
    run("ALTER FUNCTION settle_batch SECURITY DEFINER")
    assert len(found()) == 1
    run("ALTER FUNCTION settle_batch SECURITY INVOKER; ALTER FUNCTION ledger_need VOLATILE")
    [line] = found()
    assert line.startswith("function ledger_need is not the one that was installed")
    run("ALTER FUNCTION ledger_need IMMUTABLE; DROP FUNCTION ledger_fence")
    assert found() == ["function ledger_fence is missing"]


def test_the_installed_functions_are_read_whole() -> None:
    texts = installed.functions()
    assert {"ledger_write", "settle_batch", "hold_batch", "ledger_take_anchors", "ledger_refuse_change"} <= set(texts)
    assert all(each.language in ("sql", "plpgsql") and each.body.strip() for one in texts.values() for each in one)


@pytest.mark.parametrize(
    ("table", "constraint"),
    [
        ("ledger_call", "call_unknown_cost_has_reason"),
        ("ledger_call", "call_id_is_request_and_attempt"),
        ("ledger_limitwindow", "limitwindow_once"),
        ("ledger_dailyspend", "dailyspend_not_negative"),
        ("ledger_batch", "batch_seq_once"),
    ],
)
def test_it_sees_a_constraint_that_is_gone(table: str, constraint: str) -> None:
    run(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    assert found() == [f"{table} lacks its constraint {constraint}"]


def test_it_sees_a_unique_index_that_is_gone() -> None:
    run("DROP INDEX adjustment_one_late_settlement")
    assert found() == ["ledger_adjustment lacks its constraint adjustment_one_late_settlement"]


def test_it_sees_a_reference_that_is_gone() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'ledger_batch'::regclass AND contype = 'f'"
        )
        [(name,)] = cursor.fetchall()
    run(f"ALTER TABLE ledger_batch DROP CONSTRAINT {name}")
    assert found() == ["ledger_batch lacks its reference from writer_id to ledger_writer"]


def test_it_sees_a_constraint_that_old_rows_were_not_held_to() -> None:
    run("ALTER TABLE ledger_hold DROP CONSTRAINT hold_bounds_not_negative")
    run(
        "ALTER TABLE ledger_hold ADD CONSTRAINT hold_bounds_not_negative"
        " CHECK ((bound_usd IS NULL OR bound_usd >= 0) AND bound_tokens >= 0) NOT VALID"
    )
    assert found() == ["constraint hold_bounds_not_negative of ledger_hold is not validated"]


WEAKER = [
    ("ledger_call", "call_cost_not_negative", "CHECK (cost_usd IS NULL OR cost_usd >= -1)"),
    ("ledger_call", "call_id_is_request_and_attempt", "CHECK (attempt BETWEEN 1 AND 255)"),
    ("ledger_limit", "limit_amount_not_negative", "CHECK (true)"),
    ("ledger_dailyspend", "dailyspend_not_negative", "CHECK (calls >= 0)"),
    ("ledger_rate", "rate_zero_has_reason", "CHECK (amount_usd >= 0)"),
    ("ledger_rate", "ledger_rate_per_check", "CHECK (per >= -1)"),
    ("ledger_rate", "rate_conditions_once", "UNIQUE (sheet_id, meter, above_tokens, id)"),
    ("providers_provider", "provider_credential_ref_form", "CHECK (credential_ref LIKE '%')"),
    ("gateway_storedfile", "storedfile_size_not_negative", "CHECK (size_bytes > -2)"),
]


@pytest.mark.parametrize(("table", "constraint", "weaker"), WEAKER, ids=[name for _, name, _ in WEAKER])
def test_it_sees_a_constraint_of_the_same_name_that_says_less(table: str, constraint: str, weaker: str) -> None:
    run(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}; ALTER TABLE {table} ADD CONSTRAINT {constraint} {weaker}")
    [line] = found()
    kind = weaker.split()[0]
    assert line.startswith(f"constraint {constraint} of {table} is not the one that was declared: {kind} (")


def test_it_sees_a_unique_index_of_the_same_name_that_holds_for_fewer_rows() -> None:
    run("DROP INDEX adjustment_settles_once")
    run("CREATE UNIQUE INDEX adjustment_settles_once ON ledger_adjustment (call_id) WHERE settles_unknown AND id < 0")
    assert found() == [
        "constraint adjustment_settles_once of ledger_adjustment is not the one that was declared: "
        "btree (call_id) WHERE (settles_unknown AND (id < 0))"
    ]


def test_every_constraint_that_is_there_was_declared() -> None:
    with connection.cursor() as cursor:
        cursor.execute(declared.IN_FORCE)
        there = {(table, name) for table, name, _ in cursor.fetchall()}
        cursor.execute("SELECT relname FROM pg_class WHERE relispartition")
        partitions = {name for (name,) in cursor.fetchall()}
    ours = {(table, name) for table, name in there if table.split("_")[0] in declared.APPS and table not in partitions}
    assert ours == set(declared.constraints())
    assert len(ours) > 150


def test_it_says_when_it_may_not_compare_the_constraints(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise declared.CannotDeclare("permission denied to create temporary tables")

    monkeypatch.setattr(declared, "constraints", refuse)
    [line] = found()
    assert line.startswith("constraints cannot be compared with what was declared: permission denied")


@pytest.mark.parametrize("privilege", ["UPDATE", "DELETE", "TRUNCATE"])
@pytest.mark.parametrize("table", ["ledger_call", "ledger_adjustment", "ledger_batch", "ledger_anchor"])
def test_it_sees_who_was_given_the_right_to_change_what_is_final(table: str, privilege: str) -> None:
    run(f"GRANT SELECT, INSERT, {privilege} ON {table} TO PUBLIC")
    assert found() == [f"PUBLIC may {privilege} on {table}, which is append-only: revoke it"]


def test_it_sees_a_call_of_a_month_that_nobody_made() -> None:
    far = datetime(2030, 5, 5, tzinfo=UTC)
    request_id, identifier = call_id(far, 1)
    factories.make_call(id=identifier, request_id=request_id)
    lines = [line for check, line in verify.differences() if check == "5 guards"]
    assert lines == ["1 calls lie in the default partition: nobody made their month's"]
