"""The checker names what is wrong: one wrong thing at a time, in evidence that is right without it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.faults import checker
from tests.faults.load import Told
from tests.upstream.invoice import Line

REQUEST = UUID(int=0xAB00)
CALL = UUID(int=0xAB01)
OTHER = UUID(int=0xCD01)
HELD_AT = datetime(2026, 11, 1, tzinfo=UTC)
COST = Decimal("0.00015")  # 20 in at 3, 6 out at 15 USD per million


class Books:
    """What PostgreSQL would answer, by a word of the question."""

    def __init__(self) -> None:
        self.call: dict[str, Any] = {
            "id": CALL, "request_id": REQUEST, "outcome": "ok", "cost_usd": COST, "settled_usd": COST,
            "counted_usd": COST, "usage_source": "reported", "input_tokens": 20, "output_tokens": 6,
            "upstream_ids": ["req_fake_1"], "sheet_id": 1, "tags": {"load": "a"}, "finished_at": HELD_AT,
        }  # fmt: skip
        self.answers: dict[str, list[tuple[Any, ...]]] = {
            "FROM ledger_call c LEFT JOIN": [],
            "coalesce(bound_usd": [(CALL, REQUEST, Decimal("0.001"), HELD_AT)],
            "FROM ledger_rate": [(1, "input", Decimal(3), 1_000_000), (1, "output", Decimal(15), 1_000_000)],
            "ledger_dailyspend": [(1, 20, 6, COST, 0, 1, 20, 6, COST, 0)],
            "sum(w.used)": [(COST, COST)],
        }
        self.lines: list[Line] = [_line(1)]
        self.told: list[Told] = [Told(CALL, COST, "chatcmpl-req_fake_1", "a", True, True)]
        self.text = ""

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        self.answers["FROM ledger_call c LEFT JOIN"] = [tuple(self.call.values())] if self.call else []
        return next((found for word, found in self.answers.items() if word in query), [])

    def log(self) -> str:
        return self.text

    def problems(self) -> list[str]:
        evidence = checker.Evidence(postgres=self, invoice=self.lines, told=self.told)
        return sorted({problem.invariant for problem in checker.check(evidence)})


def _line(number: int, **fields: Any) -> Line:
    values: dict[str, Any] = {
        "arrival": number, "at": HELD_AT.timestamp() + 1, "request_id": f"req_fake_{number}", "path": "/v1/chat",
        "model": "fake-model", "stream": False, "status": 200, "billed": True, "input_tokens": 20, "output_tokens": 6,
        "idempotency_key": str(REQUEST),
    }  # fmt: skip
    return Line(**{**values, **fields})


def test_right_books_have_no_problem() -> None:
    assert Books().problems() == []


def _told(books: Books, **fields: Any) -> None:
    books.told[0] = books.told[0]._replace(**fields)


def _twice(books: Books) -> None:
    books.answers["coalesce(bound_usd"] *= 2


def _lost(books: Books) -> None:
    books.call = {}


# What is done to the books, and the invariants that this breaks.
WRONGS: dict[str, tuple[Callable[[Books], None], list[str]]] = {
    "sent before it was held": (lambda b: b.lines.__setitem__(0, _line(1, at=HELD_AT.timestamp() - 1)), ["I1"]),
    "sent twice, held once": (lambda b: b.lines.append(_line(2)), ["I1", "I8"]),
    "a row is lost": (_lost, ["I2", "I7", "I8"]),
    "a hold was made twice": (_twice, ["I3"]),
    "a hold is left": (lambda b: b.answers.update({"FROM ledger_hold": [(CALL,)]}), ["I2"]),
    "a window still holds": (lambda b: b.answers.update({"held <> 0": [(1, 1)]}), ["I6"]),
    "a limit was passed": (lambda b: b.answers.update({"faults.overspent": [(1, 9, 2, 10, HELD_AT)]}), ["I5"]),
    "rollups differ": (lambda b: b.answers.update({"ledger_dailyspend": [(1, 2, 3, 4, 5, 1, 2, 3, 4, 6)]}), ["I4"]),
    "another cost was told": (lambda b: _told(b, cost_usd=Decimal(1)), ["I7"]),
    "another's answer": (lambda b: _told(b, answer_id="chatcmpl-req_fake_9"), ["I13"]),
    "another's call": (lambda b: _told(b, load_id="b"), ["I13"]),
    "one key, two answers": (lambda b: b.told.append(b.told[0]._replace(call_id=OTHER)), ["I3", "I7"]),
    "other tokens than billed": (lambda b: b.call.update(input_tokens=21), ["I8"]),
    "another cost than billed": (lambda b: b.call.update(cost_usd=1, settled_usd=1), ["I7", "I8"]),
    "billed beyond the hold": (
        lambda b: (b.call.update(usage_source="estimated"), b.lines.__setitem__(0, _line(1, output_tokens=99)))[0],
        ["I8"],
    ),
    "billed and booked as free": (lambda b: b.call.update(upstream_ids=[], cost_usd=0, settled_usd=0), ["I7", "I8"]),
    "written behind a fence": (lambda b: b.answers.update({"NOT by_live": [(CALL, 2)]}), ["I9"]),
    "swept too late": (lambda b: b.answers.update({"lease_until": [(CALL, "40 s")]}), ["I10"]),
    "a deadlock": (lambda b: setattr(b, "text", "ERROR:  deadlock detected"), ["I12"]),
}


@pytest.mark.parametrize(("wrong", "broken"), WRONGS.values(), ids=WRONGS)
def test_it_names_what_is_wrong(wrong: Callable[[Books], None], broken: list[str]) -> None:
    books = Books()
    wrong(books)
    assert books.problems() == broken
