"""What differs between generations of Gemini, told by the model's name.

A name that says no generation ("gemini-flash-latest") is taken to be of the newest.
"""

from __future__ import annotations

import re

_GENERATION = re.compile(r"gemini-(\d{1,2})(?:[.\-]|$)")
_NEWEST = 99


def generation(model: str) -> int:
    """2 for gemini-2.5-flash, also where the name has a path before it."""
    found = _GENERATION.search(model)
    return int(found[1]) if found else _NEWEST


def thinks_by_level(model: str) -> bool:
    """From generation 3 on a level takes the place of a token budget; both at once are refused.

    https://ai.google.dev/gemini-api/docs/thinking
    """
    return generation(model) >= 3


def checks_signatures(model: str) -> bool:
    """From generation 3 on a function call of the history without its thought signature is a 400."""
    return generation(model) >= 3


def bills_each_search(model: str) -> bool:
    """From generation 3 on each search of the web is billed; before, a grounded prompt, however often it searched.

    https://ai.google.dev/gemini-api/docs/google-search#pricing
    """
    return generation(model) >= 3
