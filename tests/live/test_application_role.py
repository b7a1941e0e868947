"""Gateway, sweeper and proof as the role of docs/operating.md: all of it works, and none of it can change the books."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from django.db import connection
from psycopg import sql

from ledger import verify
from ledger.models import Writer
from ledger.verify import guards
from tests.live import books
from tests.live.database import ROOT
from tests.live.gateway import QUICK, Account, Gateway, running, usd
from tests.live.test_crashes import LIMITS, SWEPT_WITHIN_S, open_streams

BOOKS = ("ledger_call", "ledger_adjustment", "ledger_batch", "ledger_anchor")
HARM = ("UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE")


@pytest.fixture(scope="module")
def role(own_database: str) -> Iterator[str]:
    """A login that `ledger_grant_application` gave its rights; gone with the module."""
    name = f"tollbook_app_{uuid.uuid4().hex[:8]}"
    with connection.cursor() as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'of-the-test'").format(sql.Identifier(name)).as_string())
        owner.execute("SELECT ledger_grant_application(%s)", [name])
        yield name
    with connection.cursor() as owner:
        owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture(scope="module")
def url(own_database: str, role: str) -> str:
    """The module's database as that role."""
    scheme, _, rest = own_database.partition("://")
    return f"{scheme}://{quote(role)}:of-the-test@{rest.partition('@')[2]}"


@pytest.fixture(scope="module")
def gateway(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(database_url=url, var_dir=tmp_path_factory.mktemp("var"), environment=QUICK) as made:
        yield made


@pytest.fixture(scope="module")
def account(gateway: Gateway) -> Account:
    return gateway.account(limits=LIMITS)


def manage(gateway: Gateway, *command: str) -> subprocess.CompletedProcess[str]:
    """A command as the gateway's own role."""
    return subprocess.run(
        [sys.executable, "manage.py", *command], cwd=ROOT, env={**os.environ, **gateway.environment}, check=False,
        timeout=60, capture_output=True, text=True,
    )  # fmt: skip


def lines_of_guards() -> list[str]:
    return list(guards.guards(verify.EVERYTHING))


def test_the_role_owns_nothing(gateway: Gateway, role: str) -> None:
    owned = "SELECT c.relname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = %s"
    assert books.rows(owned, role) == []
    assert books.rows("SELECT 1 FROM pg_stat_activity WHERE usename = %s LIMIT 1", role) == [(1,)]


def test_calls_and_streams_are_made_and_recorded(gateway: Gateway, account: Account) -> None:
    assert gateway.chat(account).status_code == 200
    streamed = gateway.chat(account, stream=True)
    assert (streamed.status_code, b"[DONE]" in streamed.content) == (200, True)
    found = books.calls(key_id=account.key.pk)
    assert [call.outcome for call in found] == ["ok", "ok"]
    assert [call.cost_usd for call in found] == [usd(call.input_tokens, call.output_tokens) for call in found]
    books.verify()


def test_what_a_dead_process_left_is_closed_by_the_command_as_that_role(gateway: Gateway, account: Account) -> None:
    streams = open_streams(gateway, account, count=1)
    next(streams)
    gateway.kill()
    assert len(books.rows("SELECT 1 FROM ledger_hold")) == 1

    def swept() -> bool:
        done = manage(gateway, "sweep")
        assert done.returncode == 0, done.stderr
        return not books.rows("SELECT 1 FROM ledger_hold")

    books.until(swept, what="the hold is closed", timeout_s=SWEPT_WITHIN_S)
    assert books.calls(key_id=account.key.pk)[-1].outcome == "abandoned"
    assert Writer.objects.filter(state="fenced").exists()
    streams.close()
    gateway.start()
    assert gateway.chat(account).status_code == 200
    books.verify()


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("table", [*BOOKS, "this month"])
def test_its_grants_refuse_what_the_triggers_would(
    gateway: Gateway, account: Account, url: str, table: str, harm: str
) -> None:
    name = table if table != "this month" else str(books.rows("SELECT tableoid::regclass FROM ledger_call")[0][0])
    before = books.rows("SELECT count(*), max(id::text) FROM ledger_call")
    with psycopg.connect(url) as own, pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        own.execute(harm.format(name))
    assert books.rows("SELECT count(*), max(id::text) FROM ledger_call") == before


def test_verify_as_that_role_proves_the_books(gateway: Gateway) -> None:
    done = manage(gateway, "verify_ledger", "--quiet")
    assert (done.returncode, done.stdout[:20]) == (0, "The books are right:"), done.stdout + done.stderr


@contextlib.contextmanager
def granted(privilege: str, table: str, role: str) -> Iterator[None]:
    with connection.cursor() as owner:
        owner.execute(f"GRANT {privilege} ON {table} TO {role}")
    try:
        yield
    finally:
        books.rows("SELECT ledger_grant_application(%s)", role)


@pytest.mark.parametrize("privilege", ["UPDATE", "DELETE", "TRUNCATE", "TRIGGER"])
@pytest.mark.parametrize("table", BOOKS)
def test_verify_names_a_right_too_many(gateway: Gateway, role: str, table: str, privilege: str) -> None:
    with granted(privilege, table, role):
        assert lines_of_guards() == [f"{role} may {privilege} on {table}, which is append-only: revoke it"]
    assert lines_of_guards() == []


def test_the_command_says_so_and_fails(gateway: Gateway, role: str) -> None:
    with granted("UPDATE", "ledger_call", role):
        done = manage(gateway, "verify_ledger", "--quiet")
    assert done.returncode == 1
    assert f"5 guards: {role} may UPDATE on ledger_call, which is append-only: revoke it" in done.stdout
