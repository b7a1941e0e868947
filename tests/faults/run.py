"""One run: load, faults, quiet, races, check; and the figures that it ends with."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tests.faults import checker, races
from tests.faults.checker import INVARIANTS, MAX_DESCRIPTORS, MAX_RSS_BYTES, Problem
from tests.faults.cluster import (
    Cluster,
    Template,
    memory_and_descriptors,
    spooled_bytes,
    until,
    verify_ledger,
)
from tests.faults.load import Load
from tests.faults.nemesis import Goals, Nemesis, Sampler
from tests.upstream import invoice

Schedule = Callable[[Nemesis], None]


class Plan(Struct, frozen=True):
    """How long and how hard. `schedule`, if given, takes the place of the seeded one; `says`: tells how far it is."""

    seed: int
    minutes: float = 1.0
    kills: int = 0
    postgres_kills: int = 0
    eaten: int = 0
    races: int = 0
    clients: int = 12
    workers: int = 3
    freeze_s: float = 10.0
    quiet_s: float = 30.0
    verifies: bool = True
    schedule: Schedule | None = None
    says: bool = False


class Report(Struct, frozen=True):
    """`counts` are what happened, `slowest_s` the slowest recovery; `problems` is empty when the books stood it."""

    seed: int
    counts: dict[str, Any]
    faults: dict[str, int]
    slowest_s: dict[str, float]
    answers: dict[str, int]
    problems: list[Problem]

    @property
    def is_clean(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """For people: the figures, then at most five problems of each invariant."""
        shown = [f"seed {self.seed}", *(f"{name}: {value}" for name, value in self.counts.items())]
        for name, count in sorted(self.faults.items(), key=lambda pair: -pair[1]):
            felt = f", slowest recovery {self.slowest_s[name]} s" if name in self.slowest_s else ""
            shown.append(f"{name.replace('_', ' ')}: {count} times{felt}")
        shown.append(f"answers: {_listed(self.answers)}")
        by_invariant = Counter(problem.invariant for problem in self.problems)
        for invariant, count in sorted(by_invariant.items()):
            shown.append(f"BROKEN {invariant} ({INVARIANTS[invariant]}): {count} times")
            shown += [f"  {each.line}" for each in self.problems if each.invariant == invariant][:5]
        return shown


def run(template: Template, plan: Plan, **cluster_options: Any) -> Report:
    """Run `plan` on a copy of the template, and check what is left."""
    with template.running(workers=plan.workers, **cluster_options) as cluster:
        load = Load(port=cluster.ports.gateway, world=cluster.world, clients=plan.clients, seed=plan.seed)
        nemesis = Nemesis(cluster=cluster, load=load, seed=plan.seed, freeze_s=plan.freeze_s)
        problems: list[Problem] = []
        began = time.monotonic()
        with Sampler(cluster=cluster, look=memory_and_descriptors) as sampler:
            load.start()
            problems += _faults(nemesis, plan, until_at=began + plan.minutes * 60)
            load.stop()
            problems += quiet(cluster, within_s=plan.quiet_s)
        problems += _bounded(sampler)
        lost_races = races.run(url=cluster.postgres.url, count=plan.races) if plan.races else []
        problems += [Problem("I5", line) for line in lost_races]
        problems += checked(cluster, load, verifies=plan.verifies)
        return _report(plan, cluster, load, nemesis, sampler, problems, took_s=time.monotonic() - began)


def _faults(nemesis: Nemesis, plan: Plan, *, until_at: float) -> list[Problem]:
    try:
        if plan.schedule is not None:
            plan.schedule(nemesis)
        else:
            goals = Goals(kills=plan.kills, postgres_kills=plan.postgres_kills, eaten=plan.eaten)
            nemesis.unleash(goals=goals, until_at=until_at, say=print if plan.says else _silent)
    except TimeoutError as error:
        return [Problem("I10", str(error))]
    return []


def _silent(line: str) -> None:
    """Only a person who waits for the long run wants to know."""


def quiet(cluster: Cluster, *, within_s: float) -> list[Problem]:
    """Nothing is broken any more: every hold ends and every spool empties; then the workers stop as they should."""

    def nothing_open() -> bool:
        ((holds,),) = cluster.postgres.rows("SELECT count(*) FROM ledger_hold")
        return holds == 0 and spooled_bytes(cluster.gateway.var_dir) == 0

    cluster.database.heal()
    cluster.upstream.heal()
    problems = []
    try:
        until(nothing_open, what="no hold is open and no spool holds a call", timeout_s=within_s)
    except TimeoutError as error:
        problems.append(Problem("I10", str(error)))
    cluster.gateway.terminate()
    cluster.stop_provider()
    return problems


def _bounded(sampler: Sampler) -> list[Problem]:
    problems = []
    if sampler.rss_bytes > MAX_RSS_BYTES:
        problems.append(Problem("I12", f"a worker grew to {sampler.rss_bytes} bytes"))
    if sampler.descriptors > MAX_DESCRIPTORS:
        problems.append(Problem("I12", f"a worker had {sampler.descriptors} descriptors open"))
    return problems


def checked(cluster: Cluster, load: Load, *, verifies: bool) -> list[Problem]:
    """Every broken invariant that the invoice, the clients' notes and the books show, and what verify_ledger says."""
    evidence = checker.Evidence(
        postgres=cluster.postgres, invoice=invoice.read(cluster.invoice), told=load.notes.told
    )
    problems = checker.check(evidence)
    if verifies:
        problems += [Problem("I4", f"verify_ledger: {line}") for line in verify_ledger(url=cluster.postgres.url)]
    quarantine = cluster.gateway.var_dir / "spool" / "quarantine.jsonl"
    if quarantine.exists():
        problems.append(Problem("I7", f"rows were quarantined: {quarantine.read_text()[:300]}"))
    return problems


def _report(
    plan: Plan, cluster: Cluster, load: Load, nemesis: Nemesis, sampler: Sampler, problems: list[Problem], *,
    took_s: float,
) -> Report:
    ((calls, abandoned, late),) = cluster.postgres.rows(
        "SELECT count(*), count(*) FILTER (WHERE outcome = 'abandoned'), "
        "(SELECT count(*) FROM ledger_adjustment WHERE reason = 'late_settlement') FROM ledger_call"
    )
    slowest = {name: median_and_most(felt)[1] for name, felt in nemesis.recovered_s.items()}
    counts = {
        "minutes": round(took_s / 60, 1),
        "worker kills": cluster.gateway.kills,
        "PostgreSQL kills": nemesis.postgres_kills,
        "eaten commit replies": cluster.database.eaten,
        "races at a limit": plan.races,
        "requests": load.notes.asked,
        "calls": calls,
        "acknowledged": len(load.notes.told),
        "arrivals at the provider": len(invoice.read(cluster.invoice)),
        "abandoned": abandoned,
        "settled late": late,
        "slowest recovery s": max(slowest.values(), default=0.0),
        "PostgreSQL up to first call s (median, most)": median_and_most(nemesis.postgres_back_s),
        "largest worker MB": sampler.rss_bytes // 1_048_576,
        "most descriptors": sampler.descriptors,
        **checker.figures(problems),
    }
    return Report(plan.seed, counts, dict(nemesis.done), slowest, dict(load.notes.statuses), problems)


def median_and_most(seconds: list[float]) -> tuple[float, float]:
    """Rounded to hundredths; 0 of nothing."""
    ordered = sorted(seconds) or [0.0]
    return round(ordered[len(ordered) // 2], 2), round(ordered[-1], 2)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def new_seed() -> int:
    return random.SystemRandom().randrange(1_000_000)
