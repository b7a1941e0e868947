"""A run of scenarios: those that can at once, the others one after the other, and then the same check of the books."""

from __future__ import annotations

import http.client
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec import Struct

from tests.faults import catalog, checker
from tests.faults.catalog import Account
from tests.faults.checker import INVARIANTS, Problem
from tests.faults.cluster import Cluster, Template, spooled_bytes, until, verify_ledger
from tests.faults.load import Notes
from tests.faults.stage import CLIENT_TIMEOUT_S, MAX_BODY_BYTES, WORKERS, Scenario, Stage, descriptors
from tests.upstream import invoice

# Patience and bounds that a scenario can reach within seconds.
_ENVIRONMENT = {
    "TOLLBOOK_THREADS": "512", "TOLLBOOK_CLIENT_TIMEOUT_S": str(CLIENT_TIMEOUT_S), "TOLLBOOK_HEARTBEAT_S": "1",
    "TOLLBOOK_MAX_BODY_BYTES": str(MAX_BODY_BYTES), "TOLLBOOK_WRITER_LEASE_S": "4",
    # A crowd on a busy machine must not be turned away at the door: that is another fault.
    "TOLLBOOK_LEDGER_TIMEOUT_S": "10",
}  # fmt: skip
QUIET_S = 60.0


class Report(Struct, frozen=True):
    """`counts` by scenario; `problems` is empty when the books stood it."""

    counts: dict[str, dict[str, int]]
    totals: dict[str, Any]
    problems: list[Problem]

    @property
    def is_clean(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """For people: the figures, then at most three problems of each invariant and of each scenario."""
        shown = [f"{name}: {_listed(counts)}" for name, counts in self.counts.items()]
        shown += [f"{name}: {value}" for name, value in self.totals.items()]
        by_kind: dict[str, list[str]] = {}
        for invariant, line in self.problems:
            what = f"{invariant} ({INVARIANTS[invariant]})" if invariant in INVARIANTS else line.partition(":")[0]
            by_kind.setdefault(what, []).append(line)
        for what, lines in by_kind.items():
            shown += [f"BROKEN {what}: {len(lines)} times", *(f"  {line[:1000]}" for line in lines[:3])]
        return shown


def perform(
    template: Template, scenarios: list[Scenario], *, full: bool, says: Callable[[str], object] = str
) -> Report:
    """Play all of them on a copy of the template, then look at the books and the invoice."""
    chosen = [scenario for scenario in scenarios if full or not scenario.is_long]
    began = time.monotonic()
    with template.running(workers=WORKERS, extra=_ENVIRONMENT) as cluster:
        accounts = _accounts(cluster, chosen)
        base = descriptors(cluster)
        stages = {each.name: _stage(cluster, each, accounts, full=full) for each in chosen}
        counts = _played(chosen, stages, says)
        problems = [problem for stage in stages.values() for problem in stage.problems]
        problems += _at_rest(cluster, base, accounts)
        cluster.gateway.terminate()
        cluster.stop_provider()
        told = [told for stage in stages.values() for told in stage.notes.told]
        evidence = checker.Evidence(postgres=cluster.postgres, invoice=invoice.read(cluster.invoice), told=told)
        problems += checker.check(evidence)
        problems += [Problem("I4", f"verify_ledger: {line}") for line in verify_ledger(url=cluster.postgres.url)]
        totals = {
            "seconds": round(time.monotonic() - began), "calls": len(evidence.calls),
            "arrivals at the provider": len(evidence.invoice), "acknowledged": len(told),
            **checker.unreconciled(evidence), **checker.figures(problems),
        }  # fmt: skip
    return Report(counts, totals, problems)


def _stage(cluster: Cluster, scenario: Scenario, accounts: Mapping[str, Account], *, full: bool) -> Stage:
    own = {name: accounts[_slug(scenario, name)] for name in scenario.specs}
    return Stage(cluster=cluster, name=scenario.name, accounts=own, notes=Notes(), full=full)


def _slug(scenario: Scenario, name: str) -> str:
    return f"{scenario.name} {name}".replace(" ", "-")


def _accounts(cluster: Cluster, scenarios: list[Scenario]) -> dict[str, Account]:
    """Made, and known to every worker."""
    specs = {_slug(each, name): spec for each in scenarios for name, spec in each.specs.items()}
    provider_url = f"http://127.0.0.1:{cluster.ports.provider}"
    made = catalog.make(url=cluster.postgres.url, upstream_url=provider_url, specs=specs)
    newest = list(made.values())[-1]
    connection = http.client.HTTPConnection("127.0.0.1", cluster.ports.gateway, timeout=10)
    missed = time.monotonic()

    def known_to_all() -> bool:
        # Nobody can choose which worker answers: all know it when none has missed it for longer than some polls.
        nonlocal missed
        connection.request("GET", f"/v1/models/{newest.name}", headers={"Authorization": f"Bearer {newest.text}"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            missed = time.monotonic()
        return time.monotonic() - missed > 1.0

    until(known_to_all, what="the workers know the accounts", timeout_s=30)
    return made


def _played(
    scenarios: list[Scenario], stages: Mapping[str, Stage], says: Callable[[str], object]
) -> dict[str, dict[str, int]]:
    """Those that can at once, then the others one after the other."""

    def play(scenario: Scenario) -> dict[str, int]:
        stage, began = stages[scenario.name], time.monotonic()
        try:
            counts = scenario.play(stage)
        except Exception:
            stage.expect(False, traceback.format_exc(limit=-3))
            counts = {}
        says(f"{scenario.name}: {_listed(counts)} ({time.monotonic() - began:.1f} s)")
        return counts

    together = [scenario for scenario in scenarios if not scenario.alone]
    counts: dict[str, dict[str, int]] = {}
    if together:
        with ThreadPoolExecutor(len(together)) as pool:
            counts = dict(zip((each.name for each in together), pool.map(play, together), strict=True))
    for scenario in scenarios:
        if scenario.alone:
            counts[scenario.name] = play(scenario)
    return counts


def _at_rest(cluster: Cluster, base: int, accounts: Mapping[str, Account]) -> list[Problem]:
    """Nothing is held or spooled any more, and every descriptor has been given back."""

    def nothing_open() -> bool:
        ((holds,),) = cluster.postgres.rows("SELECT count(*) FROM ledger_hold")
        return holds == 0 and spooled_bytes(cluster.gateway.var_dir) == 0

    problems = []
    try:
        until(nothing_open, what="no hold is open and no spool holds a call", timeout_s=QUIET_S)
    except TimeoutError as error:
        problems.append(Problem("I10", str(error)))
    try:
        until(lambda: descriptors(cluster) <= base + 4, what="every descriptor is given back", timeout_s=20)
    except TimeoutError:
        problems.append(Problem("I12", f"a worker had {base} descriptors before, and has {descriptors(cluster)} now"))
    return problems


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
