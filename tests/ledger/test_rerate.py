"""Re-rating: charges + adjustments = a fresh rating, whatever happened before; twice is once."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger import prices, reports, rerate, rerate_runs
from ledger.meters import from_json
from ledger.models import Adjustment, ArchivedMonth, Call, DailySpend, LimitWindow, PriceSheet, RerateRun
from ledger.rating import Conditions, rate
from ledger.rerate import Selection
from providers.models import Model
from tests import factories
from tests.ids import call_id

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)
NOVEMBER = {"start": datetime(2026, 11, 1, tzinfo=UTC), "end": datetime(2026, 12, 1, tzinfo=UTC)}


def make_call(model: Model, *, at: datetime = NOON, sheet: PriceSheet | None = None, **fields: Any) -> Call:
    """A call at `at`, with its rollup row as the settle would have written it."""
    request_id, identifier = call_id(at)
    fields.setdefault("key", factories.make_key())
    call = factories.make_call(
        model=model, id=identifier, request_id=request_id, started_at=at, price_sheet=sheet, **fields
    )
    DailySpend.objects.create(
        day=at.date(), user=call.user, team=call.team, key=call.key, model=model, provider=model.provider,
        outcome=call.outcome, slot=1, calls=1, unpriced_calls=int(call.cost_usd is None), cost_usd=call.cost_usd or 0,
    )  # fmt: skip
    return call


def make_unknown(model: Model, **fields: Any) -> Call:
    values = {"cost_usd": None, "cost_source": "unknown", "unpriced_reason": "no published price", **fields}
    return make_call(model, **values)


def november(model: Model, sheet: PriceSheet | None = None) -> Selection:
    return Selection(model_id=model.pk, sheet_id=sheet.pk if sheet else None, **NOVEMBER)


def apply(selection: Selection) -> RerateRun:
    return rerate_runs.work(rerate_runs.begin(selection, applies=True, reason="the list was wrong").pk)


def total(call: Call) -> Decimal:
    deltas = Adjustment.objects.filter(call=call).values_list("delta_usd", flat=True)
    return (call.cost_usd or Decimal(0)) + sum(deltas, start=Decimal(0))


def test_a_call_at_the_price_it_has_needs_nothing() -> None:
    sheet = factories.make_sheet()
    make_call(sheet.model, sheet=sheet)
    assert rerate.tally(november(sheet.model)) == rerate.Tally(calls=1)
    run = apply(november(sheet.model))
    assert (run.state, run.calls, run.corrected) == ("done", 1, 0)
    assert not Adjustment.objects.exists()


def test_a_corrected_price_becomes_adjustments_that_name_run_sheet_and_reason() -> None:
    sheet = factories.make_sheet()
    call = make_call(sheet.model, sheet=sheet, key=factories.make_key(team=factories.make_team()))
    right = factories.make_sheet(model=sheet.model, book="override", rates={"input": "0.02", "output": "0.06"})

    dry = rerate.tally(november(sheet.model))
    assert (dry.corrected, dry.delta_usd) == (1, Decimal("-0.01"))
    assert dry.spenders == {f"{call.user_id}/{call.team_id}": (1, Decimal("-0.01"))}
    assert not Adjustment.objects.exists()

    run = apply(november(sheet.model))
    [adjustment] = Adjustment.objects.all()
    assert (adjustment.call_id, adjustment.delta_usd, adjustment.counted_delta_usd) == (
        call.pk, Decimal("-0.01"), Decimal("-0.01")
    )  # fmt: skip
    assert (adjustment.reason, adjustment.reference, adjustment.note) == (
        "rerate", f"rerate:{run.pk}", "the list was wrong"
    )  # fmt: skip
    assert adjustment.price_sheet_id == right.pk
    assert not adjustment.settles_unknown


def test_the_same_run_twice_changes_nothing() -> None:
    sheet = factories.make_sheet()
    make_call(sheet.model, sheet=sheet)
    right = factories.make_sheet(model=sheet.model, book="override", rates={"input": "1", "output": "1"})
    assert apply(november(sheet.model, right)).corrected == 1
    assert apply(november(sheet.model, right)).corrected == 0
    assert apply(november(sheet.model)).corrected == 0
    assert Adjustment.objects.count() == 1


def test_earlier_corrections_are_part_of_what_was_charged() -> None:
    sheet = factories.make_sheet()
    call = make_call(sheet.model, sheet=sheet)
    Adjustment.objects.create(
        call=call, delta_usd=Decimal("0.5"), counted_delta_usd=Decimal("0.5"), reason="reconcile", reference="invoice:1"
    )
    right = factories.make_sheet(model=sheet.model, book="override", rates={"input": "0.1", "output": "0.2"})
    apply(november(sheet.model))
    assert total(call) == Decimal("0.2")
    apply(november(sheet.model, sheet))
    assert total(call) == Decimal("0.06")
    apply(november(sheet.model, right))
    assert total(call) == Decimal("0.2")


def test_an_unpriced_call_gets_its_cost_once_and_is_unpriced_no_more() -> None:
    model = factories.make_model()
    call = make_unknown(model, counted_usd=Decimal("0.3"))
    assert rerate.tally(november(model)).unpriced == 1
    factories.make_sheet(model=model)
    run = apply(november(model))
    assert (run.settled, run.corrected, run.delta_usd) == (1, 0, Decimal("0.06"))
    adjustment = Adjustment.objects.get()
    assert adjustment.settles_unknown
    assert (adjustment.delta_usd, adjustment.counted_delta_usd) == (Decimal("0.06"), Decimal("-0.24"))
    dearer = factories.make_sheet(model=model, book="override", rates={"input": "1", "output": "1"})
    assert (apply(november(model, dearer)).settled, total(call)) == (0, Decimal("1.5"))
    [row] = reports.spend(group_by=[], start=date(2026, 11, 18), end=date(2026, 11, 18))
    assert (row.unpriced_calls, row.cost_usd, row.total_usd) == (0, 0, Decimal("1.5"))


def test_a_call_without_usage_stays_as_it_is() -> None:
    sheet = factories.make_sheet()
    make_unknown(sheet.model, sheet=sheet, usage_source="none", meters={}, outcome="abandoned")
    make_call(sheet.model, sheet=sheet, usage_source="none", meters={}, cost_usd=0, cost_source="nothing_used")
    run = apply(november(sheet.model))
    assert (run.calls, run.corrected, run.settled, run.unpriced) == (2, 0, 0, 1)


def test_usage_that_came_late_is_rated() -> None:
    sheet = factories.make_sheet()
    call = make_unknown(sheet.model, sheet=sheet, usage_source="none", meters={}, outcome="abandoned")
    late = {
        "id": str(call.pk), "meters": {"input": 1000, "output": 500}, "input_tokens": 1000, "output_tokens": 500,
        "usage_source": "reported", "started_at": NOON.isoformat(), "cost_usd": 0.06,
    }  # fmt: skip
    Adjustment.objects.create(
        call=call, delta_usd=Decimal("0.06"), settles_unknown=True, counted_delta_usd=0, reason="late_settlement",
        details=late,
    )  # fmt: skip
    assert apply(november(sheet.model)).corrected == 0
    factories.make_sheet(model=sheet.model, book="override", rates={"input": "0.1", "output": "0.2"})
    assert (apply(november(sheet.model)).corrected, total(call)) == (1, Decimal("0.2"))


def test_a_price_without_a_rate_for_a_meter_leaves_the_charge_alone() -> None:
    sheet = factories.make_sheet()
    call = make_call(sheet.model, sheet=sheet)
    poorer = factories.make_sheet(model=sheet.model, book="override", rates={"input": "1"})
    run = apply(november(sheet.model, poorer))
    assert (run.corrected, run.unpriced, total(call)) == (0, 1, Decimal("0.06"))


def test_a_call_held_at_the_edge_of_two_sheets_keeps_its_own() -> None:
    before = factories.make_sheet()
    after = factories.make_sheet(model=before.model, valid_from=NOON, rates={"input": "1", "output": "1"})
    edge = NOON - timedelta(milliseconds=2)
    make_call(before.model, at=edge, sheet=after, cost_usd=Decimal("1.5"))
    [correction] = rerate.examine(november(before.model)).corrections
    assert correction.delta_usd == Decimal("-1.44")
    # Its request began before the switch and its attempt after it: both prices are right.
    request_id, identifier = call_id(edge)
    factories.make_call(
        model=before.model, id=identifier, request_id=request_id, started_at=NOON, price_sheet=after,
        cost_usd=Decimal("1.5"),
    )  # fmt: skip
    assert len(rerate.examine(november(before.model)).corrections) == 1


def test_calls_follow_the_model_whose_price_they_were_given() -> None:
    asked, served = factories.make_sheet(), factories.make_sheet()
    make_call(asked.model, sheet=served)
    factories.make_sheet(model=asked.model, book="override", rates={"input": "1", "output": "1"})
    assert rerate.tally(november(asked.model)).calls == 0
    factories.make_sheet(model=served.model, book="override", rates={"input": "2", "output": "2"})
    assert rerate.tally(november(served.model)).delta_usd == Decimal("2.94")


def test_only_the_period_is_looked_at() -> None:
    sheet = factories.make_sheet()
    for at in (NOVEMBER["start"], NOVEMBER["end"] - timedelta(milliseconds=1), NOVEMBER["end"]):
        make_call(sheet.model, at=at, sheet=sheet)
    assert rerate.tally(november(sheet.model)).calls == 2


def test_an_interrupted_run_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = factories.make_sheet()
    for minute in range(7):
        make_call(sheet.model, at=NOON + timedelta(minutes=minute), sheet=sheet)
    factories.make_sheet(model=sheet.model, book="override", rates={"input": "1", "output": "1"})
    run = rerate_runs.begin(november(sheet.model), applies=True)
    rerate_runs.step(run.pk, most=3)
    halfway = rerate_runs.step(run.pk, most=3)
    assert (halfway.state, halfway.calls, Adjustment.objects.count()) == ("running", 6, 6)
    assert rerate_runs.open_runs() == [run.pk]
    assert rerate_runs.work_on_open_runs() == 1
    run.refresh_from_db()
    assert (run.state, run.calls, run.corrected, Adjustment.objects.count()) == ("done", 7, 7, 7)
    assert rerate_runs.step(run.pk).calls == 7


def test_a_kill_within_a_step_leaves_neither_adjustments_nor_a_moved_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = factories.make_sheet()
    make_call(sheet.model, sheet=sheet)
    factories.make_sheet(model=sheet.model, book="override", rates={"input": "1", "output": "1"})
    run = rerate_runs.begin(november(sheet.model), applies=True)

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rerate_runs, "_note", die)
        with pytest.raises(KeyboardInterrupt):
            rerate_runs.step(run.pk)
    assert not Adjustment.objects.exists()
    run.refresh_from_db()
    assert run.cursor is None
    assert rerate_runs.work(run.pk).corrected == 1


def test_a_preview_writes_no_adjustment() -> None:
    sheet = factories.make_sheet()
    make_call(sheet.model, sheet=sheet)
    factories.make_sheet(model=sheet.model, book="override", rates={"input": "1", "output": "1"})
    run = rerate_runs.work(rerate_runs.begin(november(sheet.model), applies=False).pk)
    assert (run.state, run.corrected, run.delta_usd) == ("done", 1, Decimal("1.44"))
    assert not Adjustment.objects.exists()


def test_it_moves_the_windows_that_the_call_counted_in() -> None:
    sheet = factories.make_sheet()
    limit = factories.make_limit(amount="10")
    window = LimitWindow.objects.create(limit=limit, starts_at=NOON, used=Decimal("0.06"))
    make_call(sheet.model, sheet=sheet, windows=[window.pk])
    factories.make_sheet(model=sheet.model, book="override", rates={"input": "1", "output": "1"})
    apply(november(sheet.model))
    window.refresh_from_db()
    assert window.used == Decimal("1.5")


def test_it_refuses_a_draft_and_a_sheet_of_another_model() -> None:
    sheet, other = factories.make_sheet(), factories.make_sheet()
    draft = factories.make_sheet(model=sheet.model, book="override", published=False)
    for wrong in (draft, other):
        with pytest.raises(rerate.RerateError, match=f"no published price sheet {wrong.pk}"):
            rerate_runs.begin(november(sheet.model, wrong), applies=True)
        with pytest.raises(rerate.RerateError, match=f"no published price sheet {wrong.pk}"):
            rerate.examine(november(sheet.model, wrong))


# --- the command ------------------------------------------------------------------------------------------


def run_command(*args: str) -> str:
    out = io.StringIO()
    call_command("rerate", *args, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def corrected() -> Call:
    sheet = factories.make_sheet(model=factories.make_model(name="gpt-4", aliases=["four"]))
    user = factories.make_user(username="ada")
    key = factories.make_key(user=user, team=factories.make_team(name="search"))
    return make_call(sheet.model, sheet=sheet, key=key)


def test_the_command_shows_who_pays_what_and_writes_only_when_told(corrected: Call) -> None:
    factories.make_sheet(model=corrected.model, book="override", rates={"input": "0.02", "output": "0.06"})
    period = ("--from", "2026-11-01", "--to", "2026-11-30")
    shown = run_command("--model", "four", *period)
    assert "1 calls: 1 change, 0 of unknown cost become known, 0 stay without a price; -0.01 USD." in shown
    assert "  ada (search): 1 calls, -0.01 USD" in shown
    assert not Adjustment.objects.exists()
    applied = run_command("--model", "gpt-4", *period, "--apply", "--reason", "late list")
    assert f"rerate:{RerateRun.objects.get().pk}" in applied
    assert Adjustment.objects.get().note == "late list"
    assert "0 change" in run_command("--model", "gpt-4", *period, "--apply")


def test_the_command_finishes_what_was_interrupted(corrected: Call) -> None:
    rerate_runs.begin(november(corrected.model), applies=True)
    assert "1 run(s) finished." in run_command("--resume")
    assert "0 run(s) finished." in run_command("--resume")


def test_a_dropped_month_is_refused_and_not_found_to_need_nothing(corrected: Call) -> None:
    long_ago = datetime(2027, 1, 1, tzinfo=UTC)
    ArchivedMonth.objects.create(
        month=date(2026, 11, 1), path="/a", sha256="0" * 64, bytes=1, calls=1, archived_at=long_ago, dropped_at=long_ago
    )
    for options in ((), ("--apply",)):
        with pytest.raises(CommandError, match=r"^2026-11 was archived and dropped: .*--restore 2026-11\.$"):
            run_command("--model", "gpt-4", "--from", "2026-10-31", "--to", "2026-11-01", *options)
        run_command("--model", "gpt-4", "--from", "2026-10-01", "--to", "2026-10-31", *options)
        run_command("--model", "gpt-4", "--from", "2026-12-01", "--to", "2026-12-01", *options)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--model", "gpt-4"), "Give --from, --to"),
        (("--model", "no", "--from", "2026-11-01", "--to", "2026-11-02"), "There is no model 'no'"),
        (("--model", "gpt-4", "--from", "2026-11-31", "--to", "2026-12-02"), "--from: '2026-11-31' is not a day"),
        (("--model", "gpt-4", "--from", "2026-11-02", "--to", "2026-11-01"), "--to lies before --from"),
        (("--model", "gpt-4", "--from", "2026-11-01", "--to", "2026-11-02", "--sheet", "7"), "no published price"),
    ],
)
def test_the_command_says_what_is_wrong(corrected: Call, args: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run_command(*args)


# --- properties -------------------------------------------------------------------------------------------

_amounts = st.decimals("0.000001", "9.999999", places=6).map(str)
_edits = st.lists(st.tuples(_amounts, _amounts, st.booleans()), min_size=1, max_size=4)
_usages = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 10_000), st.booleans()), min_size=1, max_size=5
)


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=_edits, usages=_usages)
def test_charges_and_adjustments_are_a_fresh_rating_after_any_edits(
    edits: list[tuple[str, str, bool]], usages: list[tuple[int, int, bool]]
) -> None:
    model = factories.make_model()
    first = factories.make_sheet(model=model)
    calls = [_used(model, first, *usage, minute=minute) for minute, usage in enumerate(usages)]
    assert rerate.tally(november(model)).corrected == 0
    for number, (input_usd, output_usd, manual) in enumerate(edits):
        if manual:
            Adjustment.objects.create(
                call=calls[0], delta_usd=Decimal(input_usd), counted_delta_usd=Decimal(input_usd), reason="manual"
            )
        newest = factories.make_sheet(
            model=model, book="override", valid_from=factories.LONG_AGO + timedelta(days=number),
            rates={"input": input_usd, "output": output_usd},
        )  # fmt: skip
        apply(november(model))
        assert all(total(call) == _fresh(call, newest) for call in calls)
        assert apply(november(model)).corrected == 0
    summed = sum((total(call) for call in calls), start=Decimal(0))
    [row] = reports.spend(group_by=[], start=NOON.date(), end=NOON.date(), filters={"model": model.pk})
    assert (row.total_usd, row.unpriced_calls) == (summed, 0)


def _used(model: Model, sheet: PriceSheet, tokens_in: int, tokens_out: int, priced: bool, *, minute: int) -> Call:
    meters = {"input": tokens_in, "output": tokens_out}
    cost = (Decimal("0.03") * tokens_in + Decimal("0.06") * tokens_out) / 1000
    at = NOON + timedelta(minutes=minute)
    if not priced:
        return make_unknown(model, at=at, meters=meters, input_tokens=tokens_in, output_tokens=tokens_out)
    return make_call(
        model, at=at, sheet=sheet, meters=meters, input_tokens=tokens_in, output_tokens=tokens_out, cost_usd=cost,
        counted_usd=cost,
    )  # fmt: skip


def _fresh(call: Call, sheet: PriceSheet) -> Decimal | None:
    return rate(
        sheet=prices.compiled(sheet), meters=from_json(call.meters), input_total=call.input_tokens,
        conditions=Conditions(at=call.started_at),
    ).cost_usd  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_in_the_background_it_ends_by_itself(corrected: Call) -> None:
    factories.make_sheet(model=corrected.model, book="override", rates={"input": "0.02", "output": "0.06"})
    run = rerate_runs.begin(november(corrected.model), applies=True)
    connection.commit()
    rerate_runs.wake()
    assert rerate_runs._worker is not None
    rerate_runs._worker.join(20)
    run.refresh_from_db()
    assert (run.state, run.corrected) == ("done", 1)
