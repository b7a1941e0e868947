"""What changes while calls are in flight: limits, periods, prices, keys; and requests that come again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.faults import catalog
from tests.faults.catalog import Account, Spec
from tests.faults.cluster import until
from tests.faults.stage import WORKERS, Answer, Scenario, Stage, unseen

ROOM = 50
SEEN_WITHIN_S = 5.0
AHEAD_S = 4.0
_WIDE = ("usd", "day", "1000", "block")
_THREE = (_WIDE, ("tokens", "day", "100000000", "block"), ("requests", "day", "100000", "block"),
          ("requests", "total", "0", "alert"))  # fmt: skip
PERIODS = ("hour", "day", "week", "month")


def scenarios() -> list[Scenario]:
    rolling = {
        period: Spec(("fake-slow-2s",), limits=(("requests", period, "3", "block"), ("usd", period, "9", "block")))
        for period in PERIODS
    }
    slow = Spec(("fake-slow-2s",))
    return [
        Scenario("room for fifty", room_for_fifty, {"a": Spec(("fake-slow-2s",), limits=_THREE)}),
        Scenario("limit lowered", limit_lowered, {"a": slow}),
        Scenario("periods end", periods_end, rolling),
        Scenario("a minute ends", a_minute_ends, {
            "a": Spec(("fake-slow-5s",), limits=(("requests", "minute", "6", "block"), _WIDE)),
        }, is_long=True),
        Scenario("key revoked", key_revoked, {"a": Spec(("fake-stall",))}),
        Scenario("price dated ahead", price_dated_ahead, {"a": Spec(("fake-words-4",))}),
        Scenario("idempotency", idempotency, {"a": slow}),
        Scenario("idempotency after a crash", idempotency_after_a_crash, {"a": Spec(("fake-slow-2s",))}, alone=True),
    ]  # fmt: skip


def room_for_fifty(stage: Stage) -> dict[str, int]:
    """Three limits with room for exactly fifty each: whoever asks at once and through whichever worker, fifty may."""
    account = stage.accounts["a"]
    stage.ask(account, stream=True)
    (probe,) = stage.settled(account, 1)
    ((tokens,),) = stage.rows("SELECT counted_tokens FROM ledger_call WHERE id = %s", probe.id)
    _set(stage, account.limits["usd block"], probe.cost_usd or Decimal(0), ROOM * probe.bound_usd)
    _set(stage, account.limits["tokens block"], tokens, ROOM * _bound_tokens(probe.bound_usd))
    _set(stage, account.limits["requests block"], 1, ROOM)
    asked = stage.size(200, 120)
    answers = stage.at_once(asked, lambda _: stage.ask(account, stream=True))
    found = Counter(answer.status for answer in answers)
    stage.expect(found == {200: ROOM, 429: asked - ROOM}, f"room for {ROOM}: {found}")
    refused = {answer.code for answer in answers if answer.status == 429}
    stage.expect(refused == {"limit_reached"}, refused)
    calls = stage.settled(account, ROOM + 1)
    stage.expect(len({call.writer_id for call in calls}) > 1, "more than one worker took part")
    stage.expect(len(stage.arrivals(account)) == ROOM + 1, "who was refused reached nobody")
    stage.expect(stage.window(account, "requests alert") == (ROOM + 1, 0), "an alert counts and refuses nothing")
    stage.expect(stage.window(account, "requests block") == (ROOM + 1, 0), "exactly what was admitted is counted")
    return {"asked": asked, "admitted": found[200]}


def _bound_tokens(bound_usd: Decimal) -> int:
    """Of a call with a cap of 64: the rest of its bound is input at 3 USD per 1,000,000."""
    return int((bound_usd - 64 * Decimal(15) / 1_000_000) / (Decimal(3) / 1_000_000)) + 64


def _set(stage: Stage, limit: int, used: Decimal | int, room: Decimal | int) -> None:
    stage.rows("UPDATE ledger_limit SET amount = %s WHERE id = %s", used + room, limit)


def limit_lowered(stage: Stage) -> dict[str, int]:
    """Below what is held and spent already: it refuses new calls, and takes nothing from those in flight."""
    account, count = stage.accounts["a"], stage.size(40, 6)
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(stage.ask, account, stream=number % 2 == 1) for number in range(count)]
        stage.until_held(account, count)
        stage.rows("UPDATE ledger_limit SET amount = 0.000001 WHERE id = %s", account.limits["usd block"])
        refused = stage.at_once(6, lambda _: stage.ask(account))
        stage.expect({answer.code for answer in refused} == {"limit_reached"}, refused)
        stage.expect({each.result().status for each in running} == {200}, "those in flight end as they would have")
    calls = stage.settled(account, count)
    spent = sum((call.counted_usd for call in calls), Decimal(0))
    stage.expect(stage.window(account, "usd block") == (spent, 0), "all that was used is counted")
    return {"in flight": count, "refused": len(refused)}


def periods_end(stage: Stage) -> dict[str, int]:
    """The window of a hold moves into the past while its call is in flight: it settles there, the new one is empty.

    To the ledger that is what the end of an hour, a day, a week or a month looks like: it finds windows by their start.
    """

    def one(period: str) -> None:
        account = stage.accounts[period]
        with ThreadPoolExecutor(6) as pool:
            before = [pool.submit(stage.ask, account) for _ in range(3)]
            stage.until_held(account, 3)
            stage.expect(stage.ask(account).status == 429, f"{period}: three are all there is room for")
            stage.rows(
                "UPDATE ledger_limitwindow SET starts_at = ledger_period_start(%s, starts_at - interval '1 minute') "
                "WHERE limit_id = ANY (%s)", period, list(account.limits.values()),
            )  # fmt: skip
            after = [pool.submit(stage.ask, account) for _ in range(3)]
            stage.expect({each.result().status for each in before + after} == {200}, f"{period}: the new one has room")
        stage.expect(stage.ask(account).status == 429, f"{period}: and no more than that")
        calls = stage.settled(account, 6)
        _expect_windows(stage, account, [3, 3], period)
        used = sum((call.counted_usd for call in calls), Decimal(0))
        stage.expect(stage.window(account, "usd block") == (used, 0), f"{period}: each call is counted once")

    with ThreadPoolExecutor(len(PERIODS)) as pool:
        list(pool.map(one, PERIODS))
    return {"periods": len(PERIODS), "calls": 6 * len(PERIODS)}


def a_minute_ends(stage: Stage) -> dict[str, int]:
    """A real one: held at its last seconds and settled in the next, six calls count in the first minute alone."""
    account = stage.accounts["a"]
    until(lambda: 57 <= datetime.now(UTC).second < 59, what="the minute is nearly over", timeout_s=70)
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(stage.ask, account) for _ in range(6)]
        stage.until_held(account, 6)
        stage.expect(datetime.now(UTC).second >= 57, "the minute was over too soon: nothing was tried")
        until(lambda: datetime.now(UTC).second < 30, what="the next minute has begun", timeout_s=10)
        # What was held in the minute before weighs on this one, at its beginning nearly all of it.
        stage.expect(stage.ask(account).status == 429, "a boundary does not allow twice the rate")
        stage.expect({each.result().status for each in running} == {200}, "those in flight end as they would have")
    until(lambda: 12 <= datetime.now(UTC).second < 50, what="a sixth of it has faded", timeout_s=30)
    stage.expect(stage.ask(account).status == 200, "one more fits")
    stage.settled(account, 7)
    _expect_windows(stage, account, [6, 1], "minute")
    return {"over the boundary": 6}


def _expect_windows(stage: Stage, account: Account, used: list[int], period: str) -> None:
    """What each window of the limit on requests counts, in their order; none holds anything."""
    found = stage.rows(
        "SELECT used::int, held::int FROM ledger_limitwindow WHERE limit_id = %s ORDER BY starts_at",
        account.limits["requests block"],
    )
    stage.expect(found == [(each, 0) for each in used], f"{period}: the windows count {found}")


def key_revoked(stage: Stage) -> dict[str, int]:
    """Its open streams are cut and settled within five seconds, whichever worker has them; and it opens no more."""
    account, count = stage.accounts["a"], stage.size(60, 12)
    socks = stage.crowd(account, count, sees=b"balances", stream=True)
    stage.rows("UPDATE ledger_apikey SET revoked_at = now() WHERE id = %s", account.key_id)
    began = time.monotonic()
    until(lambda: stage.held(account) == 0, what="the streams are settled", timeout_s=SEEN_WITHIN_S)
    took_ms = round((time.monotonic() - began) * 1000)
    untold = unseen(socks, b"key_revoked", timeout_s=SEEN_WITHIN_S)
    stage.expect(not untold, f"{untold} clients were not told why")
    for sock in socks:
        sock.close()
    for call in stage.settled(account, count):
        stage.expect((call.outcome, call.error_code) == ("cancelled", "key_revoked"), call)
        stage.expect(call.output_tokens > 0 and call.cost_usd, f"what was seen is not free: {call}")
    refused = stage.at_once(2 * WORKERS, lambda _: stage.ask(account))
    stage.expect({(answer.status, answer.code) for answer in refused} == {(401, "invalid_key")}, refused)
    return {"cut": count, "after ms": took_ms}


def price_dated_ahead(stage: Stage) -> dict[str, int]:
    """It begins by itself in every worker, while calls run: each is priced as when it was held."""
    account, stopping = stage.accounts["a"], threading.Event()

    def ask_on(_: int) -> int:
        asked = 0
        while not stopping.is_set():
            asked += stage.ask(account).status == 200
        return asked

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask_on, number) for number in range(6)]
        published = catalog.publish(
            url=stage.cluster.postgres.url, model_id=account.model_ids[0], ahead_s=AHEAD_S, output_usd="1000"
        )
        sheet, starts = published.sheet, published.valid_from

        def in_all() -> bool:
            return len({call.writer_id for call in stage.calls(account) if call.sheet_id == sheet}) == WORKERS

        until(in_all, what="every worker prices by the new sheet", timeout_s=30)
        until(lambda: datetime.now(UTC) > starts + timedelta(seconds=4), what="it is well begun", timeout_s=10)
        stopping.set()
        asked = sum(each.result() for each in asking)
    calls = stage.settled(account, asked)
    old = {call.sheet_id for call in calls if call.held_at < starts.timestamp()}
    stage.expect(len(old) == 1 and sheet not in old, f"before its start calls are priced by {old}")
    # A call is planned a moment before it is held.
    new = {call.sheet_id for call in calls if call.held_at > starts.timestamp() + 2}
    stage.expect(new == {sheet}, f"two seconds after its start calls are priced by {new}")
    for call in calls:
        output_usd = Decimal(1000 if call.sheet_id == sheet else 15)
        cost = (3 * Decimal(call.input_tokens) + output_usd * call.output_tokens) / 1_000_000
        stage.expect(call.cost_usd == cost, f"{call} should cost {cost}")
    return {"calls": len(calls), "by the new sheet": sum(call.sheet_id == sheet for call in calls)}


def idempotency(stage: Stage) -> dict[str, int]:
    """Fifty at once with one key: one call, one answer for all who get one; another body is another request."""
    account = stage.accounts["a"]
    keyed = {"Idempotency-Key": f"order-{os.urandom(8).hex()}"}

    def one(_: int) -> Answer:
        return stage.ask(account, headers=keyed)

    answers = stage.at_once(50, one)
    found = Counter((answer.status, answer.code) for answer in answers)
    stage.expect(set(found) <= {(200, ""), (409, "idempotency_conflict")} and found[200, ""], found)
    again = [one(0) for _ in range(3)]
    stage.expect({answer.status for answer in again} == {200}, again)
    stage.expect(all(answer.headers.get("idempotent-replayed") == "true" for answer in again), again)
    bodies = {answer.body for answer in (*answers, *again) if answer.status == 200}
    stage.expect(len(bodies) == 1, f"one key was answered in {len(bodies)} ways")
    other = stage.ask(account, headers=keyed, temperature=0.5)
    stage.expect((other.status, other.code) == (422, "idempotency_mismatch"), other)
    stage.settled(account, 1)
    stage.expect(len(stage.arrivals(account)) == 1, "one key arrived once")
    return {"at once": 50, "answered": found[200, ""], "told to wait": found[409, "idempotency_conflict"]}


def idempotency_after_a_crash(stage: Stage) -> dict[str, int]:
    """The worker dies with the call in flight: nobody may ask again under that key, and it says why."""
    account = stage.accounts["a"]
    keyed = {"Idempotency-Key": f"crash-{os.urandom(8).hex()}"}
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(stage.ask, account, headers=keyed)
        stage.until_held(account, 1)
        until(lambda: _arrived(stage, account), what="it has reached the provider", timeout_s=10)
        ((pid,),) = stage.rows(
            "SELECT w.pid FROM ledger_hold h JOIN ledger_writer w ON w.id = h.writer_id WHERE h.key_id = %s",
            account.key_id,
        )
        os.kill(pid, signal.SIGKILL)
        stage.expect(lost.result().status == 0, lost.result())
    at_once = stage.at_once(10, lambda _: stage.ask(account, headers=keyed))
    told = {(answer.status, answer.code) for answer in at_once if answer.status}
    stage.expect(told <= {(409, "idempotency_conflict"), (409, "idempotency_indeterminate")}, told)
    (call,) = stage.settled(account, 1)
    stage.expect((call.outcome, call.cost_usd, call.counted_usd) == ("abandoned", None, call.bound_usd), call)
    after = stage.ask(account, headers=keyed)
    stage.expect((after.status, after.code) == (409, "idempotency_indeterminate"), after)
    stage.expect(len(stage.arrivals(account)) == 1, "it is not asked again")
    return {"killed": 1, "refused": len(at_once) + 1}


def _arrived(stage: Stage, account: Account) -> bool:
    ((request,),) = stage.rows("SELECT request_id FROM ledger_hold WHERE key_id = %s", account.key_id)
    return any(line.idempotency_key == str(request) for line in stage.invoiced())
