"""PostgreSQL frozen, out of reach, restarted; workers told to stop: with many streams open."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable

from tests.faults.cluster import until
from tests.faults.machine import Act, Scene
from tests.faults.run import median_and_most

# What the goal says of the time from PostgreSQL's first answer to the gateway's; asked of the long run only.
BACK_WITHIN_S = 2.0


def acts() -> list[Act]:
    return [
        Act("PostgreSQL frozen, streams open", _frozen),
        Act("PostgreSQL out of reach, streams open", _out_of_reach),
        Act("PostgreSQL restarted", _restarted),
        Act("SIGTERM, streams open", _terminated),
        Act("rolling restart under load", _rolled),
    ]


def _frozen(scene: Scene) -> None:
    """SIGSTOP to all its processes: connections stay, and nobody answers."""
    postgres = scene.cluster.postgres
    _away(scene, begin=postgres.freeze, end=postgres.thaw, model=scene.size("fake-paced-2s", "fake-paced-100ms"),
          seconds=scene.size(30.0, 2.0))  # fmt: skip


def _out_of_reach(scene: Scene) -> None:
    """Nothing that is sent arrives, and nothing says so."""
    database = scene.cluster.database
    _away(scene, begin=database.half_open, end=database.heal, model=scene.size("fake-paced-4s", "fake-paced-100ms"),
          seconds=scene.size(60.0, 2.0))  # fmt: skip


def _away(
    scene: Scene, *, begin: Callable[[], None], end: Callable[[], None], model: str, seconds: float
) -> None:
    """All streams end while the database is away: whole, and their settles on disk."""
    count = scene.size(200, 40)
    streams = scene.open_streams(model, count)
    scene.felt.times += 1
    began = time.monotonic()
    begin()
    try:
        scene.refused_for(seconds)
        whole = streams.join(timeout_s=60)
        scene.expect(whole == count, f"{whole} of {count} streams were whole")
        scene.expect_spooled()
        scene.expect(not scene.is_ready(), "the gateway says that it is ready", invariant="I11")
    finally:
        end()
    scene.felt.figures |= {"streams": count, "away s": round(time.monotonic() - began, 1)}
    scene.served()
    scene.expect_replayed()


def _restarted(scene: Scene) -> None:
    """Killed, stopped at once, stopped in order; measured from its first answer to the gateway's."""
    postgres, back = scene.cluster.postgres, []
    for way in itertools.islice(itertools.cycle((signal.SIGKILL, signal.SIGQUIT, signal.SIGINT)), scene.size(15, 3)):
        scene.felt.times += 1
        if way == signal.SIGKILL:
            postgres.crash()
        else:
            postgres.stop(way)
        time.sleep(scene.size(2.0, 0.3))
        postgres.start()
        back.append(scene.served())
    median, _ = median_and_most(back)
    scene.expect(not scene.is_long or median <= BACK_WITHIN_S, f"the median of {len(back)} restarts took {median} s")


def _terminated(scene: Scene) -> None:
    """Short streams end whole, long ones are cut at the grace time; all are settled and every writer is closed."""
    count = scene.size(100, 20)
    long = scene.open_streams("fake-paced-2s", count)
    short = scene.open_streams("fake-paced-100ms", count)
    scene.felt.times += 1
    gateway = scene.cluster.gateway
    status = gateway.terminate()
    whole, cut = short.join(timeout_s=20), count - long.join(timeout_s=20)
    scene.expect(status == 0, f"it ended with {status}")
    scene.expect(whole == count, f"{whole} of {count} short streams were whole")
    scene.expect(cut == count, f"{cut} of {count} long streams were cut")
    scene.felt.figures |= {"whole": whole, "cut": cut, "exit status": status}
    _all_closed(scene)
    gateway.start()
    scene.served()


def _all_closed(scene: Scene) -> None:
    """Whatever was open is in the books, and no sweeper had to do it."""
    ((holds, live),) = scene.rows(
        "SELECT (SELECT count(*) FROM ledger_hold), (SELECT count(*) FROM ledger_writer WHERE state = 'live')"
    )
    scene.expect(holds == 0, f"{holds} holds were left", invariant="I2")
    scene.expect(live == 0, f"{live} writers were not closed", invariant="I9")


def _rolled(scene: Scene) -> None:
    """New workers in place of all, by the master; calls go on."""
    gateway, asked = scene.cluster.gateway, scene.load.notes.statuses
    broken = asked.get("broken", 0)
    for _ in range(scene.size(10, 1)):
        before = set(gateway.pids())
        scene.felt.times += 1
        gateway.reload()
        until(
            lambda before=before: len(now := set(gateway.pids())) == gateway.workers and not now & before,  # type: ignore[misc]
            what="all workers are new", timeout_s=30,
        )  # fmt: skip
        scene.served()
    scene.felt.figures["broken answers"] = asked.get("broken", 0) - broken
