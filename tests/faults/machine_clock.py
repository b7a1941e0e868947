"""The machine's clock jumps, forward and back, and not on all workers alike: while calls are open and leases run."""

from __future__ import annotations

import time
from pathlib import Path

from tests.faults import clock
from tests.faults.machine import Act, Scene

_HOUR, _DAY = 3600, 86400
# Not farther than the months that have a partition: that of last month, and of the two to come.
_FAR, _NEAR = 20 * _DAY, 2 * _HOUR
_SHORT = (_FAR, -_NEAR, -_FAR, _NEAR)
_LONG = (*_SHORT, _DAY, -_DAY, 60, -60, 1, -1) * 3


def acts() -> list[Act]:
    return [Act("clock jumps", _jumps, clock.why_not, clock.environment)]


def _jumps(scene: Scene) -> None:
    """Every other process jumps the other way."""
    folder, began_at = scene.cluster.folder.parent, time.time()
    for offset in scene.size(_LONG, _SHORT):
        scene.felt.times += 1
        streams = scene.open_streams("fake-paced-100ms", 10)
        clock.put(folder, even_s=offset, odd_s=-offset // 2)
        whole = streams.join(timeout_s=20)
        scene.expect(whole == 10, f"{whole} of 10 streams were whole when the clock jumped by {offset} s")
        scene.served()
    right_from, ended_at = _put_right(scene, folder)
    scene.later(lambda: _times(scene, began_at, right_from, ended_at))


def _put_right(scene: Scene, folder: Path) -> tuple[float, float]:
    clock.put(folder, even_s=0, odd_s=0)
    time.sleep(1.0)
    right_from = time.time()
    scene.served()
    return right_from, time.time()


# Holds are stamped by the database, whose clock nobody touches; ids by the worker that made them. A retry has the id,
# and so the time, of its first attempt.
_STAMPED = """
SELECT count(*) FILTER (WHERE abs(extract(epoch FROM ledger_id_time(id) - at)) > 1800),
  count(*) FILTER (WHERE abs(extract(epoch FROM ledger_id_time(id) - at)) > 60 AND at > to_timestamp(%s)),
  count(*) FILTER (WHERE at > to_timestamp(%s))
FROM faults.held WHERE get_byte(uuid_send(id), 15) = 1 AND at BETWEEN to_timestamp(%s) AND to_timestamp(%s)
"""
_BOOKED = """
SELECT (SELECT count(*) FROM ledger_call_default),
  (SELECT count(*) FROM ledger_call WHERE outcome <> 'abandoned' AND (duration_ms > 60000 OR finished_at < started_at))
"""


def _times(scene: Scene, began_at: float, right_from: float, ended_at: float) -> None:
    ((wrong, wrong_still, right),) = scene.rows(_STAMPED, right_from, right_from, began_at, ended_at)
    scene.expect(wrong, "no id was made by a wrong clock: it has not jumped")
    scene.expect(right, "no call was made after the clock was right again")
    scene.expect(not wrong_still, f"{wrong_still} ids were made by a clock that was right again", invariant="I2")
    ((strays, odd),) = scene.rows(_BOOKED)
    scene.expect(not strays, f"{strays} calls lie in no month", invariant="I2")
    scene.expect(not odd, f"{odd} calls lasted as long as the clock jumped", invariant="I7")
    scene.felt.figures["ids of another time"] = wrong
