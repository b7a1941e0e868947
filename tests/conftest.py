"""What holds for every test: nobody talks to anything but this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations


class NetworkForbidden(RuntimeError):
    """A test tried to leave this machine. Not an OSError, so that no retry or fallback swallows it."""


def _refuse_unless_local(host: object) -> None:
    """Raise unless `host` (a name or an address) is this machine; None and '' mean the wildcard of a listener."""
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        local = ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        local = False
    if not local:
        raise NetworkForbidden(f"Tests reach loopback only, not {name!r}: use the fake upstream in tests/upstream.")


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """Refuse every connection, datagram and name look-up that would leave this machine."""
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
    real_sendto, real_getaddrinfo = socket.socket.sendto, socket.getaddrinfo

    def check(family: int, address: Any) -> None:
        if family in (socket.AF_INET, socket.AF_INET6):
            _refuse_unless_local(address[0])

    def connect(self: socket.socket, address: Any) -> None:
        check(self.family, address)
        real_connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        check(self.family, address)
        return real_connect_ex(self, address)

    def sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        check(self.family, rest[-1])
        return real_sendto(self, data, *rest)

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        # A literal address asks no server, wherever it points: checks of addresses may parse one.
        if not _is_literal(host):
            _refuse_unless_local(host)
        return real_getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
        patch.setattr(socket.socket, "sendto", sendto)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield


def _is_literal(host: object) -> bool:
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


@pytest.fixture(autouse=True, scope="session")
def _static_files_in_one_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody collected the static files of a fresh checkout; the middleware that serves them warns of that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "STATIC_ROOT", tmp_path_factory.mktemp("static"))
        yield


_TRUNCATE_TRIGGERS = """
SELECT tgrelid::regclass::text, quote_ident(tgname), tgenabled::text FROM pg_trigger
WHERE NOT tgisinternal AND tgtype & 32 <> 0 AND tgenabled <> 'D'
"""
_ENABLE = {"A": "ENABLE ALWAYS", "O": "ENABLE", "R": "ENABLE REPLICA"}


@pytest.fixture(autouse=True, scope="session")
def _tests_may_truncate() -> Iterator[None]:
    """Let tests with real transactions empty the tables after themselves, which the ledger's triggers refuse.

    The triggers are off within the one transaction that truncates, and the rows that migrations insert come back.
    """
    real_flush = DatabaseOperations.execute_sql_flush

    def flush(self: DatabaseOperations, sql_list: list[str]) -> None:
        if not sql_list:
            return
        with connection.cursor() as cursor:
            cursor.execute(_TRUNCATE_TRIGGERS)
            triggers = cursor.fetchall()
        off = [f"ALTER TABLE {table} DISABLE TRIGGER {name};" for table, name, _ in triggers]
        on = [f"ALTER TABLE {table} {_ENABLE[state]} TRIGGER {name};" for table, name, state in triggers]
        back = ["INSERT INTO ledger_snapshotversion (id, version, changed_at) VALUES (1, 1, now());"]
        real_flush(self, [*off, *sql_list, *on, *back])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", flush)
        yield
