"""SIGKILL: workers with the lease that the product ships with, and commands in the middle of what they write."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import time
from decimal import Decimal
from pathlib import Path

import psycopg

from tests.faults import past
from tests.faults.cluster import until
from tests.faults.commander import Commander
from tests.faults.machine import Act, Scene
from tests.faults.past import Past
from tests.faults.run import median_and_most

FREED_WITHIN_S = 25.0
_AS_SHIPPED = {
    "TOLLBOOK_WRITER_LEASE_S": "15", "TOLLBOOK_WRITER_GRACE_S": "5", "TOLLBOOK_SWEEP_INTERVAL_S": "2",
}  # fmt: skip


def acts() -> list[Act]:
    return [
        Act("workers killed, lease as shipped", _workers, environment=lambda folder: _AS_SHIPPED),
        Act("commands killed", _commands),
    ]


# --- workers ----------------------------------------------------------------------------------------------------

_MOST_HELD = """
SELECT w.id, w.pid FROM ledger_writer w JOIN ledger_hold h ON h.writer_id = w.id
WHERE w.state = 'live' AND w.pid = ANY (%s) GROUP BY w.id, w.pid ORDER BY count(*) DESC LIMIT 1
"""


def _workers(scene: Scene) -> None:
    """Each time the one with the most open streams; how long its holds stay is seen while others go on."""
    freed: list[float] = []
    for _ in range(scene.size(8, 2)):
        scene.open_streams("fake-paced-4s", scene.size(40, 8))
        ((writer, pid),) = scene.rows(_MOST_HELD, scene.cluster.gateway.pids())
        scene.felt.times += 1
        os.kill(pid, signal.SIGKILL)
        watcher = threading.Thread(target=_watch, args=(scene, writer, time.monotonic(), freed), daemon=True)
        watcher.start()
        scene.meanwhile.append(watcher)
        scene.served()
    scene.later(lambda: scene.felt.figures.update({"holds freed s (median, most)": median_and_most(freed)}))


def _watch(scene: Scene, writer: object, killed_at: float, freed: list[float]) -> None:
    def none_held() -> bool:
        ((count,),) = scene.rows("SELECT count(*) FROM ledger_hold WHERE writer_id = %s", writer)
        return bool(count == 0)

    with contextlib.suppress(TimeoutError):
        until(none_held, what="its holds are closed", timeout_s=2 * FREED_WITHIN_S)
    took = time.monotonic() - killed_at
    freed.append(took)
    scene.expect(took < FREED_WITHIN_S, f"the holds of writer {writer} were freed only after {took:.1f} s")


# --- commands ---------------------------------------------------------------------------------------------------

_LOCK = 20_261_123
# Stops whoever inserts the n-th row at an advisory lock, once.
_BARRIER = """
CREATE SEQUENCE IF NOT EXISTS faults.inserted;
SELECT setval('faults.inserted', 1, false);
CREATE OR REPLACE FUNCTION faults.wait_at_nth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF nextval('faults.inserted') = TG_ARGV[0]::bigint THEN PERFORM pg_advisory_xact_lock({lock}); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER faults_wait AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION faults.wait_at_nth({nth});
"""
_WAITING = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted"


def _commands(scene: Scene) -> None:
    """Killed at a row of their choosing, looked at, and carried out again."""
    url, folder = scene.cluster.postgres.url, scene.cluster.folder
    made = past.make(url=url, calls=scene.size(4000, 1200))
    with Commander(url=url) as commander:
        desk = _Desk(scene, commander)
        _import_prices(desk)
        _rerate(desk, made)
        _reconcile(desk, made.write_bill(folder), made)
        if _has_pyarrow():
            _archive(desk, made, folder / "archive")
        else:
            scene.felt.figures["archive"] = "not tried, pyarrow is missing"


class _Desk:
    """Who gives the commands."""

    def __init__(self, scene: Scene, commander: Commander) -> None:
        self.scene, self.commander = scene, commander
        self.rows, self.expect = scene.rows, scene.expect

    def run(self, *arguments: str) -> str:
        """A command to its end; what it said."""
        self.commander.start(*arguments)
        status, said = self.commander.ended()
        self.expect(status == 0, f"{arguments[0]} ended with {status}: {said[-300:]}")
        return said

    def kill_at(self, *arguments: str, table: str, nth: int) -> None:
        """SIGKILL the command when it inserts its n-th row into `table`; returns once its session is gone, too."""
        self.scene.felt.times += 1
        self.rows(_BARRIER.format(lock=_LOCK, table=table, nth=nth))
        with psycopg.connect(self.scene.cluster.postgres.url, autocommit=True) as gate:
            gate.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            self.commander.start(*arguments)
            until(self._waits, what=f"{arguments[0]} is at row {nth} of {table}", timeout_s=60)
            ((session,),) = self.rows(_WAITING, _LOCK)
            self.commander.kill()
        until(
            lambda: not self.rows("SELECT 1 FROM pg_stat_activity WHERE pid = %s", session),
            what="the session of the dead command has ended", timeout_s=30,
        )  # fmt: skip
        self.rows(f"DROP TRIGGER faults_wait ON {table}")

    def _waits(self) -> bool:
        return bool(self.rows(_WAITING, _LOCK))


def _import_prices(desk: _Desk) -> None:
    """All or nothing."""
    desk.run("apply", "deploy/seed.yaml")
    counted = "SELECT (SELECT count(*) FROM providers_model), (SELECT count(*) FROM ledger_pricesheet)"
    before = desk.rows(counted)
    command = ("import_prices", "--provider", "openai", "--apply")
    desk.kill_at(*command, table="ledger_rate", nth=20)
    desk.expect(desk.rows(counted) == before, "a killed import left something", invariant="I2")
    desk.run(*command)
    desk.expect(desk.rows(counted) != before, "the import wrote nothing", invariant="I2")
    said = desk.run("import_prices", "--provider", "openai")
    desk.expect("0 new models, 0 new sheets, 0 changed" in said, f"a second import: {said[-200:]}", invariant="I3")


_ADJUSTED = """
SELECT count(*), count(DISTINCT call_id), coalesce(sum(delta_usd), 0) FROM ledger_adjustment
WHERE reason = %s AND call_id IN (SELECT id FROM ledger_call WHERE requested_name = %s)
"""


def _rerate(desk: _Desk, made: Past) -> None:
    """Whole pages or nothing, and whoever goes on with it: this command or a worker."""
    first, last = str(made.days[0]), str(made.days[-1])
    desk.kill_at("rerate", "--model", past.MODEL, "--from", first, "--to", last, "--apply",
            table="ledger_adjustment", nth=700)  # fmt: skip
    ((written, _, _),) = desk.rows(_ADJUSTED, "rerate", past.MODEL)
    desk.expect(written >= 500 and written % 100 == 0, f"{written} adjustments of killed pages", invariant="I2")
    desk.run("rerate", "--resume")
    open_runs = "SELECT 1 FROM ledger_reraterun WHERE state <> 'done'"
    until(lambda: not desk.rows(open_runs), what="the re-rating is done, here or by a worker", timeout_s=60)
    wanted = (past.RERATED_USD - past.COST_USD) * made.calls
    _adjusted_once(desk, "rerate", made, wanted)


def _reconcile(desk: _Desk, arguments: list[str], made: Past) -> None:
    """Whole days or nothing: the first one was posted, the second one was not."""
    command = ["reconcile", *arguments, "--post", "--confirm"]
    desk.kill_at(*command, table="ledger_adjustment", nth=made.calls_a_day + 50)
    ((written, calls, _),) = desk.rows(_ADJUSTED, "reconcile", past.MODEL)
    desk.expect(written == calls == made.calls_a_day, f"{written} adjustments of a killed day", invariant="I2")
    desk.run(*command)
    _adjusted_once(desk, "reconcile", made, Decimal("0.00001") * made.calls)
    said = desk.run(*command)
    desk.expect("0 adjustments, 0 USD" in said, f"posted again: {said[-200:]}", invariant="I3")


def _adjusted_once(desk: _Desk, reason: str, made: Past, wanted_usd: Decimal) -> None:
    ((written, calls, usd),) = desk.rows(_ADJUSTED, reason, past.MODEL)
    desk.expect(written == calls == made.calls, f"{reason}: {written} adjustments of {calls} calls", invariant="I3")
    desk.expect(usd == wanted_usd, f"{reason}: {usd} instead of {wanted_usd} USD", invariant="I4")


def _has_pyarrow() -> bool:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True


def _archive(desk: _Desk, made: Past, folder: Path) -> None:
    """Killed while the file is written, before it is recorded, and in the middle of the drop."""
    month = f"{made.month:%Y-%m}"
    command = ("partitions", "--archive", month, "--dir", str(folder))
    desk.scene.felt.times += 1
    desk.commander.start(*command)
    until(lambda: list(folder.glob(".*.parquet.*")), what="the file is being written", timeout_s=60, pause_s=0.0005)
    desk.commander.kill()
    desk.expect(not list(folder.glob("ledger*.parquet")), "a killed archive has a file", invariant="I2")
    desk.kill_at(*command, table="ledger_archivedmonth", nth=1)
    desk.expect(not desk.rows("SELECT 1 FROM ledger_archivedmonth"), "a killed archive is recorded", invariant="I2")
    desk.run(*command)
    ((path, sha256, calls),) = desk.rows("SELECT path, sha256, calls FROM ledger_archivedmonth")
    desk.expect(calls == made.calls, f"{calls} calls are archived", invariant="I2")
    desk.expect(hashlib.sha256(Path(path).read_bytes()).hexdigest() == sha256, "not that file", invariant="I4")
    desk.kill_at("partitions", "--drop", month, table="ledger_archivedrollup", nth=1)
    ((kept, dropped),) = desk.rows(
        "SELECT (SELECT count(*) FROM ledger_archivedrollup), (SELECT count(*) FROM ledger_archivedmonth "
        "WHERE dropped_at IS NOT NULL)"
    )
    desk.expect((kept, dropped) == (0, 0), "a killed drop left something", invariant="I2")
    # Its calls are missing from the sums that the checker takes itself: so at the very end.
    desk.scene.later(lambda: _dropped(desk.scene, month, made))


def _dropped(scene: Scene, month: str, made: Past) -> None:
    with Commander(url=scene.cluster.postgres.url) as commander:
        desk = _Desk(scene, commander)
        desk.run("partitions", "--drop", month)
        ((left,),) = scene.rows("SELECT count(*) FROM ledger_call WHERE requested_name = %s", past.MODEL)
        scene.expect(left == 0, f"{left} calls of the dropped month are there", invariant="I2")
        desk.run("verify_ledger", "--quiet")
