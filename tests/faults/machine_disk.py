"""Disks that are full: PostgreSQL's, with its data and its log; the spool's; and both ways gone at once."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.faults import disks
from tests.faults.cluster import until
from tests.faults.machine import Act, Scene

DATA, SPOOL = "postgres", "var/spool"
_DATA_MB, _SPOOL_MB = 320, 2


def acts() -> list[Act]:
    return [
        Act("disk full for PostgreSQL's data", _data_full, disks.why_not, disks_mb={DATA: _DATA_MB}),
        Act("disk full for PostgreSQL's log", _log_full, disks.why_not, disks_mb={DATA: _DATA_MB}),
        Act("disk full for the spool", _spool_full, disks.why_not, disks_mb={SPOOL: _SPOOL_MB}),
        Act("disk full for the spool, then killed", _spool_full_and_killed, disks.why_not, disks_mb={SPOOL: _SPOOL_MB}),
    ]


def _data_full(scene: Scene) -> None:
    """Tables cannot grow: PostgreSQL lives and refuses rows."""
    folder = scene.cluster.folder / DATA
    for _ in range(scene.size(5, 1)):
        count = scene.size(100, 30)
        streams = scene.open_streams("fake-paced-100ms", count)
        scene.felt.times += 1
        disks.fill(folder)
        try:
            _until_refused(scene)
            # A page may still have room for a row: not every call is refused, and none that is waits for long.
            whole = streams.join(timeout_s=30)
            scene.expect(whole == count, f"{whole} of {count} streams were whole")
            until(scene.spooled, what="settles are on the other disk", timeout_s=20)
            scene.expect_spooled()
        finally:
            disks.free(folder)
        scene.served()
        scene.expect_replayed()


def _log_full(scene: Scene) -> None:
    """Its log cannot grow: PostgreSQL panics, and cannot recover before there is room."""
    postgres, folder = scene.cluster.postgres, scene.cluster.folder / DATA
    for _ in range(scene.size(5, 1)):
        scene.felt.times += 1
        disks.fill(folder)
        try:
            until(lambda: not _switched_log(scene), what="PostgreSQL has no room for its log", timeout_s=30)
            scene.refused_for(scene.size(10.0, 1.0))
            scene.expect(not scene.is_ready(), "the gateway says that it is ready", invariant="I11")
        finally:
            disks.free(folder)
        _bring_back(scene)
        scene.served()
        scene.expect_replayed()
    scene.felt.figures["panics"] = postgres.log().count("PANIC")


def _switched_log(scene: Scene) -> bool:
    """Begin the next segment of the log; False when the server is gone over it."""
    try:
        scene.rows("SELECT pg_switch_wal()")
        scene.rows("SELECT txid_current()")
    except psycopg.OperationalError:
        return False
    return True


def _bring_back(scene: Scene) -> None:
    """It may have come back by itself, or given up."""
    postgres = scene.cluster.postgres
    until(lambda: postgres.has_ended or postgres.is_up(), what="PostgreSQL is up or has ended", timeout_s=30)
    if postgres.has_ended:
        postgres.start()


def _until_refused(scene: Scene) -> None:
    until(lambda: scene.load.ask("fake-model", timeout_s=5) == "503", what="a call is refused", timeout_s=30)


def _spool_full(scene: Scene) -> None:
    """Neither database nor spool takes a settle: it waits in memory, its call stays held, nothing new is taken."""
    for _ in range(scene.size(5, 1)):
        _both_gone(scene)
        disks.free(scene.cluster.folder / SPOOL)
        scene.cluster.postgres.start()
        scene.served()
        scene.expect_replayed()


def _spool_full_and_killed(scene: Scene) -> None:
    """And then memory goes, too: the hold in the database is all that is left, and it counts in full."""
    forgotten = set()
    for _ in range(scene.size(3, 1)):
        before = len(scene.load.notes.told)
        streams = _both_gone(scene)
        scene.cluster.gateway.kill()
        # What these were told is the one thing that a loss of database, disk and process takes along.
        told = scene.load.notes.told
        for place in range(before, len(told)):
            told[place] = told[place]._replace(cost_usd=None)
        forgotten |= streams
        disks.free(scene.cluster.folder / SPOOL)
        scene.cluster.postgres.start()
        scene.cluster.gateway.start()
        scene.served()
    scene.later(lambda: _counted_in_full(scene, forgotten))


def _both_gone(scene: Scene) -> set[str]:
    """Fill the spool's disk and end PostgreSQL while streams are open. Returns the names of these."""
    count = scene.size(100, 20)
    spool, gateway = scene.cluster.folder / SPOOL, scene.cluster.gateway
    streams = scene.open_streams("fake-paced-100ms", count)
    said = _said(gateway.var_dir)
    scene.felt.times += 1
    disks.fill(spool)
    scene.cluster.postgres.crash()
    until(lambda: _said(gateway.var_dir) > said, what="the log says that the spool has failed", timeout_s=30)
    whole = streams.join(timeout_s=30)
    scene.expect(whole == count, f"{whole} of {count} streams were whole")
    scene.refused_for(scene.size(5.0, 0.6))
    scene.expect(not scene.is_ready(), "the gateway says that it is ready", invariant="I11")
    scene.felt.figures["settles refused by the disk"] = _said(gateway.var_dir)
    return streams.ids


def _said(var_dir: Path) -> int:
    return (var_dir / "log").read_text(errors="replace").count("spool_failed")


def _counted_in_full(scene: Scene, forgotten: set[str]) -> None:
    """Each is abandoned, of unknown cost, with its bound counted; those that were settled before are not among them."""
    rows = scene.rows(
        "SELECT c.outcome, c.cost_usd IS NULL, c.counted_usd = h.bound_usd FROM ledger_call c "
        "JOIN faults.held h USING (id) WHERE c.tags ->> 'load' = ANY (%s)", sorted(forgotten),
    )  # fmt: skip
    lost = [row for row in rows if row[0] == "abandoned"]
    scene.expect(len(rows) == len(forgotten), f"{len(rows)} rows for {len(forgotten)} calls", invariant="I2")
    scene.expect(lost and all(row == ("abandoned", True, True) for row in lost), f"swept as {set(lost)}",
                 invariant="I8")  # fmt: skip
