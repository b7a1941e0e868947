"""The callers that the /api/ endpoints tell apart, and what is recorded for two people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from django.contrib.auth.models import User
from django.test import Client

from ledger.keys import create_key
from ledger.models import ApiKey, Call, DailySpend
from providers.models import Model
from tests import factories
from tests.ids import call_id


class Person(msgspec.Struct, frozen=True):
    user: User
    key: ApiKey
    text: str


def make_person(username: str, *, scopes: tuple[str, ...] = ("call",), staff: bool = False) -> Person:
    """A user with a key whose text can be sent."""
    user = factories.make_user(username=username, staff=staff)
    key, text = create_key(user=user, scopes=scopes)
    return Person(user=user, key=key, text=text)


def by_key(text: str) -> Client:
    return Client(headers={"authorization": f"Bearer {text}"})


def by_session(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_call_at(at: datetime, *, key: ApiKey, model: Model, attempt: int = 1, **fields: Any) -> Call:
    """A call whose id is of the instant `at`."""
    request_id, identifier = call_id(at, attempt)
    return factories.make_call(
        key=key, model=model, id=identifier, request_id=request_id, attempt=attempt, started_at=at, **fields
    )


def make_spend(*, key: ApiKey, model: Model, day: date, cost_usd: str = "0.06", **fields: Any) -> DailySpend:
    """One rollup row."""
    values: dict[str, Any] = {"outcome": "ok", "slot": 1, "calls": 1, "input_tokens": 1000, "output_tokens": 500}
    return DailySpend.objects.create(
        day=day, user=key.user, team=key.team, key=key, model=model, provider=model.provider,
        cost_usd=Decimal(cost_usd), **{**values, **fields},
    )  # fmt: skip


def recent(minutes_ago: float) -> datetime:
    return datetime.now(UTC) - timedelta(minutes=minutes_ago)


Caller = Callable[[], Client]
