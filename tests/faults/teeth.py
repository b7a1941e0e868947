"""The teeth: runs over broken code, each with a schedule that provokes what the break allows. Every one must fail.

The last run is over whole code with all those schedules: it must not fail, or the others prove nothing.
"""

from __future__ import annotations

import time
from collections import Counter

import msgspec
from msgspec import Struct

from tests.faults import broken
from tests.faults.cluster import Template
from tests.faults.nemesis import Nemesis
from tests.faults.run import Plan, Report, Schedule, run

WHOLE = "nothing"
# `verify_ledger` knows the functions it was installed with and would name the changed one: that is not what is tried.
_PLAN = Plan(seed=1, clients=16, quiet_s=8.0, verifies=False)


class Bite(Struct, frozen=True):
    """What a run over broken code has shown."""

    broken: str
    report: Report

    @property
    def is_right(self) -> bool:
        return self.report.is_clean == (self.broken == WHOLE)

    def line(self) -> str:
        found = Counter(problem.invariant for problem in self.report.problems)
        seen = ", ".join(f"{name} x{count}" for name, count in sorted(found.items())) or "no invariant broken"
        verdict = "stands" if self.report.is_clean else "bites" if self.broken != WHOLE else "fails"
        example = f"; {self.report.problems[-1].line[:90]}" if self.report.problems else ""
        return f"{self.broken:24} {'right' if self.is_right else 'WRONG'}: {verdict:7} {seen}{example}"


def _crashes(nemesis: Nemesis) -> None:
    for _ in range(2):
        time.sleep(2.5)
        nemesis.do(nemesis.stop_postgres_at_once)


def _eats(nemesis: Nemesis) -> None:
    time.sleep(1)
    for _ in range(4):
        nemesis.do(nemesis.eat_replies)


def _refuses(nemesis: Nemesis) -> None:
    time.sleep(1)
    nemesis.do(nemesis.refuse_the_database)
    time.sleep(1)


def _pauses(nemesis: Nemesis) -> None:
    time.sleep(1)
    for _ in range(2):
        nemesis.do(nemesis.pause_a_worker)
        time.sleep(1)


def _crowds(nemesis: Nemesis) -> None:
    """The limits of the tight keys are met within seconds, by all clients at once, again and again."""
    for _ in range(4):
        time.sleep(2)
        nemesis.do(nemesis.move_a_limit)


def _crowds_for_long(nemesis: Nemesis) -> None:
    """Two processes must meet within the moment in which each has one lock and not the other."""
    for _ in range(3):
        _crowds(nemesis)


SCHEDULES: dict[str, Schedule] = {
    "synchronous_commit off": _crashes,
    "new seq on retry": _eats,
    "dispatch before hold": _refuses,
    "settle without fence": _pauses,
    "cached counter": _crowds,
    "unsorted locks": _crowds_for_long,
}


def _everything(nemesis: Nemesis) -> None:
    for schedule in dict.fromkeys(SCHEDULES.values()):
        schedule(nemesis)


def bite(template: Template, name: str) -> Bite:
    """Run over code that is broken in this way."""
    plan = msgspec.structs.replace(_PLAN, schedule=SCHEDULES.get(name, _everything))
    extra = {} if name == WHOLE else {"FAULTS_BREAK": name}
    return Bite(name, run(template, plan, extra=extra, change=broken.IN_SQL.get(name)))


def names() -> list[str]:
    """Every way to break the code, and last the whole code."""
    return [*SCHEDULES, WHOLE]
