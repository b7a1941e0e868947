"""Anchors that left as log lines: the same proof, from a copy that nobody with the database could rewrite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from ledger.verify.scope import Difference, rows

_CHECK = "3 shipped anchors"
_HASH = "SELECT encode(hash, 'hex') FROM ledger_batch WHERE writer_id = %(writer)s AND seq = %(seq)s"


def differences(lines: Iterable[str]) -> list[Difference]:
    """Where the `ledger_anchor` lines of a JSON log say another head than the chain has. Other lines are passed over.

    Raises ValueError for an anchor line that cannot be read, and where there is none at all: that would prove nothing.
    """
    found: list[Difference] = []
    anchors = 0
    for number, line in enumerate(lines, start=1):
        if "ledger_anchor" not in line:
            continue
        for writer, seq, head in _heads(line, number=number):
            anchors += 1
            there = rows(_HASH, {"writer": writer, "seq": seq})
            if not there or there[0][0] != head:
                says = f"it is {there[0][0][:16]}… now" if there else "there is no such batch"
                found.append(Difference(_CHECK, f"line {number}: writer {writer} at batch {seq}: {head[:16]}…; {says}"))
    if not anchors:
        raise ValueError("it holds no ledger_anchor line")
    return found


def _heads(line: str, *, number: int) -> list[tuple[UUID, int, str]]:
    try:
        event: Any = msgspec.json.decode(line)
        if event["event"] != "ledger_anchor":
            return []
        return [(UUID(writer), int(at["seq"]), str(at["head"])) for writer, at in event["heads"].items()]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"line {number} is no anchor: {error}") from error
