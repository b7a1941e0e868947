"""What images, recordings and speech cost: in the meters that the sheet prices, under the variant that was made."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from gateway.settlement import Ending, settle_row
from ledger.ids import call_id, new_request_id
from ledger.rating import Rate, Sheet
from ledger.rows import SettleRow
from providers.unified import Usage
from providers.wire import openai_chat
from providers.wire.openai_images import EDITS, GENERATIONS
from tests.ledger.test_recorded_costs import METER_OF_RATE
from tests.recordings import answer_bytes, cases, exchanges, request_bytes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TOKENS = {"input": 10, "output": 400}


def row_of(usage: Usage, sheet: Sheet | None) -> SettleRow:
    return settle_row(
        Ending(outcome="ok", usage=usage),
        call_id=call_id(request_id=new_request_id(), attempt=1),
        sheet=sheet,
        held_sheet_id=None,
        started_at=NOW,
        finished_at=NOW,
        first_token_ms=None,
    )


def sheet_of(**amounts: str) -> Sheet:
    return Sheet(id=1, rates=tuple(Rate(meter, Decimal(amount), 1) for meter, amount in amounts.items()))


def usage_of(totals: dict[str, Any] | None = None, **counted: Any) -> Usage:
    return Usage(totals=totals or {}, source="reported", counted=counted or None)


@pytest.mark.parametrize(
    ("usage", "amounts", "meters", "cost"),
    [
        # Tokens were reported, and the sheet has rates for what was written.
        (usage_of(TOKENS, images=1), {"input": "1", "output": "2"}, TOKENS, "810"),
        (usage_of(TOKENS, images=1), {"input": "1", "output": "2", "images": "5"}, TOKENS, "810"),
        # The sheet prices images in the place of what was written, and perhaps of what was read.
        (usage_of(TOKENS, images=2), {"images": "5"}, {"images": 2}, "10"),
        (usage_of(TOKENS, images=2), {"input": "1", "images": "5"}, {"input": 10, "images": 2}, "20"),
        # Nothing was reported.
        (
            usage_of(images=2, input_images=1),
            {"images": "5", "input_images": "1"},
            {"images": 2, "input_images": 1},
            "11",
        ),
        (usage_of(images=2, input_images=3), {"images": "5"}, {"images": 2}, "10"),
        (usage_of(characters=7), {"characters": "1"}, {"characters": 7}, "7"),
        (usage_of({"input": 3, "output": 4}, audio_seconds=9), {"audio_seconds": "1"}, {"audio_seconds": 9}, "9"),
        (usage_of({"audio_seconds": Decimal("2.5")}), {"audio_seconds": "2"}, {"audio_seconds": Decimal("2.5")}, "5"),
    ],
)
def test_what_the_sheet_prices_is_what_counts(
    usage: Usage, amounts: dict[str, str], meters: dict[str, Any], cost: str
) -> None:
    row = row_of(usage, sheet_of(**amounts))
    assert (row.cost_usd, row.cost_source) == (Decimal(cost), "computed")
    assert {code: Decimal(quantity) for code, quantity in row.meters.items()} == meters
    # What was reported stays in its columns, whatever it was priced by.
    assert row.input_tokens == usage.totals.get("input", 0)


@pytest.mark.parametrize(
    ("usage", "amounts", "reason"),
    [
        (usage_of(images=1), {"input": "1", "output": "1"}, "no rate for 'images'"),
        (usage_of(characters=9), {"output": "1"}, "no rate for 'characters'"),
        (usage_of(TOKENS, images=1), {"input": "1"}, "no rate for 'output'"),
        (usage_of({"audio_seconds": 3}), {"input": "1", "output": "1"}, "no rate for 'audio_seconds'"),
        (usage_of(TOKENS, images=1), {}, "no rate for 'input'; no rate for 'output'"),
    ],
)
def test_what_no_sheet_prices_is_unknown_by_its_meter(usage: Usage, amounts: dict[str, str], reason: str) -> None:
    row = row_of(usage, sheet_of(**amounts))
    assert (row.cost_usd, row.unpriced_reason) == (None, reason)


def test_without_a_sheet_everything_is_unknown() -> None:
    row = row_of(usage_of(images=1), None)
    assert (row.cost_usd, row.unpriced_reason, row.meters) == (None, "no published price", {"images": 1})


VARIANTS = Sheet(
    id=1,
    rates=(
        Rate("images", Decimal("0.04"), 1, variant="standard-1024x1024"),
        Rate("images", Decimal("0.12"), 1, variant="hd-1024x1792"),
    ),
)


def images(variant: str) -> Usage:
    return msgspec.structs.replace(usage_of(images=1), variant=variant)


def test_the_variant_picks_the_rate_and_stands_in_the_row() -> None:
    row = row_of(images("hd-1024x1792"), VARIANTS)
    assert (row.variant, row.cost_usd) == ("hd-1024x1792", Decimal("0.12"))
    assert row.usage_flags == ("counted:images",)


def test_a_variant_that_no_rate_names_is_unpriced_unless_a_rate_is_for_any() -> None:
    row = row_of(images("low-256x256"), VARIANTS)
    assert (row.cost_usd, row.unpriced_reason) == (None, "no rate for 'images'")
    for_any = Sheet(id=1, rates=(*VARIANTS.rates, Rate("images", Decimal("0.02"), 1)))
    assert row_of(images("low-256x256"), for_any).cost_usd == Decimal("0.02")


@pytest.mark.parametrize(
    "exchange",
    cases(
        exchanges(
            status=200,
            where=lambda item: item["api"].startswith("images.") and bool((item["expected"] or {}).get("cost_usd")),
        )
    ),
)
def test_recorded_images_cost_what_an_independent_reader_says(exchange: dict[str, Any]) -> None:
    wire = EDITS if exchange["api"] == "images.edits" else GENERATIONS
    usage, _ = wire.read_usage_as_asked(answer_bytes(exchange), admitted=wire.admit(request_bytes(exchange)))
    rates = tuple(
        Rate(METER_OF_RATE[key][0], Decimal(amount), METER_OF_RATE[key][1])
        for key, amount in exchange["expected"]["rates"].items()
    )
    assert row_of(usage, Sheet(id=1, rates=rates)).cost_usd == Decimal(exchange["expected"]["cost_usd"])


@pytest.mark.parametrize(
    "exchange", cases(exchanges(provider="xai", status=200, where=lambda item: item["api"].startswith("images.")))
)
def test_recorded_images_of_xai_cost_what_it_states(exchange: dict[str, Any]) -> None:
    wire = EDITS if exchange["api"] == "images.edits" else GENERATIONS
    usage, _ = wire.read_usage_as_asked(answer_bytes(exchange), admitted=wire.admit(request_bytes(exchange)))
    # docs.x.ai, per image: 0.02 and, of the better model, 0.05; 0.01 for each image that an edit is made from.
    made = "0.05" if exchange["model"].endswith("quality") else "0.02"
    row = row_of(usage, sheet_of(images=made, input_images="0.01"))
    assert row.cost_usd == row.stated_cost_usd == Decimal(exchange["expected"]["stated_cost_usd"])


@pytest.mark.parametrize(
    "exchange",
    cases(
        exchanges(
            provider="perplexity", api="chat", status=200, stream=False,
            where=lambda item: "search_context_size" in (item["usage_raw"] or {}),
        )
    ),
)  # fmt: skip
def test_the_fee_of_a_search_depends_on_its_context(exchange: dict[str, Any]) -> None:
    usage, _ = openai_chat.WIRE.read_usage(answer_bytes(exchange))
    fees = {"low": "5", "medium": "8", "high": "12"}
    rates = [Rate("input", Decimal(1), 1_000_000), Rate("output", Decimal(1), 1_000_000)]
    rates += [Rate("requests", Decimal(fee), 1_000, variant=size) for size, fee in fees.items()]
    row = row_of(usage, Sheet(id=1, rates=tuple(rates)))
    assert row.variant == exchange["usage_raw"]["search_context_size"]
    tokens = usage.totals["input"] + usage.totals["output"]
    assert row.cost_usd == Decimal(fees[row.variant]) / 1_000 + Decimal(tokens) / 1_000_000
