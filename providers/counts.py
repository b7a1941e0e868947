"""A provider's counts, read so that no number it sends can crash us or make a bill negative.

Providers send null, strings, floats, negative and absurd numbers. What cannot be used is dropped and named in a flag;
the provider's own object stays beside it in `Usage.raw`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

# No model takes or gives this many of anything in one call: a larger number is an error of the provider.
MAX_COUNT = 10**12
MAX_USD = Decimal(10**9)

_EXACT = msgspec.json.Decoder(float_hook=Decimal)
_PLAIN = msgspec.json.Decoder()


def decode(body: bytes) -> Any:
    """JSON as a provider may write it: NaN and Infinity become text, half surrogate pairs pass. ValueError for no JSON.

    For what is kept or sent on (`Usage.raw`); what is billed is read by `decode_exact`.
    """
    try:
        return _PLAIN.decode(body)
    except (ValueError, RecursionError):
        return _decode_leniently(body, parse_float=float)


def decode_object(body: bytes) -> dict[str, Any]:
    """The object that `decode` finds; an empty one for anything else, and for no JSON."""
    try:
        value = decode(body) if body else None
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def decode_exact(body: bytes) -> Any:
    """Like `decode`, with every fraction as a Decimal of its text: stated money never passes through a float."""
    try:
        return _EXACT.decode(body)
    except (ValueError, RecursionError):
        return _decode_leniently(body, parse_float=Decimal)


def _decode_leniently(body: bytes, *, parse_float: Callable[[str], Any]) -> Any:
    try:
        return json.loads(body, parse_float=parse_float, parse_constant=str)
    except RecursionError as error:
        raise ValueError("JSON nested too deep") from error


def count(value: Any) -> tuple[int | None, str]:
    """(count, what is wrong with it). An absent count is (None, ""); an unusable one (None, reason)."""
    if value is None:
        return None, ""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None, "not_a_number"
    if isinstance(value, int):
        number = value
    else:
        exact = Decimal(value)
        if not exact.is_finite():
            return None, "not_a_number"
        if exact.adjusted() > 18:
            return None, "negative" if exact < 0 else "too_large"
        number = int(exact)
        if number != exact:
            return None, "fraction"
    if number < 0:
        return None, "negative"
    return (None, "too_large") if number > MAX_COUNT else (number, "")


def usd(value: Any) -> Decimal | None:
    """A stated cost in USD from a value of `decode`; None when it states none that can be believed.

    A binary float is refused: its text is lost, and with it the last digit.
    """
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    amount = Decimal(value)
    return amount if amount.is_finite() and 0 <= amount <= MAX_USD else None


class Counts:
    """One usage object and the flags gathered while it was read.

    `get("a", "b")` is the count at a.b: None when absent, null or unusable. An unusable one leaves the flag
    "negative:a.b", so that a flag says both what and where.
    """

    def __init__(self, raw: Any) -> None:
        self.raw: dict[str, Any] = raw if isinstance(raw, dict) else {}
        self._flags: dict[str, None] = {}
        if raw is not None and not isinstance(raw, dict):
            self.flag("not_an_object:usage")

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(self._flags)

    def flag(self, text: str) -> None:
        self._flags[text] = None

    def get(self, *path: str) -> int | None:
        node: Any = self.raw
        for depth, key in enumerate(path):
            if not isinstance(node, dict):
                if node is not None:
                    self.flag("not_an_object:" + ".".join(path[:depth]))
                return None
            node = node.get(key)
        number, wrong = count(node)
        if wrong:
            self.flag(wrong + ":" + ".".join(path))
        return number

    def first(self, *paths: tuple[str, ...]) -> int | None:
        """The first of several names for one count that holds a usable number."""
        for path in paths:
            number = self.get(*path)
            if number is not None:
                return number
        return None

    def within(self, part: int, whole: int, name: str) -> int:
        """`part` of `whole`, never more than it: a provider that says more is clamped and flagged."""
        if part <= whole:
            return part
        self.flag(f"clamped:{name}")
        return whole
