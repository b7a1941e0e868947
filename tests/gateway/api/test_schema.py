"""The OpenAPI schema, its page, and that the answers are what the schema says."""

from __future__ import annotations

import io
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

from gateway.api import serializers
from ledger.models import Adjustment
from tests import factories
from tests.gateway.api.callers import by_key, make_person, make_spend

pytestmark = pytest.mark.urls("gateway.api.urls")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = io.StringIO()
    call_command("spectacular", "--urlconf", "gateway.api.urls", "--validate", "--fail-on-warn", stdout=text)
    return dict(yaml.safe_load(text.getvalue()))


def test_the_schema_is_valid_and_names_every_report(schema: dict[str, Any]) -> None:
    assert {"/api/spend/", "/api/calls/", "/api/calls/{call_id}/", "/api/limits/"} <= schema["paths"].keys()


def test_every_report_asks_for_a_key_or_a_session(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            schemes = {name for option in operation["security"] for name in option}
            assert {"bearerKey", "headerKey", "cookieAuth"} == schemes, path
    assert schema["components"]["securitySchemes"]["bearerKey"]["scheme"] == "bearer"


def test_the_schema_and_its_page_open_without_a_login() -> None:
    assert Client().get("/api/schema/").status_code == 200
    page = Client().get("/api/docs/")
    assert page.status_code == 200
    assert b"/static/drf_spectacular_sidecar/" in page.content
    assert b"https://" not in page.content


def fields_of(serializer: Any) -> set[str]:
    return set(serializer().fields)


def required_of(serializer: Any) -> set[str]:
    return {name for name, field in serializer().fields.items() if field.required}


@pytest.mark.django_db
def test_answers_have_exactly_the_fields_of_the_schema() -> None:
    client = by_key(make_person("auditor", scopes=("read-spend",)).text)
    model = factories.make_model()
    sheet = factories.make_sheet(model=model)
    key = factories.make_key(team=factories.make_team())
    call = factories.make_call(key=key, model=model, price_sheet=sheet)
    Adjustment.objects.create(call=call, delta_usd=Decimal(1), counted_delta_usd=0, reason="manual")
    make_spend(key=key, model=model, day=date(2026, 11, 5))
    factories.make_limit()

    report = client.get("/api/spend/?from=2026-11-01&to=2026-11-30&group_by=user,team,key,model,provider,day").json()
    assert report.keys() == fields_of(serializers.SpendSerializer)
    assert report["totals"].keys() == fields_of(serializers.SumsSerializer)
    assert report["rows"][0].keys() == fields_of(serializers.SpendRowSerializer)
    bare = client.get("/api/spend/?from=2026-11-01&to=2026-11-30").json()
    assert bare["rows"][0].keys() == required_of(serializers.SpendRowSerializer)

    page = client.get("/api/calls/").json()
    assert page.keys() == fields_of(serializers.CallPageSerializer)
    assert page["results"][0].keys() == fields_of(serializers.CallSerializer)
    detail = client.get(f"/api/calls/{call.id}/").json()
    assert detail.keys() == fields_of(serializers.CallDetailSerializer)
    assert detail["lines"][0].keys() == fields_of(serializers.LineSerializer)
    assert detail["sum_check"].keys() == fields_of(serializers.SumCheckSerializer)
    assert detail["adjustments"][0].keys() == fields_of(serializers.AdjustmentSerializer)
    assert detail["user"].keys() == fields_of(serializers.NamedSerializer)

    limits = client.get("/api/limits/").json()
    assert limits["limits"][0].keys() == fields_of(serializers.LimitSerializer)
    refused = Client().get("/api/limits/").json()
    assert refused["error"].keys() == fields_of(serializers.ErrorBodySerializer)
