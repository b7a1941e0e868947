"""Connections of the ledger's own, beside Django's: with a deadline that holds even against a frozen server."""

from __future__ import annotations

import select
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from django.db import connections
from psycopg.conninfo import make_conninfo
from psycopg.waiting import Ready, Wait

T = TypeVar("T")
_CONNECTION_FIELDS = ("host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")


def conninfo(*, connect_timeout_s: int = 2, statement_timeout_ms: int = 5000, application_name: str) -> str:
    """A libpq connection string to the ledger's database, from Django's settings."""
    params = connections["default"].get_connection_params()
    chosen = {name: params[name] for name in _CONNECTION_FIELDS if params.get(name)}
    return make_conninfo(
        **chosen,
        connect_timeout=connect_timeout_s,
        application_name=application_name,
        options=f"-c statement_timeout={statement_timeout_ms} -c timezone=UTC -c jit=off",
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

    def wait(self, gen: Generator[Any, Any, T], interval: float = 0.1) -> T:
        ends_at = time.monotonic() + self.deadline_s
        poll = select.poll()
        fileno = self.pgconn.socket
        try:
            wanted = next(gen)
            while True:
                poll.register(fileno, _POLL_MASK[wanted])
                events = poll.poll(max(0.0, ends_at - time.monotonic()) * 1000)
                if not events:
                    self.close()
                    raise psycopg.OperationalError(f"the database did not answer within {self.deadline_s} s")
                wanted = gen.send(_ready(events[0][1]))
        except StopIteration as stop:
            result: T = stop.value
            return result


_POLL_MASK = {
    Wait.R: select.POLLIN,
    Wait.W: select.POLLOUT,
    Wait.RW: select.POLLIN | select.POLLOUT,
}


def _ready(mask: int) -> Ready:
    readable = mask & (select.POLLIN | select.POLLHUP | select.POLLERR)
    writable = mask & select.POLLOUT
    if readable and writable:
        return Ready.RW
    return Ready.R if readable else Ready.W


def connect(*, application_name: str, deadline_s: float = 10.0, statement_timeout_ms: int = 5000) -> DeadlineConnection:
    """A new autocommit connection. Raises psycopg.OperationalError within about two seconds."""
    connection = DeadlineConnection.connect(
        conninfo(application_name=application_name, statement_timeout_ms=statement_timeout_ms),
        autocommit=True,
        prepare_threshold=1,
    )
    connection.deadline_s = deadline_s
    return connection
