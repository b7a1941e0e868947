"""`python -m tests.faults`: try to break the books, print the figures, exit 1 if anything broke.

Without options the long run: the faults on their schedule, then those of the machine one by one, then the scenarios
of clients, bodies, providers and limits. The same seed gives the same schedule.
"""

from __future__ import annotations

import argparse
import sys

from tests.faults import machine, machine_acts, scenarios, teeth
from tests.faults.cluster import Template
from tests.faults.run import Plan, new_seed, run


def _schedule(template: Template, plan: Plan, _: str) -> bool:
    print(f"seed {plan.seed}: up to {plan.minutes} minutes", flush=True)
    report = run(template, plan)
    print("\n".join(report.lines()), flush=True)
    return report.is_clean


def _machine(template: Template, plan: Plan, word: str) -> bool:
    """Each on a cluster of its own, so that what is lost is known by its name."""
    stood = True
    for act in machine_acts.every():
        if word in act.name:
            played = machine.play(template, [act], is_long=True, seed=plan.seed)
            print("\n".join(played.lines()), flush=True)
            stood = stood and not played.problems
    return stood


def _scenarios(template: Template, plan: Plan, _: str) -> bool:
    report = scenarios.run(template, full=True)
    print("\n".join(report.lines()), flush=True)
    return report.is_clean


# Whether the books stood it.
PARTS = {"schedule": _schedule, "machine": _machine, "scenarios": _scenarios}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the schedule (a new one each time)")
    parser.add_argument("--minutes", type=float, default=40.0, help="end by then, whatever the counts (40)")
    parser.add_argument("--kills", type=int, default=300, help="workers to kill at least (300)")
    parser.add_argument("--postgres-kills", type=int, default=40, help="PostgreSQL kills at least (40)")
    parser.add_argument("--eaten", type=int, default=100, help="commit replies to eat at least (100)")
    parser.add_argument("--races", type=int, default=1000, help="races at a limit (1000)")
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help=f"of {', '.join(PARTS)} (all)")
    parser.add_argument("--act", default="", metavar="WORD", help="of the machine's faults those named so")
    parser.add_argument("--teeth", nargs="*", metavar="NAME", help="instead: run over broken code; all of it, or NAMEs")
    options = parser.parse_args()
    template = Template()
    kept = False
    try:
        if options.teeth is not None:
            return _teeth(template, options.teeth or teeth.names())
        plan = Plan(
            seed=new_seed() if options.seed is None else options.seed, minutes=options.minutes, kills=options.kills,
            postgres_kills=options.postgres_kills, eaten=options.eaten, races=options.races, clients=options.clients,
            workers=options.workers, says=True,
        )  # fmt: skip
        broken = [part for part in options.only if not PARTS[part](template, plan, options.act)]
        kept = bool(broken)
        print(f"BROKEN: {', '.join(broken)}" if broken else "The books stood it.", flush=True)
        return 1 if kept else 0
    finally:
        if kept:
            print(f"What is left of the run stays in {template.folder}.")
        else:
            template.remove()


def _teeth(template: Template, names: list[str]) -> int:
    failed = 0
    for name in names:
        bite = teeth.bite(template, name)
        failed += not bite.is_right
        print(bite.line(), flush=True)
        if not bite.is_right:
            print("\n".join(f"    {line}" for line in bite.report.lines()), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
