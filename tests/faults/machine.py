"""Faults of the machine, one act each: what is broken, what must be felt, and the same check of the books afterwards.

An act gets a running cluster under load. In the long run each has a cluster of its own, so that what is lost is known
by its name; the quick set plays several on one.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct, field

from tests.faults import checker
from tests.faults.checker import INVARIANTS, Problem
from tests.faults.cluster import Cluster, Template, spooled_bytes, until
from tests.faults.load import Load
from tests.faults.run import checked, median_and_most, quiet
from tests.upstream import invoice

# A stopped database says so at once, a frozen one within the ledger's 0.9 s; the rest is the machine's.
REFUSED_WITHIN_S = 2.0
SERVED_WITHIN_S, QUIET_S = 30.0, 40.0
IN_A_ROW = 10
CLIENTS = 4
T = TypeVar("T")


def _nothing() -> None:
    return None


def _no_environment(folder: Path) -> Mapping[str, str]:
    return {}


class Felt(Struct):
    """One act as it was felt. `recovered_s`: from the end of each fault to the first call; `figures`: what else."""

    name: str
    times: int = 0
    recovered_s: list[float] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


class Act(Struct, frozen=True):
    """`needs`: why it cannot be played here, or None. The rest is what its cluster must be like."""

    name: str
    play: Callable[[Scene], None]
    needs: Callable[[], str | None] = _nothing
    environment: Callable[[Path], Mapping[str, str]] = _no_environment
    disks_mb: Mapping[str, int] = {}


class Streams:
    """Clients that each have a stream open, until it ends by itself or is cut."""

    def __init__(self, *, load: Load, model: str, count: int) -> None:
        self.ids = {uuid.uuid4().hex for _ in range(count)}
        self._load = load
        self._threads = [
            threading.Thread(target=load.ask, args=(model,), kwargs={"stream": True, "load_id": each}, daemon=True)
            for each in self.ids
        ]
        for thread in self._threads:
            thread.start()

    def join(self, *, timeout_s: float) -> int:
        """Wait for all of them. Returns how many had the whole answer, with its promise."""
        ends_at = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
        return sum(told.whole for told in list(self._load.notes.told) if told.load_id in self.ids)


class Scene:
    """What an act works with. `is_long`: at its whole size, not only enough to see that it works."""

    def __init__(self, *, cluster: Cluster, load: Load, is_long: bool) -> None:
        self.cluster, self.load, self.is_long = cluster, load, is_long
        self.problems: list[Problem] = []
        self.felt = Felt("")
        # Joined when all acts are over; and looks at the books when all is quiet.
        self.meanwhile: list[threading.Thread] = []
        self._later: list[tuple[Felt, Callable[[], None]]] = []

    def size(self, full: T, quick: T) -> T:
        return full if self.is_long else quick

    def expect(self, is_so: object, line: str, *, invariant: str = "I10") -> None:
        """A problem when it is not so."""
        if not is_so:
            self.problems.append(Problem(invariant, f"{self.felt.name}: {line}"))

    def later(self, look: Callable[[], None]) -> None:
        """Look once all is quiet and the books have been checked."""
        self._later.append((self.felt, look))

    def look_back(self) -> None:
        for felt, look in self._later:
            self.felt = felt
            look()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.cluster.postgres.rows(query, *values)

    # --- clients ------------------------------------------------------------------------------------------

    def open_streams(self, model: str, count: int) -> Streams:
        """Returns when all of them have arrived at the provider."""
        before = self._arrived(model)
        streams = Streams(load=self.load, model=model, count=count)
        until(lambda: self._arrived(model) >= before + count, what=f"{count} streams are open", timeout_s=30)
        return streams

    def _arrived(self, model: str) -> int:
        return sum(line.model == model for line in invoice.read(self.cluster.invoice))

    def served(self) -> float:
        """Wait until a call is served, and note how long that took. TimeoutError after half a minute."""
        took = until(self.load.ask_once, what=f"a call is served after {self.felt.name}", timeout_s=SERVED_WITHIN_S)
        self.felt.recovered_s.append(round(took, 2))
        # Nobody can choose who answers: all workers are back when none of so many calls is refused.
        until(
            lambda: all(self.load.ask_once() for _ in range(IN_A_ROW)), timeout_s=SERVED_WITHIN_S,
            what=f"{IN_A_ROW} calls in a row are served after {self.felt.name}",
        )  # fmt: skip
        return took

    def refused(self) -> None:
        """The database is away: a call is refused, and soon."""
        began = time.monotonic()
        status = self.load.ask("fake-model", timeout_s=5 * REFUSED_WITHIN_S)
        took = time.monotonic() - began
        self.expect(status == "503", f"a call was answered {status}", invariant="I11")
        self.expect(took < REFUSED_WITHIN_S, f"a call was refused only after {took:.2f} s", invariant="I11")
        self.felt.figures["slowest 503 s"] = max(round(took, 2), self.felt.figures.get("slowest 503 s", 0.0))

    def refused_for(self, seconds: float) -> None:
        """Refused again and again, for that long."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            self.refused()
            time.sleep(0.3)

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.ports.gateway, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    # --- the spool ----------------------------------------------------------------------------------------

    def spooled(self) -> int:
        return spooled_bytes(self.cluster.gateway.var_dir)

    def expect_spooled(self) -> None:
        """Settles wait on disk now."""
        found = self.spooled()
        self.expect(found, "nothing was spooled", invariant="I11")
        self.felt.figures["spooled bytes"] = max(found, self.felt.figures.get("spooled bytes", 0))

    def expect_replayed(self) -> None:
        with contextlib.suppress(TimeoutError):
            until(lambda: not self.spooled(), what="the spool is empty", timeout_s=SERVED_WITHIN_S)
            return
        self.expect(False, "the spool was not replayed", invariant="I12")


