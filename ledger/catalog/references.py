"""What does not fit together in a catalog: names given twice, names that nothing has. Each fault with its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any

from django.contrib.auth.models import User
from msgspec import UNSET

from ledger.catalog.schema import Catalog, LimitEntry
from ledger.meters import METERS
from ledger.models import ApiKey, Team
from providers.models import Alias, Model, Provider, Route

SUBJECTS = ("key", "user", "team", "model")


def faults(catalog: Catalog) -> list[str]:
    """Every duplicate and every unknown reference, as 'path: what is wrong'."""
    return [
        *_duplicates(catalog),
        *_unknown_in_models(catalog),
        *_unknown_in_routes(catalog),
        *_unknown_in_prices(catalog),
        *_unknown_in_keys(catalog),
        *_unknown_in_limits(catalog),
    ]


def subject_of(limit: LimitEntry) -> tuple[str, str] | None:
    """('user', 'alice') or ('everyone', ''); None unless exactly one subject is named."""
    named = [(subject, getattr(limit, subject)) for subject in SUBJECTS if getattr(limit, subject) is not None]
    if limit.everyone:
        named.append(("everyone", ""))
    return named[0] if len(named) == 1 else None


def split_key(text: str) -> tuple[str, str]:
    """'alice/ci' -> ('alice', 'ci'): a user name holds no '/'."""
    user, _, name = text.partition("/")
    return user, name


def _duplicates(catalog: Catalog) -> Iterator[str]:
    yield from _repeated("providers", catalog.providers, lambda row: row.name, "name")
    yield from _repeated("models", catalog.models, lambda row: row.name, "name")
    yield from _repeated("routes", catalog.routes, lambda row: row.name, "name")
    for index, route in enumerate(catalog.routes):
        yield from _repeated(f"routes[{index}].targets", route.targets or (), lambda row: row.model, "model")
    yield from _repeated("prices", catalog.prices, lambda row: (row.model, row.book, row.valid_from), "sheet")
    yield from _repeated("teams", catalog.teams, lambda row: row.name, "name")
    yield from _repeated("users", catalog.users, lambda row: row.username, "username")
    yield from _repeated("keys", catalog.keys, lambda row: (row.user, row.name), "user and name")
    yield from _repeated(
        "limits", catalog.limits, lambda row: (subject_of(row), row.metric, row.period, row.action), "limit"
    )
    yield from _taken_aliases(catalog)
    yield from _taken_routes(catalog)


def _repeated(section: str, rows: Sequence[Any], identity: Callable[[Any], Hashable], what: str) -> Iterator[str]:
    first: dict[Hashable, int] = {}
    for index, row in enumerate(rows):
        earlier = first.setdefault(identity(row), index)
        if earlier != index:
            yield f"{section}[{index}]: the same {what} as {section}[{earlier}]"


def _taken_aliases(catalog: Catalog) -> Iterator[str]:
    names = {model.name for model in catalog.models}
    given = Counter(alias for model in catalog.models for alias in model.aliases)
    models_there = _existing(Model, "name", given)
    aliases_there = _existing(Alias, "name", names)
    for index, model in enumerate(catalog.models):
        if model.name in aliases_there:
            yield f"models[{index}].name: {model.name!r} is an alias already"
        for place, alias in enumerate(model.aliases):
            path = f"models[{index}].aliases[{place}]"
            if alias in names or alias in models_there:
                yield f"{path}: {alias!r} is the name of a model"
            elif given[alias] > 1:
                yield f"{path}: the alias {alias!r} is given {given[alias]} times"


def _taken_routes(catalog: Catalog) -> Iterator[str]:
    """A public name is a model's, an alias's or a route's, never two of them."""
    routes = {route.name for route in catalog.routes}
    named = {model.name for model in catalog.models} | {name for model in catalog.models for name in model.aliases}
    taken = named | _existing(Model, "name", routes) | _existing(Alias, "name", routes)
    for index, route in enumerate(catalog.routes):
        if route.name in taken:
            yield f"routes[{index}].name: {route.name!r} is the name of a model or an alias"
    routes_there = _existing(Route, "name", named) - routes
    for index, model in enumerate(catalog.models):
        for path, name in (("name", model.name), *((f"aliases[{n}]", name) for n, name in enumerate(model.aliases))):
            if name in routes_there:
                yield f"models[{index}].{path}: {name!r} is the name of a route"


