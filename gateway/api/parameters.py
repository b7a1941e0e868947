"""Query parameters of the reports: read strictly, so that a misspelt filter is an error and never a wider total."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.dateparse import parse_datetime

from gateway.api.exceptions import InvalidParameter
from gateway.api.permissions import Sight
from ledger.keys import PREFIX
from ledger.models import ApiKey, Team
from providers.models import Model, Provider

# PostgreSQL's bigint: a larger id is nobody's, and an error to ask for.
_MAX_ID = 2**63 - 1
# No id is older than its clock's zero.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def refuse_unknown(query: QueryDict, *, known: Collection[str]) -> None:
    """Raise for a parameter that the endpoint does not have."""
    for name in query:
        if name not in known:
            raise InvalidParameter(f"Unknown parameter {name!r}: use {', '.join(sorted(known))}.", param=name)


def text(query: QueryDict, name: str) -> str | None:
    """The value of a parameter; None when it is absent or empty. Given twice with different values: an error."""
    values = {value.strip() for value in query.getlist(name)} - {""}
    if len(values) > 1:
        raise InvalidParameter(f"{name!r} is given more than once.", param=name)
    value = values.pop() if values else None
    if value is not None and "\0" in value:
        raise InvalidParameter(f"{name!r} holds a NUL character.", param=name)
    return value


def choice(query: QueryDict, name: str, *, allowed: Collection[str]) -> str | None:
    value = text(query, name)
    if value is not None and value not in allowed:
        raise InvalidParameter(f"{name!r} is one of {', '.join(allowed)}, not {value!r}.", param=name)
    return value


def flag(query: QueryDict, name: str) -> bool:
    return choice(query, name, allowed=("true", "false")) == "true"


def uuid(query: QueryDict, name: str) -> UUID | None:
    value = text(query, name)
    try:
        return UUID(value) if value is not None else None
    except ValueError:
        raise InvalidParameter(f"{name!r} is a UUID, not {value!r}.", param=name) from None


def period(query: QueryDict, *, today: date) -> tuple[date, date]:
    """`from` and `to`, days in UTC, both included. Default: from the first of `to`'s month, to today."""
    end = _day(query, "to") or today
    start = _day(query, "from") or end.replace(day=1)
    if start > end:
        raise InvalidParameter(f"The period begins on {start} and ends before, on {end}.", param="from")
    return start, end


def instants(query: QueryDict) -> tuple[datetime | None, datetime | None]:
    """`from` and `to`: instants with a zone, or days in UTC. All are included but an instant as `to`."""
    start, end = _instant(query, "from", day_ends=False), _instant(query, "to", day_ends=True)
    if start is not None and end is not None and start > end:
        raise InvalidParameter("The period ends before it begins.", param="from")
    return start, end


def chosen(query: QueryDict, *, names: Collection[str], sight: Sight) -> dict[str, list[int]]:
    """Filters by user, team, key, model, provider: name -> ids. A value is a name or an id; repeat for several.

    What the caller may not see is as unknown as what does not exist.
    """
    found: dict[str, list[int]] = {}
    for name in names:
        values = [value.strip() for value in query.getlist(name) if value.strip()]
        if values:
            found[name] = [_identify(name, value, sight=sight) for value in values]
    return found


def _identify(name: str, value: str, *, sight: Sight) -> int:
    rows, column = _visible(name, sight)
    if "\0" in value:
        raise InvalidParameter(f"{name!r} holds a NUL character.", param=name)
    if name == "key":
        value = value.removeprefix(PREFIX).partition("_")[0]
    condition = Q(**{column: value})
    if value.isascii() and value.isdigit() and int(value) <= _MAX_ID:
        condition |= Q(pk=int(value))
    found = list(rows.filter(condition).values_list("pk", flat=True)[:2])
    if not found:
        raise InvalidParameter(f"There is no {name} {value!r}.", param=name)
    if len(found) > 1:
        raise InvalidParameter(f"{value!r} is the name of one {name} and the id of another.", param=name)
    return int(found[0])


def _visible(name: str, sight: Sight) -> tuple[QuerySet[Any], str]:
    """The rows a filter may name, and the column that holds their names."""
    own = Q()
    if sight.key_id is not None:
        own = Q(pk=sight.key_id)
    elif sight.user_id is not None:
        own = Q(user_id=sight.user_id)
    own_keys = ApiKey.objects.filter(own)
    if name == "key":
        return own_keys, "public_id"
    if name == "user":
        users = User.objects.all()
        return (users if sight.is_everything else users.filter(_own_user(sight, own_keys))), "username"
    if name == "team":
        teams = Team.objects.all()
        return (teams if sight.is_everything else teams.filter(pk__in=own_keys.values("team_id"))), "name"
    return (Model.objects.all() if name == "model" else Provider.objects.all()), "name"


def _own_user(sight: Sight, own_keys: QuerySet[ApiKey]) -> Q:
    return Q(pk=sight.user_id) if sight.user_id is not None else Q(pk__in=own_keys.values("user_id"))


def _day(query: QueryDict, name: str) -> date | None:
    value = text(query, name)
    try:
        return date.fromisoformat(value) if value is not None else None
    except ValueError:
        raise InvalidParameter(f"{name!r} is a day such as 2026-11-30, not {value!r}.", param=name) from None


def _instant(query: QueryDict, name: str, *, day_ends: bool) -> datetime | None:
    value = text(query, name)
    if value is None:
        return None
    if len(value) <= len("2026-11-30"):
        day = _day(query, name)
        # The last day there is has no next one; nothing was recorded then either.
        later = timedelta(days=1 if day_ends and day != date.max else 0)
        return max(datetime.combine(day or date.min, time(), UTC), _EPOCH) + later
    # In a query string an unescaped + arrives as a space.
    moment = _moment(value.replace(" ", "+") if "T" in value else value)
    if moment is None or moment.tzinfo is None:
        raise InvalidParameter(
            f"{name!r} is a day such as 2026-11-30 or an instant such as 2026-11-30T12:00:00Z, not {value!r}.",
            param=name,
        )
    return max(moment, _EPOCH)


def _moment(value: str) -> datetime | None:
    try:
        return parse_datetime(value)
    except ValueError:
        return None
