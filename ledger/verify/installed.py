"""What ledger/sql/ installs, read from its text: functions with their bodies, triggers with what they fire on."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).resolve().parent.parent / "sql"
_FUNCTION = re.compile(
    r"^CREATE (?:OR REPLACE )?FUNCTION (\w+)\((.*?)\$(\w*)\$(.*?)\$\3\$([^;]*);", re.MULTILINE | re.DOTALL
)
_TRIGGER = re.compile(
    r"^\s*CREATE (?:OR REPLACE )?TRIGGER (\w+)\s+(BEFORE|AFTER)\s+(.*?)\s+ON (\w+)\s(.*?)EXECUTE FUNCTION (\w+)\(",
    re.MULTILINE | re.DOTALL,
)
_ALWAYS = re.compile(r"ALTER TABLE (\w+)\s+ENABLE ALWAYS TRIGGER (\w+)")
# Also inside a string that is executed: the name of a schema is only known there.
_DEFINER = re.compile(r"ALTER FUNCTION (\w+)\([^)]*\) SECURITY DEFINER")
_VOLATILITY = {"IMMUTABLE": "i", "STABLE": "s"}
# The bits of pg_trigger.tgtype.
_ROW, _BEFORE = 1, 2
_EVENTS = {"INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}


class Function(NamedTuple):
    """As pg_proc has it; volatility is i, s or v."""

    body: str
    language: str
    volatility: str
    security_definer: bool


class Trigger(NamedTuple):
    """As pg_trigger has it: `kind` are the bits of its timing, level and events."""

    table: str
    name: str
    function: str
    kind: int
    always: bool


@lru_cache(maxsize=1)
def _texts() -> tuple[str, ...]:
    return tuple(path.read_text() for path in sorted(_FOLDER.glob("*.sql")))


def functions() -> dict[str, set[Function]]:
    """By name; a name has several where it takes different arguments."""
    found: dict[str, set[Function]] = {}
    definers = {name for text in _texts() for name in _DEFINER.findall(text)}
    for text in _texts():
        for name, head, _, body, tail in _FUNCTION.findall(text):
            options = f"{head} {tail}"
            language = re.search(r"LANGUAGE (\w+)", options)
            volatility = next((letter for word, letter in _VOLATILITY.items() if word in options.split()), "v")
            definer = "SECURITY DEFINER" in options or name in definers
            made = Function(body, language[1] if language else "", volatility, definer)
            found.setdefault(name, set()).add(made)
    return found


def triggers() -> list[Trigger]:
    """Those made by name. The append-only triggers are made by a function, table by table, and checked apart."""
    always = {pair for text in _texts() for pair in _ALWAYS.findall(text)}
    return [
        Trigger(table, name, function, _kind(timing, events, rest), (table, name) in always)
        for text in _texts()
        for name, timing, events, table, rest, function in _TRIGGER.findall(text)
    ]


def _kind(timing: str, events: str, rest: str) -> int:
    bits = (_BEFORE if timing == "BEFORE" else 0) | (_ROW if "FOR EACH ROW" in rest else 0)
    # "UPDATE OF a, b": the columns are not events.
    for event in re.split(r"\s+OR\s+", events):
        bits |= _EVENTS[event.split()[0]]
    return bits
