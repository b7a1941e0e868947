"""GET /api/calls/ and /api/calls/{id}/."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ledger import call_reader, ids
from ledger.models import Adjustment, Call, Rate
from tests import factories
from tests.gateway.api.callers import Person, by_key, by_session, make_call_at, make_person, make_spend, recent
from tests.ids import call_id

pytestmark = [pytest.mark.django_db, pytest.mark.urls("gateway.api.urls")]


@pytest.fixture
def auditor() -> Client:
    return by_key(make_person("auditor", scopes=("read-spend",)).text)


def read(client: Client, query: str = "") -> dict[str, Any]:
    answer = client.get(f"/api/calls/?{query}")
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def ids_of(client: Client, query: str = "") -> list[str]:
    return [call["id"] for call in read(client, query)["results"]]


def all_pages(client: Client, query: str, *, meanwhile: Callable[[], object] = lambda: None) -> list[str]:
    """The ids of every page from the first on; `meanwhile` runs after each."""
    found: list[str] = []
    url: str | None = f"/api/calls/?{query}"
    while url:
        page = client.get(url).json()
        found += [call["id"] for call in page["results"]]
        url = page["next"] and f"/api/calls/?{urlsplit(page['next']).query}"
        meanwhile()
    return found


def test_pages_hold_every_call_once_newest_first_while_new_ones_arrive(auditor: Client) -> None:
    key, model = factories.make_key(), factories.make_model()
    # Several in the same millisecond, and several attempts of one request.
    moments = [recent(minutes_ago=60), *(recent(minutes_ago=59 - number) for number in range(10))]
    calls = [make_call_at(at, key=key, model=model) for at in moments for _ in range(2)]
    request_id, first = call_id(recent(30))
    for attempt in (1, 2, 3):
        calls.append(
            factories.make_call(
                key=key, model=model, id=UUID(int=request_id.int | attempt), request_id=request_id, attempt=attempt
            )
        )
    found = all_pages(
        auditor, "page_size=4", meanwhile=lambda: make_call_at(datetime.now(UTC), key=key, model=model)
    )  # fmt: skip
    assert found == sorted((str(call.id) for call in calls), reverse=True)
    assert str(first) in found


def test_previous_leads_back_to_the_page_before(auditor: Client) -> None:
    key, model = factories.make_key(), factories.make_model()
    for number in range(5):
        make_call_at(recent(number), key=key, model=model)
    first = read(auditor, "page_size=2")
    second = read(auditor, urlsplit(first["next"]).query)
    assert read(auditor, urlsplit(second["previous"]).query)["results"] == first["results"]


@pytest.mark.parametrize("name", ["user", "team", "key", "model", "provider"])
def test_filters_take_names_and_ids(auditor: Client, name: str) -> None:
    wanted, other = (factories.make_key(team=factories.make_team()) for _ in range(2))
    model = factories.make_model()
    at = recent(1)
    call = make_call_at(at, key=wanted, model=model)
    make_spend(key=wanted, model=model, day=at.date())
    make_call_at(recent(1), key=other, model=factories.make_model())
    assert wanted.team is not None
    values: tuple[Any, Any] = {
        "user": (wanted.user_id, wanted.user.username),
        "team": (wanted.team_id, wanted.team.name),
        "key": (wanted.pk, wanted.public_id),
        "model": (model.pk, model.name),
        "provider": (model.provider_id, model.provider.name),
    }[name]
    for value in values:
        assert ids_of(auditor, f"{name}={value}") == [str(call.id)]


@pytest.mark.parametrize("name", ["team", "provider"])
def test_what_has_no_index_is_looked_for_only_on_days_between_its_first_and_last_call(
    auditor: Client, name: str
) -> None:
    key, model = factories.make_key(team=factories.make_team()), factories.make_model()
    moments = [recent(days * 24 * 60) for days in (20, 12, 4)]
    calls = [make_call_at(at, key=key, model=model) for at in moments]
    for at in moments:
        make_spend(key=key, model=model, day=at.date())
    wanted = {"team": key.team_id, "provider": model.provider_id}[name]
    assert ids_of(auditor, f"{name}={wanted}") == [str(call.id) for call in reversed(calls)]

    with CaptureQueriesContext(connection) as queries:
        ids_of(auditor, f"{name}={wanted}")
    [page] = [query["sql"] for query in queries.captured_queries if 'FROM "ledger_call"' in query["sql"]]
    first, last = (datetime.combine(at.date(), time(), UTC) for at in (moments[0], moments[-1]))
    assert f"\"id\" >= '{ids.floor(first).hex}'" in page
    assert f"\"id\" < '{ids.floor(last + timedelta(days=1)).hex}'" in page


@pytest.mark.parametrize("name", ["team", "provider"])
def test_what_never_had_a_call_is_not_looked_for(auditor: Client, name: str) -> None:
    make_call_at(recent(1), key=factories.make_key(), model=factories.make_model())
    idle = {"team": factories.make_team(), "provider": factories.make_provider()}[name]

    with CaptureQueriesContext(connection) as queries:
        assert ids_of(auditor, f"{name}={idle.pk}") == []
    assert not [query["sql"] for query in queries.captured_queries if 'FROM "ledger_call"' in query["sql"]]


def test_it_filters_by_outcome_request_and_upstream_id(auditor: Client) -> None:
    key, model = factories.make_key(), factories.make_model()
    request_id, first = call_id(recent(3))
    second = UUID(int=request_id.int | 2)
    common: dict[str, Any] = {"key": key, "model": model, "request_id": request_id}
    factories.make_call(**common, id=first, attempt=1, outcome="failed", upstream_request_id="req_1")
    factories.make_call(**common, id=second, attempt=2, upstream_request_id="req_2")
    make_call_at(recent(1), key=key, model=model)
    assert ids_of(auditor, "outcome=failed") == [str(first)]
    assert ids_of(auditor, f"request_id={request_id}") == [str(second), str(first)]
    assert ids_of(auditor, "upstream_request_id=req_2") == [str(second)]


def test_from_is_included_and_an_instant_as_to_is_not(auditor: Client) -> None:
    key, model = factories.make_key(), factories.make_model()
    start = recent(minutes_ago=10).replace(microsecond=0)
    inside = make_call_at(start, key=key, model=model)
    for offset in (timedelta(milliseconds=-1), timedelta(minutes=2)):
        make_call_at(start + offset, key=key, model=model)
    end = start + timedelta(minutes=2)
    assert ids_of(auditor, f"from={start:%Y-%m-%dT%H:%M:%SZ}&to={end:%Y-%m-%dT%H:%M:%SZ}") == [str(inside.id)]
    # The + of an offset that nobody escaped arrives as a space.
    assert ids_of(auditor, f"from={start.isoformat()}&to={end.isoformat()}") == [str(inside.id)]


def test_a_day_as_to_is_included(auditor: Client) -> None:
    call = make_call_at(recent(1), key=factories.make_key(), model=factories.make_model())
    day = f"{call.started_at:%Y-%m-%d}"
    assert ids_of(auditor, f"from={day}&to={day}") == [str(call.id)]
    assert ids_of(auditor, f"from=0001-01-01&to={call.started_at - timedelta(days=1):%Y-%m-%d}") == []
    assert ids_of(auditor, "to=9999-12-31") == [str(call.id)]


def make_unpriced(**fields: Any) -> Call:
    return factories.make_call(
        cost_usd=None, cost_source="unknown", unpriced_reason="no rate for 'input'", counted_usd=Decimal(1), **fields
    )


def test_unpriced_calls_are_those_without_a_cost_to_this_day(auditor: Client) -> None:
    factories.make_call()
    unknown, settled = make_unpriced(), make_unpriced()
    Adjustment.objects.create(
        call=settled, delta_usd=Decimal("0.5"), counted_delta_usd=0, settles_unknown=True, reason="rerate"
    )
    assert ids_of(auditor, "unpriced=true") == [str(unknown.id)]
    assert len(ids_of(auditor, "unpriced=false")) == 3


def test_an_unknown_cost_is_null_and_never_zero(auditor: Client) -> None:
    make_unpriced()
    [call] = read(auditor)["results"]
    assert (call["cost_usd"], call["total_usd"]) == (None, None)
    assert call["unpriced_reason"] == "no rate for 'input'"


def test_a_settled_unknown_has_a_total(auditor: Client) -> None:
    call = make_unpriced()
    for delta, settles in (("0.5", True), ("-0.1", False)):
        Adjustment.objects.create(
            call=call, delta_usd=Decimal(delta), counted_delta_usd=0, settles_unknown=settles, reason="manual"
        )
    [shown] = read(auditor)["results"]
    assert (shown["cost_usd"], shown["adjustments_usd"]) == (None, "0.400000000000")
    assert shown["total_usd"] == "0.400000000000"


def test_the_queries_of_a_page_do_not_grow_with_it(
    auditor: Client, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    for _ in range(12):
        factories.make_call()
    # The key, the page, one for each of five names, the adjustments.
    with django_assert_max_num_queries(8):
        assert len(ids_of(auditor)) == 12


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("cursor=nonsense", "cursor"),
        ("cursor=cD1ub3QtYS11dWlk", "cursor"),
        ("page_size=0", "page_size"),
        ("page_size=201", "page_size"),
        ("page_size=ten", "page_size"),
        ("from=soon", "from"),
        ("to=2026-11-01T12:00:00", "to"),
        ("from=2026-11-02&to=2026-10-01", "from"),
        ("request_id=x", "request_id"),
        ("unpriced=maybe", "unpriced"),
        ("outcome=good", "outcome"),
        ("user=nobody", "user"),
        ("upstream_request_id=%00", "upstream_request_id"),
        ("tag=x", "tag"),
    ],
)
def test_a_wrong_parameter_is_an_error_that_names_it(auditor: Client, query: str, param: str) -> None:
    answer = auditor.get(f"/api/calls/?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


# --- one call -------------------------------------------------------------------------------------------------


def test_one_call_shows_the_lines_its_cost_is_made_of(auditor: Client) -> None:
    model = factories.make_model()
    sheet = factories.make_sheet(model=model, rates={"input": "0.15", "output": "0.6"}, per=1_000_000)
    call = factories.make_call(
        model=model, price_sheet=sheet, input_tokens=24, output_tokens=10, meters={"input": 24, "output": 10},
        cost_usd=Decimal("0.0000096"), raw_usage={"prompt_tokens": 24},
    )  # fmt: skip
    shown = auditor.get(f"/api/calls/{call.id}/").json()
    assert [line["text"] for line in shown["lines"]] == [
        "24 input tokens x 0.15 per 1,000,000 = 0.0000036",
        "10 output tokens x 0.6 per 1,000,000 = 0.000006",
    ]
    assert shown["lines"][0]["quantity"] == "24"
    assert shown["lines"][0]["cost_usd"] == "0.000003600000"
    assert shown["sum_check"] == {"lines_usd": "0.000009600000", "cost_usd": "0.000009600000", "equal": True}
    assert sum(Decimal(line["cost_usd"]) for line in shown["lines"]) == Decimal(shown["cost_usd"])
    assert shown["raw_usage"] == {"prompt_tokens": 24}


def test_the_sum_check_tells_when_a_cost_is_not_what_its_meters_make(auditor: Client) -> None:
    model = factories.make_model()
    call = factories.make_call(model=model, price_sheet=factories.make_sheet(model=model), cost_usd=Decimal("0.07"))
    check = auditor.get(f"/api/calls/{call.id}/").json()["sum_check"]
    assert check == {"lines_usd": "0.060000000000", "cost_usd": "0.070000000000", "equal": False}


def test_a_call_without_a_sheet_has_no_lines_and_nothing_to_check(auditor: Client) -> None:
    shown = auditor.get(f"/api/calls/{make_unpriced().id}/").json()
    assert shown["lines"] == []
    assert shown["sum_check"] == {"lines_usd": None, "cost_usd": None, "equal": None}


def test_one_call_shows_its_adjustments(auditor: Client) -> None:
    call = factories.make_call()
    Adjustment.objects.create(
        call=call, delta_usd=Decimal("-0.01"), counted_delta_usd=0, reason="reconcile", note="credit", reference="r-1"
    )
    shown = auditor.get(f"/api/calls/{call.id}/").json()
    [adjustment] = shown["adjustments"]
    assert (adjustment["delta_usd"], adjustment["reason"], adjustment["reference"]) == (
        "-0.010000000000", "reconcile", "r-1",
    )  # fmt: skip
    assert (shown["cost_usd"], shown["total_usd"]) == ("0.060000000000", "0.050000000000")


def test_fractions_of_a_unit_are_rated_exactly() -> None:
    model = factories.make_model()
    sheet = factories.make_sheet(model=model, rates={"audio_seconds": "0.01"}, per=1)
    call = factories.make_call(
        model=model, price_sheet=sheet, meters={"audio_seconds": "1.1"}, cost_usd=Decimal("0.011")
    )
    assert call_reader.explained(call).adds_up is True


def test_rates_bound_to_days_are_those_of_the_calls_own_beginning() -> None:
    model = factories.make_model()
    sheet = factories.make_sheet(model=model, rates={"input": "0.03"}, published=False)
    begun = datetime.now(UTC) - timedelta(days=3)
    Rate.objects.create(sheet=sheet, meter="input", amount_usd=Decimal("0.01"), per=1000, weekdays=1 << begun.weekday())
    call = factories.make_call(
        model=model, price_sheet=sheet, meters={"input": 1000}, started_at=begun, cost_usd=Decimal("0.01")
    )
    assert call_reader.explained(call).adds_up is True


# --- who sees what --------------------------------------------------------------------------------------------


class World:
    """A call by Alice's key, one by her second key, one by Bob's."""

    def __init__(self) -> None:
        self.alice, self.bob = make_person("alice"), make_person("bob")
        self.second = factories.make_key(user=self.alice.user)
        model = factories.make_model()
        self.calls = {
            name: str(make_call_at(recent(1), key=key, model=model).id)
            for name, key in (("first", self.alice.key), ("second", self.second), ("bob", self.bob.key))
        }


def _person(scopes: tuple[str, ...]) -> Person:
    return make_person("reader", scopes=scopes)


CALLERS: dict[str, tuple[Callable[[World], Client], set[str]]] = {
    "plain key": (lambda world: by_key(world.alice.text), {"first"}),
    "read-spend key": (lambda world: by_key(_person(("read-spend",)).text), {"first", "second", "bob"}),
    "admin key": (lambda world: by_key(_person(("admin",)).text), {"first", "second", "bob"}),
    "plain session": (lambda world: by_session(world.alice.user), {"first", "second"}),
    "stranger's session": (lambda world: by_session(factories.make_user()), set()),
    "staff session": (lambda world: by_session(factories.make_user(staff=True)), {"first", "second", "bob"}),
}


@pytest.mark.parametrize("who", CALLERS)
def test_each_caller_sees_what_is_theirs_and_finds_nothing_else(who: str) -> None:
    make_client, visible = CALLERS[who]
    world = World()
    client = make_client(world)
    assert set(ids_of(client)) == {world.calls[name] for name in visible}
    for name, identifier in world.calls.items():
        expected = 200 if name in visible else 404
        assert client.get(f"/api/calls/{identifier}/").status_code == expected, name


def test_somebody_elses_call_is_told_like_one_that_does_not_exist() -> None:
    world = World()
    client = by_key(world.alice.text)
    answers = [client.get(f"/api/calls/{identifier}/") for identifier in (world.calls["bob"], str(uuid4()))]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    words = [answer.json()["error"]["message"].split()[:4] for answer in answers]
    assert words[0] == words[1]


@pytest.mark.parametrize("who", ["plain key", "plain session"])
def test_nobody_reaches_others_by_filters(who: str) -> None:
    world = World()
    client = CALLERS[who][0](world)
    assert client.get("/api/calls/?user=bob").status_code == 400
    assert client.get(f"/api/calls/?key={world.bob.key.pk}").status_code == 400
    request_id = UUID(int=UUID(world.calls["bob"]).int & ~0xFF)
    assert ids_of(client, f"request_id={request_id}") == []
