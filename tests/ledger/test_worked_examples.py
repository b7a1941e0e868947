"""The examples of the documentation, run."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from ledger.meters import disjoint
from ledger.models import PriceSheet
from ledger.money import format_short
from ledger.rating import Conditions, Rate, Sheet, explain, rate
from ledger.sheet_csv import RATE_COLUMNS
from tests import factories
from tests.ledger.test_rerate import NOON, make_call, make_unknown

DOCS = Path(__file__).resolve().parents[2] / "docs"
_EXAMPLE = re.compile(r"```csv\n(.*?)```\s+```json\n(.*?)```\s+```text\n(.*?)```", re.DOTALL)
WORDS = ("service_tier", "speed", "region", "variant")
EXAMPLES = _EXAMPLE.findall((DOCS / "prices.md").read_text())


def read_rate(row: dict[str, str]) -> Rate:
    fields: dict[str, Any] = {name: int(row[name]) for name in ("per", "above_tokens", "weekdays") if name in row}
    fields |= {name: Decimal(row[name]) for name in ("amount_usd", "minimum", "quantum") if name in row}
    fields |= {name: time.fromisoformat(row[name]) for name in ("window_start", "window_end") if row.get(name)}
    fields |= {name: row[name] for name in (*WORDS, "zero_reason") if name in row}
    return Rate(meter=row["meter"], tier_inclusive=row.get("tier_inclusive") == "true", **fields)


def test_the_page_on_prices_has_its_examples() -> None:
    assert len(EXAMPLES) == (DOCS / "prices.md").read_text().count("```csv") == 12


def test_every_column_of_a_rate_is_in_an_example() -> None:
    named = {column for sheet, *_ in EXAMPLES for column in sheet.splitlines()[0].split(",")}
    assert named == set(RATE_COLUMNS)


@pytest.mark.parametrize(("sheet", "usage", "expected"), EXAMPLES)
def test_a_price_comes_about_as_the_page_says(sheet: str, usage: str, expected: str) -> None:
    wanted = json.loads(usage)
    rating = rate(
        sheet=Sheet(rates=tuple(read_rate(row) for row in csv.DictReader(io.StringIO(sheet)))),
        meters=disjoint(wanted["totals"]).meters,
        input_total=wanted["totals"].get("input", 0),
        conditions=Conditions(
            at=datetime.fromisoformat(wanted.get("at", "2026-11-23T00:00:00Z")),
            **{word: wanted.get(word, "") for word in WORDS},
        ),
    )
    last = f"unpriced: {rating.unpriced_reason}" if rating.cost_usd is None else f"cost {format_short(rating.cost_usd)}"
    assert [*map(explain, rating.lines), last] == expected.strip().splitlines()
    assert sum((line.cost_usd for line in rating.lines), start=Decimal(0)) == (rating.cost_usd or 0)


@pytest.mark.django_db
def test_re_rating_shows_what_its_page_says() -> None:
    [shown] = re.findall(r"```console\n(.*?)```", (DOCS / "re-rating.md").read_text(), re.DOTALL)
    command, *expected = shown.splitlines()
    model = factories.make_model(name="gpt-4")
    key = factories.make_key(user=factories.make_user(username="ada"), team=factories.make_team(name="search"))
    make_unknown(model, key=key, at=NOON - timedelta(days=1))
    make_call(model, key=key, sheet=factories.make_sheet(model=model))
    factories.make_sheet(model=model, book=PriceSheet.Book.OVERRIDE, rates={"input": "0.02", "output": "0.06"})
    out = io.StringIO()
    call_command(*command.removeprefix("$ manage.py ").split(), stdout=out)
    assert out.getvalue().splitlines() == expected
