"""Our books against an export, and what posting the differences does to them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.models import Adjustment, ArchivedMonth, Call, DailySpend, LimitWindow, PriceSheet
from ledger.reconcile import Class, Export, ExportError, Report, SourceFile, read, reconcile
from ledger.reconcile.matching import Difference
from ledger.reconcile.posting import Posted, PostError, post
from ledger.reconcile.proposing import make_drafts, proposals
from providers.models import Model, Provider
from tests import factories
from tests.ledger.reconcile.exports import (
    DAY,
    NOW,
    anthropic_cost,
    anthropic_page,
    openai_cost,
    openai_page,
    openai_usage,
)
from tests.ledger.settled import settle_at

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
NEXT = date(2026, 10, 6)


class Books:
    """One provider with one model at 2.50 and 10 USD per million, and its calls."""

    def __init__(self) -> None:
        self.provider: Provider = factories.make_provider()
        self.model: Model = factories.make_model(name="gpt-4o", provider=self.provider)
        self.sheet: PriceSheet = factories.make_sheet(
            model=self.model, rates={"input": "2.5", "output": "10"}, per=1_000_000
        )
        self.key = factories.make_key()
        self.limit = factories.make_limit(key=self.key, amount="1000", period="total")

    def call(self, *, at: datetime = NOON, input: int = 1000, output: int = 100, **fields: Any) -> Call:
        cost = Decimal(input) * Decimal("0.0000025") + Decimal(output) * Decimal("0.00001")
        values: dict[str, Any] = {
            "sheet": self.sheet.pk, "served_name": "gpt-4o-2024-08-06", "input_tokens": input, "output_tokens": output,
            "meters": {name: n for name, n in (("input", input), ("output", output)) if n}, "cost_usd": cost, **fields,
        }  # fmt: skip
        return settle_at(at, key=self.key, model=self.model, limits=(self.limit,), **values)

    def unknown(self, **fields: Any) -> Call:
        return self.call(cost_usd=None, cost_source="unknown", unpriced_reason="no rate", **fields)

    def against(self, *contents: bytes) -> Report:
        return reconcile(export=_export(*contents), provider=self.provider)

    def post(self, *contents: bytes, reference: str = "file 1") -> Posted:
        return post(export=_export(*contents), provider=self.provider, reference=reference, actor=None, now=NOW)

    def total_usd(self) -> Decimal:
        sums = DailySpend.objects.aggregate(cost=Sum("cost_usd"), adjusted=Sum("adjustments_usd"))
        return Decimal(sums["cost"] + sums["adjusted"])


@pytest.fixture
def books() -> Books:
    return Books()


def _export(*contents: bytes) -> Export:
    return read([SourceFile(f"{number}", content) for number, content in enumerate(contents)], now=NOW)


def _costs(**amounts: Any) -> bytes:
    """The costs of gpt-4o on DAY: input=..., output=..."""
    rows = [openai_cost(f"gpt-4o-2024-08-06, {meter.replace('_', ' ')}", value) for meter, value in amounts.items()]
    return openai_page({DAY: rows})


def _usage(**counts: int) -> bytes:
    return openai_page({DAY: [openai_usage("gpt-4o-2024-08-06", **counts)]})


def _kinds(report: Report) -> dict[str, Class]:
    return {each.group.meter: each.kind for each in report.differences}


def _only(report: Report, kind: Class) -> Difference:
    [found] = [each for each in report.differences if each.kind == kind]
    return found


def test_what_both_say_alike_is_equal(books: Books) -> None:
    books.call()
    books.call(input=3000)
    report = books.against(_costs(input=0.01, output=0.002), _usage(input_tokens=4000, output_tokens=200))
    assert _kinds(report) == {"input": Class.EQUAL, "output": Class.EQUAL}
    assert report.unexplained_percent == 0


def test_less_than_a_millionth_is_rounding_and_a_millionth_is_not(books: Books) -> None:
    books.call()
    usage = _usage(input_tokens=1000, output_tokens=100)
    report = books.against(_costs(input=0.0025009, output=0.001001), usage)
    assert _kinds(report) == {"input": Class.ROUNDING, "output": Class.PRICE_DIFFERS}


def test_the_same_usage_at_another_price_proposes_that_price(books: Books) -> None:
    books.call()
    report = books.against(_costs(input=0.003, output=0.001), _usage(input_tokens=1000, output_tokens=100))
    assert _kinds(report) == {"input": Class.PRICE_DIFFERS, "output": Class.EQUAL}
    [proposal] = proposals(report, provider=books.provider)
    assert (proposal.meter, proposal.old_usd, proposal.amount_usd) == ("input", Decimal("2.5"), Decimal(3))


def test_a_proposed_price_becomes_one_draft_with_the_other_rates_kept(books: Books) -> None:
    books.call()
    report = books.against(_costs(input=0.003, output=0.001), _usage(input_tokens=1000, output_tokens=100))
    found = proposals(report, provider=books.provider)
    [draft] = make_drafts(found, now=NOW, actor=None)
    assert (draft.status, draft.book, draft.source) == ("draft", "override", "invoice")
    assert {rate.meter: rate.amount_usd for rate in draft.rates.all()} == {"input": Decimal(3), "output": Decimal(10)}
    assert make_drafts(found, now=NOW, actor=None) == []


def test_usage_that_only_one_side_has_is_missing_on_the_other(books: Books) -> None:
    books.call(output=0)
    report = books.against(_costs(output=0.5), _usage(output_tokens=50_000))
    assert _kinds(report) == {"input": Class.MISSING_THERE, "output": Class.MISSING_HERE}


def test_more_usage_there_is_usage_missing_here(books: Books) -> None:
    books.call(output=0)
    report = books.against(_costs(input=0.005), _usage(input_tokens=2000))
    assert _only(report, Class.MISSING_HERE).note == "1000 more there"
    assert report.unexplained_percent == 50


def test_an_amount_without_a_quantity_leaves_a_difference_unmatched(books: Books) -> None:
    books.call()
    report = books.against(_costs(input=0.003, output=0.001))
    assert _kinds(report) == {"input": Class.UNMATCHED, "output": Class.EQUAL}


def test_an_unknown_model_and_an_unknown_meter_are_unmatched(books: Books) -> None:
    rows = [openai_cost("sora-9, output", 1), openai_cost("Vector storage", 2)]
    report = books.against(openai_page({DAY: rows}))
    assert [each.kind for each in report.differences] == [Class.UNMATCHED, Class.UNMATCHED]
    assert report.unexplained_percent == 100


def test_a_credit_is_a_class_of_its_own_and_explained(books: Books) -> None:
    books.call()
    rows = [openai_cost("gpt-4o-2024-08-06, input", 0.0025), openai_cost("gpt-4o-2024-08-06, output", 0.001)]
    report = books.against(openai_page({DAY: [*rows, openai_cost("Free credits", -5)]}))
    assert _only(report, Class.CREDIT).theirs_usd == -5
    assert report.unexplained_percent == 0


def test_days_the_export_does_not_speak_for_are_left_alone(books: Books) -> None:
    books.call()
    books.call(at=datetime(2026, 10, 7, tzinfo=UTC))
    report = books.against(_costs(input=0.0025, output=0.001))
    assert {each.group.day for each in report.differences} == {DAY}


def test_an_empty_day_with_calls_of_ours_is_usage_missing_there(books: Books) -> None:
    books.call()
    report = books.against(openai_page({DAY: [openai_cost("other, input", 0)], NEXT: []}))
    missing = [each for each in report.differences if each.kind is Class.MISSING_THERE]
    assert {each.group.model for each in missing} == {"gpt-4o"}


def test_a_daily_total_without_models_is_compared_as_one(books: Books) -> None:
    books.call()
    report = books.against(openai_page({DAY: [openai_cost(None, 0.0035)]}))
    [total] = report.differences
    assert (total.kind, total.ours_usd) == (Class.EQUAL, Decimal("0.0035"))
    assert (total.group.model, total.group.meter) == ("", "")


def test_a_model_is_found_by_its_alias(books: Books) -> None:
    books.model.aliases.create(name="omni")
    books.call(served_name="")
    report = books.against(openai_page({DAY: [openai_cost("omni, input", 0.0025), openai_cost("omni, output", 0.001)]}))
    assert {each.kind for each in report.differences} == {Class.EQUAL}


def test_reasoning_counts_as_output_where_the_export_has_no_line_for_it(books: Books) -> None:
    books.unknown(output=0, meters={"input": 1000, "output": 40, "reasoning": 60})
    report = books.against(_usage(input_tokens=1000, output_tokens=100))
    assert _kinds(report) == {"input": Class.EQUAL, "output": Class.EQUAL}


def test_web_searches_without_a_model_are_matched_across_models(books: Books) -> None:
    provider = books.provider
    model = factories.make_model(name="claude-sonnet-4-5", provider=provider)
    sheet = factories.make_sheet(model=model, rates={"web_searches": "0.01"}, per=1)
    settle_at(
        NOON, key=books.key, model=model, sheet=sheet.pk, meters={"web_searches": 2}, cost_usd=Decimal("0.02"),
        input_tokens=0, output_tokens=0,
    )  # fmt: skip
    row = anthropic_cost("2.00", model=None, cost_type="web_search", token_type=None)
    tokens = anthropic_cost("0", token_type="output_tokens")
    report = books.against(anthropic_page({DAY: [row, tokens]}))
    assert _kinds(report) == {"web_searches": Class.EQUAL, "output": Class.EQUAL}


def test_another_providers_calls_do_not_count(books: Books) -> None:
    books.call()
    other = Books.__new__(Books)
    other.provider = factories.make_provider()
    other.model = factories.make_model(name="gpt-4o-eu", provider=other.provider)
    settle_at(NOON, key=books.key, model=other.model, cost_usd=Decimal(9))
    report = books.against(_costs(input=0.0025, output=0.001))
    assert {each.kind for each in report.differences} == {Class.EQUAL}


def test_usage_alone_is_compared_by_quantity(books: Books) -> None:
    books.call()
    report = books.against(_usage(input_tokens=1000, output_tokens=150))
    assert _kinds(report) == {"input": Class.EQUAL, "output": Class.MISSING_HERE}
    assert report.unexplained_percent == Decimal("4.3478")


def test_an_export_without_amounts_leaves_their_amounts_unknown(books: Books) -> None:
    books.call()
    total = books.against(_usage(input_tokens=1000, output_tokens=100)).totals[Class.EQUAL]
    assert (total.theirs_usd, total.ours_usd, total.apart_usd) == (None, Decimal("0.0035"), None)


# --- posting ------------------------------------------------------------------------------------------------------


def test_posting_brings_the_books_to_the_providers_total_to_the_last_digit(books: Books) -> None:
    for number in range(7):
        books.call(input=1000 + number)
    costs = _costs(input="0.020000000003", output="0.001000000007")
    posted = books.post(costs)
    assert books.total_usd() == Decimal("0.021000000010")
    assert posted.adjustments == 7
    assert {each.kind for each in books.against(costs).differences} == {Class.EQUAL}


def test_posting_twice_changes_nothing(books: Books) -> None:
    books.call()
    costs = _costs(input=0.5, output=0.001)
    assert books.post(costs).adjustments == 1
    assert books.post(costs) == Posted()
    assert Adjustment.objects.count() == 1


def test_a_day_without_a_line_is_posted_to_the_meters_it_was_shown_at(books: Books) -> None:
    books.call()
    books.call(at=datetime(2026, 10, 6, 12, tzinfo=UTC))
    rows = [openai_cost("gpt-4o-2024-08-06, input", 0.0025), openai_cost("gpt-4o-2024-08-06, output", 0.001)]
    costs = openai_page({DAY: rows, NEXT: []})
    assert {each.group.meter for each in books.against(costs).differences if each.group.day == NEXT} == {
        "input", "output",
    }  # fmt: skip
    assert books.post(costs).total_usd == Decimal("-0.0035")
    assert Adjustment.objects.get().details == {"parts": {"input": "-0.0025", "output": "-0.001"}}
    assert [each.ours_usd for each in books.against(costs).differences if each.group.day == NEXT] == [0, 0]


def test_an_adjustment_says_what_it_is_for(books: Books) -> None:
    call = books.call()
    books.post(_costs(input=0.0035, output=0.001))
    adjustment = Adjustment.objects.get()
    assert (adjustment.call_id, adjustment.reason, adjustment.reference) == (call.pk, "reconcile", "file 1")
    assert adjustment.details == {"parts": {"input": "0.001"}}


def test_limits_follow_what_was_posted(books: Books) -> None:
    books.call()
    books.post(_costs(input=0.5, output=0.001))
    assert LimitWindow.objects.get().used == Decimal("0.501")


def test_calls_of_unknown_cost_take_missing_money_first_and_become_known(books: Books) -> None:
    known = books.call(input=1000, output=0)
    small, large = books.unknown(input=1000, output=0), books.unknown(input=3000, output=0)
    books.post(_costs(input=0.0125), _usage(input_tokens=5000))
    found = {each.call_id: each for each in Adjustment.objects.all()}
    assert known.pk not in found
    assert found[small.pk].delta_usd == Decimal("0.0025")
    assert found[large.pk].delta_usd == Decimal("0.0075")
    assert all(each.settles_unknown for each in found.values())
    assert LimitWindow.objects.get().used == Decimal("0.0125")
    assert sum(DailySpend.objects.values_list("unpriced_calls", flat=True)) == 0


def test_a_call_of_a_process_that_died_takes_what_nobody_else_used(books: Books) -> None:
    dead = books.unknown(
        input=0, output=0, meters={}, usage_source="none", outcome="abandoned", served_name="gpt-4o-2024-08-06"
    )
    books.call(input=1000, output=0)
    books.post(_costs(input=0.005), _usage(input_tokens=2000))
    adjustment = Adjustment.objects.get()
    assert (adjustment.call_id, adjustment.delta_usd, adjustment.settles_unknown) == (dead.pk, Decimal("0.0025"), True)


def test_one_call_gets_one_adjustment_for_all_its_meters(books: Books) -> None:
    books.unknown()
    books.post(_costs(input=0.0025, output=0.001))
    adjustment = Adjustment.objects.get()
    assert adjustment.delta_usd == Decimal("0.0035")
    assert adjustment.details == {"parts": {"input": "0.0025", "output": "0.001"}}


def test_what_the_provider_did_not_bill_is_taken_back(books: Books) -> None:
    books.call()
    books.post(_costs(input=0.0025, output=0))
    assert books.total_usd() == Decimal("0.0025")


def test_a_difference_without_any_call_is_left_and_named(books: Books) -> None:
    books.call()
    posted = books.post(_costs(input=0.0025, output=0.001, cached_input=1))
    assert posted.adjustments == 0
    assert [each.group.meter for each in posted.left] == ["cache_read"]


def test_credits_are_never_posted_on_calls(books: Books) -> None:
    books.call()
    rows = [openai_cost("gpt-4o-2024-08-06, input", 0.0025), openai_cost("gpt-4o-2024-08-06, output", 0.001)]
    assert books.post(openai_page({DAY: [*rows, openai_cost("Free credits", -5)]})) == Posted()


def test_a_month_that_is_not_over_is_compared_but_not_posted(books: Books) -> None:
    page = openai_page({date(2026, 11, 2): [openai_cost("gpt-4o, input", 1)]})
    assert books.against(page).differences
    with pytest.raises(PostError, match=r"row 1, day: 2026-11 is not closed"):
        books.post(page)


def test_a_dropped_month_is_refused_and_not_found_missing(books: Books) -> None:
    ArchivedMonth.objects.create(
        month=DAY.replace(day=1), path="/a", sha256="0" * 64, bytes=1, calls=1, archived_at=NOW, dropped_at=NOW
    )
    for look in (books.against, books.post):
        with pytest.raises(ExportError, match=r"^2026-10 was archived and dropped: .*--restore 2026-10\.$"):
            look(_costs(input=1))


def test_an_export_without_amounts_cannot_be_posted(books: Books) -> None:
    with pytest.raises(PostError, match="no amounts"):
        books.post(_usage(input_tokens=5))


def test_a_later_correction_by_the_provider_is_posted_on_top(books: Books) -> None:
    books.call()
    books.post(_costs(input=0.5, output=0.001), reference="first")
    books.post(_costs(input=0.4, output=0.001), reference="second")
    assert books.total_usd() == Decimal("0.401")


def test_the_same_reference_with_new_calls_in_the_books_gets_a_number(books: Books) -> None:
    books.call()
    costs = _costs(input=0.5, output=0.001)
    books.post(costs)
    books.call(output=0)
    books.post(costs)
    assert books.total_usd() == Decimal("0.501")
    assert set(Adjustment.objects.values_list("reference", flat=True)) == {"file 1", "file 1 #2"}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=st.lists(st.integers(0, 5000), min_size=1, max_size=6),
    unknown=st.lists(st.integers(1, 5000), max_size=3),
    theirs=st.tuples(*[st.decimals(min_value=0, max_value=10, places=12)] * 2),
)
def test_whatever_both_say_posting_makes_them_agree(
    inputs: list[int], unknown: list[int], theirs: tuple[Decimal, Decimal]
) -> None:
    books = Books.__new__(Books)
    number = factories.make_provider().pk
    books.provider = factories.make_provider()
    books.model = factories.make_model(name=f"m{number}", upstream_name="gpt-4o", provider=books.provider)
    books.sheet = factories.make_sheet(model=books.model, rates={"input": "2.5", "output": "10"}, per=1_000_000)
    books.key = factories.make_key()
    books.limit = factories.make_limit(key=books.key, amount="100000", period="total")
    for tokens in inputs:
        books.call(input=tokens)
    for tokens in unknown:
        books.unknown(input=tokens, output=0)
    costs = _costs(input=f"{theirs[0]:f}", output=f"{theirs[1]:f}")
    posted = books.post(costs)
    assert {each.kind for each in books.against(costs).differences} <= {
        Class.EQUAL, Class.ROUNDING,
        *({Class.UNMATCHED, Class.PRICE_DIFFERS, Class.MISSING_HERE} if posted.left else ()),
    }  # fmt: skip
    assert books.post(costs).adjustments == 0
