"""What every amount of money or of anything counted must be, said once for all tables."""

from __future__ import annotations

from django.db.models import CheckConstraint, Q

# Beyond what NUMERIC(24,12) holds. PostgreSQL sorts NaN above every number: it passes "not negative" and "at most"
# alike, and one NaN in a sum makes the sum NaN.
_BEYOND = 10**12


def are_numbers(*fields: str, name: str) -> CheckConstraint:
    """A constraint that no field of `fields` is NaN; NULL stays allowed where the column allows it."""
    condition = Q(**{f"{field}__lt": _BEYOND for field in fields})
    return CheckConstraint(condition=condition, name=name, violation_error_message="An amount is a number.")
