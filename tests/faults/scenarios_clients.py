"""Clients that leave, all at once and at every point of an answer, or stop reading: one row each, and nothing kept."""

from __future__ import annotations

import socket
from collections import Counter

from tests.faults.catalog import Spec
from tests.faults.cluster import until
from tests.faults.stage import CLIENT_TIMEOUT_S, Call, Scenario, Stage, descriptors, resident_bytes

# Seen in the middle of every stream of the fake provider's, and at its end.
TEXT, FINISH = b"balances", b'"finish_reason":"stop"'
# What the workers may have grown by, all together, from one crowd to the next: not a stack and buffers for each client.
GROWTH_BYTES = 48 * 1024 * 1024
_DRAINED = ({"disconnect_policy": "drain"},)


def scenarios() -> list[Scenario]:
    stalled, hung = ("fake-stall",), ("fake-hang",)
    wordy = ("fake-words-40000",)
    return [
        Scenario("gone mid-stream", gone_mid_stream, {"a": Spec(stalled)}),
        Scenario("gone before the first byte", gone_before_the_first_byte, {"a": Spec(hung)}),
        Scenario("gone before the last event", gone_before_the_last_event, {
            "cancelled": Spec(("fake-late-usage-60s",)), "drained": Spec(("fake-late-usage-4s",), providers=_DRAINED),
        }),
        Scenario("stops reading", stops_reading, {
            "cancelled": Spec(wordy), "drained": Spec(wordy, providers=_DRAINED),
        }),
        Scenario("crowds leave nothing behind", crowds_leave_nothing_behind, {"a": Spec(stalled)}, alone=True),
    ]  # fmt: skip


def gone_mid_stream(stage: Stage) -> dict[str, int]:
    """Text was seen: it is estimated and costs something, however many leave in the same moment."""
    account, count = stage.accounts["a"], stage.size(500, 80)
    _leave(stage.crowd(account, count, sees=TEXT, stream=True))
    calls = stage.settled(account, count)
    _all_cancelled(stage, calls)
    _all_estimated(stage, calls)
    return {"left": count}


def gone_before_the_first_byte(stage: Stage) -> dict[str, int]:
    """Nobody knows what the provider bills: unknown, and the bound counts."""
    account, count = stage.accounts["a"], stage.size(200, 30)
    _leave([*stage.visits(account, count // 2, stream=True), *stage.visits(account, count // 2)])
    calls = stage.settled(account, count)
    _all_cancelled(stage, calls)
    for call in calls:
        stage.expect(call.cost_usd is None and call.unpriced_reason and call.usage_source == "none", call)
        stage.expect(call.counted_usd == call.bound_usd > 0, f"an unknown cost counts as its bound: {call}")
    return {"left": count}


def gone_before_the_last_event(stage: Stage) -> dict[str, int]:
    """All text came and the usage did not: estimated where the provider is stopped, reported where it is drained."""
    # Drains are bounded, 64 a process: beyond that a provider is stopped, whatever its policy says.
    count = stage.size(60, 15)
    for policy, account in stage.accounts.items():
        socks = stage.crowd(account, count, sees=FINISH, stream=True)
        _leave(socks)
        calls = stage.settled(account, count)
        if policy == "cancelled":
            _all_cancelled(stage, calls)
            _all_estimated(stage, calls)
        else:
            _all_as_billed(stage, calls, policy)
    return {"left": 2 * count}


def stops_reading(stage: Stage) -> dict[str, int]:
    """A window of zero: the kernel gives up, the call is settled all the same, while others are served."""
    count = stage.size(12, 3)
    socks = [
        sock for account in stage.accounts.values()
        for sock in stage.visits(account, count, receives=4096, stream=True, max_tokens=50_000)
    ]  # fmt: skip
    for policy, account in stage.accounts.items():
        calls = stage.settled(account, count, timeout_s=90 + CLIENT_TIMEOUT_S)
        _all_cancelled(stage, calls)
        if policy == "cancelled":
            _all_estimated(stage, calls)
        else:
            _all_as_billed(stage, calls, policy)
            stage.expect(all(call.output_tokens == 40_000 for call in calls), "drained to the end")
    _leave(socks)
    return {"stopped reading": 2 * count}


def crowds_leave_nothing_behind(stage: Stage) -> dict[str, int]:
    """Descriptors as before, and memory that the second crowd has not grown (the first one warms it up)."""
    account, count = stage.accounts["a"], stage.size(500, 60)
    base, sizes = descriptors(stage.cluster), []
    for crowd in range(1, stage.size(5, 3) + 1):
        _leave(stage.crowd(account, count, sees=TEXT, stream=True))
        stage.settled(account, crowd * count)
        until(lambda: descriptors(stage.cluster) <= base + 4, what="the descriptors are given back", timeout_s=20)
        sizes.append(resident_bytes(stage.cluster))
    grown = sizes[-1] - sizes[0]
    stage.expect(grown < GROWTH_BYTES, f"I12: the workers have grown by {grown} bytes from the first crowd to the last")
    return {"left": len(sizes) * count, "workers MB after the first": sizes[0] >> 20, "after the last": sizes[-1] >> 20}


def _leave(socks: list[socket.socket]) -> None:
    for sock in socks:
        sock.close()


def _all_cancelled(stage: Stage, calls: list[Call]) -> None:
    found = Counter((call.outcome, call.error_code) for call in calls)
    stage.expect(set(found) <= {("cancelled", "client_gone")}, f"they left, and the books say {found}")


def _all_estimated(stage: Stage, calls: list[Call]) -> None:
    for call in calls:
        stage.expect(call.usage_source in ("estimated", "partial") and call.output_tokens > 0, call)
        stage.expect(call.cost_usd and call.cost_usd == call.counted_usd, f"what was seen is not free: {call}")


def _all_as_billed(stage: Stage, calls: list[Call], policy: str) -> None:
    """The provider was read on to its usage: as on its invoice."""
    billed = {line.idempotency_key: line for line in stage.arrivals(stage.accounts[policy])}
    for call in calls:
        line = billed[str(call.request_id)]
        told = (call.usage_source, call.input_tokens, call.output_tokens)
        stage.expect(told == ("reported", line.input_tokens, line.output_tokens), f"{call} is not {line}")
