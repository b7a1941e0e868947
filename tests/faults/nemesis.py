"""The faults, one after the other, as a seed says. Each heals what it broke and leaves time to recover."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal

import psycopg

from tests.faults import world as worlds
from tests.faults.cluster import GRACE_S, LEASE_S, SWEEP_S, Cluster, until
from tests.faults.load import Load

POINTS = ("held", "dispatched", "mid_stream", "upstream_done", "settled", "answered", "before_write", "after_write")
RECOVERS_WITHIN_S = 30.0
SAYS_EVERY_S = 60.0
_WRITERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollbook writer'"


class Goals:
    """How many of the faults that are counted a run wants; it goes on until it has them or its time is over."""

    def __init__(self, *, kills: int, postgres_kills: int, eaten: int) -> None:
        self.kills, self.postgres_kills, self.eaten = kills, postgres_kills, eaten


class Nemesis:
    """`unleash` ends when the goals are met. `done` counts faults by name; `recovered_s`: how long each was felt."""

    def __init__(self, *, cluster: Cluster, load: Load, seed: int, freeze_s: float) -> None:
        self.done: Counter[str] = Counter()
        self.recovered_s: dict[str, list[float]] = {}
        self._doing = ""
        self.postgres_back_s: list[float] = []
        self.postgres_kills = 0
        self._cluster, self._load = cluster, load
        # Apart, so that the order of the faults is the same however many workers there are to choose from.
        self._order, self._rng = random.Random(f"{seed} order"), random.Random(f"{seed} details")
        self._freeze_s = freeze_s
        self._spare = list(cluster.world.spare[2:])
        self._faults: dict[Callable[[], None], int] = {
            self.kill_a_worker: 6,
            self.kill_at_a_point: 12,
            self.kill_all_workers: 3,
            self.kill_the_master: 1,
            self.end_workers_in_turn: 1,
            self.pause_a_worker: 2,
            self.crash_postgres: 5,
            self.stop_postgres_at_once: 5,
            self.freeze_postgres: 1,
            self.end_backends: 3,
            self.eat_replies: 5,
            self.cut_the_database: 3,
            self.refuse_the_database: 1,
            self.half_open_the_database: 1,
            self.delay_the_database: 1,
            self.cut_the_provider: 2,
            self.half_open_the_provider: 1,
            self.delay_the_provider: 1,
            self.move_a_limit: 4,
            self.publish_a_price: 1,
            self.revoke_a_key: 2,
        }

    def unleash(self, *, goals: Goals, until_at: float, say: Callable[[str], None]) -> None:
        """Each fault once in a seeded order, then by weight, until the goals are met or the clock says `until_at`."""
        first = list(self._faults)
        self._order.shuffle(first)
        next_word = time.monotonic() + SAYS_EVERY_S
        while time.monotonic() < until_at:
            if time.monotonic() > next_word:
                next_word += SAYS_EVERY_S
                say(self._so_far())
            if first:
                fault = first.pop()
            elif self._met(goals):
                return
            else:
                (fault,) = self._order.choices(list(self._faults), weights=list(self._faults.values()))
            self.do(fault)
            time.sleep(self._rng.uniform(0.1, 0.5))

    def do(self, fault: Callable[[], None]) -> None:
        self._doing = fault.__name__
        self.done[self._doing] += 1
        fault()

    def _so_far(self) -> str:
        cluster, notes = self._cluster, self._load.notes
        return (
            f"{cluster.gateway.kills} worker kills, {self.postgres_kills} PostgreSQL kills, "
            f"{cluster.database.eaten} eaten replies, {len(notes.told)} acknowledged of {notes.asked} requests"
        )

    def _met(self, goals: Goals) -> bool:
        cluster = self._cluster
        return (
            cluster.gateway.kills >= goals.kills
            and self.postgres_kills >= goals.postgres_kills
            and cluster.database.eaten >= goals.eaten
        )

    # --- workers ------------------------------------------------------------------------------------------

    def _a_worker(self) -> int | None:
        pids = self._cluster.gateway.pids()
        return self._rng.choice(pids) if pids else None

    def _signal(self, pid: int | None, number: signal.Signals) -> None:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_a_worker(self) -> None:
        self._signal(self._a_worker(), signal.SIGKILL)

    def kill_at_a_point(self) -> None:
        """Its successor kills itself at a named point, the first to third time that it gets there."""
        self._cluster.gateway.plan_crash(f"{self._rng.choice(POINTS)}:{self._rng.randint(1, 3)}")
        self._signal(self._a_worker(), signal.SIGKILL)
        self._served()
        time.sleep(1.0)

    def kill_all_workers(self) -> None:
        for pid in self._cluster.gateway.pids():
            self._signal(pid, signal.SIGKILL)
        self._served()

    def kill_the_master(self) -> None:
        self._cluster.gateway.kill()
        self._cluster.gateway.start()
        self._served()

    def end_workers_in_turn(self) -> None:
        """A rolling restart: SIGTERM to one after the other, while the others serve."""
        for pid in self._cluster.gateway.pids():
            self._signal(pid, signal.SIGTERM)
            time.sleep(2.0)

    def pause_a_worker(self) -> None:
        """Past its lease: another process fences it and closes its holds; then it wakes up and has not heard of it."""
        pid = self._a_worker()
        self._signal(pid, signal.SIGSTOP)
        time.sleep(LEASE_S + GRACE_S + SWEEP_S + 1.0)
        self._signal(pid, signal.SIGCONT)
        time.sleep(0.5)

    # --- PostgreSQL ---------------------------------------------------------------------------------------

    def crash_postgres(self) -> None:
        self._cluster.postgres.crash()
        self._restart()

    def stop_postgres_at_once(self) -> None:
        self._cluster.postgres.stop(signal.SIGQUIT)
        self._restart()

    def _restart(self) -> None:
        self.postgres_kills += 1
        time.sleep(self._rng.choice((0.0, 0.5, 1.5)))
        self._cluster.postgres.start()
        self.postgres_back_s.append(self._served())

    def freeze_postgres(self) -> None:
        self._cluster.postgres.freeze()
        time.sleep(self._freeze_s)
        self._cluster.postgres.thaw()
        self._served()

    def end_backends(self) -> None:
        for _ in range(3):
            self._sql(_WRITERS)
            time.sleep(0.1)
        self._served()

    # --- the ways between ---------------------------------------------------------------------------------

    def eat_replies(self) -> None:
        """PostgreSQL commits, and its client never hears of it."""
        database = self._cluster.database
        database.eat_replies(self._rng.randint(2, 5))
        with contextlib.suppress(TimeoutError):
            until(lambda: database.to_eat == 0, what="the replies are eaten", timeout_s=4)
        database.heal()
        self._served()

    def cut_the_database(self) -> None:
        for _ in range(3):
            self._cluster.database.cut()
            time.sleep(0.15)
        self._served()

    def refuse_the_database(self) -> None:
        self._cluster.database.refuses = True
        self._cluster.database.cut()
        time.sleep(2.0)
        self._cluster.database.heal()
        self._served()

    def half_open_the_database(self) -> None:
        self._cluster.database.half_open()
        time.sleep(2.0)
        self._cluster.database.heal()
        self._served()

    def delay_the_database(self) -> None:
        self._cluster.database.delay_s = 0.1
        time.sleep(2.0)
        self._cluster.database.heal()

    def cut_the_provider(self) -> None:
        for _ in range(3):
            self._cluster.upstream.cut()
            time.sleep(0.2)

    def half_open_the_provider(self) -> None:
        self._cluster.upstream.half_open()
        time.sleep(1.5)
        self._cluster.upstream.heal()

    def delay_the_provider(self) -> None:
        self._cluster.upstream.delay_s = 0.2
        time.sleep(1.5)
        self._cluster.upstream.heal()

    # --- people at their desks ----------------------------------------------------------------------------

    def move_a_limit(self) -> None:
        """More room, so that calls meet the limit again; or an amount below what is spent already."""
        limit = self._rng.choice(self._cluster.world.tight_limits)
        amount = Decimal("0.001") if self._rng.random() < 0.2 else None
        step = Decimal(self._rng.randint(5, 20)) / 1000
        self._sql(
            "UPDATE ledger_limit SET amount = coalesce(%s, greatest(amount, (SELECT coalesce(max(used), 0) "
            "FROM ledger_limitwindow w WHERE w.limit_id = ledger_limit.id)) + %s) WHERE id = %s", amount, step, limit,
        )  # fmt: skip

    def publish_a_price(self) -> None:
        model = self._cluster.world.models[self._rng.choice(("fake-model", "fake-other", "fake-paced-20ms"))]
        worlds.publish(url=self._cluster.postgres.url, model_id=model)

    def revoke_a_key(self) -> None:
        """While its calls are in flight; another key takes its place among the clients'."""
        if not self._spare:
            return
        gone, self._load.revocable[0] = self._load.revocable[0], self._spare.pop()
        self._sql("UPDATE ledger_apikey SET revoked_at = now() WHERE id = %s", gone.id)

    # --- afterwards ---------------------------------------------------------------------------------------

    def _sql(self, query: str, *values: object) -> None:
        try:
            self._cluster.postgres.rows(query, *values)
        except psycopg.OperationalError:
            self.done["too late"] += 1  # the server is still coming back from the fault before

    def _served(self) -> float:
        """Wait until a call is served again, and note how long that took. TimeoutError after half a minute."""
        took = until(self._load.ask_once, what="a call is served again", timeout_s=RECOVERS_WITHIN_S)
        self.recovered_s.setdefault(self._doing, []).append(took)
        return took


class Sampler:
    """Looks at the workers every second: memory, descriptors."""

    def __init__(self, *, cluster: Cluster, look: Callable[[list[int]], tuple[int, int]]) -> None:
        self.rss_bytes = self.descriptors = 0
        self._cluster, self._look = cluster, look
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stopping.wait(1.0):
            rss, descriptors = self._look(self._cluster.gateway.pids())
            self.rss_bytes, self.descriptors = max(self.rss_bytes, rss), max(self.descriptors, descriptors)
