"""manage.py create_key --user alice: an API key for a script, with limits, in one transaction."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from msgspec import Struct

from ledger import keys
from ledger.models import ApiKey, Limit, Team
from providers.models import Alias, Model


class LimitText(Struct, frozen=True):
    metric: str
    period: str
    amount: Decimal


class Command(BaseCommand):
    help = "Create an API key and print its text, once. The user (without a password) and the team are made if missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", required=True, help="User name; created when there is none.")
        parser.add_argument("--team", help="Team name; created when there is none.")
        parser.add_argument("--name", default="", help="What the key is for.")
        parser.add_argument("--models", default="", help="Names or aliases it may call, with commas; empty: all.")
        parser.add_argument("--scopes", default="call", help=f"With commas: {', '.join(ApiKey.Scope.values)}.")
        parser.add_argument("--expires", help="ISO date and time, UTC unless it says otherwise: 2027-01-31T00:00:00Z.")
        parser.add_argument(
            "--limit", action="append", default=[], metavar="METRIC:PERIOD:AMOUNT", help="usd:month:100 (repeatable)."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        limits = [_limit(text) for text in options["limit"]]
        scopes = _words(options["scopes"])
        expires_at = _instant(options["expires"])
        allowed_models = _callable_names(_words(options["models"]))
        with transaction.atomic():
            user, user_made = _user(options["user"])
            team, team_made = _team(options["team"])
            try:
                key, text = keys.create_key(
                    user=user,
                    team=team,
                    name=_short(options["name"], what="--name"),
                    scopes=scopes,
                    allowed_models=allowed_models,
                    expires_at=expires_at,
                )
            except ValueError as error:
                raise CommandError(f"--scopes: {error}") from None
            for limit in limits:
                _save(Limit(subject=Limit.Subject.KEY, key=key, **_fields(limit)), what="--limit")
        made = [f"user {user}"] * user_made + [f"team {team}"] * team_made
        told = _json(key, text=text, limits=limits, made=made) if options["json"] else _told(text, made=made)
        self.stdout.write(told)


def _told(text: str, *, made: list[str]) -> str:
    """The key alone on its line, so that a script can take the last line."""
    return "\n".join([*(f"Created {what}." for what in made), "The key, shown only now:", text])


def _json(key: ApiKey, *, text: str, limits: list[LimitText], made: list[str]) -> str:
    return json.dumps(
        {
            "key": text,
            "public_id": key.public_id,
            "name": key.name,
            "user": key.user.username,
            "team": key.team.name if key.team else None,
            "scopes": key.scopes,
            "allowed_models": key.allowed_models,
            "expires_at": key.expires_at.isoformat() if key.expires_at else None,
            "limits": [_fields(limit) | {"amount": f"{limit.amount:f}"} for limit in limits],
            "created": made,
        }
    )


def _fields(limit: LimitText) -> dict[str, Any]:
    return {"metric": limit.metric, "period": limit.period, "amount": limit.amount}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _limit(text: str) -> LimitText:
    """'usd:month:100'. Raises CommandError naming the three parts."""
    form = (
        f"--limit {text!r}: write METRIC:PERIOD:AMOUNT, where METRIC is one of {', '.join(Limit.Metric.values)},"
        f" PERIOD one of {', '.join(Limit.Period.values)}, and AMOUNT a number of zero or more (usd:month:100)"
    )
    metric, period, amount = (*text.split(":"), "", "", "")[:3]
    if text.count(":") != 2 or metric not in Limit.Metric.values or period not in Limit.Period.values:
        raise CommandError(f"{form}.")
    try:
        number = Decimal(amount)
    except InvalidOperation:
        raise CommandError(f"{form}: {amount!r} is no number.") from None
    if not number.is_finite() or number < 0:
        raise CommandError(f"{form}: {amount!r} is no such number.")
    return LimitText(metric, period, number)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--expires {text!r}: write an ISO date and time, such as 2027-01-31T00:00:00Z.") from None
    instant = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    if instant <= datetime.now(UTC):
        raise CommandError(f"--expires {text!r} has passed already.")
    return instant


def _callable_names(names: list[str]) -> list[str]:
    for name in names:
        if not (Model.objects.filter(name=name).exists() or Alias.objects.filter(name=name).exists()):
            raise CommandError(f"--models: there is no model or alias {name!r}.")
    return names


def _user(username: str) -> tuple[User, bool]:
    user = User.objects.filter(username=username).first()
    if user is not None:
        return user, False
    user = User(username=username)
    user.set_unusable_password()
    _save(user, what="--user")
    return user, True


def _team(name: str | None) -> tuple[Team | None, bool]:
    if not name:
        return None, False
    team = Team.objects.filter(name=name).first()
    if team is not None:
        return team, False
    team = Team(name=name)
    _save(team, what="--team")
    return team, True


def _save(row: User | Team | Limit, *, what: str) -> None:
    try:
        row.full_clean()
    except ValidationError as error:
        raise CommandError(f"{what}: {' '.join(error.messages)}") from None
    row.save()


def _short(name: str, *, what: str) -> str:
    if len(name) > 100 or "\x00" in name:
        raise CommandError(f"{what}: at most 100 characters, none of them NUL.")
    return name
