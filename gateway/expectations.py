"""What a call of a model usually uses, for limits in the mode `expected`.

An exponentially weighted mean over this process's own calls. A hold of the mean lets more calls run side by side than a
hold of the upper bound; the price is that the calls in flight together may pass the limit by what they exceed the mean.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from ledger.money import ceil_usd

# Below this many calls the mean says little, and the upper bound is held.
LEAST_CALLS = 20
WEIGHT = Decimal("0.05")


class Usual(NamedTuple):
    calls: int
    cost_usd: Decimal
    tokens: Decimal


class Expectations:
    """By model id. A lost update between two threads shifts a mean by one call: no lock is worth that."""

    def __init__(self) -> None:
        self._usual: dict[int, Usual] = {}

    def note(self, *, model: int, cost_usd: Decimal, tokens: int) -> None:
        before = self._usual.get(model)
        if before is None:
            self._usual[model] = Usual(1, cost_usd, Decimal(tokens))
            return
        self._usual[model] = Usual(
            before.calls + 1,
            before.cost_usd + (cost_usd - before.cost_usd) * WEIGHT,
            before.tokens + (tokens - before.tokens) * WEIGHT,
        )

    def usual(self, *, model: int) -> tuple[Decimal, int] | None:
        """(USD, tokens) a call of the model is expected to use; None while too few calls were seen."""
        found = self._usual.get(model)
        if found is None or found.calls < LEAST_CALLS:
            return None
        return ceil_usd(found.cost_usd), int(found.tokens) + 1
