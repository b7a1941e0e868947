"""GET /api/focus/: the download for FinOps tools."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.http import FileResponse
from django.test import Client

from tests import factories
from tests.gateway.api.callers import by_key, by_session, make_person
from tests.ledger.focus_validator import problems
from tests.ledger.settled import settle_at

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)


@pytest.fixture
def finance() -> Client:
    sheet = factories.make_sheet()
    settle_at(
        NOON, key=factories.make_key(), model=sheet.model, sheet=sheet.pk, cost_usd=Decimal("0.0006"),
        meters={"input": 10, "output": 5},
    )  # fmt: skip
    settle_at(
        NOON, key=factories.make_key(), model=sheet.model, cost_usd=None, cost_source="unknown",
        unpriced_reason="no rate",
    )  # fmt: skip
    return by_key(make_person("ann", scopes=("read-spend",)).text)


def _content(answer: object) -> bytes:
    assert isinstance(answer, FileResponse)
    return b"".join(answer)


def test_it_is_a_file_that_adds_up_to_what_its_headers_say(finance: Client) -> None:
    answer = finance.get("/api/focus/", {"month": "2026-10"})
    text = _content(answer).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert problems(rows, columns=text.splitlines()[0].split(",")) == []
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("0.0006")
    assert answer["X-Tollbook-Charged-Usd"] == "0.000600000000"
    assert answer["X-Tollbook-Unpriced-Calls"] == "1"
    assert answer["Content-Disposition"] == 'attachment; filename="tollbook-focus-2026-10.csv"'


def test_the_calls_of_unknown_cost_are_a_file_of_their_own(finance: Client) -> None:
    text = _content(finance.get("/api/focus/", {"month": "2026-10", "what": "unpriced"})).decode()
    [row] = csv.DictReader(io.StringIO(text))
    assert (row["Reason"], row["Calls"]) == ("no rate", "1")


def test_it_comes_as_parquet_too(finance: Client) -> None:
    pytest.importorskip("pyarrow", reason="requirements-parquet.txt is not installed")
    answer = finance.get("/api/focus/", {"month": "2026-10", "format": "parquet"})
    assert _content(answer)[:4] == b"PAR1"
    assert answer["Content-Type"] == "application/vnd.apache.parquet"


@pytest.mark.parametrize(
    ("query", "param"),
    [({}, "month"), ({"month": "2026"}, "month"), ({"month": "2026-10", "format": "xml"}, "format"),
     ({"month": "2026-10", "colour": "red"}, "colour"), ({"month": "2026-10", "what": "all"}, "what")],
)  # fmt: skip
def test_what_it_does_not_know_is_refused(finance: Client, query: dict[str, str], param: str) -> None:
    answer = finance.get("/api/focus/", query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_only_those_who_see_everyones_spend_get_it() -> None:
    person = make_person("bob")
    assert by_key(person.text).get("/api/focus/", {"month": "2026-10"}).status_code == 403
    assert by_session(person.user).get("/api/focus/", {"month": "2026-10"}).status_code == 403
    assert Client().get("/api/focus/", {"month": "2026-10"}).status_code == 401
    staff = by_session(factories.make_user(staff=True)).get("/api/focus/", {"month": "2026-10"})
    assert staff.status_code == 200
    _content(staff)