def _unknown_in_routes(catalog: Catalog) -> Iterator[str]:
    known = _models(catalog, [target.model for route in catalog.routes for target in route.targets or ()])
    for index, route in enumerate(catalog.routes):
        for place, target in enumerate(route.targets or ()):
            if target.model not in known:
                yield f"routes[{index}].targets[{place}].model: no model {target.model!r}"


def _unknown_in_models(catalog: Catalog) -> Iterator[str]:
    wanted = [model.provider for model in catalog.models]
    known = {row.name for row in catalog.providers} | _existing(Provider, "name", wanted)
    for index, name in enumerate(wanted):
        if name not in known:
            yield f"models[{index}].provider: no provider {name!r}"


def _unknown_in_prices(catalog: Catalog) -> Iterator[str]:
    known = _models(catalog, [row.model for row in catalog.prices])
    for index, sheet in enumerate(catalog.prices):
        path = f"prices[{index}]"
        if sheet.model not in known:
            yield f"{path}.model: no model {sheet.model!r}"
        if bool(sheet.rates) == sheet.discontinued:
            yield f"{path}.rates: a sheet has rates, unless it is discontinued"
        for place, rate in enumerate(sheet.rates):
            if rate.meter not in METERS:
                yield f"{path}.rates[{place}].meter: no meter {rate.meter!r} (known: {', '.join(sorted(METERS))})"


def _unknown_in_keys(catalog: Catalog) -> Iterator[str]:
    users = _users(catalog, [row.user for row in catalog.keys])
    teams = _teams(catalog, [row.team for row in catalog.keys if isinstance(row.team, str)])
    wanted = [name for row in catalog.keys if row.allowed_models is not UNSET for name in row.allowed_models]
    callable_names = (
        _models(catalog, wanted)
        | {alias for model in catalog.models for alias in model.aliases}
        | _existing(Alias, "name", wanted)
        | {route.name for route in catalog.routes}
        | _existing(Route, "name", wanted)
    )
    for index, key in enumerate(catalog.keys):
        if key.user not in users:
            yield f"keys[{index}].user: no user {key.user!r}"
        if isinstance(key.team, str) and key.team not in teams:
            yield f"keys[{index}].team: no team {key.team!r}"
        for place, name in enumerate(key.allowed_models or ()):
            if name not in callable_names:
                yield f"keys[{index}].allowed_models[{place}]: no model, alias or route {name!r}"


def _unknown_in_limits(catalog: Catalog) -> Iterator[str]:
    known = {
        "user": _users(catalog, [row.user for row in catalog.limits if row.user]),
        "team": _teams(catalog, [row.team for row in catalog.limits if row.team]),
        "model": _models(catalog, [row.model for row in catalog.limits if row.model]),
        "key": _keys(catalog, [row.key for row in catalog.limits if row.key]),
        "everyone": {""},
    }
    for index, limit in enumerate(catalog.limits):
        subject = subject_of(limit)
        if subject is None:
            yield f"limits[{index}]: name exactly one of key, user, team, model, or everyone: true"
        elif subject[1] not in known[subject[0]]:
            yield f"limits[{index}].{subject[0]}: no {subject[0]} {subject[1]!r}"


def _existing(table: type[Any], field: str, wanted: Iterable[str]) -> set[str]:
    """Those of the wanted names that the database has."""
    return set(table.objects.filter(**{f"{field}__in": set(wanted)}).values_list(field, flat=True))


def _models(catalog: Catalog, wanted: Iterable[str]) -> set[str]:
    return {row.name for row in catalog.models} | _existing(Model, "name", wanted)


def _users(catalog: Catalog, wanted: Iterable[str]) -> set[str]:
    return {row.username for row in catalog.users} | _existing(User, "username", wanted)


def _teams(catalog: Catalog, wanted: Iterable[str]) -> set[str]:
    return {row.name for row in catalog.teams} | _existing(Team, "name", wanted)


def _keys(catalog: Catalog, wanted: Sequence[str]) -> set[str]:
    users = {split_key(text)[0] for text in wanted}
    there = ApiKey.objects.filter(user__username__in=users).exclude(name="").values_list("user__username", "name")
    return {f"{row.user}/{row.name}" for row in catalog.keys} | {f"{user}/{name}" for user, name in there}
