"""How much a call can cost at most, before it is made: what a hold reserves.

The input bound is an estimate of tokens from bytes; the USD bound is exact for any usage within the token bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from ledger.meters import METERS, Quantity
from ledger.money import EXACT, QUANTUM_USD, ceil_usd
from ledger.rating import Rate, Sheet, base_word

TOKENS_PER_MESSAGE = 8
# Ordinary text is 3 to 5 bytes a token; half of 2 leaves room for code and for scripts of many bytes a character.
BYTES_PER_TOKEN = 2


class Media(Struct, frozen=True):
    """One image, audio clip, video or file in a request. `size_bytes` is its decoded size; 0: by URL or id, unknown."""

    kind: Literal["image", "audio", "video", "file"]
    size_bytes: int = 0


class _Cost(Struct, frozen=True):
    """Tokens one medium may take: at least `least`, `per_kilobyte` of its size; `unknown` without a size."""

    least: int
    per_kilobyte: int
    unknown: int


# Measured against the providers' rules: an image is 258 to 4,800 tokens (up to 48,169 where tiles weigh 33 times as
# much, as gpt-4o-mini's do); audio is 10 to 32 tokens a second and 1 to 32 kB a second; video up to 300 a second; a
# page of a PDF is up to 3,000 tokens of text and 1,600 of image, and a page compresses to 2 kB at best.
MEDIA_TOKENS: Mapping[str, _Cost] = {
    "image": _Cost(least=5_000, per_kilobyte=0, unknown=5_000),
    "audio": _Cost(least=500, per_kilobyte=20, unknown=20_000),
    "video": _Cost(least=5_000, per_kilobyte=10, unknown=100_000),
    "file": _Cost(least=5_000, per_kilobyte=500, unknown=50_000),
}
STRICT_MEDIA_TOKENS: Mapping[str, _Cost] = {
    "image": _Cost(least=50_000, per_kilobyte=0, unknown=50_000),
    "audio": _Cost(least=2_000, per_kilobyte=64, unknown=120_000),
    "video": _Cost(least=50_000, per_kilobyte=100, unknown=1_000_000),
    "file": _Cost(least=50_000, per_kilobyte=2_300, unknown=1_000_000),
}


def input_bound_tokens(
    *,
    body_bytes: int,
    media_bytes: int = 0,
    message_count: int,
    media: Sequence[Media] = (),
    strict: bool = False,
    context_window: int | None = None,
) -> int:
    """Tokens the input may have: UTF-8 bytes of the body / 2 + 8 per message + the table for media.

    `media_bytes` is how much of `body_bytes` is inline media (as encoded): the table stands for it. `strict` counts a
    token a byte, which no byte-level tokenizer exceeds. A provider refuses more than its `context_window` (tokens).
    """
    text_bytes = max(0, body_bytes - media_bytes)
    text_tokens = text_bytes if strict else -(-text_bytes // BYTES_PER_TOKEN)
    table = STRICT_MEDIA_TOKENS if strict else MEDIA_TOKENS
    tokens = text_tokens + TOKENS_PER_MESSAGE * message_count + sum(_media_tokens(table, each) for each in media)
    return min(tokens, context_window) if context_window else tokens


def _media_tokens(table: Mapping[str, _Cost], media: Media) -> int:
    cost = table[media.kind]
    if not media.size_bytes:
        return cost.unknown
    return max(cost.least, -(-media.size_bytes * cost.per_kilobyte // 1000))


def priced_sides(
    sheet: Sheet, *, input_tokens: int, output_tokens: int, counted: Mapping[str, Quantity]
) -> tuple[int, int]:
    """(input, output) tokens to bound: none of a side without a rate where the sheet prices `counted` in its place."""
    priced = {rate.meter for rate in sheet.rates}
    sides = {METERS[code].side for code in priced}
    instead = not priced.isdisjoint(counted)
    return (
        0 if instead and "input" not in sides else input_tokens,
        0 if instead and "output" not in sides else output_tokens,
    )


def upper_bound_usd(
    *,
    sheet: Sheet,
    input_tokens: int,
    output_tokens: int,
    n: int = 1,
    service_tier: str = "",
    speed: str = "",
    variant: str = "",
    fees: Mapping[str, Quantity] | None = None,
) -> Decimal | None:
    """USD that no usage within the bounds exceeds, rounded up; None when the sheet cannot price the call.

    Every input token at the dearest input-side rate (cache writes, modalities and reachable cliffs included), every
    output token of each of `n` choices at the dearest output-side rate, plus flat fees: one request, and `fees`
    (most quantity per other meter, e.g. {"web_searches": 5}). `service_tier` and `speed` are those asked for: a
    provider may answer with them or with the base. Where '' or "auto" lets it choose, every tier on the sheet counts.
    `variant` is what was asked for, where that leaves no choice; without it every variant on the sheet counts.
    """
    reached = sum(rate.begins_at <= input_tokens for rate in sheet.rates) if sheet.has_cliffs else len(sheet.rates)
    key = (reached, service_tier, speed, variant, tuple((fees or {}).items()))
    slope = sheet.slopes.get(key)
    if slope is None:
        if len(sheet.slopes) >= _MAX_SLOPES:
            sheet.slopes.clear()
        slope = sheet.slopes[key] = _slope(
            sheet, input_tokens, service_tier=service_tier, speed=speed, variant=variant, fees=fees or {}
        )
    total = slope.flat_usd
    for side, tokens in ((slope.input, input_tokens), (slope.output, output_tokens * n)):
        if tokens and side is None:
            return None
        if tokens and side is not None:
            total = EXACT.add(total, EXACT.add(EXACT.multiply(side.unit_usd, tokens), side.extra_usd))
    if not input_tokens and not output_tokens and not slope.has_fees:
        return None
    return ceil_usd(total)


class _Side(Struct, frozen=True):
    """The dearest unit price of one side, and what its meters' minimums and steps may add."""

    unit_usd: Decimal
    extra_usd: Decimal


