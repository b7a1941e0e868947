"""manage.py reconcile, and the worked examples of the pages: what docs/ shows is what happens."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from ledger import focus_files
from ledger.focus import Export
from ledger.models import Adjustment, Call, PriceSheet, ReconcileRun
from tests import factories
from tests.ledger.reconcile.exports import openai_cost, openai_page
from tests.ledger.settled import settle_at

pytestmark = pytest.mark.django_db
DOCS = Path(__file__).resolve().parents[3] / "docs"
NOON = datetime(2025, 10, 5, 12, tzinfo=UTC)


def _block(page: str, name: str) -> str:
    """The code block of a page whose first line ends in `name`."""
    found = re.search(rf"^```\w+ {re.escape(name)}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None, name
    return found[1]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the example, and its one call in the books."""
    for name in ("costs.json", "usage.csv", "mapping.yaml", "bill.csv"):
        (tmp_path / name).write_text(_block("reconciliation.md", name))
    model = factories.make_model(name="gpt-4o", provider=factories.make_provider(name="openai"))
    sheet = factories.make_sheet(model=model, rates={"input": "2.5", "output": "10"}, per=1_000_000)
    settle_at(
        NOON, key=factories.make_key(), model=model, sheet=sheet.pk, served_name="gpt-4o-2024-08-06",
        meters={"input": 1000, "output": 100}, cost_usd=Decimal("0.0035"), input_tokens=1000, output_tokens=100,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _said(capsys: pytest.CaptureFixture[str], *names: str, **options: object) -> str:
    call_command("reconcile", *names, provider="openai", **options)
    return capsys.readouterr().out


def test_the_worked_example_says_what_the_page_says(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _said(capsys, "costs.json", "usage.csv") == _block("reconciliation.md", "first")
    assert not Adjustment.objects.exists()


def test_the_worked_example_is_posted_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _said(capsys, "costs.json", "usage.csv", post=True, confirm=True)
    assert first.endswith(_block("reconciliation.md", "second"))
    assert "0 adjustments, 0 USD." in _said(capsys, "costs.json", "usage.csv", post=True, confirm=True)
    assert Adjustment.objects.get().delta_usd == Decimal("0.0005")
    assert ReconcileRun.objects.get().posted_usd == Decimal("0.0005")


def test_the_mapped_example_is_equal(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = _said(capsys, "bill.csv", mapping="mapping.yaml")
    assert "equal                     2 groups  theirs 0.0035  ours 0.0035" in said
    assert "Unexplained: 0 %" in said


def test_the_focus_example_is_what_is_exported(files: Path) -> None:
    out = io.BytesIO()
    focus_files.write(export=Export(month=NOON.date()), format="csv", out=out)
    wanted = list(csv.DictReader(io.StringIO(_block("focus.md", "rows"))))
    found = list(csv.DictReader(io.StringIO(out.getvalue().decode())))
    assert [{name: row[name] for name in wanted[0]} for row in found] == wanted


def test_a_side_that_says_no_amount_is_shown_as_unknown(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = _said(capsys, "usage.csv", verbosity=2)
    assert "gpt-4o-2024-08-06 input: equal, theirs unknown USD, ours 0.0025 USD (theirs 1000, ours 1000 units)" in text
    assert "theirs unknown  ours 0.0035  apart unknown USD" in text


def test_calls_of_unknown_cost_are_not_shown_as_nothing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = Call.objects.get()
    settle_at(
        datetime(2025, 10, 4, 12, tzinfo=UTC), key=call.key, model=call.model, cost_usd=None, cost_source="unknown",
        unpriced_reason="no rate", meters={"input": 7}, input_tokens=7, output_tokens=0,
    )  # fmt: skip
    bucket = {"object": "bucket", "start_time": 1759536000, "end_time": 1759622400, "results": []}
    (files / "day.json").write_text(json.dumps({"object": "page", "data": [bucket], "has_more": False}))
    assert "ours unknown USD (ours 7 units)" in _said(capsys, "day.json", "costs.json")


def test_without_confirm_nothing_is_posted(files: Path) -> None:
    with pytest.raises(CommandError, match="--confirm"):
        call_command("reconcile", "costs.json", provider="openai", post=True)
    assert not Adjustment.objects.exists()


def test_drafts_are_made_when_asked_for(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1 draft sheets" in _said(capsys, "costs.json", "usage.csv", draft=True)
    assert "0 draft sheets" in _said(capsys, "costs.json", "usage.csv", draft=True)
    assert PriceSheet.objects.filter(status="draft").count() == 1


def test_a_bad_file_applies_nothing_and_says_where(files: Path) -> None:
    (files / "bad.json").write_bytes(openai_page({NOON.date(): [openai_cost("gpt-4o, input", "six")]}))
    words = r"bad\.json: row 1, amount\.value: 'six' is not a number\. Nothing was applied"
    with pytest.raises(CommandError, match=words):
        call_command("reconcile", "bad.json", provider="openai", post=True, confirm=True)
    assert not ReconcileRun.objects.exists()


def test_an_unknown_provider_and_a_missing_file_are_named(files: Path) -> None:
    with pytest.raises(CommandError, match="no provider 'acme'"):
        call_command("reconcile", "costs.json", provider="acme")
    with pytest.raises(CommandError, match=r"gone\.json: No such file"):
        call_command("reconcile", "gone.json", provider="openai")
