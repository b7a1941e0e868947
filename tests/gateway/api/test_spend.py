"""GET /api/spend/."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from gateway.api.spend import safe_cell
from tests import factories
from tests.gateway.api.callers import Person, by_key, by_session, make_person, make_spend

pytestmark = [pytest.mark.django_db, pytest.mark.urls("gateway.api.urls")]
PERIOD = "from=2026-11-01&to=2026-11-30"
DAY = date(2026, 11, 5)


def read(client: Client, query: str) -> dict[str, Any]:
    answer = client.get(f"/api/spend/?{query}")
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def rows_of(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode())))


@pytest.fixture
def auditor() -> Client:
    return by_key(make_person("auditor", scopes=("read-spend",)).text)


def test_json_and_csv_have_the_same_totals_to_the_last_digit(auditor: Client) -> None:
    models = [factories.make_model(name="gpt-4"), factories.make_model(name="claude")]
    for number in range(7):
        make_spend(
            key=factories.make_key(), model=models[number % 2], day=DAY, cost_usd=f"{number}.1234567890{number}1",
            adjustments_usd=Decimal(f"-0.00000000000{number}"), unpriced_calls=number % 2,
        )  # fmt: skip
    query = f"{PERIOD}&group_by=user,model,day"
    report = read(auditor, query)
    answer = auditor.get(f"/api/spend/?{query}&format=csv")
    rows = rows_of(answer.content)
    assert len(rows) == len(report["rows"]) == 7
    # A rate is not in the CSV, whose columns are there to be added up.
    assert (report["totals"].pop("cache_hit_rate"), "cache_hit_rate" in rows[0]) == ("0.0000", False)
    for column, total in report["totals"].items():
        kind: Callable[[Any], Any] = Decimal if column.endswith("_usd") else int
        assert sum(kind(row[column]) for row in rows) == kind(total), column
    assert report["totals"]["cost_usd"] == "21.864197523217"
    assert report["totals"]["adjustments_usd"] == "-0.000000000021"
    assert report["totals"]["total_usd"] == "21.864197523196"
    assert report["totals"]["unpriced_calls"] == 3
    assert answer["content-type"].startswith("text/csv")
    assert "tollbook-spend-2026-11-01-2026-11-30.csv" in answer["content-disposition"]


def test_accept_text_csv_gives_csv_too(auditor: Client) -> None:
    answer = auditor.get(f"/api/spend/?{PERIOD}", headers={"accept": "text/csv"})
    assert answer["content-type"].startswith("text/csv")


def test_money_is_text_and_rows_hold_only_the_groups_asked_for(auditor: Client) -> None:
    key, model = factories.make_key(), factories.make_model(name="gpt-4")
    make_spend(key=key, model=model, day=DAY, cost_usd="0.000000000001")
    report = read(auditor, f"{PERIOD}&group_by=model")
    [row] = report["rows"]
    assert (row["model_id"], row["model"], row["cost_usd"]) == (model.pk, "gpt-4", "0.000000000001")
    assert not {"user", "team", "key", "provider", "day"} & row.keys()
    assert (report["from"], report["to"], report["group_by"]) == ("2026-11-01", "2026-11-30", ["model"])


def test_what_no_call_is_known_to_have_cost_is_null_and_not_zero(auditor: Client) -> None:
    key = factories.make_key()
    for name, calls, unpriced in (("known", 2, 0), ("partly", 2, 1), ("unknown", 2, 2)):
        model = factories.make_model(name=name)
        make_spend(key=key, model=model, day=DAY, calls=calls, unpriced_calls=unpriced, cost_usd="0")
    query = f"{PERIOD}&group_by=model"
    report = read(auditor, query)
    zero = "0.000000000000"
    assert {row["model"]: (row["cost_usd"], row["total_usd"]) for row in report["rows"]} == {
        "known": (zero, zero), "partly": (zero, zero), "unknown": (None, None)
    }  # fmt: skip
    table = rows_of(auditor.get(f"/api/spend/?{query}&format=csv").content)
    assert {row["model"]: row["cost_usd"] for row in table} == {
        "known": zero, "partly": zero, "unknown": ""
    }  # fmt: skip
    assert report["totals"]["cost_usd"] == zero


def test_the_period_is_this_month_unless_told(auditor: Client) -> None:
    today = datetime.now(UTC).date()
    report = read(auditor, "")
    assert (report["from"], report["to"]) == (today.replace(day=1).isoformat(), today.isoformat())


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("from=2026-11-02&to=2026-11-01", "from"),
        ("group_by=colour", "group_by"),
        ("group_by=user,colour", "group_by"),
        ("user=nobody", "user"),
        ("model=999999", "model"),
        ("model=99999999999999999999999", "model"),
        ("team=%00", "team"),
        ("key=tb_live_nothere_secret", "key"),
        ("provider=x", "provider"),
        ("outcome=good", "outcome"),
        ("format=xlsx", "format"),
        ("usr=alice", "usr"),
        ("from=2026-11-01&from=2026-11-02", "from"),
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "text/csv"])
def test_a_wrong_parameter_is_an_error_that_names_it(auditor: Client, query: str, param: str, accept: str) -> None:
    answer = auditor.get(f"/api/spend/?{query}", headers={"accept": accept})
    assert answer.status_code == 400
    assert answer["content-type"].startswith("application/json")
    error = answer.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, "invalid_request", "invalid_request_error")
    assert error["request_id"] == answer["x-request-id"]
    assert "secret" not in error["message"]


@pytest.mark.parametrize("name", ["user", "team", "key", "model", "provider"])
def test_filters_take_names_and_ids(auditor: Client, name: str) -> None:
    wanted, other = (factories.make_key(team=factories.make_team()) for _ in range(2))
    models = {wanted: factories.make_model(), other: factories.make_model()}
    for key, model in models.items():
        make_spend(key=key, model=model, day=DAY, calls=7 if key is wanted else 1)
    assert wanted.team is not None
    values: tuple[Any, Any] = {
        "user": (wanted.user_id, wanted.user.username),
        "team": (wanted.team_id, wanted.team.name),
        "key": (wanted.pk, f"tb_live_{wanted.public_id}"),
        "model": (models[wanted].pk, models[wanted].name),
        "provider": (models[wanted].provider_id, models[wanted].provider.name),
    }[name]
    for value in values:
        assert read(auditor, f"{PERIOD}&{name}={value}")["totals"]["calls"] == 7


def test_a_name_that_is_anothers_id_is_refused_rather_than_guessed(auditor: Client) -> None:
    one = factories.make_user()
    factories.make_user(username=str(one.pk))
    answer = auditor.get(f"/api/spend/?user={one.pk}")
    assert answer.status_code == 400
    assert "the name of one user and the id of another" in answer.json()["error"]["message"]


def test_no_name_becomes_a_formula_in_a_spreadsheet(auditor: Client) -> None:
    user = factories.make_user(username="@SUM(1)")
    team = factories.make_team(name="=HYPERLINK(0)")
    make_spend(key=factories.make_key(user=user, team=team), model=factories.make_model(), day=DAY)
    [row] = rows_of(auditor.get(f"/api/spend/?{PERIOD}&group_by=user,team&format=csv").content)
    assert (row["user"], row["team"]) == ("'@SUM(1)", "'=HYPERLINK(0)")


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@a", "\t=1", "  =1", "＝1", "\n=1", "|x", "%x"])
def test_what_looks_like_a_formula_is_made_text(name: str) -> None:
    assert safe_cell(name) == f"'{name}"


def test_a_plain_name_stays_as_it_is() -> None:
    assert safe_cell("o'neil <b>&=, 1") == "o'neil <b>&=, 1"


# --- who sees what --------------------------------------------------------------------------------------------


class World:
    """Alice and Bob spend 1 and 10; Alice's second key spends 100."""

    def __init__(self) -> None:
        self.alice, self.bob = make_person("alice"), make_person("bob")
        self.second = factories.make_key(user=self.alice.user, team=factories.make_team(name="red"))
        self.model = factories.make_model()
        for key, cost in ((self.alice.key, "1"), (self.bob.key, "10"), (self.second, "100")):
            make_spend(key=key, model=self.model, day=DAY, cost_usd=cost)


