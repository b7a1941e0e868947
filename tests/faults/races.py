"""Races at a limit: two processes ask for four times as much as there is room for, all at the same moment.

Each process has the product's own writer. A race is won when exactly ROOM holds were admitted, whoever got them.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tests.faults import world as worlds
from tests.faults.world import RaceWorld

if TYPE_CHECKING:
    from ledger.rows import HoldRow
    from ledger.writer import Writer

SIDES, AT_ONCE, ROOM = 2, 20, 10
_BOUND_USD = Decimal("0.001")
_WAIT_S = 60.0


def run(*, url: str, count: int) -> list[str]:
    """Run `count` races; a line for each one that was not won."""
    world = worlds.make_races(url=url, count=count)
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(SIDES), context.SimpleQueue()
    before = os.environ.get("DATABASE_URL")
    os.environ["DATABASE_URL"] = url
    try:
        sides = [
            context.Process(target=_side, args=(msgspec.json.encode(world), barrier, answers)) for _ in range(SIDES)
        ]
        for side in sides:
            side.start()
        admitted = [answers.get() for _ in sides]
        for side in sides:
            side.join(_WAIT_S)
    finally:
        os.environ.pop("DATABASE_URL")
        if before is not None:
            os.environ["DATABASE_URL"] = before
    return list(_lost(zip(*admitted, strict=True)))


def _lost(races: Iterable[tuple[int, ...]]) -> Iterable[str]:
    for number, admitted in enumerate(races):
        if sum(admitted) != ROOM:
            yield f"race {number}: {admitted} were admitted where there was room for {ROOM}"


# --- in a process of its own ----------------------------------------------------------------------------------


def _side(encoded: bytes, barrier: Any, answers: Any) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway.settings"
    import django

    django.setup()
    from ledger.spool import Spool
    from ledger.writer import Writer

    world = msgspec.json.decode(encoded, type=RaceWorld)
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(spool=Spool(folder=Path(folder)), lease_s=30.0, timeout_s=20.0)
        writer.start()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            admitted = [_race(world, number, writer, pool, barrier) for number in range(len(world.keys))]
        writer.close()
    answers.put(admitted)


def _race(world: RaceWorld, number: int, writer: Writer, pool: ThreadPoolExecutor, barrier: Any) -> int:
    holds = [_hold(world, number) for _ in range(AT_ONCE)]
    barrier.wait(_WAIT_S)
    verdicts = list(pool.map(writer.hold, holds))
    admitted = [hold for hold, verdict in zip(holds, verdicts, strict=True) if verdict.refusal is None]
    # Only when both have asked for all: what is settled makes room.
    barrier.wait(_WAIT_S)
    list(pool.map(lambda hold: _settle(writer, hold), admitted))
    return len(admitted)


def _hold(world: RaceWorld, number: int) -> HoldRow:
    from ledger.ids import call_id, new_request_id
    from ledger.rows import HoldRow

    request = new_request_id()
    return HoldRow(
        id=call_id(request_id=request, attempt=1), request_id=request, attempt=1, key=world.keys[number],
        user=world.users[number], team=None, model=world.model, provider=world.provider, sheet=world.sheet,
        surface="chat", name="m-race", streamed=False, tags={}, usd=_BOUND_USD, tokens=100,
        limits=tuple(world.limits[number]), deadline_s=60.0,
    )  # fmt: skip


def _settle(writer: Writer, hold: HoldRow) -> None:
    """20 tokens in at 3, 6 out at 15 USD per million."""
    from ledger.rows import SettleRow

    now = datetime.now(UTC)
    writer.settle(
        SettleRow(
            id=hold.id, outcome="ok", started_at=now, finished_at=now, duration_ms=1, cost_usd=Decimal("0.00015"),
            cost_source="computed", input_tokens=20, output_tokens=6, meters={"input": 20, "output": 6},
            usage_source="reported",
        )
    )  # fmt: skip
