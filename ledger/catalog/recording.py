"""Keeps one row at a time: saves it when it differs from what the file says, and remembers what that changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import Error, models, transaction

from ledger.catalog.changes import Change, FieldChange, field_change


@dataclass
class Recorder:
    """The running account of one `apply`."""

    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    key_texts: list[tuple[str, str]] = field(default_factory=list)
    unchanged: int = 0

    def keep(
        self,
        *,
        path: str,
        what: str,
        row: models.Model,
        values: Mapping[str, Any],
        faults: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Give `row` these values and save it, unless it has them; an error is noted with its path.

        `faults` is asked, once the row has its new values, what is wrong beside the model's own validation, by field.
        """
        is_new = row._state.adding
        differing = [name for name, value in values.items() if is_new or getattr(row, name) != value]
        told = (
            [] if is_new else [field_change(field=name, old=getattr(row, name), new=values[name]) for name in differing]
        )
        for name in differing:
            setattr(row, name, values[name])
        if not is_new and not differing:
            self.unchanged += 1
        elif found := faults():
            self.errors.extend(f"{path}.{name}: {message}" for name, message in found.items())
        elif self.save(path=path, row=row):
            self.tell(what=what, fields=tuple(told))

    def tell(self, *, what: str, fields: tuple[FieldChange, ...] = ()) -> None:
        self.changes.append(Change(what, fields))

    def tell_gone(self, *, what: str) -> None:
        self.changes.append(Change(what, gone=True))

    def save(self, *, path: str, row: models.Model) -> bool:
        """Validate and save; False when that is refused, by the model or by the database."""
        try:
            row.full_clean(exclude=row.get_deferred_fields())
            with transaction.atomic():
                row.save()
        except ValidationError as error:
            self.refused(path=path, error=error)
            return False
        except Error as error:
            self.errors.append(f"{path}: {str(error).splitlines()[0]}")
            return False
        return True

    def refused(self, *, path: str, error: ValidationError) -> None:
        """Note a validation error, field by field."""
        for name, messages in error.message_dict.items() if hasattr(error, "error_dict") else ():
            where = path if name == NON_FIELD_ERRORS else f"{path}.{name}"
            self.errors.extend(f"{where}: {message}" for message in messages)
        if not hasattr(error, "error_dict"):
            self.errors.extend(f"{path}: {message}" for message in error.messages)
