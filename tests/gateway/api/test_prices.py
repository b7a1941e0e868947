"""GET /api/prices/, /api/prices/compare/ and POST /api/prices/estimate/."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from gateway.api import price_serializers
from providers.models import Model
from tests import factories
from tests.gateway.api.callers import by_key, by_session, make_person

pytestmark = [pytest.mark.django_db, pytest.mark.urls("gateway.api.urls")]
LATER = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def client() -> Client:
    return by_key(make_person("ada").text)


@pytest.fixture
def gpt_4() -> Model:
    model = factories.make_model(name="gpt-4", aliases=["four"], context_window=8192, max_output_tokens=1000)
    factories.make_sheet(model=model)
    return model


def named(rows: list[dict[str, Any]]) -> list[str]:
    return [row["model"] for row in rows]


def test_prices_are_those_in_force(client: Client, gpt_4: Model) -> None:
    factories.make_sheet(model=gpt_4, valid_from=LATER, rates={"input": "0.01", "output": "0.02"})
    factories.make_sheet(model=gpt_4, valid_from=timezone.now() + timedelta(days=9))
    now = client.get("/api/prices/").json()
    assert [rate["amount_usd"] for rate in now["prices"][0]["rates"]] == ["0.010000000000", "0.020000000000"]
    then = client.get("/api/prices/", {"at": "2026-02-01T00:00:00Z", "model": "four"}).json()
    assert [rate["amount_usd"] for rate in then["prices"][0]["rates"]] == ["0.030000000000", "0.060000000000"]
    before = client.get("/api/prices/", {"at": "2024-02-01T00:00:00Z"}).json()
    assert before["prices"] == []


def test_the_history_holds_every_published_sheet_and_no_draft(client: Client, gpt_4: Model) -> None:
    factories.make_sheet(model=gpt_4, valid_from=LATER)
    factories.make_sheet(model=gpt_4, book="override", published=False)
    found = client.get("/api/prices/?history=true&model=gpt-4").json()
    assert found["at"] is None
    assert [row["valid_from"][:10] for row in found["prices"]] == ["2026-03-01", "2025-01-01"]


def test_a_key_for_some_models_sees_only_those(gpt_4: Model) -> None:
    secret = "s" * 40
    factories.make_sheet(model=factories.make_model(name="other"))
    key = factories.make_key(secret=secret, allowed_models=["four"])
    bound = by_key(factories.key_text(key, secret=secret))
    assert named(bound.get("/api/prices/").json()["prices"]) == ["gpt-4"]
    assert named(bound.get("/api/prices/compare/").json()["models"]) == ["gpt-4"]
    assert bound.post("/api/prices/estimate/", {"model": "other"}, "application/json").status_code == 400
    chat = {"model": "other", "messages": [{"role": "user", "content": "Hi"}]}
    assert bound.post("/api/prices/estimate/", chat, "application/json").status_code == 404
    auditor = by_session(factories.make_user(staff=True))
    assert named(auditor.get("/api/prices/").json()["prices"]) == ["gpt-4", "other"]


def test_the_cheapest_comes_first_and_the_unpriced_last(client: Client, gpt_4: Model) -> None:
    cheap = factories.make_model(name="small")
    factories.make_sheet(model=cheap, rates={"input": "0.0005", "output": "0.0015"})
    factories.make_model(name="a-new-one")
    found = client.get("/api/prices/compare/?input=1000&output=500").json()
    assert [(row["model"], row["cost_usd"]) for row in found["models"]] == [
        ("small", "0.001250000000"), ("gpt-4", "0.060000000000"), ("a-new-one", None)
    ]  # fmt: skip
    assert found["models"][-1]["unpriced_reason"] == "no published price"
    chosen = client.get("/api/prices/compare/?input=1000&models=four,a-new-one").json()
    assert named(chosen["models"]) == ["gpt-4", "a-new-one"]


def test_cached_input_is_priced_as_such_or_not_at_all(client: Client, gpt_4: Model) -> None:
    cached = factories.make_model(name="cached")
    factories.make_sheet(model=cached, rates={"input": "0.03", "cache_read": "0.003", "output": "0.06"})
    found = client.get("/api/prices/compare/?input=1000&cache_read=1000").json()["models"]
    assert [row["cost_usd"] for row in found] == ["0.003000000000", None]


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("compare/?input=-1", "input"), ("compare/?input=1e3", "input"), ("compare/?input=9999999999999", "input"),
        ("compare/?inptu=1", "inptu"), ("compare/?input=1&cache_read=2", "cache_read"), ("?at=yesterday", "at"),
        ("?history=true&at=2026-02-01T00:00:00Z", "at"), ("?model=%00", "model"), ("?at=2026-99-01T00:00:00Z", "at"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(client: Client, path: str, param: str) -> None:
    answer = client.get(f"/api/prices/{path}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def estimate(client: Client, surface: str = "chat", **body: Any) -> Any:
    return client.post(f"/api/prices/estimate/?surface={surface}", body, "application/json")


def test_an_estimate_spans_what_the_request_may_cost(client: Client, gpt_4: Model) -> None:
    text = "word " * 400
    answer = estimate(client, model="four", messages=[{"role": "user", "content": text}], max_tokens=100, n=2)
    found = answer.json()
    assert found["model"] == "gpt-4"
    assert found["output_tokens_high"] == 200
    assert 500 <= found["input_tokens_low"] < found["input_tokens_high"] <= 8192
    low, high = Decimal(found["low_usd"]), Decimal(found["high_usd"])
    assert low == Decimal("0.03") * found["input_tokens_low"] / 1000
    assert high == Decimal("0.03") * found["input_tokens_high"] / 1000 + Decimal("0.012")
    assert found["lines"] == [f"{found['input_tokens_low']:,} input tokens x 0.03 per 1,000 = {low.normalize():f}"]


def test_without_a_cap_the_models_own_is_counted(client: Client, gpt_4: Model) -> None:
    found = estimate(client, model="gpt-4", messages=[{"role": "user", "content": "Hi"}]).json()
    assert found["output_tokens_high"] == 1000
    said = estimate(
        client, "messages", model="gpt-4", max_tokens=7, messages=[{"role": "user", "content": "Hi"}]
    ).json()
    assert said["output_tokens_high"] == 7


def test_an_estimate_without_a_price_says_so(client: Client) -> None:
    factories.make_model(name="new")
    found = estimate(client, model="new", messages=[{"role": "user", "content": "Hello, is it you?"}]).json()
    assert (found["low_usd"], found["high_usd"], found["unpriced_reason"]) == (None, None, "no published price")


def test_an_estimate_of_what_no_surface_takes_is_refused_by_path(client: Client, gpt_4: Model) -> None:
    wrong = estimate(client, model="gpt-4", messages=[{"role": "nobody", "content": "Hi"}])
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "$.messages[0].role")
    empty = client.post("/api/prices/estimate/", b"", "application/json")
    assert (empty.status_code, empty.json()["error"]["param"]) == (400, "$")
    assert estimate(client, "soap", model="gpt-4").json()["error"]["param"] == "surface"
    unknown = estimate(client, model="nothing", messages=[{"role": "user", "content": "Hi"}])
    assert unknown.status_code == 404


def test_nobody_reads_prices_without_a_key() -> None:
    for path in ("/api/prices/", "/api/prices/compare/"):
        assert Client().get(path).status_code == 401
    assert Client().post("/api/prices/estimate/", {}, "application/json").status_code == 401


def test_answers_have_exactly_the_fields_of_the_schema(client: Client, gpt_4: Model) -> None:
    page = client.get("/api/prices/").json()
    assert page.keys() == price_serializers.PricesSerializer().fields.keys()
    assert page["prices"][0].keys() == price_serializers.PriceSheetSerializer().fields.keys()
    assert page["prices"][0]["rates"][0].keys() == price_serializers.PriceRateSerializer().fields.keys()
    compared = client.get("/api/prices/compare/").json()
    assert compared.keys() == price_serializers.ComparisonSerializer().fields.keys()
    assert compared["models"][0].keys() == price_serializers.ComparedSerializer().fields.keys()
    found = estimate(client, model="gpt-4", messages=[{"role": "user", "content": "Hi"}]).json()
    assert found.keys() == price_serializers.EstimateSerializer().fields.keys()
