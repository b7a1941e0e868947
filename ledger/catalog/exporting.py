"""The catalog of the database as a file that `apply` takes back without a change. It holds no secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import yaml
from django.contrib.auth.models import User
from django.db.models import Field
from django.db.models import Model as Row
from django.utils import timezone
from msgspec import Struct, structs

from ledger import keys
from ledger.catalog.schema import ModelEntry, ProviderEntry, RateEntry, UserEntry
from ledger.models import ApiKey, Limit, PriceSheet, Rate, Team
from providers.models import Model, Provider, Route, RouteTarget


def export() -> str:
    """YAML of everything a catalog file can declare.

    Left out, because a file cannot say them: secrets, drafts, and keys that are nameless, ended or replaced (with the
    limits on them).
    """
    exported_keys = _keys()
    sections = {
        "providers": [_stated(ProviderEntry, row) for row in Provider.objects.defer("credential_secret")],
        "models": list(_models()),
        "routes": list(_routes()),
        "prices": list(_prices()),
        "teams": [{"name": team.name} for team in Team.objects.all()],
        "users": [_stated(UserEntry, user) for user in User.objects.order_by("username")],
        "keys": [_key(key) for key in exported_keys],
        "limits": list(_limits({key.pk for key in exported_keys})),
    }
    filled = {name: rows for name, rows in sections.items() if rows}
    return str(yaml.dump(filled, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120))


def _stated(entry: type[Struct], row: Row) -> dict[str, Any]:
    """The row's fields that the entry knows and whose value is not the default of a new row."""
    stated: dict[str, Any] = {}
    for name in entry.__struct_fields__:
        if name in ("credential_secret", "provider", "aliases"):
            continue
        column = row._meta.get_field(name)
        value = getattr(row, name)
        if isinstance(column, Field) and value != column.get_default():
            stated[name] = value
    return stated


def _models() -> Iterator[dict[str, Any]]:
    models = Model.objects.select_related("provider").defer("provider__credential_secret")
    for model in models.prefetch_related("aliases"):
        stated = _stated(ModelEntry, model)
        aliases = [alias.name for alias in model.aliases.all()]
        yield {"name": stated.pop("name"), "provider": model.provider.name, **stated} | (
            {"aliases": aliases} if aliases else {}
        )


def _routes() -> Iterator[dict[str, Any]]:
    """Routes with all their targets, in the order in which they are tried."""
    for route in Route.objects.prefetch_related("targets__model"):
        entry: dict[str, Any] = {"name": route.name, "strategy": route.strategy}
        if not route.enabled:
            entry["enabled"] = False
        targets = sorted(route.targets.all(), key=lambda target: (target.priority, target.pk))
        yield entry | {"targets": [_route_target(target) for target in targets]}


def _route_target(target: RouteTarget) -> dict[str, Any]:
    entry: dict[str, Any] = {"model": target.model.name, "priority": target.priority, "weight": target.weight}
    return entry if target.enabled else entry | {"enabled": False}


def _prices() -> Iterator[dict[str, Any]]:
    published = PriceSheet.objects.filter(status=PriceSheet.Status.PUBLISHED).select_related("model")
    for sheet in published.prefetch_related("rates").order_by("model__name", "book", "valid_from"):
        entry: dict[str, Any] = {"model": sheet.model.name, "book": sheet.book, "valid_from": sheet.valid_from}
        for name in ("discontinued", "history_unknown", "source_url", "reason"):
            if getattr(sheet, name):
                entry[name] = getattr(sheet, name)
        rates = [_rate(rate) for rate in sorted(sheet.rates.all(), key=_place)]
        yield entry | ({"rates": rates} if rates else {})


def _rate(row: Rate) -> dict[str, Any]:
    """One rate; conditions that are 'any' are left out."""
    values = {known.name: (getattr(row, known.name), known.default) for known in structs.fields(RateEntry)}
    return {name: value for name, (value, default) in values.items() if value != default}


def _place(row: Rate) -> tuple[str, ...]:
    """An order that depends on what a rate says alone."""
    named = (row.meter, f"{row.above_tokens:09}", row.service_tier, row.speed, row.region, row.variant)
    return (*named, str(row.weekdays), str(row.window_start))


def _keys() -> list[ApiKey]:
    """The newest key of each user and name, if it may still be used."""
    named = ApiKey.objects.exclude(name="").select_related("user", "team").order_by("id")
    newest = {(key.user.pk, key.name): key for key in named}
    now = timezone.now()
    return [key for key in newest.values() if keys.is_active(key, at=now)]


def _key(key: ApiKey) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": key.name, "user": key.user.username, "scopes": list(key.scopes)}
    if key.team:
        entry["team"] = key.team.name
    if key.allowed_models:
        entry["allowed_models"] = list(key.allowed_models)
    if key.expires_at:
        entry["expires_at"] = key.expires_at
    return entry


def _limits(exported_keys: set[int]) -> Iterator[dict[str, Any]]:
    for limit in Limit.objects.select_related("key__user", "user", "team", "model"):
        if limit.key_id is not None and limit.key_id not in exported_keys:
            continue
        entry = {**_subject(limit), "metric": limit.metric, "period": limit.period, "amount": limit.amount}
        if limit.action != Limit.Action.BLOCK:
            entry["action"] = limit.action
        yield entry | {
            "mode": limit.mode,
            "alert_thresholds": list(limit.alert_thresholds),
            "enabled": limit.enabled,
        }


def _subject(limit: Limit) -> dict[str, Any]:
    if limit.key:
        return {"key": f"{limit.key.user.username}/{limit.key.name}"}
    if limit.user:
        return {"user": limit.user.username}
    if limit.team:
        return {"team": limit.team.name}
    if limit.model:
        return {"model": limit.model.name}
    return {"everyone": True}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that writes amounts as quoted decimal text, instants as quoted ISO text and rates on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _instant(dumper: _Dumper, value: datetime) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value.astimezone(UTC).isoformat(), style='"')


_Dumper.add_representer(datetime, _instant)
_Dumper.add_representer(
    Decimal, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", f"{value.normalize():f}", style='"')
)
_Dumper.add_representer(
    time, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value.isoformat(), style='"')
)
# Choices read from a row are plain text; those of a fresh row are an enum's.
_Dumper.add_multi_representer(str, lambda dumper, value: dumper.represent_str(str(value)))
