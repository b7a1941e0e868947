"""What the history keeps of a tracked table: the row as it was added, as it became, and as it was when deleted."""

from __future__ import annotations

import pghistory


def tracked() -> tuple[pghistory.RowEvent, ...]:
    """The events of one table. Each table needs its own: an event learns its table's columns."""
    return pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent()