class Played(Struct, frozen=True):
    """What acts on one cluster have shown; `skipped` maps the names of those that could not be played to the reason."""

    acts: list[Felt]
    calls: int
    kills: int
    problems: list[Problem]
    skipped: dict[str, str]

    def lines(self) -> list[str]:
        """For people: a line for each act, then at most five problems of each invariant."""
        sums = ", ".join(f"{name} {value}" for name, value in checker.figures(self.problems).items())
        whole = f"{self.calls} calls, {self.kills} worker kills, {sums}"
        shown = [f"skipped {name}: {reason}" for name, reason in self.skipped.items()]
        for felt in self.acts:
            median, most = median_and_most(felt.recovered_s)
            figures = "".join(f", {name} {value}" for name, value in felt.figures.items())
            shown.append(
                f"{felt.name}: {felt.times} times, {whole}, slowest recovery {most} s (median {median}){figures}"
            )
        for invariant in sorted({problem.invariant for problem in self.problems}):
            lines = [problem.line for problem in self.problems if problem.invariant == invariant]
            shown.append(f"BROKEN {invariant} ({INVARIANTS[invariant]}): {len(lines)} times")
            shown += [f"  {line}" for line in lines[:5]]
        return shown


def play(template: Template, acts: Sequence[Act], *, is_long: bool, seed: int, workers: int = 2) -> Played:
    """Play the acts one after the other on one cluster, then look at the books."""
    skipped = {act.name: reason for act in acts if (reason := act.needs()) is not None}
    playable = [act for act in acts if act.name not in skipped]
    if not playable:
        return Played([], 0, 0, [], skipped)
    extra = {"TOLLBOOK_THREADS": "256"}
    disks: dict[str, int] = {}
    for act in playable:
        extra.update(act.environment(template.folder))
        disks.update(act.disks_mb)
    with template.running(workers=workers, extra=extra, disks_mb=disks) as cluster:
        load = Load(port=cluster.ports.gateway, world=cluster.world, clients=CLIENTS, seed=seed)
        scene = Scene(cluster=cluster, load=load, is_long=is_long)
        load.start()
        felt = [_felt(act, scene) for act in playable]
        for thread in scene.meanwhile:
            thread.join(60)
        load.stop()
        problems = quiet(cluster, within_s=QUIET_S)
        problems += checked(cluster, load, verifies=True)
        scene.look_back()
        ((calls,),) = scene.rows("SELECT count(*) FROM ledger_call")
        return Played(felt, calls, cluster.gateway.kills, problems + scene.problems, skipped)


def _felt(act: Act, scene: Scene) -> Felt:
    scene.felt = felt = Felt(act.name)
    try:
        act.play(scene)
    except TimeoutError as error:
        scene.problems.append(Problem("I10", f"{act.name}: {error}"))
    return felt
