"""Every recorded exchange whose cost an independent reader worked out costs the same here, to the last digit."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ledger.meters import disjoint
from ledger.money import quantize_usd
from ledger.rating import Conditions, Rate, Rating, Sheet, rate

RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "exchanges.jsonl"

METER_OF_RATE = {
    "input_mtok": ("input", 1_000_000),
    "output_mtok": ("output", 1_000_000),
    "output_reasoning_mtok": ("reasoning", 1_000_000),
    "output_citation_mtok": ("citation", 1_000_000),
    "cache_read_mtok": ("cache_read", 1_000_000),
    "cache_write_mtok": ("cache_write_5m", 1_000_000),
    "cache_write_1h_mtok": ("cache_write_1h", 1_000_000),
    "input_audio_mtok": ("input_audio", 1_000_000),
    "input_image_mtok": ("input_image", 1_000_000),
    "input_video_mtok": ("input_video", 1_000_000),
    "output_audio_mtok": ("output_audio", 1_000_000),
    "output_image_mtok": ("output_image", 1_000_000),
    "output_video_mtok": ("output_video", 1_000_000),
    "cache_audio_read_mtok": ("cache_read_audio", 1_000_000),
    "cache_image_read_mtok": ("cache_read_image", 1_000_000),
    "cache_video_read_mtok": ("cache_read_video", 1_000_000),
    "web_searches_kcount": ("web_searches", 1_000),
    "storage_searches_kcount": ("file_searches", 1_000),
    "requests_kcount": ("requests", 1_000),
}
TOTAL_OF_USAGE = {
    "image_in": "input_image", "image_out": "output_image", "audio_in": "input_audio", "audio_out": "output_audio",
    "video_in": "input_video", "cache_write": "cache_write_5m",
}
# Which tool a token was read by is no meter: it is in `input` already.
NO_METER = frozenset({"tool_in"})


def ledger_is_stricter(rates: dict[str, Any], usage: dict[str, int]) -> str:
    """The reasons that make a call unpriced here where the reader billed the quantity as something else, or ''.

    - Cache reads and writes without a price of their own: the reader bills them as plain input tokens. The price of
      a cache is never assumed.
    - Searches without a price: the reader leaves them out, and with them a part of the bill (OpenRouter states
      0.0133176 where the reader has 0.0033176).
    - No price at all: the reader says 0 (where OpenRouter states 0.00333825).
    """
    priced = {METER_OF_RATE[key][0] for key in rates}
    needs = ["cache_read", "cache_write_5m", "cache_write_1h", "web_searches", "file_searches", "search_units"]
    needs += [] if priced else ["input", "output"]
    missing = sorted(meter for meter in needs if usage.get(meter) and meter not in priced)
    return "; ".join(f"no rate for {meter!r}" for meter in missing)


@functools.cache
def records() -> list[dict[str, Any]]:
    if not RECORDINGS.is_file():
        return []
    lines = RECORDINGS.read_text().splitlines()
    return [record for record in map(json.loads, lines) if (record.get("expected") or {}).get("cost_usd") is not None]


def each_record() -> Iterator[Any]:
    found = records()
    if not found:
        yield pytest.param(None, marks=pytest.mark.skip(reason=f"no recordings at {RECORDINGS}"))
    for number, record in enumerate(found):
        yield pytest.param(record, id=f"{number}-{record['provider']}-{record['model']}")


def sheet_from(rates: dict[str, Any]) -> Sheet:
    made: list[Rate] = []
    for key, price in rates.items():
        meter, per = METER_OF_RATE[key]
        steps = [(0, price)] if isinstance(price, str) else [(0, price["base"]), *price["tiers"]]
        made += [Rate(meter, quantize_usd(Decimal(amount)), per, above_tokens=above) for above, amount in steps]
    return Sheet(rates=tuple(made))


def rating_of(record: dict[str, Any]) -> Rating:
    usage = record["expected"]["usage"]
    totals = {TOTAL_OF_USAGE.get(name, name): count for name, count in usage.items() if name not in NO_METER}
    return rate(
        sheet=sheet_from(record["expected"]["rates"]),
        meters=disjoint(totals).meters,
        input_total=usage["input"],
        conditions=Conditions(at=datetime(2026, 11, 23, tzinfo=UTC)),
    )


@pytest.mark.parametrize("record", list(each_record()))
def test_a_recorded_call_costs_what_an_independent_reader_says(record: dict[str, Any]) -> None:
    expected = record["expected"]
    rating = rating_of(record)
    stricter = ledger_is_stricter(expected["rates"], expected["usage"])
    if stricter:
        assert rating.cost_usd is None
        assert "; ".join(sorted(rating.unpriced_reason.split("; "))) == stricter
    else:
        assert rating.unpriced_reason == ""
        assert rating.cost_usd == quantize_usd(Decimal(expected["cost_usd"]))


def test_the_recordings_that_are_stricter_here_are_few_and_known() -> None:
    if not records():
        pytest.skip(f"no recordings at {RECORDINGS}")
    stricter = [each for each in records() if ledger_is_stricter(each["expected"]["rates"], each["expected"]["usage"])]
    assert len(stricter) / len(records()) < 0.1
