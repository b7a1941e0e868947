"""Price sheets as CSV: out and back in, every fault with its row and column, all or nothing."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import sheet_csv
from ledger.models import PriceSheet, Rate
from ledger.prices import compiled, get_pricing
from ledger.publishing import content_sha256
from ledger.rating import Sheet
from ledger.sheet_import import carry_in
from providers.models import Model
from tests import factories

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 23, tzinfo=UTC)
HEADER = "model,book,valid_from,meter,amount_usd,per"


@pytest.fixture(autouse=True)
def gpt_4() -> Model:
    return factories.make_model(name="gpt-4", aliases=["four"])


def faults(*lines: str, header: str = HEADER) -> list[str]:
    with pytest.raises(sheet_csv.SheetCsvError) as caught:
        sheet_csv.read("\n".join([header, *lines]))
    return caught.value.faults


def run(tmp_path: Path, *lines: str, header: str = HEADER, options: tuple[str, ...] = ()) -> str:
    path, out = tmp_path / "prices.csv", io.StringIO()
    path.write_text("\n".join([header, *lines]))
    call_command("import_sheets", str(path), *options, stdout=out)
    return out.getvalue()


GOOD = ("gpt-4,list,2026-11-01,input,0.03,1000", "gpt-4,list,2026-11-01,output,0.06,1000")


def test_one_line_a_rate_makes_one_sheet_a_start() -> None:
    first, second = sheet_csv.read("\n".join([HEADER, *GOOD, "four,,2026-12-01T00:00:00Z,input,0.02,1000"]))
    assert (first.model, first.book, first.valid_from) == ("gpt-4", "list", datetime(2026, 11, 1, tzinfo=UTC))
    assert [(rate.meter, str(rate.amount_usd.normalize()), rate.per) for rate in first.rates] == [
        ("input", "0.03", 1000), ("output", "0.06", 1000)
    ]  # fmt: skip
    assert (second.model, second.book, second.row) == ("gpt-4", "override", 4)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("gpt-5,list,2026-11-01,input,1,1000", "row 2, model: there is no model 'gpt-5'"),
        ("gpt-4,lst,2026-11-01,input,1,1000", "row 2, book: unknown book 'lst': did you mean 'list'?"),
        ("gpt-4,list,01.11.2026,input,1,1000", "row 2, valid_from: '01.11.2026' is not a date"),
        ("gpt-4,list,,input,1,1000", "row 2, valid_from: empty"),
        ("gpt-4,list,2026-11-01,inputs,1,1000", "row 2, meter: unknown meter 'inputs': did you mean 'input'?"),
        ("gpt-4,list,2026-11-01,input,-1,1000", "row 2, amount_usd: '-1' is negative"),
        ("gpt-4,list,2026-11-01,input,NaN,1000", "row 2, amount_usd: 'NaN' is not a decimal number"),
        ("gpt-4,list,2026-11-01,input,Infinity,1000", "row 2, amount_usd: 'Infinity' is not a decimal number"),
        ("gpt-4,list,2026-11-01,input,,1000", "row 2, amount_usd: '' is not a decimal number"),
        ("gpt-4,list,2026-11-01,input,1.0000000000001,1000", "row 2, amount_usd: 1.0000000000001 has more than 12"),
        ("gpt-4,list,2026-11-01,input,1,500", "row 2, per: input: per 500 is not"),
        ("gpt-4,list,2026-11-01,input,1,k", "row 2, per: 'k' is not a whole number"),
        ("gpt-4,list,2026-11-01,input,0,1000", "row 2, zero_reason: a zero rate needs a reason"),
        ("gpt-4,list,2026-11-01,input,1", "row 2: 5 fields under 6 columns"),
    ],
)
def test_a_fault_is_named_by_row_and_column(line: str, fault: str) -> None:
    [found] = faults(line)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("column", "value"),
    [("minimum", "0.0000001"), ("quantum", "999999999999.9999999"), ("minimum", "-1"), ("quantum", "NaN")],
)
def test_a_step_that_would_be_rounded_is_refused(column: str, value: str) -> None:
    [fault] = faults(f"gpt-4,list,2026-11-01,input,1,1000,{value}", header=f"{HEADER},{column}")
    assert fault.startswith(f"row 2, {column}: ")


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("model,book,valid_from,meter,amuont_usd,per", "unknown column 'amuont_usd': did you mean 'amount_usd'?"),
        ("model,book,valid_from,meter,amount_usd,per,per", "the column 'per' is there twice"),
        ("model,book,valid_from,meter,amount_usd", "the column 'per' is missing"),
        ("", "the column 'model' is missing"),
    ],
)
def test_a_misspelt_missing_or_repeated_column_is_refused(header: str, fault: str) -> None:
    assert any(fault in each for each in faults("x", header=header))


def test_every_fault_of_the_file_is_told_at_once() -> None:
    found = faults("gpt-4,list,2026-11-01,input,-1,1000", *GOOD, "gpt-4,list,2026-11-01,cache_raed,1,7")
    assert [each.split(":")[0] for each in found][:2] == ["row 2, amount_usd", "row 5, meter"]


def test_a_rate_that_is_there_twice_is_refused_with_both_rows() -> None:
    [found] = faults(*GOOD, "four,list,2026-11-01T01:00:00+01:00,input,0.04,1000")
    assert found == "row 4, meter: 'input' is there under the same conditions in row 2"


def test_overlapping_sheets_are_refused() -> None:
    header = f"{HEADER},valid_until"
    lines = ("gpt-4,list,2026-11-01,input,1,1000,2026-12-02", "gpt-4,list,2026-12-01,input,1,1000,")
    [found] = faults(*lines, header=header)
    assert found.startswith("row 2, valid_until: 2026-12-02T00:00:00Z overlaps the sheet of row 3")
    [backwards] = faults("gpt-4,list,2026-11-01,input,1,1000,2026-11-01", header=header)
    assert backwards == "row 2, valid_until: it is not after valid_from"


def test_a_sheet_with_an_end_ends_its_book(gpt_4: Model, tmp_path: Path) -> None:
    lines = ("gpt-4,list,2026-11-01,input,0.03,1000,2026-11-10",)
    run(tmp_path, *lines, header=f"{HEADER},valid_until", options=("--publish", "--reason", "a trial"))
    assert get_pricing(gpt_4, datetime(2026, 11, 5, tzinfo=UTC)) is not None
    assert get_pricing(gpt_4, datetime(2026, 11, 10, tzinfo=UTC)) is None


def test_a_file_becomes_drafts_or_is_published_and_the_same_file_again_changes_nothing(
    gpt_4: Model, tmp_path: Path
) -> None:
    assert run(tmp_path, *GOOD) == "1 sheet(s) as drafts, 0 there already.\n"
    assert get_pricing(gpt_4, datetime(2026, 11, 5, tzinfo=UTC)) is None
    assert run(tmp_path, *GOOD, options=("--publish", "--reason", "budget 2027")).startswith("1 sheet(s) published")
    assert run(tmp_path, *GOOD, options=("--publish",)) == "0 sheet(s) published, 1 there already.\n"
    sheet = PriceSheet.objects.get()
    assert (sheet.status, sheet.reason, sheet.source) == ("published", "budget 2027", "file")


def test_nothing_is_published_without_a_reason(gpt_4: Model, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^row 2, reason: what is published needs a reason.*\nNothing was written"):
        run(tmp_path, *GOOD, options=("--publish",))
    assert not PriceSheet.objects.exists()
    lines = ("gpt-4,list,2026-11-01,input,0.03,1000,as agreed",)
    run(tmp_path, *lines, header=f"{HEADER},reason", options=("--publish",))
    assert PriceSheet.objects.get().reason == "as agreed"


def test_prices_published_for_the_past_are_told_apart(gpt_4: Model, tmp_path: Path) -> None:
    publish = ("--publish", "--reason", "late")
    past = run(tmp_path, "gpt-4,list,2025-11-01,input,0.03,1000", options=publish)
    assert past.endswith("1 begin in the past: calls made since keep their cost until they are re-rated.\n")
    assert "past" not in run(tmp_path, "gpt-4,list,2999-11-01,input,0.03,1000", options=publish)


def test_one_wrong_sheet_keeps_the_whole_file_out(tmp_path: Path, gpt_4: Model) -> None:
    factories.make_sheet(model=gpt_4, valid_from=datetime(2026, 12, 1, tzinfo=UTC), rates={"input": "0.05"})
    lines = (*GOOD, "gpt-4,list,2026-12-01,input,0.04,1000")
    with pytest.raises(CommandError, match=r"(?s)row 4, valid_from: .*already has a published sheet.*Nothing was"):
        run(tmp_path, *lines, options=("--publish",))
    assert PriceSheet.objects.count() == 1
    assert Rate.objects.count() == 1


@pytest.mark.parametrize("wrong", ["30,1000", "0.00003,1000"])
def test_a_price_in_the_wrong_unit_needs_a_confirmation(gpt_4: Model, tmp_path: Path, wrong: str) -> None:
    factories.make_sheet(model=gpt_4, rates={"input": "0.03", "output": "0.06"})
    line = f"gpt-4,list,2026-11-01,input,{wrong}"
    with pytest.raises(CommandError, match=r"row 2, amount_usd: input: .*about 1000 times: is `per` right\?"):
        run(tmp_path, line)
    assert not PriceSheet.objects.filter(status="draft").exists()
    assert "about 1000 times" in run(tmp_path, line, options=("--check",))
    assert run(tmp_path, line, options=("--confirm-outliers",)).startswith("1 sheet(s)")


def test_a_first_price_that_no_token_ever_had_needs_a_confirmation(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="row 2, amount_usd: 30 USD per 1,000 tokens is no price of a token"):
        run(tmp_path, "gpt-4,list,2026-11-01,input,30,1000")


def test_what_is_exported_comes_back_the_same(gpt_4: Model, tmp_path: Path) -> None:
    sheet = factories.make_sheet(model=gpt_4, published=False, reason="=2+2", source_url="https://example.com/a,b")
    Rate.objects.create(
        sheet=sheet, meter="input", amount_usd="0.02", per=1000, above_tokens=200_000, tier_inclusive=True,
        service_tier="batch", weekdays=31, window_start="16:30", window_end="00:30", minimum="10", quantum="0.5",
    )  # fmt: skip
    Rate.objects.create(sheet=sheet, meter="web_searches", amount_usd=0, per=1, zero_reason="free because, \"beta\"")
    sheet.status, sheet.published_at = "published", datetime.now(UTC)
    sheet.save()
    factories.make_sheet(model=gpt_4, book="seed", rates={"input": "9"})
    out = io.StringIO()
    call_command("export_sheets", "--history", stdout=out)
    assert ",'=2+2," in out.getvalue()
    back = {(each.book): each for each in sheet_csv.read(out.getvalue())}
    assert set(back) == {"list", "seed"}
    assert back["list"].reason == "=2+2"
    assert content_sha256(Sheet(rates=back["list"].rates)) == content_sha256(compiled(sheet))
    current = io.StringIO()
    call_command("export_sheets", "--model", "four", stdout=current)
    assert ",seed," not in current.getvalue()


def test_a_file_that_is_no_csv_is_refused(tmp_path: Path) -> None:
    for text in ('model,"x', "", "\0", "model\n"):
        with pytest.raises(sheet_csv.SheetCsvError):
            sheet_csv.read(text)
    with pytest.raises(CommandError, match="not readable"):
        call_command("import_sheets", str(tmp_path / "nothing.csv"))
    (tmp_path / "latin.csv").write_bytes(b"mod\xe9l")
    with pytest.raises(CommandError, match="not readable"):
        call_command("import_sheets", str(tmp_path / "latin.csv"))


# --- whatever somebody types ---

NASTY = st.sampled_from([
    "", " ", "0", "-0", "-1", "1e3", "1e-13", "1e999", "NaN", "sNaN", "Infinity", "1_000", "1,000", "٣", "½", "1" * 400,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", "20261101", "24:00", "23:59:60", "'=1+1",
    "=1+1", "gpt-4", "four", "GPT-4", "input", "Input", "discontinued", "batch", "true", "TRUE", "127", "128", "list",
    "2147483648", "\ufeff", "\u202e", "\"", "a\nb", "http://x", "javascript:1", "999999999999.999999999999",
])  # fmt: skip
WHOLE = {
    "model": "gpt-4", "book": "list", "valid_from": "2026-11-01", "meter": "input", "amount_usd": "0.03", "per": "1000",
}  # fmt: skip


@given(spoiled=st.dictionaries(st.sampled_from(sheet_csv.COLUMNS), NASTY, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_typed_is_taken_or_refused_by_row_and_column(spoiled: dict[str, str]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, sheet_csv.COLUMNS, restval="")
    writer.writeheader()
    writer.writerow(WHOLE | spoiled)
    found: list[str] = []
    try:
        sheets = sheet_csv.read(text.getvalue())
        with transaction.atomic():
            carry_in(sheets, now=NOW, confirm_outliers=True)
            transaction.set_rollback(True)
    except sheet_csv.SheetCsvError as error:
        found = error.faults
    assert [fault for fault in found if not re.match(r"row \d+(, \w+)?: ", fault)] == []
