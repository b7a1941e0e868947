"""Check 5: what keeps the books is in force: triggers, functions, constraints, privileges, partitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import Field

from ledger.verify import declared, installed
from ledger.verify.scope import Scope, rows

# Each is refused UPDATE, DELETE and TRUNCATE by two triggers; partitions are found in the catalog.
APPEND_ONLY = ("ledger_call", "ledger_adjustment", "ledger_batch", "ledger_anchor")
_UNGUARDED = """
WITH guarded AS (
  SELECT inhrelid AS relid FROM pg_inherits WHERE inhparent = 'ledger_call'::regclass
  UNION ALL SELECT to_regclass(name)::oid FROM unnest(%(tables)s::text[]) AS name
), kept AS (
  -- 2: before. 8, 16, 32: delete, update, truncate.
  SELECT g.relid, bit_or(t.tgtype::int) AS kinds FROM guarded g LEFT JOIN pg_trigger t ON t.tgrelid = g.relid
    AND t.tgenabled = 'A' AND t.tgtype & 2 <> 0 AND t.tgqual IS NULL AND t.tgattr = ''
    AND t.tgfoid = to_regproc('ledger_refuse_change')
  GROUP BY g.relid
)
SELECT relid::regclass::text FROM kept WHERE coalesce(kinds, 0) & 56 <> 56 ORDER BY 1
"""
_DISABLED = """
SELECT t.tgrelid::regclass::text, t.tgname::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relname LIKE 'ledger\\_%%' AND t.tgenabled IN ('D', 'R') ORDER BY 1, 2
"""
_TRIGGERS = """
SELECT t.tgrelid::regclass::text, t.tgname::text, p.proname::text, t.tgtype::int, t.tgenabled::text
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace
"""
_FUNCTIONS = """
SELECT p.proname::text, p.prosrc, l.lanname::text, p.provolatile::text, p.prosecdef
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = current_schema()::regnamespace AND p.proname = ANY (%(names)s) ORDER BY 1
"""
_SLACK_CONSTRAINTS = """
SELECT conrelid::regclass::text, conname::text, convalidated, coalesce(to_jsonb(k) ->> 'conenforced', 'true') = 'true'
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relname ~ '^(ledger|providers|gateway)_' AND c.relkind IN ('r', 'p') AND contype IN ('c', 'f') ORDER BY 1, 2
"""
_REFERENCES = """
SELECT k.conrelid::regclass::text, a.attname::text, k.confrelid::regclass::text FROM pg_constraint k
JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] WHERE k.contype = 'f'
"""
_GRANTS = """
SELECT c.oid::regclass::text, coalesce(r.rolname, 'PUBLIC')::text, g.privilege_type
FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS g LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE g.grantee <> c.relowner AND g.privilege_type IN ('UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER')
  AND (c.oid = ANY (SELECT to_regclass(name)::oid FROM unnest(%(tables)s::text[]) AS name)
    OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger_call'::regclass))
ORDER BY 1, 2, 3
"""


def guards(scope: Scope) -> Iterator[str]:
    """The triggers, functions and constraints that keep the books are in force on every table and partition."""
    tables = {"tables": list(APPEND_ONLY)}
    for (table,) in rows(_UNGUARDED, tables):
        yield f"{table} is not append-only: its triggers are missing or not ENABLE ALWAYS"
    for table, trigger in rows(_DISABLED):
        yield f"trigger {trigger} of {table} is disabled"
    yield from _triggers()
    yield from _functions()
    yield from _constraints()
    for table, role, privilege in rows(_GRANTS, tables):
        yield f"{role} may {privilege} on {table}, which is append-only: revoke it"
    [(strays,)] = rows("SELECT count(*) FROM ledger_call_default")
    if strays:
        yield f"{strays} calls lie in the default partition: nobody made their month's"


def _triggers() -> Iterator[str]:
    """Every trigger that the installed SQL makes by name is there, fires for the same, and calls the same function."""
    there = {(table, name): (function, kind, enabled) for table, name, function, kind, enabled in rows(_TRIGGERS)}
    for wanted in installed.triggers():
        found = there.get((wanted.table, wanted.name))
        if found is None:
            yield f"{wanted.table} lacks its trigger {wanted.name}"
        elif found[:2] != (wanted.function, wanted.kind):
            yield f"trigger {wanted.name} of {wanted.table} is not the one that was installed"
        elif wanted.always and found[2] != "A":
            yield f"trigger {wanted.name} of {wanted.table} is not ENABLE ALWAYS"


def _functions() -> Iterator[str]:
    """Every function of the installed SQL is there with the text, language and volatility it was installed with."""
    wanted = installed.functions()
    there: dict[str, list[installed.Function]] = {}
    for name, body, language, volatility, definer in rows(_FUNCTIONS, {"names": sorted(wanted)}):
        there.setdefault(name, []).append(installed.Function(body, language, volatility, definer))
    for name in sorted(wanted):
        found = there.get(name, [])
        if not found:
            yield f"function {name} is missing"
        for each in found:
            if each not in wanted[name]:
                yield f"function {name} is not the one that was installed: its text begins {each.body.strip()[:60]!r}"


def _constraints() -> Iterator[str]:
    """Every constraint that is declared is there as it was declared, checked for all rows, and enforced."""
    for table, name, validated, enforced in rows(_SLACK_CONSTRAINTS):
        if not validated:
            yield f"constraint {name} of {table} is not validated"
        if not enforced:
            yield f"constraint {name} of {table} is not enforced"
    there = {(table, name): declared.definition(text) for table, name, text in rows(declared.IN_FORCE)}
    try:
        wanted = declared.constraints()
    except declared.CannotDeclare as error:
        yield f"constraints cannot be compared with what was declared: {error}"
        wanted = {}
    for constraint, text in sorted(wanted.items()):
        found = there.get(constraint)
        if found is None:
            yield f"{constraint.table} lacks its constraint {constraint.name}"
        elif found != text:
            yield f"constraint {constraint.name} of {constraint.table} is not the one that was declared: {found}"
    references = {(table, column): target for table, column, target in rows(_REFERENCES)}
    for model in declared.tables():
        for field in model._meta.local_concrete_fields:
            target = _referred(field)
            if target and references.get((model._meta.db_table, str(field.column))) != target:
                yield f"{model._meta.db_table} lacks its reference from {field.column} to {target}"


def _referred(field: Field[Any, Any]) -> str:
    """The table that the database makes sure of for this column, or ''."""
    related = field.related_model
    if not getattr(field, "db_constraint", False) or related is None or isinstance(related, str):
        return ""
    return related._meta.db_table
