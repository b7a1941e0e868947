"""The offline data of the `genai-prices` package -> neutral structs. Its updater is never started.

What the data means, read from the package and its 2,330 models (0.2.3):
- Prices are USD per unit named by the key; tiers are cliffs, "above start". A start of 199,999 says "from 200,000".
- Later conditional prices win over earlier ones; a start date is 00:00 UTC; a first entry without a date has always
  been there as far as the data knows. Windows are [start, end) UTC.
- A variant overrides only the keys it lists. What it does not list stays unpriced here: cached tokens at batch are
  not the plain cached price unless someone says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from genai_prices import types
from genai_prices.data import providers as _providers
from msgspec import Struct

from ledger.money import format_short, quantize_usd
from ledger.rating import Rate, Sheet, SheetError, base_word

BOOK_START = datetime(2025, 1, 1, tzinfo=UTC)
FREE = "free because the provider's list says 0"

# key -> (meter, per, variant)
_UNITS: Mapping[str, tuple[str, int, str]] = {
    "input_mtok": ("input", 1_000_000, ""),
    "cache_read_mtok": ("cache_read", 1_000_000, ""),
    "cache_write_mtok": ("cache_write_5m", 1_000_000, ""),
    "cache_write_5m_mtok": ("cache_write_5m", 1_000_000, ""),
    "cache_write_1h_mtok": ("cache_write_1h", 1_000_000, ""),
    "output_mtok": ("output", 1_000_000, ""),
    "output_reasoning_mtok": ("reasoning", 1_000_000, ""),
    "output_citation_mtok": ("citation", 1_000_000, ""),
    **{f"input_{modality}_mtok": (f"input_{modality}", 1_000_000, "") for modality in ("audio", "image", "video")},
    **{f"output_{modality}_mtok": (f"output_{modality}", 1_000_000, "") for modality in ("audio", "image", "video")},
    **{
        f"cache_{modality}_read_mtok": (f"cache_read_{modality}", 1_000_000, "")
        for modality in ("audio", "image", "video")
    },
    "web_searches_kcount": ("web_searches", 1_000, ""),
    "storage_searches_kcount": ("file_searches", 1_000, ""),
    "requests_kcount": ("requests", 1_000, ""),
    "input_mchars": ("characters", 1_000_000, ""),
    "input_document_kpages": ("pages", 1_000, ""),
    "input_annotated_document_kpages": ("pages", 1_000, "annotated"),
    "audio_hours": ("audio_seconds", 1_000_000, ""),
    "input_audio_hours": ("audio_seconds", 1_000_000, ""),
}
# An hour's price is rarely a decimal fraction per second; per 1,000,000 seconds it keeps 18 decimals a second, which
# is exact at the ledger's 12 for any clip shorter than ten days.
_MILLION_SECONDS_IN_HOURS = Decimal(1_000_000) / Decimal(3600)
_HOURS = frozenset({"audio_hours", "input_audio_hours"})

_CONDITIONS: Mapping[str, str] = {
    "service_tier": "service_tier", "processing": "service_tier", "speed": "speed",
    "search_type": "variant", "route": "variant",
}
# Least quantities billed, which the data states in prose only (console.groq.com/docs/speech-to-text: 10 seconds).
_MINIMUMS: Mapping[tuple[str, str], Decimal] = {("groq", "audio_seconds"): Decimal(10)}


class SourceSheet(Struct, frozen=True):
    """All list prices of a model from `valid_from` (UTC) on. `history_unknown`: the true first day is not known."""

    valid_from: datetime
    history_unknown: bool
    rates: tuple[Rate, ...]


class SourceModel(Struct, frozen=True):
    """A model as the data set knows it. `equal_names` are its other exact names; `matches` also knows patterns."""

    id: str
    name: str
    context_window: int | None
    deprecated: bool
    equal_names: tuple[str, ...]
    matches: Callable[[str], bool]
    sheets: tuple[SourceSheet, ...]
    notes: tuple[str, ...] = ()


class SourceProvider(Struct, frozen=True):
    """A provider of the data set; `fallbacks` are the providers whose models it resells under the same names."""

    id: str
    url: str
    fallbacks: tuple[str, ...]
    models: tuple[SourceModel, ...]

    def find(self, name: str) -> SourceModel | None:
        """The model called `name`: by its id, else by the first pattern that matches, as the data set means it."""
        lowered = name.lower()
        exact = (model for model in self.models if model.id.lower() == lowered)
        matching = (model for model in self.models if model.matches(lowered))
        return next(exact, None) or next(matching, None)


def read(source_ids: Iterable[str] | None = None) -> dict[str, SourceProvider]:
    """{source id: provider} of the installed data; only those named, when named."""
    wanted = None if source_ids is None else set(source_ids)
    return {each.id: _provider(each) for each in _providers if wanted is None or each.id in wanted}


def _provider(raw: types.Provider) -> SourceProvider:
    return SourceProvider(
        id=raw.id,
        url=(raw.pricing_urls or [""])[0],
        fallbacks=tuple(raw.fallback_model_providers or ()),
        models=tuple(model_from(source_id=raw.id, raw=model) for model in raw.models),
    )


def model_from(*, source_id: str, raw: types.ModelInfo) -> SourceModel:
    """One model of the data set with its dated sheets; what cannot be said in our meters is in `notes`."""
    notes: dict[str, None] = {}
    sheets: list[SourceSheet] = []
    for start in _starts(raw):
        rates = tuple(_rates(raw, source_id=source_id, on=start, notes=notes))
        if not rates or (sheets and sheets[-1].rates == rates):
            continue
        try:
            Sheet(rates=rates)
        except SheetError as error:
            notes[f"{start:%Y-%m-%d}: {error}"] = None
            continue
        sheets.append(SourceSheet(start, start == BOOK_START, rates))
    return SourceModel(
        id=raw.id, name=raw.name or "", context_window=raw.context_window, deprecated=bool(raw.deprecated),
        equal_names=tuple(dict.fromkeys(_equal_names(raw.match))), matches=raw.is_match, sheets=tuple(sheets),
        notes=tuple(notes),
    )


def _equal_names(match: object) -> Iterator[str]:
    if isinstance(match, types.ClauseEquals):
        yield match.equals
    elif isinstance(match, types.ClauseOr):
        for clause in match.or_:
            yield from _equal_names(clause)


def _starts(raw: types.ModelInfo) -> list[datetime]:
    """The instants at which the model's prices may change, the book's start first."""
    constraints: list[object] = [variant.constraint for variant in raw.price_variants or ()]
    if isinstance(raw.prices, list):
        constraints += [conditional.constraint for conditional in raw.prices]
    dated = {_midnight(each.start_date) for each in constraints if isinstance(each, types.StartDateConstraint)}
    return sorted({BOOK_START} | {start for start in dated if start > BOOK_START})


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _rates(raw: types.ModelInfo, *, source_id: str, on: datetime, notes: dict[str, None]) -> Iterator[Rate]:
    """Every rate in force on a day: the base, its windows of the day, its variants."""
    base, windows = _standard(raw, on)
    yield from _rates_of(base, source_id=source_id, notes=notes)
    for window, prices in windows:
        yield from _rates_of(prices, source_id=source_id, notes=notes, **_window(window))
    for when, values in _variants(raw, on).items():
        conditions = {_CONDITIONS[key]: base_word(value) or value for key, value in when if key in _CONDITIONS}
        if len(conditions) != len(when):
            notes["a variant under " + ", ".join(f"{key} {value!r}" for key, value in when)] = None
        elif values:
            yield from _rates_of(values, source_id=source_id, notes=notes, **conditions)


def _standard(
    raw: types.ModelInfo, on: datetime
) -> tuple[Mapping[str, Any], list[tuple[types.TimeOfDateConstraint, Mapping[str, Any]]]]:
    """(prices at all times, prices in windows of the day): from the last entry back to the first that always holds."""
    if isinstance(raw.prices, types.ModelPrice):
        return raw.prices.__dict__, []
    windows: list[tuple[types.TimeOfDateConstraint, Mapping[str, Any]]] = []
    for conditional in reversed(raw.prices):
        constraint = conditional.constraint
        if isinstance(constraint, types.TimeOfDateConstraint):
            windows.append((constraint, conditional.prices.__dict__))
        elif constraint is None or constraint.active(on):
            return conditional.prices.__dict__, windows
    # The data set's own rule when nothing is active yet: its first entry.
    return (raw.prices[0].prices.__dict__ if raw.prices else {}), windows


def _window(constraint: types.TimeOfDateConstraint) -> dict[str, Any]:
    day = date(2025, 1, 1)
    ends = {"window_start": constraint.start_time, "window_end": constraint.end_time}
    return {
        name: datetime.combine(day, at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).time()
        for name, at in ends.items()
    }


def _variants(raw: types.ModelInfo, on: datetime) -> dict[tuple[tuple[str, str], ...], dict[str, Any]]:
    """{conditions: overridden prices} in force on a day; of two for one key the first listed holds."""
    found: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for variant in raw.price_variants or ():
        if variant.constraint is not None and not variant.constraint.active(on):
            continue
        values = found.setdefault(tuple(sorted(variant.when.items())), {})
        for key, price in variant.prices.__dict__.items():
            if price is not None:
                values.setdefault(key, price)
    return found


def _rates_of(
    prices: Mapping[str, Any], *, source_id: str, notes: dict[str, None], variant: str = "", **conditions: Any
) -> Iterator[Rate]:
    seen: set[tuple[str, str]] = set()
    for key, price in prices.items():
        if price is None or key.startswith("_"):
            continue
        if key not in _UNITS:
            notes[f"no meter for {key}"] = None
            continue
        meter, per, unit_variant = _UNITS[key]
        # "audio_hours" and "input_audio_hours" say the same seconds twice.
        if (meter, unit_variant) in seen:
            continue
        seen.add((meter, unit_variant))
        for above, inclusive, amount in _steps(price):
            amount_usd = quantize_usd(amount * _MILLION_SECONDS_IN_HOURS if key in _HOURS else amount)
            if amount_usd < 0:
                notes[f"a negative price for {key}: {format_short(amount)}"] = None
                continue
            yield Rate(
                meter=meter, amount_usd=amount_usd, per=per, above_tokens=above, tier_inclusive=inclusive,
                variant=unit_variant or variant, minimum=_MINIMUMS.get((source_id, meter), Decimal(0)),
                zero_reason="" if amount_usd else FREE, **conditions,
            )


def _steps(price: Decimal | types.TieredPrices) -> Iterator[tuple[int, bool, Decimal]]:
    """(above_tokens, inclusive, amount) of the base and of each cliff. "Above 199,999" is "from 200,000"."""
    if isinstance(price, Decimal):
        yield 0, False, price
        return
    yield 0, False, price.base
    for tier in price.tiers:
        inclusive = tier.start % 1000 == 999
        yield tier.start + inclusive, inclusive, tier.price
