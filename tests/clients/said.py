"""What the checks of all clients ask, and what the provider behind them answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)

QUESTION = "Do the books balance?"
SENTENCE = "The ledger balances to the last digit today"
WORDS = 8
WRONG_KEY = "tb_live_nobody_0000000000000000000000000000"
MISSING_MODEL = "no-such-model"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "description": "of a city", "parameters": CITY},
}
VECTORS = [[0.5, -0.25, 0.125], [1.5, -0.25, 0.125]]


def refused(ask: Callable[[], Any], kind: type[E]) -> E:
    """The exception of this kind that `ask` raises. AssertionError when it is answered."""
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError("what must be refused was answered")
