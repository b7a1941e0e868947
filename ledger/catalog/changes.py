"""What applying a file changed, and how that is told: + new, - taken out, ~ changed old -> new, ! a note,
= how many were equal."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

_SECRET_FIELDS = frozenset({"credential_secret"})


class FieldChange(Struct, frozen=True):
    field: str
    old: str
    new: str


class Change(Struct, frozen=True):
    """One row that was made (no fields), changed (its fields) or taken out."""

    what: str
    fields: tuple[FieldChange, ...] = ()
    gone: bool = False


def field_change(*, field: str, old: object, new: object) -> FieldChange:
    """Texts for people; a secret is told as set or not set."""
    if field in _SECRET_FIELDS:
        now = ("set anew" if old else "set") if new else "not set"
        return FieldChange(field, "set" if old else "not set", now)
    return FieldChange(field, shown(old), shown(new))


def shown(value: object) -> str:
    """A value as a person would write it in the file."""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(inner) for inner in value)}]"
    return repr(value) if isinstance(value, str) else str(value)


def lines(*, changes: Iterable[Change], notes: Iterable[str], unchanged: int) -> list[str]:
    """The whole diff, one line per row."""
    told = []
    for change in changes:
        if not change.fields:
            told.append(f"{'-' if change.gone else '+'} {change.what}")
            continue
        fields = ", ".join(f"{field.field} {field.old} -> {field.new}" for field in change.fields)
        told.append(f"~ {change.what}: {fields}")
    return [*told, *(f"! {note}" for note in notes), f"= {unchanged} unchanged"]
