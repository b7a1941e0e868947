"""Every export in its true shape, and every way it can be wrong."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.reconcile.export import Export, ExportError, Line
from ledger.reconcile.openai import line_item
from ledger.reconcile.reading import SourceFile, read
from tests.ledger.reconcile.exports import (
    COSTS_CSV,
    DAY,
    NOW,
    USAGE_CSV,
    anthropic_cost,
    anthropic_page,
    csv_times,
    openai_cost,
    openai_page,
    openai_usage,
)

NEXT = date(2026, 10, 6)


def _read(*contents: bytes, **options: Any) -> Export:
    files = [SourceFile(f"{number}.export", content) for number, content in enumerate(contents)]
    return read(files, now=NOW, **options)


def _one(export: Export) -> Line:
    [line] = export.lines
    return line


def _refused(*contents: bytes, **options: Any) -> ExportError:
    with pytest.raises(ExportError) as caught:
        _read(*contents, **options)
    return caught.value


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("gpt-4o-2024-08-06, input", ("gpt-4o-2024-08-06", "input")),
        ("gpt-4o-2024-08-06, input_tokens", ("gpt-4o-2024-08-06", "input")),
        ("gpt-4o-2024-08-06, cached input", ("gpt-4o-2024-08-06", "cache_read")),
        ("gpt-4o-2024-08-06, output", ("gpt-4o-2024-08-06", "output")),
        ("gpt-audio-mini audio, input", ("gpt-audio-mini", "input_audio")),
        ("gpt-image-1 text, cached input", ("gpt-image-1", "cache_read")),
        ("gpt-image-1 image, cached input", ("gpt-image-1", "cache_read_image")),
        ("priority | gpt-5, output, long context", ("gpt-5", "output")),
        ("web search tool calls", ("", "web_searches")),
        ("Vector storage", ("", None)),
        ("gpt-4o, moonbeams", ("gpt-4o", None)),
        ("", ("", "")),
    ],
)
def test_a_line_item_is_a_model_and_a_meter(words: str, expected: tuple[str, str | None]) -> None:
    assert line_item(words) == expected


def test_an_amount_keeps_every_digit_of_its_text() -> None:
    page = openai_page({DAY: [openai_cost("gpt-4o, input", 0)]})
    page = page.replace(b'"value": 0', b'"value": 0.06000000000000000333')
    line = _one(_read(page))
    assert line.amount_usd == Decimal("0.06000000000000000333")
    assert (line.day, line.model, line.meter, line.row) == (DAY, "gpt-4o", "input", 1)


def test_an_exponent_is_a_number_too() -> None:
    page = openai_page({DAY: [openai_cost("gpt-4o, input", 2.5e-06)]})
    assert _one(_read(page)).amount_usd == Decimal("0.0000025")


def test_usage_becomes_meters_that_do_not_overlap() -> None:
    page = openai_page({DAY: [openai_usage("gpt-4o", input_tokens=100, input_cached_tokens=30, output_tokens=7)]})
    counts = {line.meter: line.quantity for line in _read(page).lines}
    assert counts == {"input": 70, "cache_read": 30, "output": 7}


def test_text_and_audio_are_told_apart_where_the_export_does() -> None:
    row = openai_usage(
        "gpt-audio", input_tokens=100, input_text_tokens=60, input_audio_tokens=40, output_tokens=9,
        output_text_tokens=4, output_audio_tokens=5,
    )  # fmt: skip
    counts = {line.meter: line.quantity for line in _read(openai_page({DAY: [row]})).lines}
    assert counts == {"input": 60, "input_audio": 40, "output": 4, "output_audio": 5}


def test_the_dashboards_costs_have_rows_for_days_without_any() -> None:
    text = f"{COSTS_CSV}{csv_times(DAY)},0.8958740000000000,usd,,\n{csv_times(NEXT)},,,,\n"
    export = _read(text.encode())
    assert _one(export).amount_usd == Decimal("0.895874")
    assert export.days == {DAY, NEXT}


def test_the_dashboards_counts_end_in_point_zero() -> None:
    text = f"{USAGE_CSV}{csv_times(DAY)},proj_a,10.0,user,key_a,gpt-4o,FALSE,default,59200.0,10646.0,5760.0\n"
    export = _read(text.encode())
    assert {line.meter: line.quantity for line in export.lines} == {"input": 53440, "cache_read": 5760, "output": 10646}
    assert {line.accounts for line in export.lines} == {("proj_a", "key_a", "user")}


def test_a_tab_separated_export_with_a_byte_order_mark_is_read() -> None:
    text = f"{COSTS_CSV}{csv_times(DAY)},1.5,usd,\"gpt-4o, input\",\n"
    table = text.replace('"gpt-4o, input"', "ITEM").replace(",", "\t").replace("ITEM", "gpt-4o, input")
    assert _one(_read(b"\xef\xbb\xbf" + table.encode())).model == "gpt-4o"


def test_days_that_were_not_used_at_all_are_days_of_the_export() -> None:
    assert _read(openai_page({DAY: [], NEXT: []})).days == {DAY, NEXT}
    header, _, _ = USAGE_CSV.partition(",project_id")
    assert _read(f"{header}\n{csv_times(DAY)}\n".encode()).days == {DAY}


def test_anthropic_says_cents() -> None:
    line = _one(_read(anthropic_page({DAY: [anthropic_cost("123.45")]})))
    assert line.amount_usd == Decimal("1.2345")
    assert (line.model, line.meter) == ("claude-sonnet-4-5", "input")


@pytest.mark.parametrize(
    ("fields", "meter"),
    [
        ({"token_type": "cache_creation.ephemeral_5m_input_tokens"}, "cache_write_5m"),
        ({"token_type": "cache_creation.ephemeral_1h_input_tokens"}, "cache_write_1h"),
        ({"token_type": "cache_read_input_tokens"}, "cache_read"),
        ({"token_type": "output_tokens"}, "output"),
        ({"cost_type": "web_search", "token_type": None, "model": None}, "web_searches"),
        ({"cost_type": None, "token_type": None, "model": None}, ""),
        ({"cost_type": "session", "token_type": None}, None),
    ],
)
def test_each_kind_of_cost_of_anthropic_has_its_meter(fields: dict[str, Any], meter: str | None) -> None:
    assert _one(_read(anthropic_page({DAY: [anthropic_cost("1", **fields)]}))).meter == meter


def test_anthropic_usage_is_disjoint_already() -> None:
    row = {
        "uncached_input_tokens": 5, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
        "cache_read_input_tokens": 7, "output_tokens": 11, "server_tool_use": {"web_search_requests": 1},
        "model": "claude", "api_key_id": None, "workspace_id": "ws",
    }  # fmt: skip
    export = _read(anthropic_page({DAY: [row]}))
    assert {line.meter: line.quantity for line in export.lines} == {
        "input": 5, "cache_write_5m": 2, "cache_write_1h": 3, "cache_read": 7, "output": 11, "web_searches": 1,
    }  # fmt: skip


MAPPING = """
day: date
model: sku
models: {Sonnet: claude-sonnet-4-5}
meter: unit
meters: {tokens in: input}
quantity: thousands
quantity_multiplier: 1000
amount: cost
currency: currency
kind: type
credits: [Credit]
days: [2026-10-05, 2026-10-06]
"""
MAPPED = "date,sku,unit,thousands,cost,currency,type\n2026-10-05,Sonnet,tokens in,1.5,0.0045,USD,Usage\n"


def test_a_csv_of_any_form_is_read_by_its_mapping() -> None:
    export = _read(MAPPED.encode(), mapping=MAPPING)
    line = _one(export)
    assert (line.model, line.meter, line.quantity, line.amount_usd) == (
        "claude-sonnet-4-5", "input", Decimal(1500), Decimal("0.0045"),
    )  # fmt: skip
    assert export.days == {DAY, NEXT}


def test_a_mapped_credit_is_a_credit() -> None:
    text = MAPPED.replace("Usage", "Credit")
    assert _one(_read(text.encode(), mapping=MAPPING)).is_credit


def test_costs_and_usage_complete_each_other() -> None:
    costs = openai_page({DAY: [openai_cost("gpt-4o, input", 0.25, quantity=99)]})
    usage = openai_page({DAY: [openai_usage("gpt-4o", input_tokens=100)]})
    export = _read(costs, usage)
    assert [(line.amount_usd, line.quantity) for line in export.lines if line.amount_usd] == [(Decimal("0.25"), None)]
    assert [line.quantity for line in export.lines if line.quantity] == [Decimal(100)]


def test_only_lines_of_one_project_can_be_kept() -> None:
    rows = [openai_cost("gpt-4o, input", 1, project_id=name) for name in ("a", "b")]
    assert len(_read(openai_page({DAY: rows}), account="a").lines) == 1
    assert "no line is of 'c'" in str(_refused(openai_page({DAY: rows}), account="c"))


@pytest.mark.parametrize(
    ("content", "row", "field", "words"),
    [
        (openai_page({DAY: [openai_cost("gpt-4o, input", "six")]}), 1, "amount.value", "'six' is not a number"),
        (openai_page({DAY: [openai_cost("a, input", 1), openai_cost("b", None)]}), 2, "amount.value", "no amount"),
        (openai_page({DAY: [openai_cost("a, input", 1, currency="eur")]}), 1, "amount.currency", "'EUR' is not USD"),
        (openai_page({DAY: [openai_cost("a, input", 1e13)]}), 1, "amount.value", "beyond the ledger's range"),
        (openai_page({DAY: [openai_usage("a", input_tokens=-1)]}), 1, "input_tokens", "negative"),
        (openai_page({DAY: [openai_usage("a", input_tokens=[1])]}), 1, "input_tokens", "not a number"),
        (openai_page({DAY: [openai_usage("a", input_tokens=True)]}), 1, "input_tokens", "not a number"),
        (openai_page({DAY: [openai_usage("a", input_cached_tokens=2)]}), 1, "input_cached_tokens", "2 cached of 0"),
        (openai_page({DAY: []}, has_more=True), 0, "has_more", "fetch every page"),
        (openai_page({NOW.date(): []}), 1, "start_time", "is not over"),
        (anthropic_page({DAY: [anthropic_cost(123.45)]}), 1, "amount", "not a text of cents"),
        (anthropic_page({DAY: [anthropic_cost("1", currency="GBP")]}), 1, "currency", "'GBP' is not USD"),
        (f"{COSTS_CSV}{csv_times(DAY)},x1,usd,,\n".encode(), 2, "amount_value", "'x1' is not a number"),
        (f"{COSTS_CSV}{csv_times(DAY)},1,usd\n".encode(), 2, "", "has 6 fields"),
        (f"{COSTS_CSV}yesterday,{csv_times(DAY)[11:]},1,usd,,\n".encode(), 2, "start_time", "neither Unix seconds"),
        (b'{"data": [{"start_time": 1, "start_time": 2}]}', 0, "", "appears twice"),
        (b'{"data": [{"start_time": 1759622400, "end_time": 1759708800, "results": 5}]}', 1, "results", "not a list"),
        (b'{"data": NaN}', 0, "", "NaN is no number"),
        (b"[" * 100_000, 0, "", "not JSON"),
        (b'{"id": 1}', 0, "data", "no page of an export"),
        (b"a,b\n1,2\n", 1, "", "of no export known here"),
        (b"a,a\n1,2\n", 1, "a", "appears twice"),
        (b"\xff\xfe", 0, "", "not UTF-8"),
        (b"\xef\xbb\xbf \n", 0, "", "the file is empty"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_row_and_field(content: bytes, row: int, field: str, words: str) -> None:
    error = _refused(content)
    assert (error.problems[0].row, error.problems[0].field) == (row, field)
    assert words in error.problems[0].message
    assert str(error).startswith("0.export: ")


def test_every_bad_row_is_named_not_only_the_first() -> None:
    rows = [openai_cost("a, input", value) for value in ("x", 1, "y")]
    assert [problem.row for problem in _refused(openai_page({DAY: rows})).problems] == [1, 3]


def test_a_bucket_that_spans_days_is_refused() -> None:
    page = openai_page({DAY: []}).replace(b'"end_time": ', b'"end_time": 1')
    assert "not within one UTC day" in str(_refused(page))


def test_the_same_day_in_two_files_of_one_kind_is_refused() -> None:
    page = openai_page({DAY: [openai_cost("a, input", 1)]})
    assert "another file of the same kind" in str(_refused(page, page))


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("day: date\ncolour: red", "colour"),
        ("model: sku", "day"),
        ("day: date", "neither a quantity nor an amount"),
        ("day: date\namount: cost\nmeters: {x: tokens}", "'tokens' is no meter"),
        ("day: nowhere\namount: cost", "there is no such column"),
        ("day: date\namount: cost\namount_per_usd: 0", "above zero"),
        ("day: [", "neither YAML nor JSON"),
        ("day: date\namount: cost\ndays: [2026-11-01, 2026-11-23]", "is not over"),
        ("day: date\namount: cost\ndays: [2026-10-06, 2026-10-07]", "is outside"),
    ],
)
def test_a_bad_mapping_is_refused_with_its_field(mapping: str, words: str) -> None:
    assert words in str(_refused(MAPPED.encode(), mapping=mapping))


def test_a_day_is_over_only_after_its_midnight_utc() -> None:
    files = [SourceFile("a", openai_page({DAY: []}))]
    with pytest.raises(ExportError, match="is not over"):
        read(files, now=datetime(2026, 10, 5, 23, 59, 59, tzinfo=UTC))
    assert read(files, now=datetime(2026, 10, 6, tzinfo=UTC)).days == {DAY}


# --- whatever a provider or a spreadsheet writes ---

NASTY = st.sampled_from([
    None, "", " ", 0, -1, -0.5, 1.5, 10**18, 10**400, 1e300, True, [], {}, [1], {"value": 1}, "six", "1,5", "1e5",
    "NaN", "Infinity", "-0", "0x10", "٣", "EUR", "usd", "USD", "2026-10-05", "2026-10-05T00:00:00Z",
    "9999-12-31T23:59:59Z", -(2**63), 2**63, 1759622400.5, "1759622400", "\u0000", "a" * 5000,
])  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "openai costs": openai_cost("gpt-4o, input", 1), "openai usage": openai_usage("gpt-4o", input_tokens=5),
    "anthropic costs": anthropic_cost("1.5"),
}  # fmt: skip


@given(
    form=st.sampled_from(sorted(FORMS)), data=st.data(),
    bucket=st.dictionaries(st.sampled_from(["start_time", "end_time", "starting_at", "ending_at", "results"]), NASTY),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_whatever_json_says_is_read_or_refused(form: str, data: st.DataObject, bucket: dict[str, Any]) -> None:
    line = FORMS[form] | data.draw(st.dictionaries(st.sampled_from(sorted(FORMS[form])), NASTY, max_size=3))
    whole = (anthropic_page if form.startswith("anthropic") else openai_page)({DAY: [line]})
    page = json.loads(whole)
    page["data"][0] |= bucket
    _read_or_refused(json.dumps(page).encode())


@given(
    costs=st.booleans(),
    spoiled=st.lists(st.tuples(st.integers(0, 13), NASTY.filter(lambda each: isinstance(each, str | int))), max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_whatever_a_csv_says_is_read_or_refused(costs: bool, spoiled: list[tuple[int, Any]]) -> None:
    header = (COSTS_CSV if costs else USAGE_CSV).strip().split(",")
    values = [*csv_times(DAY).split(","), *(["1", "usd", "gpt-4o, input", ""] if costs else [
        "", "1.0", "", "", "gpt-4o", "false", "", "100.0", "10.0", "0.0",
    ])]  # fmt: skip
    for place, value in spoiled:
        values[place % len(values)] = str(value)
    text = io.StringIO()
    csv.writer(text).writerows([header, values])
    _read_or_refused(text.getvalue().encode())


def _read_or_refused(content: bytes) -> None:
    """Nothing between: what is read has finite amounts and quantities of days that are over."""
    try:
        export = _read(content)
    except ExportError:
        return
    assert all(day < NOW.date() for day in export.days)
    for line in export.lines:
        for number in (line.amount_usd, line.quantity):
            assert number is None or Decimal(number).is_finite()
