"""Each constraint, index and trigger that PostgreSQL has on our tables refuses a bad row that never saw Python.

What there is, is read from the server's own catalog: whatever is added without a bad row here fails.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import transaction
from django.db.utils import DatabaseError

from ledger import history
from tests import factories
from tests.ledger.good_rows import GOOD, Changes, copy_of, draft, make_adjustment, rows, run

pytestmark = pytest.mark.django_db
OURS = "c.relname ~ '^(ledger|gateway|providers)_' AND NOT c.relispartition AND c.relkind IN ('r', 'p')"
TABLES = f"SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND {OURS}"
OF_KIND = """
SELECT k.conname::text, (SELECT array_agg(a.attname::text) FROM pg_attribute a
  WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)), k.confrelid::regclass::text
FROM pg_constraint k WHERE k.conrelid = %s::regclass AND k.contype = %s ORDER BY 1
"""
UNIQUE = """
SELECT i.indexrelid::regclass::text, (SELECT array_agg(a.attname::text) FROM pg_attribute a
  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]))
FROM pg_index i WHERE i.indrelid = %s::regclass AND i.indisunique ORDER BY 1
"""

# name -> copies of a good row, each spoiled in one way. A rule of several parts has a bad row for each part.
CHECKS: dict[str, list[Changes]] = {
    "adjustment_reason_known": [{"reason": "'mood'"}],
    "adjustment_amounts_are_numbers": [{"delta_usd": "'NaN'"}, {"counted_delta_usd": "'NaN'"}],
    "anchor_of_a_batch": [{"seq": "0"}],
    "apikey_scopes_known": [{"scopes": "'{root}'"}],
    "apikey_secret_hashed": [{"secret_sha256": "'secret'"}, {"secret_sha256": "repeat('G', 64)"}],
    "archivedbatch_rows_whole": [
        {"positions": "NULL"}, {"rows": "NULL"}, {"count": "2"}, {"positions": "'{1,2}'"}, {"rows": "rows || rows"},
    ],
    "archivedmonth_first_day": [{"month": "'2025-11-02'"}],
    "archivedmonth_sha256": [{"sha256": "'x'"}],
    "batch_not_empty": [{"count": "0"}, {"seq": "0"}],
    "batchjob_counts_add_up": [{"completed": "1"}, {"failed": "1"}, {"total": "1", "completed": "1", "failed": "1"}],
    "batchjob_id_form": [{"id": "'batch_1'"}, {"id": "repeat('a', 64)"}],
    "batchjob_state_known": [{"state": "'asleep'"}],
    "call_amounts_are_numbers": [{name: "'NaN'"} for name in ("cost_usd", "stated_cost_usd", "counted_usd")],
    "call_cost_not_negative": [{"cost_usd": "-0.000000000001"}],
    "call_cost_source_known": [{"cost_source": "'magic'"}],
    "call_id_is_request_and_attempt": [
        {"attempt": "2"}, {"attempt": "0"}, {"attempt": "256"}, {"request_id": "gen_random_uuid()"},
    ],
    "call_numbers_not_negative": [
        {name: "-1"} for name in (
            "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens",
            "duration_ms", "first_token_ms", "counted_usd", "counted_tokens",
        )
    ],
    "call_outcome_known": [{"outcome": "'fine'"}],
    "call_unknown_cost_has_reason": [
        {"cost_usd": "NULL"}, {"cost_usd": "NULL", "cost_source": "'unknown'"}, {"unpriced_reason": "'why'"},
        {"cost_source": "'unknown'"}, {"cost_usd": "NULL", "unpriced_reason": "'why'"},
    ],
    "call_usage_source_known": [{"usage_source": "'guessed'"}],
    "dailyspend_amounts_are_numbers": [{"cost_usd": "'NaN'"}, {"adjustments_usd": "'NaN'"}],
    "dailyspend_not_negative": [
        {name: "-1"} for name in (
            "calls", "unpriced_calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
            "reasoning_tokens", "cost_usd",
        )
    ],
    "healthcheck_latency_not_negative": [{"latency_ms": "-0.5"}],
    "healthcheck_unhealthy_has_error": [{"healthy": "false"}, {"error": "'timeout'"}],
    "hold_bound_is_a_number": [{"bound_usd": "'NaN'"}],
    "hold_bounds_not_negative": [{"bound_usd": "-1"}, {"bound_tokens": "-1"}],
    "hold_id_is_request_and_attempt": [
        {"attempt": "2"}, {"attempt": "0"}, {"attempt": "256"}, {"request_id": "gen_random_uuid()"},
    ],
    "idempotency_state_known": [{"state": "'lost'"}],
    "limit_action_known": [{"action": "'shout'"}],
    "limit_amount_is_a_number": [{"amount": "'NaN'"}],
    "limit_amount_not_negative": [{"amount": "-1"}],
    "limit_concurrency_has_no_period": [{"metric": "'concurrency'"}],
    "limit_metric_known": [{"metric": "'euro'"}],
    "limit_mode_known": [{"mode": "'lax'"}],
    "limit_names_its_subject": [
        *({"subject": f"'{subject}'"} for subject in ("key", "user", "team", "model", "nobody")),
        *({f"{subject}_id": "1"} for subject in ("key", "user", "team", "model")),
    ],
    "limit_period_known": [{"period": "'decade'"}],
    "limitwindow_amounts_are_numbers": [{"used": "'NaN'"}, {"held": "'NaN'"}],
    "limitwindow_held_not_negative": [{"held": "-1"}],
    "limitwindow_used_not_negative": [{"used": "-1"}],
    "model_default_output_within_max": [{"max_output_tokens": "5", "default_max_output_tokens": "6"}],
    "model_output_tokens_positive": [{"max_output_tokens": "0"}, {"default_max_output_tokens": "0"}],
    "pricesheet_book_known": [{"book": "'napkin'"}],
    "pricesheet_past_start_is_a_correction": [],
    "pricesheet_published_has_time": [],
    "pricesheet_source_known": [{"source": "'hearsay'"}],
    "pricesheet_status_known": [],
    "provider_credential_ref_form": [{"credential_ref": "'sk-secret'"}],
    "provider_disconnect_policy_known": [{"disconnect_policy": "'hope'"}],
    "provider_timeouts_positive": [
        {name: "0"} for name in (
            "timeout_s", "connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s", "stream_timeout_s"
        )
    ],
    "rate_amount_not_negative": [{"amount_usd": "-1"}],
    "rate_amounts_are_numbers": [{name: "'NaN'"} for name in ("amount_usd", "minimum", "quantum")],
    "rate_per_power_of_ten": [{"per": "7"}, {"per": "10000000"}, {"per": "0"}],
    "rate_quantities_not_negative": [{"minimum": "-1"}, {"quantum": "-1"}],
    "rate_weekdays_mask": [{"weekdays": "0"}, {"weekdays": "128"}],
    "rate_window_whole": [{"window_start": "'08:00'"}, {"window_end": "'08:00'"}],
    "rate_zero_has_reason": [{"amount_usd": "0"}],
    "reconcilerun_posted_whole": [
        {"posted_at": "now()"}, {"posted_calls": "1"}, {"posted_usd": "1"}, {"posted_at": "now()", "posted_calls": "1"},
    ],
    "reconcilerun_sha256": [{"sha256": "'x'"}],
    "reraterun_ended_has_time": [{"state": "'done'"}, {"state": "'failed'"}],
    "reraterun_period_not_empty": [{'"end"': "start"}],
    "reraterun_state_known": [{"state": "'stuck'"}],
    "route_strategy_known": [{"strategy": "'luckiest'"}],
    "snapshotversion_single_row": [{"id": "2"}],
    "storedfile_id_form": [{"id": "'file-1'"}],
    "storedfile_purpose_known": [{"purpose": "'fun'"}],
    "storedfile_sha256_form": [{"sha256": "'x'"}],
    "storedfile_size_not_negative": [{"size_bytes": "-1"}],
    "writer_state_known": [{"state": "'asleep'"}],
}  # fmt: skip
# A sheet begins as a draft, so that what holds for published ones is broken by publishing, not by inserting.
PUBLISHING = {
    "pricesheet_past_start_is_a_correction": "published_at = '2030-01-01', status = 'published', source = 'admin'",
    "pricesheet_published_has_time": "status = 'published', source = 'admin'",
    "pricesheet_status_known": "status = 'retired', published_at = now(), is_correction = true",
}
# What another rule refuses first is looked at with that rule away: the second is a rule of its own.
BEHIND = {
    "gateway_batchjob_total_check": "batchjob_counts_add_up",
    "hold_attempt_once": "hold_id_is_request_and_attempt",
    "ledger_call_attempt_check": "call_id_is_request_and_attempt",
    "ledger_hold_attempt_check": "hold_id_is_request_and_attempt",
    "providers_model_default_max_output_tokens_check": "model_output_tokens_positive",
    "providers_model_max_output_tokens_check": "model_output_tokens_positive",
}
# Unique where a condition holds: two copies that both meet it.
TWICE: dict[str, Changes] = {
    "adjustment_one_late_settlement": {"reason": "'late_settlement'", "reference": "''"},
    "adjustment_settles_once": {"settles_unknown": "true", "reference": "''"},
}


def refused(sql: str, *values: object, without: tuple[str, str] | None = None) -> tuple[str, str]:
    """(constraint, message) of the refusal that `sql` must meet; `without`: (table, constraint) that is away."""
    try:
        with transaction.atomic():
            run("SET CONSTRAINTS ALL IMMEDIATE")
            if without:
                run(f"ALTER TABLE {without[0]} DROP CONSTRAINT {without[1]}")
            run(sql, *values)
            transaction.set_rollback(True)
    except DatabaseError as error:
        cause: Any = error.__cause__
        return cause.diag.constraint_name or "", str(cause)
    return "", "it went through"


@pytest.fixture(params=sorted(GOOD))
def table(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    GOOD[name].make()
    assert rows(f"SELECT 1 FROM {name} LIMIT 1"), f"{name} has no row to spoil"
    return name


def test_every_table_of_ours_has_a_good_row() -> None:
    assert {name for (name,) in rows(TABLES)} == set(GOOD)


def test_a_good_row_can_be_copied(table: str) -> None:
    """Otherwise a bad copy of it would be refused for another reason."""
    if table == "ledger_snapshotversion":
        pytest.skip("it has one row and no other")
    with transaction.atomic():
        run("SET CONSTRAINTS ALL IMMEDIATE")
        run(copy_of(table, GOOD[table].other()))


def test_each_check_of_a_table_refuses_a_bad_row(table: str) -> None:
    for name, columns, _ in rows(OF_KIND, table, "c"):
        behind = (table, BEHIND[str(name)]) if str(name) in BEHIND else None
        for statement in bad_rows(table, str(name), columns):
            assert refused(statement, without=behind)[0] == name, (name, statement)


def bad_rows(table: str, name: str, columns: Any) -> list[str]:
    if name in PUBLISHING:
        return [f"UPDATE {table} SET {PUBLISHING[name]}"]
    spoiled = CHECKS.get(name)
    if spoiled is None and name == f"{table}_{columns[0]}_check":
        # Django's own, for whole numbers that are never negative.
        spoiled = [{columns[0]: "-1"}]
    assert spoiled, f"{name} of {table} has no bad row in this file"
    bare = [{column.strip('"'): value for column, value in changes.items()} for changes in spoiled]
    return [copy_of(table, {**GOOD[table].other(), **changes}) for changes in bare]


def test_each_unique_key_of_a_table_refuses_a_second_row(table: str) -> None:
    for name, columns in rows(UNIQUE, table):
        if name == "pricesheet_one_published_at_an_instant":
            continue  # below: two drafts are published
        assert isinstance(columns, list)
        changes = TWICE.get(str(name), {key: sql for key, sql in GOOD[table].other().items() if key not in columns})
        if str(name).endswith("_pkey"):
            changes = {str(key): f'"{key}"' for key in columns}
        with transaction.atomic():
            if str(name) in TWICE:
                run(copy_of(table, changes))
            behind = (table, BEHIND[str(name)]) if str(name) in BEHIND else None
            found, _ = refused(copy_of(table, changes), without=behind)
            # A partition's index has a name of its own.
            assert re.sub(r"_\d{4}_\d\d_", "_", found) == name, name
            transaction.set_rollback(True)


def test_a_second_sheet_of_one_instant_is_not_published() -> None:
    draft()
    [(first,)] = rows("SELECT id FROM ledger_pricesheet")
    run(copy_of("ledger_pricesheet", {}))
    run(
        "INSERT INTO ledger_rate (sheet_id, meter, amount_usd, per, above_tokens, tier_inclusive, service_tier, speed,"
        " region, variant, weekdays, minimum, quantum, zero_reason)"
        " SELECT max(id), 'input', 1, 1, 0, false, '', '', '', '', 127, 0, 0, '' FROM ledger_pricesheet"
    )
    publish = "UPDATE ledger_pricesheet SET status = 'published', published_at = now()"
    run(f"{publish} WHERE id = %s", first)
    assert refused(f"{publish} WHERE id <> %s", first)[0] == "pricesheet_one_published_at_an_instant"


def test_each_reference_of_a_table_leads_somewhere(table: str) -> None:
    for name, columns, target in rows(OF_KIND, table, "f"):
        assert isinstance(columns, list)
        [column] = columns
        nobody = "gen_random_uuid()" if target == "ledger_writer" else "-1"
        changes = {**GOOD[table].other(), column: nobody}
        if table == "ledger_limit":
            changes["subject"] = f"'{column.removesuffix('_id')}'"
        assert refused(copy_of(table, changes))[0] == name, name


def test_what_a_row_refers_to_cannot_be_deleted(table: str) -> None:
    for name, columns, target in rows(OF_KIND, table, "f"):
        assert isinstance(columns, list)
        [column] = columns
        if not rows(f'SELECT 1 FROM {table} WHERE "{column}" IS NOT NULL LIMIT 1'):
            continue
        message = refused(f'DELETE FROM {target} WHERE id IN (SELECT "{column}" FROM {table})')[1]
        assert re.search("violates foreign key|never deleted|append-only|is published", message), (name, message)


def test_no_rule_is_of_another_kind() -> None:
    """Checks, unique and primary keys and references are tried above; an exclusion would need a test of its own."""
    kinds = rows(
        "SELECT DISTINCT k.contype::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
        f" WHERE k.contype <> 'n' AND {OURS}"
    )
    assert {kind for (kind,) in kinds} == {"c", "f", "p", "u"}


def test_no_bad_row_is_left_of_a_rule_that_is_gone() -> None:
    names = {str(name) for (name,) in rows("SELECT conname FROM pg_constraint UNION SELECT relname FROM pg_class")}
    assert {*CHECKS, *PUBLISHING, *BEHIND, *TWICE} - names == set()


# --- triggers -------------------------------------------------------------------------------------------------

TRIGGERS = f"""
SELECT c.relname::text, t.tgname::text, p.proname::text, t.tgtype::int, (SELECT a.attname::text FROM pg_attribute a
  WHERE a.attrelid = c.oid AND a.attnum = t.tgattr[0])
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND (({OURS}) OR c.relname = 'auth_user') ORDER BY 1, 2
"""
EVENTS = {8: "DELETE FROM {}", 16: "UPDATE {} SET {} = {}", 32: "TRUNCATE {} CASCADE"}
TAKEN = "UPDATE {} SET name = 'taken'"
# trigger -> statements that it refuses, and the constraint or the words of the refusal.
REFUSED: dict[str, list[tuple[str, str]]] = {
    "alias_name_is_free": [(TAKEN.format("providers_alias"), "name_of_model_or_alias")],
    "apikey_identity_kept": [
        (f"UPDATE ledger_apikey SET {change}", "never change") for change in (
            "id = id + 1", "public_id = 'x'", "secret_sha256 = repeat('0', 64)", "user_id = user_id + 1"
        )
    ],
    "apikey_never_deleted": [("DELETE FROM ledger_apikey", "never deleted")],
    "apikey_never_truncated": [("TRUNCATE ledger_apikey CASCADE", "never deleted")],
    "limit_measure_fixed": [
        (f"UPDATE ledger_limit SET {change}", "limit_measure_fixed") for change in (
            "metric = 'tokens'", "period = 'week'", "subject = 'model', model_id = 1"
        )
    ],
    "model_name_is_free": [(TAKEN.format("providers_model"), "name_of_model_or_alias")],
    "pricesheet_frozen": [
        ("UPDATE ledger_pricesheet SET valid_from = now()", "pricesheet_published_is_frozen"),
        ("DELETE FROM ledger_pricesheet", "pricesheet_published_is_frozen"),
    ],
    "pricesheet_never_truncated": [("TRUNCATE ledger_pricesheet CASCADE", "prices_never_truncated")],
    "rate_frozen": [
        ("UPDATE ledger_rate SET per = 10", "rate_of_published_is_frozen"),
        ("DELETE FROM ledger_rate", "rate_of_published_is_frozen"),
        ("INSERT INTO ledger_rate SELECT * FROM ledger_rate", "rate_of_published_is_frozen"),
    ],
    "rate_never_truncated": [("TRUNCATE ledger_rate CASCADE", "prices_never_truncated")],
    "route_name_is_free": [(TAKEN.format("providers_route"), "name_of_model_or_alias")],
}  # fmt: skip
# What else the functions raise by name.
RAISED = {
    "adjustment_of_a_call", "limit_measure_fixed", "name_of_model_or_alias", "prices_never_truncated",
    "pricesheet_begins_as_draft", "pricesheet_published_is_frozen", "pricesheet_rates_or_discontinued",
    "rate_of_published_is_frozen",
}  # fmt: skip


def make_for(table: str) -> None:
    """A row in `table`, of the kind that its triggers keep: prices are published, and the name "taken" is."""
    if table in ("ledger_pricesheet", "ledger_rate"):
        factories.make_sheet()
    elif table == "auth_user":
        factories.make_user()
    else:
        factories.make_model(name="taken" if table != "providers_model" else "free", aliases=[])
        GOOD[table].make()


def test_each_trigger_does_what_it_is_for() -> None:
    triggers = rows(TRIGGERS)
    assert len(triggers) > 60
    for table, name, function, kind, column in triggers:
        with transaction.atomic():
            make_for(str(table))
            problem = problem_of(str(table), str(name), str(function), int(str(kind)), str(column or ""))
            transaction.set_rollback(True)
        assert not problem, f"{name} of {table}: {problem}"


def problem_of(table: str, name: str, function: str, kind: int, column: str) -> str:
    """What is wrong with a trigger, or ''. A trigger that this function does not know is a problem, too."""
    if function == "ledger_refuse_change" or name.startswith("pgtrigger_append_only"):
        return unkept(table, kind)
    if function == "ledger_bump_snapshot":
        return unnoticed(table, column)
    if name.startswith("pgtrigger_"):
        # tests/ledger/test_history.py reads what these write.
        return "" if f"{table}event" in kept_tables() else "no history is read from it"
    if name == "adjustment_applies":
        return "" if rows("SELECT 1 FROM ledger_dailyspend WHERE slot = 0 AND adjustments_usd = 1") else "moves no sum"
    if name not in REFUSED:
        return "has no bad row in this file"
    if name == "model_name_is_free":
        factories.make_model(aliases=["taken"])
    said = [(statement, words, refused(statement)) for statement, words in REFUSED[name]]
    return "; ".join(statement for statement, words, found in said if words not in " ".join(found))


def unkept(table: str, kind: int) -> str:
    """The statements of the trigger's events that go through."""
    [(key,)] = rows(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
        " WHERE i.indrelid = %s::regclass AND i.indisprimary", table,
    )  # fmt: skip
    statements = [sql.format(table, key, key) for event, sql in EVENTS.items() if kind & event]
    refusal = re.compile("append-only|Cannot update or delete")
    return "; ".join(sql for sql in statements if not refusal.search(refused(sql)[1])) if statements else "no event"