class _Slope(Struct, frozen=True):
    """How a bound grows with tokens, for calls that see the same rates of a sheet. A side without a rate is None."""

    input: _Side | None
    output: _Side | None
    flat_usd: Decimal
    has_fees: bool


_MAX_SLOPES = 256


def _slope(
    sheet: Sheet, input_tokens: int, *, service_tier: str, speed: str, variant: str, fees: Mapping[str, Quantity]
) -> _Slope:
    rates = [rate for rate in sheet.rates if _may_apply(rate, input_tokens, service_tier, speed, variant)]
    sides = {
        side: _side([rate for rate in rates if METERS[rate.meter].side == side]) for side in ("input", "output")
    }
    flat = {"requests": 1, **fees}
    flat_rates = [rate for rate in rates if rate.meter in flat]
    total = _rounding_room(rates)
    for meter, quantity in flat.items():
        costs = [_most_for(rate, quantity) for rate in flat_rates if rate.meter == meter]
        total = EXACT.add(total, max(costs, default=Decimal(0)))
    return _Slope(sides["input"], sides["output"], total, bool(flat_rates))


def _may_apply(rate: Rate, input_tokens: int, service_tier: str, speed: str, variant: str) -> bool:
    if rate.begins_at > input_tokens:
        return False
    if variant and rate.variant not in ("", variant):
        return False
    if rate.speed not in ("", base_word(speed)):
        return False
    open_choice = service_tier.strip().lower() in ("", "auto")
    return open_choice or rate.service_tier in ("", base_word(service_tier))


def _side(rates: Iterable[Rate]) -> _Side | None:
    extra: dict[str, Decimal] = {}
    dearest: Decimal | None = None
    for rate in rates:
        dearest = rate.unit_usd if dearest is None else max(dearest, rate.unit_usd)
        added = EXACT.multiply(rate.unit_usd, EXACT.add(rate.minimum, rate.quantum))
        extra[rate.meter] = max(extra.get(rate.meter, Decimal(0)), added)
    if dearest is None:
        return None
    total = Decimal(0)
    for added in extra.values():
        total = EXACT.add(total, added)
    return _Side(dearest, total)


def _most_for(rate: Rate, quantity: Quantity) -> Decimal:
    billed = EXACT.add(max(Decimal(quantity), rate.minimum), rate.quantum) if quantity else Decimal(0)
    return EXACT.multiply(rate.unit_usd, billed)


def _rounding_room(rates: Iterable[Rate]) -> Decimal:
    """Each line is rounded half-even at 12 decimals: by less than one quantum a meter, and only if it has more."""
    fine = {rate.meter for rate in rates if rate.unit_usd != rate.unit_usd.quantize(QUANTUM_USD, context=EXACT)}
    return EXACT.multiply(QUANTUM_USD, len(fine))
