"""What the history keeps of a table: the row as it was added, as it became, and as it was when deleted.

`ledger/history.py` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pghistory

Table = TypeVar("Table", bound=type)


def kept(*, without: Sequence[str] = ()) -> Callable[[Table], Table]:
    """A decorator for models: triggers write each change to an event table, but for the fields in `without`."""
    # Made anew for each table: an event learns its table's columns.
    events = (pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())
    keep: Callable[[Table], Table] = pghistory.track(*events, exclude=list(without) or None)
    return keep