def unnoticed(table: str, column: str) -> str:
    """What does not move the number that every process polls."""
    watched = column or "id"
    [(before,)] = rows("SELECT version FROM ledger_snapshotversion")
    # No row is needed: these fire once for each statement.
    run(f"UPDATE {table} SET {watched} = {watched} WHERE false")
    [(after,)] = rows("SELECT version FROM ledger_snapshotversion")
    return "" if after != before else "processes do not hear of it"


def kept_tables() -> set[str]:
    return {name.replace(".", "_").lower() for name in history.KINDS.values()}


def test_a_sheet_begins_as_a_draft_and_is_published_with_rates_or_discontinued() -> None:
    sheet = factories.make_sheet()
    assert refused(copy_of("ledger_pricesheet", {}))[0] == "pricesheet_begins_as_draft"
    run(copy_of("ledger_pricesheet", {"status": "'draft'", "valid_from": "'2031-01-01'"}))
    publish = "UPDATE ledger_pricesheet SET status = 'published' WHERE id <> %s"
    assert refused(publish, sheet.pk)[0] == "pricesheet_rates_or_discontinued"
    draft()
    discontinue = "UPDATE ledger_pricesheet SET status = 'published', discontinued = true WHERE status = 'draft'"
    assert refused(discontinue)[0] == "pricesheet_rates_or_discontinued"


def test_an_adjustment_is_of_a_call() -> None:
    make_adjustment()
    nobody = {"call_id": "gen_random_uuid()", "reference": "''"}
    assert refused(copy_of("ledger_adjustment", nobody))[0] == "adjustment_of_a_call"


def test_every_rule_that_a_function_names_is_tried_here() -> None:
    bodies = rows("SELECT prosrc FROM pg_proc WHERE pronamespace = current_schema()::regnamespace")
    assert {name for (body,) in bodies for name in re.findall(r"CONSTRAINT = '(\w+)'", str(body))} == RAISED
    here = "".join(GOOD) + "".join(words for each in REFUSED.values() for _, words in each)
    tried_alone = {"adjustment_of_a_call", "pricesheet_begins_as_draft", "pricesheet_rates_or_discontinued"}
    assert {name for name in RAISED if name not in here} == tried_alone
