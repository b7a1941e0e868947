"""Splitting a day's difference over calls, exact to the last digit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Context, Decimal

from ledger.money import EXACT, QUANTUM_USD, ZERO_USD

_FLOOR = Context(prec=100, rounding=ROUND_FLOOR)


def spread(total_usd: Decimal, weights: Sequence[Decimal | int]) -> list[Decimal]:
    """Shares of `total_usd` (12 decimals, signed) in proportion to `weights` (zero or more), in their order.

    They add up to it exactly: each share is cut to 12 decimals towards zero, and what is left goes to the heaviest
    (the first of equals). Weights that are all zero count as equal.
    """
    if not weights:
        raise ValueError("there is nothing to spread over")
    if any(weight < 0 for weight in weights):
        raise ValueError("a weight is negative")
    whole = sum((Decimal(weight) for weight in weights), Decimal(0))
    parts = [Decimal(weight) for weight in weights] if whole else [Decimal(1)] * len(weights)
    whole = whole or Decimal(len(weights))
    size, sign = abs(total_usd), 1 if total_usd >= 0 else -1
    shares = [
        _FLOOR.quantize(EXACT.divide(EXACT.multiply(size, part), whole), QUANTUM_USD) for part in parts
    ]
    heaviest = max(range(len(parts)), key=lambda index: (parts[index], -index))
    shares[heaviest] += size - sum(shares, ZERO_USD)
    return [sign * share for share in shares]
