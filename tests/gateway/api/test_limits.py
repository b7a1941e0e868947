"""GET /api/limits/."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from ledger import limit_reader
from ledger.models import Limit, LimitWindow
from tests import factories
from tests.gateway.api.callers import by_key, by_session, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.urls("gateway.api.urls")]
# A Wednesday.
NOON = datetime(2026, 11, 18, 12, 34, 45, tzinfo=UTC)


def state_at(limit: Limit, at: datetime = NOON) -> limit_reader.LimitState:
    [state] = limit_reader.states(Limit.objects.filter(pk=limit.pk), at=at)
    return state


def make_window(limit: Limit, starts_at: datetime, *, used: str = "0", held: str = "0") -> None:
    LimitWindow.objects.create(limit=limit, starts_at=starts_at, used=Decimal(used), held=Decimal(held))


@pytest.mark.parametrize(
    ("period", "starts_at", "resets_at"),
    [
        ("hour", datetime(2026, 11, 18, 12, tzinfo=UTC), datetime(2026, 11, 18, 13, tzinfo=UTC)),
        ("day", datetime(2026, 11, 18, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC)),
        ("week", datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        ("total", datetime(1970, 1, 1, tzinfo=UTC), None),
    ],
)
def test_it_reads_the_window_of_the_current_period(
    period: str, starts_at: datetime, resets_at: datetime | None
) -> None:
    limit = factories.make_limit(amount="10", period=period)
    make_window(limit, starts_at, used="3.000000000001", held="0.5")
    make_window(limit, starts_at - timedelta(days=40), used="9")
    state = state_at(limit)
    assert (state.used, state.held) == (Decimal("3.000000000001"), Decimal("0.5"))
    assert state.remaining == Decimal("6.499999999999")
    assert (state.starts_at, state.resets_at) == (starts_at, resets_at)


def test_a_period_without_calls_has_everything_left() -> None:
    state = state_at(factories.make_limit(amount="10"))
    assert (state.used, state.held, state.remaining) == (Decimal(0), Decimal(0), Decimal(10))


def test_what_is_left_is_never_below_zero() -> None:
    limit = factories.make_limit(amount="1")
    make_window(limit, NOON.replace(hour=0, minute=0, second=0), used="5")
    assert state_at(limit).remaining == 0


def test_a_sliding_minute_still_counts_its_share_of_the_minute_before() -> None:
    limit = factories.make_limit(amount="100", metric="requests", period="minute")
    minute = NOON.replace(second=0)
    make_window(limit, minute, used="5")
    make_window(limit, minute - timedelta(minutes=1), used="30", held="10")
    # 45 of 60 seconds have passed: a quarter of the 40 is still in view.
    state = state_at(limit)
    assert (state.used, state.remaining) == (Decimal(15), Decimal(85))
    assert state.resets_at == minute + timedelta(minutes=1)


def test_disabled_limits_are_not_shown() -> None:
    factories.make_limit(enabled=False)
    assert not limit_reader.limits_of_everyone().exists()


class World:
    """A limit on each subject that Alice's key can meet, and on each of Bob's."""

    def __init__(self) -> None:
        self.alice, bob = make_person("alice"), make_person("bob")
        self.red, blue = factories.make_team(name="red"), factories.make_team(name="blue")
        for person, team in ((self.alice, self.red), (bob, blue)):
            person.key.team = team
            person.key.save()
        self.second = factories.make_key(user=self.alice.user)
        self.gpt, claude = factories.make_model(name="gpt-4", aliases=["gpt"]), factories.make_model(name="claude")
        subjects: dict[str, dict[str, Any]] = {
            "alice's key": {"key": self.alice.key},
            "alice's second key": {"key": self.second},
            "bob's key": {"key": bob.key},
            "alice": {"user": self.alice.user},
            "bob": {"user": bob.user},
            "red": {"team": self.red},
            "blue": {"team": blue},
            "gpt-4": {"model": self.gpt},
            "claude": {"model": claude},
            "everyone": {},
        }
        self.names = {factories.make_limit(**subject).pk: name for name, subject in subjects.items()}


def _restricted(world: World) -> Client:
    world.alice.key.allowed_models = ["gpt"]
    world.alice.key.save()
    return by_key(world.alice.text)


_BOTH = {"everyone", "gpt-4", "claude"}
_ALL = {"alice's key", "alice's second key", "bob's key", "alice", "bob", "red", "blue", *_BOTH}
CALLERS: dict[str, tuple[Callable[[World], Client], set[str]]] = {
    "plain key": (lambda world: by_key(world.alice.text), {"alice's key", "alice", "red", *_BOTH}),
    "key of one model": (_restricted, {"alice's key", "alice", "red", "everyone", "gpt-4"}),
    "plain session": (
        lambda world: by_session(world.alice.user),
        {"alice's key", "alice's second key", "alice", "red", *_BOTH},
    ),
    "stranger's session": (lambda world: by_session(factories.make_user()), _BOTH),
    "read-spend key": (lambda world: by_key(make_person("eve", scopes=("read-spend",)).text), _ALL),
    "staff session": (lambda world: by_session(factories.make_user(staff=True)), _ALL),
}


@pytest.mark.parametrize("who", CALLERS)
def test_each_caller_sees_the_limits_that_it_can_meet(who: str) -> None:
    make_client, expected = CALLERS[who]
    world = World()
    answer = make_client(world).get("/api/limits/").json()
    assert [world.names[limit["id"]] for limit in answer["limits"]] == [
        name for name in world.names.values() if name in expected
    ]


def test_amounts_are_text_and_subjects_have_names() -> None:
    person = make_person("alice")
    factories.make_limit(user=person.user, amount="12.5", period="total")
    [limit] = by_key(person.text).get("/api/limits/").json()["limits"]
    assert (limit["subject"], limit["subject_name"], limit["metric"], limit["period"]) == (
        "user", "alice", "usd", "total",
    )  # fmt: skip
    assert (limit["amount"], limit["used"], limit["remaining"]) == (
        "12.500000000000", "0.000000000000", "12.500000000000",
    )  # fmt: skip
    assert limit["resets_at"] is None
