"""The FOCUS export: the specification kept, and every digit of the ledger in it."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import focus_files
from ledger.focus import COLUMNS, Export, FocusError
from ledger.models import Adjustment, ArchivedMonth, DailySpend, Rate
from ledger.prices import compiled
from ledger.rating import Conditions, rate
from tests import factories
from tests.ledger.focus_validator import problems
from tests.ledger.rows import Pen
from tests.ledger.settled import settle_at

pytestmark = pytest.mark.django_db
OCTOBER = date(2026, 10, 1)
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)


def _export(month: date = OCTOBER) -> tuple[list[dict[str, str]], Export]:
    out, export = io.BytesIO(), Export(month=month)
    focus_files.write(export=export, format="csv", out=out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue().decode())))
    assert problems(rows, columns=COLUMNS) == []
    return rows, export


def _billed(rows: list[dict[str, str]]) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0))


def _in_the_books() -> Decimal:
    sums = DailySpend.objects.aggregate(cost=Sum("cost_usd"), adjusted=Sum("adjustments_usd"))
    return Decimal((sums["cost"] or 0) + (sums["adjusted"] or 0))


def _adjust(call: Any, delta: str, *, settles: bool = False) -> None:
    Adjustment.objects.create(
        call_id=call.pk, delta_usd=Decimal(delta), counted_delta_usd=Decimal(delta), reason="manual",
        settles_unknown=settles,
    )  # fmt: skip


@pytest.fixture
def sheet() -> Any:
    model = factories.make_model(name="gpt-4o", provider=factories.make_provider(name="openai", adapter="openai"))
    return factories.make_sheet(model=model, rates={"input": "2.5", "output": "10"}, per=1_000_000)


def _settle(sheet: Any, at: datetime = NOON, *, key: Any = None, pen: Pen | None = None, **meters: int) -> Any:
    cost = meters.get("input", 0) * Decimal("0.0000025") + meters.get("output", 0) * Decimal("0.00001")
    return settle_at(
        at, key=key or factories.make_key(), model=sheet.model, sheet=sheet.pk, meters=meters, cost_usd=cost, pen=pen,
        input_tokens=meters.get("input", 0), output_tokens=meters.get("output", 0),
    )  # fmt: skip


def test_calls_of_a_day_key_model_and_meter_are_one_row(sheet: Any) -> None:
    key = factories.make_key(team=factories.make_team(name="red"))
    for _ in range(3):
        _settle(sheet, key=key, input=1000, output=10)
    rows, export = _export()
    found = {row["SkuMeter"]: row for row in rows}
    assert set(found) == {"input tokens", "output tokens"}
    row = found["input tokens"]
    assert (row["ConsumedQuantity"], row["ConsumedUnit"]) == ("3000", "Tokens")
    assert (row["PricingQuantity"], row["PricingUnit"]) == ("0.003", "1000000 Tokens")
    assert (Decimal(row["ListUnitPrice"]), Decimal(row["BilledCost"])) == (Decimal("2.5"), Decimal("0.0075"))
    assert (row["ResourceId"], row["SubAccountName"], row["x_Calls"]) == (key.public_id, "red", "3")
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2026-10-05T00:00:00Z", "2026-10-06T00:00:00Z")
    assert (row["SkuId"], row["x_PriceSheetId"]) == ("openai/gpt-4o/input", str(sheet.pk))
    assert _billed(rows) == export.charged_usd == _in_the_books()


def test_a_price_id_outlives_the_price(sheet: Any) -> None:
    later = factories.make_sheet(
        model=sheet.model, rates={"input": "3"}, per=1_000_000, valid_from=datetime(2026, 10, 6, tzinfo=UTC)
    )
    key = factories.make_key()
    _settle(sheet, key=key, input=1000)
    settle_at(
        datetime(2026, 10, 7, tzinfo=UTC), key=key, model=sheet.model, sheet=later.pk, meters={"input": 1000},
        cost_usd=Decimal("0.003"), input_tokens=1000, output_tokens=0,
    )  # fmt: skip
    rows, _ = _export()
    assert {row["SkuPriceId"] for row in rows} == {"openai/gpt-4o/input"}
    assert {row["x_PriceSheetId"] for row in rows} == {str(sheet.pk), str(later.pk)}


def test_conditions_make_another_price_id() -> None:
    model = factories.make_model(name="m", provider=factories.make_provider(name="p"))
    sheet = factories.make_sheet(model=model, rates={"input": "2"}, per=1_000_000, published=False)
    Rate.objects.create(sheet=sheet, meter="input", amount_usd=Decimal(1), per=1_000_000, service_tier="batch")
    sheet.status, sheet.published_at = "published", NOON
    sheet.save()
    settle_at(
        NOON, key=factories.make_key(), model=model, sheet=sheet.pk, meters={"input": 10}, cost_usd=Decimal("0.00001"),
        service_tier="batch", input_tokens=10, output_tokens=0,
    )  # fmt: skip
    [row], _ = _export()
    assert row["SkuPriceId"] == "p/m/input/service_tier=batch"
    assert row["SkuPriceDetails"] == '{"x_service_tier": "batch"}'


def test_adjustments_are_corrections_on_the_day_of_their_call(sheet: Any) -> None:
    call = _settle(sheet, input=1000)
    _adjust(call, "-0.000000000001")
    rows, export = _export()
    [correction] = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert (correction["ChargeCategory"], correction["BilledCost"]) == ("Adjustment", "-0.000000000001")
    assert correction["ChargePeriodStart"] == "2026-10-05T00:00:00Z"
    assert correction["x_AdjustmentReason"] == "manual"
    assert _billed(rows) == export.total_usd == _in_the_books()


def test_a_call_of_unknown_cost_has_no_row_and_is_listed_aside(sheet: Any, tmp_path: Path) -> None:
    key = factories.make_key()
    settle_at(
        NOON, key=key, model=sheet.model, meters={"pages": 3}, cost_usd=None, cost_source="unknown",
        unpriced_reason="no rate for 'pages'",
    )  # fmt: skip
    rows, export = _export()
    assert rows == []
    assert export.unpriced_calls == 1
    call_command("export_focus", month="2026-10", out=str(tmp_path / "october.csv"))
    [aside] = csv.DictReader(io.StringIO((tmp_path / "october.unpriced.csv").read_text()))
    assert (aside["Reason"], aside["Calls"], aside["Meters"]) == ("no rate for 'pages'", "1", '{"pages": "3"}')


def test_an_unknown_cost_that_was_settled_is_a_correction_and_not_unpriced(sheet: Any) -> None:
    call = settle_at(
        NOON, key=factories.make_key(), model=sheet.model, cost_usd=None, cost_source="unknown",
        unpriced_reason="no rate",
    )  # fmt: skip
    _adjust(call, "0.5", settles=True)
    rows, export = _export()
    assert (_billed(rows), export.unpriced_calls) == (Decimal("0.5"), 0)
    assert _in_the_books() == Decimal("0.5")


def test_a_cost_that_its_sheet_does_not_give_stays_whole(sheet: Any) -> None:
    settle_at(NOON, key=factories.make_key(), model=sheet.model, sheet=sheet.pk, cost_usd=Decimal("9.999999999999"))
    [row], _ = _export()
    assert (row["BilledCost"], row["SkuMeter"], row["SkuPriceId"]) == ("9.999999999999", "", "")


def test_only_the_calls_of_the_month_are_in_it(sheet: Any) -> None:
    for at in (datetime(2026, 9, 30, 23, 59, 59, 999000, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)):
        _settle(sheet, at, input=1000)
    _settle(sheet, datetime(2026, 10, 31, 23, 59, 59, 999000, tzinfo=UTC), input=1000)
    rows, _ = _export()
    assert [row["ChargePeriodStart"] for row in rows] == ["2026-10-31T00:00:00Z"]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(
        st.tuples(
            st.integers(1, 31), st.integers(0, 10**9), st.integers(0, 10**9),
            st.sampled_from(["known", "unknown", "odd"]), st.decimals(min_value=-1, max_value=1, places=12),
        ),
        max_size=8,
    )
)  # fmt: skip
def test_the_total_is_the_ledgers_to_the_last_digit_for_any_calls(calls: list[Any]) -> None:
    before = _in_the_books()
    before_rows = _billed(_export()[0])
    sheet = factories.make_sheet(rates={"input": "0.333333333333", "output": "0.000000000007"}, per=1_000_000)
    key, pen = factories.make_key(), Pen()
    for day, came, went, kind, delta in calls:
        meters = {name: n for name, n in (("input", came), ("output", went)) if n}
        at = datetime(2026, 10, day, tzinfo=UTC)
        cost = _rated(sheet, meters, at) if kind == "known" else Decimal("0.123456789012")
        unknown = {"cost_usd": None, "cost_source": "unknown", "unpriced_reason": "no"}
        call = settle_at(
            at, key=key, model=sheet.model, sheet=sheet.pk, meters=meters, input_tokens=came, output_tokens=went,
            pen=pen, **(unknown if kind == "unknown" else {"cost_usd": cost}),
        )  # fmt: skip
        if delta:
            _adjust(call, f"{delta:f}")
    rows, export = _export()
    assert _billed(rows) - before_rows == _in_the_books() - before
    assert export.total_usd == _billed(rows)


def _rated(sheet: Any, meters: dict[str, Any], at: datetime) -> Decimal:
    found = rate(sheet=compiled(sheet), meters=meters, input_total=meters.get("input", 0), conditions=Conditions(at=at))
    assert found.cost_usd is not None
    return found.cost_usd


def test_parquet_holds_the_same_values(sheet: Any, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="requirements-parquet.txt is not installed")
    _adjust(_settle(sheet, input=1234, output=7), "0.000000000003")
    path = tmp_path / "october.parquet"
    call_command("export_focus", month="2026-10", format="parquet", out=str(path))
    rows, _ = _export()
    table = pq.read_table(path)
    assert table.column_names == list(COLUMNS)
    assert [value or "" for value in table["SkuPriceId"].to_pylist()] == [row["SkuPriceId"] for row in rows]
    numbers = [None if value is None else Decimal(value) for value in table["PricingQuantity"].to_pylist()]
    assert numbers == [Decimal(row["PricingQuantity"]) if row["PricingQuantity"] else None for row in rows]
    assert table["BilledCost"].to_pylist() == [Decimal(row["BilledCost"]) for row in rows]
    assert str(table.schema.field("BilledCost").type) == "decimal128(38, 12)"


def test_without_pyarrow_parquet_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(CommandError, match=r"requirements-parquet\.txt"):
        call_command("export_focus", month="2026-10", format="parquet", out=str(tmp_path / "x.parquet"))
    assert list(tmp_path.iterdir()) == []


# --- list prices beside negotiated ones ---


def _rates(book: str, model: Any, **fields: Any) -> Any:
    """A contract at 2 and 8 USD, an override at 1 and 4, per million."""
    amounts = {"contract": {"input": "2", "output": "8"}, "override": {"input": "1", "output": "4"}}[book]
    return factories.make_sheet(model=model, book=book, rates=amounts, per=1_000_000, **fields)


def _settle_on(sheet: Any, at: datetime = NOON, *, input_total: int | None = None, **meters: int) -> Any:
    total = meters.get("input", 0) if input_total is None else input_total
    rating = rate(sheet=compiled(sheet), meters=dict(meters), input_total=total, conditions=Conditions(at=at))
    assert rating.cost_usd is not None, rating.unpriced_reason
    return settle_at(
        at, key=factories.make_key(), model=sheet.model, sheet=sheet.pk, meters=meters, cost_usd=rating.cost_usd,
        input_tokens=total, output_tokens=meters.get("output", 0),
    )  # fmt: skip


@pytest.mark.parametrize(("book", "price", "cost"), [("contract", "2", "0.002"), ("override", "1", "0.001")])
def test_the_list_price_stands_beside_the_one_that_was_charged(sheet: Any, book: str, price: str, cost: str) -> None:
    _settle_on(_rates(book, sheet.model), input=1000, output=100)
    rows, export = _export()
    row = next(row for row in rows if row["SkuMeter"] == "input tokens")
    assert (row["ListUnitPrice"], row["ContractedUnitPrice"]) == ("2.5", price)
    assert (Decimal(row["ListCost"]), Decimal(row["ContractedCost"])) == (Decimal("0.0025"), Decimal(cost))
    assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"]
    assert sum(Decimal(row["ListCost"]) for row in rows) == Decimal("0.0035")
    assert _billed(rows) == export.total_usd == _in_the_books()


def test_without_a_list_the_price_charged_is_the_list_price(sheet: Any) -> None:
    alone = factories.make_model(name="private", provider=sheet.model.provider)
    _settle_on(_rates("contract", alone), input=1000)
    [row], _ = _export()
    assert (row["ListUnitPrice"], row["ContractedUnitPrice"], row["ListCost"]) == ("2", "2", row["BilledCost"])


def test_the_list_price_is_that_of_the_calls_instant(sheet: Any) -> None:
    contract = _rates("contract", sheet.model)
    factories.make_sheet(
        model=sheet.model, rates={"input": "5"}, per=1_000_000, valid_from=datetime(2026, 10, 6, tzinfo=UTC)
    )
    _settle_on(contract, input=1000)
    _settle_on(contract, datetime(2026, 10, 6, tzinfo=UTC), input=1000)
    rows, _ = _export()
    assert [row["ListUnitPrice"] for row in rows] == ["2.5", "5"]
    assert {row["ContractedUnitPrice"] for row in rows} == {"2"}
    assert len({row["SkuPriceId"] for row in rows}) == 1


def test_the_list_price_is_that_of_the_calls_conditions() -> None:
    model = factories.make_model(name="m", provider=factories.make_provider(name="p"))
    listed = factories.make_sheet(model=model, rates={"input": "3"}, per=1_000_000, published=False)
    for fields in ({"service_tier": "batch"}, {"above_tokens": 1000}):
        Rate.objects.create(sheet=listed, meter="input", amount_usd=Decimal(len(fields) + 5), per=1_000_000, **fields)
    listed.status, listed.published_at = "published", NOON
    listed.save()
    _settle_on(_rates("contract", model), input=1001)
    [row], _ = _export()
    assert (row["ListUnitPrice"], row["ContractedUnitPrice"]) == ("6", "2")


def test_a_part_that_only_the_contract_prices_apart_has_the_lists_price_of_its_whole(sheet: Any) -> None:
    contract = factories.make_sheet(
        model=sheet.model, book="contract", rates={"output": "8", "reasoning": "4"}, per=1_000_000
    )
    _settle_on(contract, output=100, reasoning=50)
    rows, _ = _export()
    assert {row["SkuMeter"]: row["ListUnitPrice"] for row in rows} == {"output tokens": "10", "reasoning tokens": "10"}


def test_a_list_that_prices_no_such_meter_leaves_the_price_charged(sheet: Any) -> None:
    contract = factories.make_sheet(model=sheet.model, book="contract", rates={"web_searches": "0.01"}, per=1)
    _settle_on(contract, web_searches=3)
    [row], _ = _export()
    assert (row["ListUnitPrice"], row["ListCost"], row["PricingQuantity"]) == ("0.01", row["BilledCost"], "3")


def test_a_free_contract_still_has_its_list_price(sheet: Any) -> None:
    free = factories.make_sheet(model=sheet.model, book="contract", rates={"input": "0"}, per=1_000_000)
    _settle_on(free, input=1000)
    [row], _ = _export()
    assert (Decimal(row["BilledCost"]), Decimal(row["ListCost"])) == (0, Decimal("0.0025"))


def test_a_dropped_month_cannot_be_exported_and_says_how_it_comes_back() -> None:
    ArchivedMonth.objects.create(
        month=OCTOBER, path="/x", sha256="0" * 64, bytes=1, calls=1, archived_at=NOON, dropped_at=NOON
    )
    with pytest.raises(FocusError, match=r"archived and dropped: bring its calls back with .* --restore 2026-10"):
        Export(month=OCTOBER)


@pytest.mark.parametrize("month", ["2026", "2026-13", "october", ""])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(CommandError, match="is no month"):
        call_command("export_focus", month=month)


def test_the_validator_sees_what_is_wrong(sheet: Any) -> None:
    _settle(sheet, input=1000)
    [row], _ = _export()
    broken = [
        row | {"BilledCost": ""}, row | {"BilledCost": "1E-7"}, row | {"ChargeCategory": "Fun"},
        row | {"ChargePeriodEnd": "2026-10-06"}, row | {"ConsumedUnit": ""},
        row | {"PricingQuantity": "", "PricingUnit": ""},
        row | {"BillingPeriodEnd": "2026-10-02T00:00:00Z"}, row | {"SkuId": ""}, row | {"Tags": "[]"},
        row | {"ListCost": "0.0026"}, row | {"ContractedUnitPrice": "2.4"}, row | {"ListUnitPrice": "2.4"},
    ]  # fmt: skip
    assert all(problems([each], columns=COLUMNS) for each in broken)
    assert problems([row], columns=[name for name in COLUMNS if name != "ListCost"]) == ["column ListCost is missing"]
