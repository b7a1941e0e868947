"""The one vocabulary of what is billed, and how a provider's totals become quantities that add up.

Adapters report TOTALS: `input` holds everything read by the model (cache reads and writes and every modality),
`input_audio` holds its cached part, `cache_read` the cached part of every modality, `output` holds reasoning.
`disjoint` subtracts these into leaves that do not overlap; that is what a call row stores, whatever a sheet prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal

from msgspec import Struct

Quantity = int | Decimal
Family = Literal["tokens", "media", "tools", "requests", "credits"]
Side = Literal["input", "output", ""]


class Meter(Struct, frozen=True):
    """One billable quantity.

    `part_of` is the meter whose total contains this one. `rolls_up`: without a rate of its own on a sheet it is
    billed as `part_of` (a thought is an output token); cache reads and writes never are, their price is their own.
    """

    code: str
    family: Family
    unit: str
    part_of: str = ""
    side: Side = ""
    rolls_up: bool = False

    @property
    def is_fee(self) -> bool:
        """Counted per use of a tool or per request: service tiers and speeds discount tokens, not these."""
        return self.family in ("tools", "requests")

    @property
    def label(self) -> str:
        """"input tokens", "web searches"."""
        words = self.code.replace("_", " ")
        return f"{words} tokens" if self.unit == "token" else words


def _tokens(code: str, part_of: str, side: Side, *, rolls_up: bool = False) -> Meter:
    return Meter(code, "tokens", "token", part_of, side, rolls_up)


MODALITIES = ("image", "video", "audio")
CACHE_WRITES = ("cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h")

_ALL = (
    _tokens("input", "", "input"),
    _tokens("cache_read", "input", "input"),
    *(_tokens(code, "input", "input") for code in CACHE_WRITES),
    *(_tokens(f"input_{modality}", "input", "input", rolls_up=True) for modality in MODALITIES),
    *(_tokens(f"cache_read_{modality}", "cache_read", "input", rolls_up=True) for modality in MODALITIES),
    _tokens("output", "", "output"),
    *(_tokens(f"output_{modality}", "output", "output", rolls_up=True) for modality in MODALITIES),
    _tokens("reasoning", "output", "output", rolls_up=True),
    _tokens("citation", "output", "output", rolls_up=True),
    Meter("images", "media", "image"),
    Meter("input_images", "media", "image"),
    Meter("image_pixels", "media", "pixel"),
    Meter("audio_seconds", "media", "second"),
    Meter("video_seconds", "media", "second"),
    Meter("characters", "media", "character"),
    Meter("pages", "media", "page"),
    Meter("search_units", "media", "search unit"),
    Meter("web_searches", "tools", "search"),
    Meter("file_searches", "tools", "search"),
    Meter("maps_queries", "tools", "query"),
    Meter("code_sessions", "tools", "session"),
    Meter("code_seconds", "tools", "second"),
    Meter("requests", "requests", "request"),
    Meter("credits", "credits", "credit"),
)
METERS: Mapping[str, Meter] = {meter.code: meter for meter in _ALL}

# Trimmed in this order when the parts of the output exceed it.
_OUTPUT_PARTS = ("citation", "reasoning", *(f"output_{modality}" for modality in MODALITIES))


class Disjoint(Struct, frozen=True):
    """`meters`: quantities above zero that do not overlap. `flags`: what was odd ("clamped:cache_read")."""

    meters: dict[str, Quantity]
    flags: tuple[str, ...] = ()


def disjoint(totals: Mapping[str, Quantity]) -> Disjoint:
    """Totals as adapters report them -> leaves that add up: those of a side sum to `input` and to `output`.

    No leaf is negative. Parts that exceed their whole are trimmed to it and flagged "clamped:PART"; a negative total
    counts as absent and is flagged "negative:CODE". A code outside the vocabulary is kept and flagged
    "unknown_meter:CODE", so that the call is unpriced rather than billed without it.
    """
    flags: dict[str, None] = {}
    leaves: dict[str, Quantity] = {}
    for code, quantity in totals.items():
        if quantity < 0:
            flags[f"negative:{code}"] = None
            continue
        if code not in METERS:
            flags[f"unknown_meter:{code}"] = None
        leaves[code] = quantity
    if not leaves.keys().isdisjoint(_INPUT_PARTS):
        _split_cached_modalities(leaves, flags)
        _subtract_input(leaves, flags)
    if not leaves.keys().isdisjoint(_OUTPUT_PARTS):
        _subtract(leaves, flags, whole="output", parts=_OUTPUT_PARTS)
    return Disjoint({code: quantity for code, quantity in leaves.items() if quantity}, tuple(flags))


_INPUT_PARTS = tuple(meter.code for meter in _ALL if meter.side == "input" and meter.part_of)


def _split_cached_modalities(leaves: dict[str, Quantity], flags: dict[str, None]) -> None:
    """Take the cached part out of `input_audio` and of `cache_read`, for each modality."""
    for modality in MODALITIES:
        cached = leaves.get(f"cache_read_{modality}")
        if not cached:
            continue
        for whole in (f"input_{modality}", "cache_read"):
            if whole in leaves:
                if leaves[whole] < cached:
                    flags[f"clamped:{whole}"] = None
                leaves[whole] = max(0, leaves[whole] - cached)


def _subtract_input(leaves: dict[str, Quantity], flags: dict[str, None]) -> None:
    """Take every part out of `input`, after resolving modality tokens that must also be cached ones.

    258 image tokens and 230 cached ones in an input of 345: at least 143 are both, though no detail says so. They
    move to `cache_read_image`, and the sum is 345 again.
    """
    excess = _sum(leaves, _INPUT_PARTS) - leaves.get("input", 0) if "input" in leaves else 0
    for modality in MODALITIES:
        if excess <= 0:
            break
        both = min(excess, leaves.get(f"input_{modality}", 0), leaves.get("cache_read", 0))
        if both > 0:
            leaves[f"input_{modality}"] -= both
            leaves["cache_read"] -= both
            leaves[f"cache_read_{modality}"] = leaves.get(f"cache_read_{modality}", 0) + both
            flags[f"inferred:cache_read_{modality}"] = None
            excess -= both
    _subtract(leaves, flags, whole="input", parts=_INPUT_PARTS)


def _subtract(
    leaves: dict[str, Quantity], flags: dict[str, None], *, whole: str, parts: tuple[str, ...]
) -> None:
    """leaves[whole] -= its parts; parts beyond the whole are trimmed in order. Without a whole the parts stand."""
    if whole not in leaves:
        return
    rest = leaves[whole] - _sum(leaves, parts)
    for part in parts:
        if rest >= 0:
            break
        trimmed = min(-rest, leaves.get(part, 0))
        if trimmed > 0:
            leaves[part] -= trimmed
            rest += trimmed
            flags[f"clamped:{part}"] = None
    leaves[whole] = rest


def _sum(leaves: Mapping[str, Quantity], codes: Iterable[str]) -> Quantity:
    return sum((leaves[code] for code in codes if code in leaves), 0)


def to_json(meters: Mapping[str, Quantity]) -> dict[str, int | str]:
    """Quantities for the call row: whole numbers as numbers, fractions as plain text, so that none becomes a float."""
    return {
        code: int(quantity) if quantity == int(quantity) else f"{quantity:f}" for code, quantity in meters.items()
    }


def from_json(meters: Mapping[str, int | str]) -> dict[str, Quantity]:
    """What `to_json` wrote. TypeError for a float: its digits are not what was stored."""
    return {code: _quantity(code, value) for code, value in meters.items()}


def _quantity(code: str, value: int | str) -> Quantity:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{code}: {value!r} is neither a whole number nor a decimal text")
    return value if isinstance(value, int) else Decimal(value)
