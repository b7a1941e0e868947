"""The code, broken on purpose: what a harness must notice before it may be believed.

`IN_PYTHON` is applied in each worker before it starts, `IN_SQL` to the database of the run. Neither is ever part of
the product.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.faults.cluster import Postgres


def _nothing() -> None:
    return None


def _new_seq_on_retry() -> None:
    """After a lost connection the writer asks where it is, instead of sending the same batch under the same number."""
    from ledger.writer import Writer

    send, drop = Writer._send, Writer._drop_connection

    def dropped(self: Any) -> None:
        drop(self)
        self.asks_where_it_is = True

    def sent(self: Any, frozen: Any) -> Any:
        connection = self._connected()
        if getattr(self, "asks_where_it_is", False):
            self.asks_where_it_is = False
            row = connection.execute("SELECT seq FROM ledger_writer WHERE id = %s", (str(self.id),)).fetchone()
            self._seq = row[0]
        return send(self, frozen)

    Writer._send, Writer._drop_connection = sent, dropped  # type: ignore[method-assign]


def _dispatch_before_hold() -> None:
    """The request goes upstream first, and is held afterwards."""
    from gateway.asking import Asker

    hold = Asker._hold

    def ask_first(self: Any, plan: Any) -> Any:
        self.early = plan.adapter.send(
            body=plan.body, model=plan.target.upstream_name, stream=plan.admitted.stream, deadlines=plan.deadlines,
            idempotency_key=str(self._request_id), operation=plan.operation,
        )  # fmt: skip
        return hold(self, plan)

    def sent(self: Any, plan: Any, call: Any) -> Any:
        call.exchange = self.early
        return self.early, None if plan.admitted.stream else self.early.body()

    Asker._hold, Asker._send = ask_first, sent  # type: ignore[method-assign]


def _no_fence() -> None:
    """A writer never looks whether it was fenced."""
    from ledger.writer import Writer

    def beat(self: Any) -> None:
        self._connected()

    Writer._beat = beat  # type: ignore[method-assign]


def _cached_counter() -> None:
    """Each process keeps what is left of a limit in memory, and reads it anew twice a second."""
    from ledger import database
    from ledger.writer import Refusal, Verdict, Writer

    left: dict[int, tuple[float, Decimal]] = {}
    hold = Writer.hold

    def room(limit: int) -> Decimal:
        at, known = left.get(limit, (0.0, Decimal(0)))
        if time.monotonic() - at < 0.5:
            return known
        with database.connect(application_name="tollbook counter") as connection:
            row = connection.execute(
                "SELECT l.amount - coalesce(sum(w.used + w.held), 0) FROM ledger_limit l "
                "LEFT JOIN ledger_limitwindow w ON w.limit_id = l.id WHERE l.id = %s GROUP BY l.amount", (limit,),
            ).fetchone()  # fmt: skip
        found = Decimal(row[0]) if row else Decimal(0)
        left[limit] = (time.monotonic(), found)
        return found

    def admitted(self: Any, row: Any) -> Any:
        for limit in row.limits:
            if room(limit) <= 0:
                return Verdict(Refusal(limit, "limit"), {})
        return hold(self, row)

    Writer.hold = admitted  # type: ignore[method-assign]


def _replace(name: str, old: str, new: str) -> Callable[[Postgres], None]:
    """Install a function of the database anew with `old` in its text replaced."""

    def change(postgres: Postgres) -> None:
        ((definition,),) = postgres.rows("SELECT pg_get_functiondef(%s::regproc)", name)
        if definition.count(old) != 1:
            raise AssertionError(f"{name} does not say {old!r} once: this tooth must be cut anew")
        postgres.rows(definition.replace(old, new))

    return change


def _not_durable(postgres: Postgres) -> None:
    postgres.rows("ALTER SYSTEM SET synchronous_commit = off")


IN_PYTHON: dict[str, Callable[[], None]] = {
    "synchronous_commit off": _nothing,
    "new seq on retry": _new_seq_on_retry,
    "dispatch before hold": _dispatch_before_hold,
    "settle without fence": _no_fence,
    "cached counter": _cached_counter,
    "unsorted locks": _nothing,
}
IN_SQL: dict[str, Callable[[Postgres], None]] = {
    "synchronous_commit off": _not_durable,
    "settle without fence": _replace("ledger_write", "ELSIF w.state <> 'live' THEN", "ELSIF false THEN"),
    "cached counter": _replace("hold_batch", "OR e_need[e] > w_room[e_room_at[e]]", ""),
    "unsorted locks": _replace(
        "ledger_write",
        "WHERE id = ANY (windows_) ORDER BY id FOR",
        "WHERE id = ANY (windows_) ORDER BY hashint8(id + pg_backend_pid()) FOR",
    ),
}
