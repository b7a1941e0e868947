"""USD amounts as Decimal: read exactly, rounded half-even at 12 decimals, written without an exponent.

12 decimals and 12 digits before the point are what NUMERIC(24,12) holds. Nothing here uses the thread's decimal
context: its 28 digits are too few for a large quantity times a small rate, and anyone may change it.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Context, Decimal, DivisionByZero, InvalidOperation, Overflow

DECIMALS = 12
QUANTUM_USD = Decimal("0.000000000001")
LIMIT_USD = Decimal(10) ** 12
ZERO_USD = Decimal("0.000000000000")

# 100 digits: a 24-digit rate times any count that fits in 75 digits is exact.
EXACT = Context(
    prec=100,
    rounding=ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    traps=[InvalidOperation, DivisionByZero, Overflow],
)

_NUMBER = re.compile(r"[+-]?(\d{1,60}(\.\d{0,60})?|\.\d{1,60})([eE][+-]?\d{1,3})?", re.ASCII)


class MoneyError(ValueError):
    """A text or number that is no USD amount the ledger can hold. The message quotes it."""


def parse_usd(text: str | int | Decimal) -> Decimal:
    """The exact USD amount that `text` says ("0.0300", "2E-7", "-1.5").

    Raises MoneyError: not a number, NaN or infinite, 10^12 USD or more, or a digit beyond the 12th decimal.
    """
    if isinstance(text, bool | float):
        raise MoneyError(f"{text!r} is no exact amount: give its text")
    raw = str(text).strip()
    if not _NUMBER.fullmatch(raw):
        raise MoneyError(f"{raw[:80]!r} is not a decimal number of USD")
    return checked_usd(Decimal(raw))


def checked_usd(value: Decimal) -> Decimal:
    """`value` with 12 decimals, unchanged in amount. Raises MoneyError when NUMERIC(24,12) cannot hold it exactly."""
    if not value.is_finite():
        raise MoneyError(f"{value} is not an amount")
    if value and value.adjusted() >= DECIMALS:
        raise MoneyError(f"{value} USD is beyond the ledger's range (below 10^{DECIMALS})")
    amount = quantize_usd(value)
    if amount != value:
        raise MoneyError(f"{value} has more than {DECIMALS} decimals")
    return amount


def quantize_usd(value: Decimal) -> Decimal:
    """`value` rounded half-even to 12 decimals."""
    return EXACT.quantize(value, QUANTUM_USD)


def ceil_usd(value: Decimal) -> Decimal:
    """`value` rounded up to 12 decimals, for bounds that must not fall short."""
    return value.quantize(QUANTUM_USD, rounding=ROUND_CEILING, context=EXACT)


def format_usd(value: Decimal) -> str:
    """Plain digits with all decimals kept: Decimal("6E-2") -> "0.06"; never an exponent."""
    return f"{value:f}"


def format_short(value: Decimal | int) -> str:
    """Plain digits without trailing zeros, for people: 0.060000000000 -> "0.06"."""
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