CALLERS: dict[str, tuple[Callable[[World], Client], str]] = {
    "plain key": (lambda world: by_key(world.alice.text), "1"),
    "plain key of staff": (lambda world: by_key(_staffs(world).text), "1"),
    "read-spend key": (lambda world: by_key(make_person("eve", scopes=("call", "read-spend")).text), "111"),
    "admin key": (lambda world: by_key(make_person("root", scopes=("admin",)).text), "111"),
    "plain session": (lambda world: by_session(world.alice.user), "101"),
    "stranger's session": (lambda world: by_session(factories.make_user()), "0"),
    "staff session": (lambda world: by_session(factories.make_user(staff=True)), "111"),
    "superuser session": (lambda world: by_session(factories.make_user(superuser=True)), "111"),
}


def _staffs(world: World) -> Person:
    world.alice.user.is_staff = True
    world.alice.user.save()
    return world.alice


@pytest.mark.parametrize("who", CALLERS)
def test_each_caller_sees_what_is_theirs(who: str) -> None:
    make_client, total = CALLERS[who]
    world = World()
    report = read(make_client(world), f"{PERIOD}&group_by=user,key")
    assert Decimal(report["totals"]["cost_usd"]) == Decimal(total)


@pytest.mark.parametrize("who", ["plain key", "plain session"])
def test_nobody_reaches_others_by_naming_them(who: str) -> None:
    world = World()
    client = CALLERS[who][0](world)
    factories.make_team(name="blue")
    for query in (f"user={world.bob.user.pk}", "user=bob", f"key={world.bob.key.public_id}", "team=blue"):
        answer = client.get(f"/api/spend/?{PERIOD}&{query}")
        # The same words as for what does not exist.
        assert answer.status_code == 400
        assert answer.json()["error"]["message"].startswith("There is no ")


def test_a_plain_key_does_not_reach_the_other_keys_of_its_user() -> None:
    world = World()
    client = by_key(world.alice.text)
    assert client.get(f"/api/spend/?{PERIOD}&key={world.second.public_id}").status_code == 400
    assert Decimal(read(client, f"{PERIOD}&user=alice")["totals"]["cost_usd"]) == 1


def test_a_user_can_narrow_to_one_of_their_keys() -> None:
    world = World()
    report = read(by_session(world.alice.user), f"{PERIOD}&key={world.second.public_id}&group_by=team")
    assert [row["team"] for row in report["rows"]] == ["red"]
    assert Decimal(report["totals"]["cost_usd"]) == 100
