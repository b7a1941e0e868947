"""Which constraints the models and ledger/sql/ declare, in the server's own words.

PostgreSQL writes a constraint back in another form than it was given, and each major version in its own. So the server
that is verified is asked: empty tables with the declared columns and constraints are made for a moment, as temporary
tables that shadow the real ones on a connection of their own, and their definitions are read. No lock is taken on the
books, and the transaction is rolled back.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from django.apps import apps
from django.db import connections
from django.db.models import Model

from ledger import database, sql

APPS = ("ledger", "providers", "gateway")
# Made by hand, so no model names them.
_BY_HAND = re.compile(r"^ALTER TABLE (\w+) ADD CONSTRAINT \w+ CHECK \(.*?\n\);", re.MULTILINE | re.DOTALL)
# What does not stand in CREATE TABLE itself; references and plain indexes are left out.
_DEFERRED = re.compile(r'CREATE UNIQUE INDEX|ALTER TABLE "\w+" ADD CONSTRAINT "\w+" (CHECK|UNIQUE)')
_HERE = """
SELECT c.relname::text, k.conname::text, pg_get_constraintdef(k.oid) FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = {schema} AND k.contype IN ('c', 'p', 'u')
UNION ALL
SELECT c.relname::text, i.relname::text, pg_get_indexdef(i.oid) FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
JOIN pg_class i ON i.oid = x.indexrelid WHERE c.relnamespace = {schema} AND x.indisunique AND x.indisvalid
AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u'))
"""
IN_FORCE = _HERE.format(schema="current_schema()::regnamespace")
_WANTED = _HERE.format(schema="pg_my_temp_schema()")


class Constraint(NamedTuple):
    """A CHECK, a unique or primary key, or a unique index."""

    table: str
    name: str


class CannotDeclare(Exception):
    """This role or this server makes no temporary tables, so nothing can be compared. The message says why."""


def definition(text: str) -> str:
    """A definition as it is compared: an index without its table, and whether it was validated is another check."""
    return re.sub(r" NOT VALID$| NOT ENFORCED$", "", re.sub(r"^CREATE UNIQUE INDEX .*? USING ", "", text))


@lru_cache(maxsize=1)
def constraints() -> dict[Constraint, str]:
    """Each declared constraint with its definition. Once a process: neither the models nor the server change under it.

    Raises CannotDeclare, and psycopg.OperationalError when there is no server.
    """
    with database.connect(application_name="tollbook verify") as connection:
        try:
            with connection.transaction(force_rollback=True):
                for statement in _statements():
                    connection.execute(statement)
                found = connection.execute(_WANTED).fetchall()
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise CannotDeclare(str(error)) from error
    return {Constraint(table, name): definition(text) for table, name, text in found}


def tables() -> list[type[Model]]:
    return [model for app in APPS for model in apps.get_app_config(app).get_models() if model._meta.managed]


def _statements() -> list[str]:
    """CREATE TABLE for each model, its constraints and unique indexes, and what is declared in SQL."""
    made: list[str] = []
    django: Any = connections["default"]
    editor = django.schema_editor(collect_sql=True, atomic=False)
    with editor:
        for model in tables():
            text, values = editor.table_sql(model)
            whole = django.ops.compose_sql(text, values) if values else text
            made.append(re.sub("^CREATE TABLE", "CREATE TEMPORARY TABLE", whole))
        made += [text for text in map(str, editor.deferred_sql) if _DEFERRED.match(text)]
        editor.deferred_sql.clear()
    return [*made, *(found[0] for found in _BY_HAND.finditer(sql.read("partitions")))]
