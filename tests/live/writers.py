"""The writer alone, on a database of its own, and connections on which its writes go wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg

from ledger import database
from ledger.models import Limit, LimitWindow
from ledger.writer import Writer
from tests.ledger.rows import make_hold, make_settle
from tests.live import books

Make = Callable[..., Writer]
World = dict[str, Any]


def connect() -> psycopg.Connection[Any]:
    return database.connect(application_name="tollbook test")


class Flaky:
    """A connection whose every `ledger_write` passes through `at_write`; all else goes straight on."""

    def __init__(self, at_write: Callable[[Callable[[], Any]], Any]) -> None:
        self._real = connect()
        self._at_write = at_write

    def execute(self, query: str, *values: Any) -> Any:
        if "ledger_write" not in query:
            return self._real.execute(query, *values)
        return self._at_write(lambda: self._real.execute(query, *values))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def warm_up(writer: Writer, world: World) -> None:
    """One call written: the writer is connected and registered, and what follows is not its first time."""
    books.until(lambda: writer.id is not None, what="the writer is registered")
    hold = make_hold(**world)
    writer.hold(hold)
    writer.settle(make_settle(hold))


def used_and_held(limit: Limit) -> tuple[Any, Any]:
    window = LimitWindow.objects.get(limit=limit)
    return window.used, window.held


class Away(threading.Event):
    """While set, every write of the ledger fails with `error`."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__()
        self._error = error

    def connect(self) -> Any:
        return Flaky(self._write)

    def _write(self, write: Callable[[], Any]) -> Any:
        if self.is_set():
            raise self._error
        return write()
