"""Who changed what, when, from what to what: read from the event tables that triggers write (providers/history.py).

Changes made outside a request (a command, plain SQL) are there too, without a user. Each page reads the newest rows of
each table by its key, so its cost does not grow with the history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.apps import apps
from django.db.models import Model, OuterRef, Subquery

from ledger.reports import names_of

# What a change is of -> its event table.
KINDS: dict[str, str] = {
    "price sheet": "ledger.PriceSheetEvent",
    "rate": "ledger.RateEvent",
    "limit": "ledger.LimitEvent",
    "key": "ledger.ApiKeyEvent",
    "team": "ledger.TeamEvent",
    "provider": "providers.ProviderEvent",
    "model": "providers.ModelEvent",
    "alias": "providers.AliasEvent",
}
_DONE = {"insert": "added", "update": "changed", "delete": "deleted"}
_OWN = "pgh_"


class Difference(msgspec.Struct, frozen=True):
    """One column before and after, as text; '' where there was or will be nothing."""

    field: str
    old: str
    new: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one row. `user` is '' where no request was behind it. `action`: added, changed or deleted."""

    at: datetime
    kind: str
    object_id: int
    label: str
    action: str
    user: str
    differences: tuple[Difference, ...]


def entries(
    *, kinds: Sequence[str] = tuple(KINDS), object_id: int | None = None, before: datetime | None = None, most: int = 50
) -> list[Entry]:
    """The newest `most` changes of these kinds of things, newest first; `object_id` with one kind: of that one."""
    rows = [(kind, event) for kind in kinds for event in _newest(kind, object_id=object_id, before=before, most=most)]
    rows.sort(key=lambda row: (row[1].pgh_created_at, row[1].pgh_id), reverse=True)
    shown = rows[:most]
    earlier = _earlier(shown)
    users = names_of("user", (_user_id(event) for _, event in shown))
    return [
        Entry(
            at=event.pgh_created_at,
            kind=kind,
            object_id=event.pgh_obj_id,
            label=_label(event),
            action=_DONE.get(event.pgh_label, event.pgh_label),
            user=users[_user_id(event)].name,
            differences=_differences(earlier.get((kind, event.earlier)), event),
        )
        for kind, event in shown
    ]


def _newest(kind: str, *, object_id: int | None, before: datetime | None, most: int) -> Iterable[Any]:
    table: type[Any] = apps.get_model(KINDS[kind])
    previous = table.objects.filter(pgh_obj_id=OuterRef("pgh_obj_id"), pgh_id__lt=OuterRef("pgh_id"))
    events = table.objects.select_related("pgh_context").order_by("-pgh_id")
    if object_id is not None:
        events = events.filter(pgh_obj_id=object_id)
    if before is not None:
        events = events.filter(pgh_created_at__lt=before)
    return list(events.annotate(earlier=Subquery(previous.order_by("-pgh_id").values("pgh_id")[:1]))[:most])


def _earlier(shown: Iterable[tuple[str, Any]]) -> dict[tuple[str, int], Any]:
    wanted: dict[str, list[int]] = {}
    for kind, event in shown:
        if event.earlier is not None:
            wanted.setdefault(kind, []).append(event.earlier)
    return {
        (kind, event_id): event
        for kind, event_ids in wanted.items()
        for event_id, event in _table(kind).objects.in_bulk(event_ids).items()
    }


def _table(kind: str) -> type[Any]:
    return apps.get_model(KINDS[kind])


def _user_id(event: Any) -> int | None:
    found = event.pgh_context.metadata.get("user") if event.pgh_context is not None else None
    return int(found) if found is not None else None


def _label(event: Any) -> str:
    for name in ("name", "meter", "public_id", "metric"):
        if getattr(event, name, ""):
            return str(getattr(event, name))
    return f"#{event.pgh_obj_id}"


def _differences(old: Model | None, new: Any) -> tuple[Difference, ...]:
    """Columns that differ; for a row that was added or deleted, every column that holds something."""
    columns = [field.attname for field in new._meta.concrete_fields if not field.attname.startswith(_OWN)]
    deleted = new.pgh_label == "delete"
    pairs = (
        (name, _text(getattr(new if deleted else old, name, None)), "" if deleted else _text(getattr(new, name)))
        for name in columns
    )
    return tuple(Difference(name, was, became) for name, was, became in pairs if was != became)


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)
