"""Connections of the ledger's own, beside Django's: with a deadline that holds even against a frozen server."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from django.db import connections
from psycopg.conninfo import make_conninfo

T = TypeVar("T")
# The same statement may pass on the same connection a moment later.
TRANSIENT = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
)
# A server that is not the one it should be, or not yet (a standby after a failover, a migration under way): what was
# sent is not to blame, and another connection may find it mended.
_NOT_READY = (
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedTable,
)
# Try again: gone, frozen, starting, its disk full (all OperationalError), or one of the above.
AWAY = (*TRANSIENT, *_NOT_READY, psycopg.OperationalError, psycopg.InterfaceError)
_CONNECTION_FIELDS = ("host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")


def conninfo(*, connect_timeout_s: int = 2, statement_timeout_ms: int = 5000, application_name: str) -> str:
    """A libpq connection string to the ledger's database, from Django's settings."""
    params = connections["default"].get_connection_params()
    chosen = {name: params[name] for name in _CONNECTION_FIELDS if params.get(name)}
    return make_conninfo(
        **chosen,
        connect_timeout=connect_timeout_s,
        application_name=application_name,
        # The functions look up by key whatever their arguments: planning them anew at each call cost a third of it.
        options=f"-c statement_timeout={statement_timeout_ms} -c timezone=UTC -c jit=off "
        "-c plan_cache_mode=force_generic_plan",
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )


class DeadlineConnection(psycopg.Connection[Any]):
    """A psycopg connection whose every wait ends after `deadline_s`: then it is closed and OperationalError raised.

    A statement timeout needs a server that runs; this does not.
    """

    deadline_s = 10.0

    def wait(self, gen: Generator[Any, Any, T], interval: float = 0.1, timeout: float | None = None) -> T:
        began = time.monotonic()
        try:
            return super().wait(gen, interval, self.deadline_s if timeout is None else timeout)
        except psycopg.OperationalError:
            if time.monotonic() - began >= self.deadline_s:
                # The server may yet answer to a question that nobody waits for: this connection cannot be used again.
                self.close()
            raise


def connect(*, application_name: str, deadline_s: float = 10.0, statement_timeout_ms: int = 5000) -> DeadlineConnection:
    """A new autocommit connection. Raises psycopg.OperationalError within about two seconds."""
    connection = DeadlineConnection.connect(
        conninfo(application_name=application_name, statement_timeout_ms=statement_timeout_ms),
        autocommit=True,
        prepare_threshold=1,
    )
    connection.deadline_s = deadline_s
    return connection
