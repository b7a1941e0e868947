"""Makes the database agree with a catalog: all of it or nothing, and nothing the second time."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from msgspec import UNSET, Struct, structs

from ledger import keys
from ledger.catalog.changes import Change, lines
from ledger.catalog.parsing import CatalogError
from ledger.catalog.pricing import keep_prices
from ledger.catalog.recording import Recorder
from ledger.catalog.references import faults, split_key, subject_of
from ledger.catalog.routes import keep_routes
from ledger.catalog.schema import Catalog, KeyEntry, LimitEntry
from ledger.models import ApiKey, Limit, Team
from providers.models import Alias, Model, Provider
from providers.validation import provider_faults


class Outcome(Struct, frozen=True):
    """What was (or would be) changed. `key_texts` are (USER/NAME, text) of new keys: shown once, empty in a dry run."""

    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    unchanged: int
    key_texts: tuple[tuple[str, str], ...]

    def lines(self) -> list[str]:
        """The diff for people."""
        return lines(changes=self.changes, notes=self.notes, unchanged=self.unchanged)


def apply(*, catalog: Catalog, dry_run: bool = False) -> Outcome:
    """Apply `catalog` in one transaction, which a dry run rolls back. Raises CatalogError, and then nothing changed."""
    found = faults(catalog)
    if found:
        raise CatalogError(found)
    recorder = Recorder()
    with transaction.atomic():
        for keep in (_providers, _models, _aliases, keep_routes, keep_prices, _teams, _users, _keys, _limits):
            keep(catalog, recorder)
            if recorder.errors:
                raise CatalogError(recorder.errors)
        if dry_run:
            transaction.set_rollback(True)
    return Outcome(
        changes=tuple(recorder.changes),
        notes=tuple(recorder.notes),
        unchanged=recorder.unchanged,
        key_texts=() if dry_run else tuple(recorder.key_texts),
    )


def _providers(catalog: Catalog, recorder: Recorder) -> None:
    # Deferred, so that a secret which cannot be decrypted stops only the file that sets it anew.
    there = {row.name: row for row in Provider.objects.defer("credential_secret")}
    for index, entry in enumerate(catalog.providers):
        row = there.get(entry.name) or Provider(name=entry.name)
        values = _given(entry, without=("name",))
        if "settings" in values:
            values["settings"] = _json(values["settings"])
        recorder.keep(
            path=f"providers[{index}]",
            what=f"provider {entry.name}",
            row=row,
            values=values,
            faults=lambda row=row: provider_faults(row),  # type: ignore[misc]
        )


def _models(catalog: Catalog, recorder: Recorder) -> None:
    providers = {row.name: row for row in Provider.objects.defer("credential_secret")}
    stored = Model.objects.select_related("provider").defer("provider__credential_secret")
    there = {row.name: row for row in stored}
    for index, entry in enumerate(catalog.models):
        row = there.get(entry.name) or Model(name=entry.name, upstream_name=entry.name)
        values = _given(entry, without=("name", "aliases", "provider"))
        if row._state.adding:
            values.setdefault("upstream_name", entry.name)
        if "capabilities" in values:
            values["capabilities"] = list(values["capabilities"])
        values["provider"] = providers[entry.provider]
        recorder.keep(path=f"models[{index}]", what=f"model {entry.name}", row=row, values=values)


def _aliases(catalog: Catalog, recorder: Recorder) -> None:
    models = {row.name: row for row in Model.objects.all()}
    there = {row.name: row for row in Alias.objects.select_related("model")}
    for index, entry in enumerate(catalog.models):
        for place, name in enumerate(entry.aliases):
            row = there.get(name) or Alias(name=name)
            recorder.keep(
                path=f"models[{index}].aliases[{place}]",
                what=f"alias {name}",
                row=row,
                values={"model": models[entry.name]},
            )


def _teams(catalog: Catalog, recorder: Recorder) -> None:
    there = {row.name: row for row in Team.objects.all()}
    for index, entry in enumerate(catalog.teams):
        row = there.get(entry.name) or Team(name=entry.name)
        recorder.keep(path=f"teams[{index}]", what=f"team {entry.name}", row=row, values={})


def _users(catalog: Catalog, recorder: Recorder) -> None:
    there = {row.username: row for row in User.objects.filter(username__in=[row.username for row in catalog.users])}
    for index, entry in enumerate(catalog.users):
        row = there.get(entry.username)
        if row is None:
            row = User(username=entry.username)
            row.set_unusable_password()
        recorder.keep(
            path=f"users[{index}]",
            what=f"user {entry.username}",
            row=row,
            values=_given(entry, without=("username",)),
        )


def _keys(catalog: Catalog, recorder: Recorder) -> None:
    users = {row.username: row for row in User.objects.filter(username__in=[row.user for row in catalog.keys])}
    teams = {row.name: row for row in Team.objects.all()}
    there = _newest_keys(row.user for row in catalog.keys)
    for index, entry in enumerate(catalog.keys):
        values = _given(entry, without=("name", "user", "team"))
        values |= {name: list(values[name]) for name in ("scopes", "allowed_models") if name in values}
        if entry.team is not UNSET:
            values["team"] = teams[entry.team] if entry.team else None
        row = there.get((entry.user, entry.name))
        if row is None:
            _new_key(entry, user=users[entry.user], values=values, recorder=recorder)
        elif not keys.is_active(row, at=timezone.now()):
            # Never made anew: a file applied at every deployment would undo a revocation.
            recorder.notes.append(f"key {entry.user}/{entry.name} is revoked or expired: left as it is")
        else:
            recorder.keep(path=f"keys[{index}]", what=f"key {entry.user}/{entry.name}", row=row, values=values)


def _new_key(entry: KeyEntry, *, user: User, values: Mapping[str, Any], recorder: Recorder) -> None:
    _, text = keys.create_key(user=user, name=entry.name, **values)
    recorder.tell(what=f"key {entry.user}/{entry.name}")
    recorder.key_texts.append((f"{entry.user}/{entry.name}", text))


def _newest_keys(usernames: Any) -> dict[tuple[str, str], ApiKey]:
    """(user, name) -> the newest key of that name: after a rotation that is the successor."""
    found = ApiKey.objects.filter(user__username__in=set(usernames)).exclude(name="").select_related("user", "team")
    return {(row.user.username, row.name): row for row in found.order_by("id")}


def _limits(catalog: Catalog, recorder: Recorder) -> None:
    for index, entry in enumerate(catalog.limits):
        subject, name = subject_of(entry) or ("everyone", "")
        target = {} if subject == "everyone" else {subject: _target(subject, name)}
        identity = {"metric": entry.metric, "period": entry.period, "action": entry.action, "subject": subject}
        row = Limit.objects.filter(**identity, **target).first() or Limit(**identity, **target)
        recorder.keep(
            path=f"limits[{index}]",
            what=f"limit {_limit_name(entry, subject=subject, name=name)}",
            row=row,
            values=_limit_values(entry),
        )


def _target(subject: str, name: str) -> Any:
    if subject == "key":
        user = split_key(name)
        return _newest_keys([user[0]])[user]
    if subject == "user":
        return User.objects.get(username=name)
    table = Team if subject == "team" else Model
    return table.objects.get(name=name)


def _limit_name(entry: LimitEntry, *, subject: str, name: str) -> str:
    return f"{subject} {name} {entry.metric} per {entry.period} ({entry.action})".replace("  ", " ")


def _limit_values(entry: LimitEntry) -> dict[str, Any]:
    values: dict[str, Any] = {"amount": entry.amount}
    for name in ("mode", "enabled"):
        if getattr(entry, name) is not UNSET:
            values[name] = getattr(entry, name)
    if entry.alert_thresholds is not UNSET:
        values["alert_thresholds"] = list(entry.alert_thresholds)
    return values


def _given(entry: Struct, *, without: tuple[str, ...]) -> dict[str, Any]:
    """The fields that the file states."""
    return {name: value for name, value in structs.asdict(entry).items() if value is not UNSET and name not in without}


def _json(value: Any) -> Any:
    """`value` with JSON's own numbers: settings hold no money."""
    if isinstance(value, dict):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return float(value) if isinstance(value, Decimal) else value
