"""Bad days of a provider: streams cut anywhere, statuses that are billed all the same, deadlines, odd usage, chains.

Whatever it does, each arrival is one row with a hold of its own, and what nobody knows is unknown, not 0.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from tests.faults.catalog import Spec
from tests.faults.cluster import free_ports
from tests.faults.stage import Account, Answer, Call, Scenario, Stage

STATUSES = (429, 500, 502, 503, 504, 529)
# upstream name -> what the books say of a whole answer, of a stream: (outcome, error code, usage source)
FAILED, OK = "failed", "ok"
_INTERRUPTED, _MALFORMED = "provider_stream_interrupted", "provider_malformed_answer"
_END = dict[str, tuple[tuple[str, str, str], tuple[str, str, str]]]
BROKEN: _END = {
    "fake-cut": ((FAILED, _INTERRUPTED, "none"), (FAILED, _INTERRUPTED, "estimated")),
    "fake-cut-line": ((FAILED, _INTERRUPTED, "none"), (FAILED, _INTERRUPTED, "estimated")),
    "fake-cut-usage": ((FAILED, _INTERRUPTED, "none"), (FAILED, _INTERRUPTED, "estimated")),
    "fake-malformed": ((FAILED, _MALFORMED, "none"), (FAILED, _MALFORMED, "estimated")),
    "fake-huge": ((FAILED, _MALFORMED, "none"), (FAILED, _MALFORMED, "none")),
    "fake-bomb": ((FAILED, _MALFORMED, "none"), (FAILED, _MALFORMED, "none")),
    "fake-html": ((FAILED, _MALFORMED, "none"), (FAILED, _MALFORMED, "none")),
    "fake-reset": ((FAILED, "provider_unreachable", "none"), (FAILED, "provider_unreachable", "none")),
    "fake-gzip": ((OK, "", "reported"), (OK, "", "reported")),
    "fake-nousage": ((OK, "", "estimated"), (OK, "", "estimated")),
    **{f"fake-usage-{odd}": ((OK, "", "estimated"), (OK, "", "estimated"))
       for odd in ("null", "string", "float", "negative", "nan", "absurd")},
}  # fmt: skip
_TIMED: dict[str, tuple[str, dict[str, float], bool]] = {
    "first byte": ("fake-hang", {"first_byte_timeout_s": 0.5}, False),
    "first byte of a stream": ("fake-hang", {"first_byte_timeout_s": 0.5}, True),
    "total": ("fake-slow-5s", {"timeout_s": 0.5}, False),
    "total of a trickle": ("fake-trickle", {"timeout_s": 1.0}, False),
    "total of a stream": ("fake-trickle", {"stream_timeout_s": 1.0}, True),
    "total of a stall": ("fake-stall", {"timeout_s": 1.0}, False),
    "idle of a stream": ("fake-stall", {"idle_timeout_s": 0.5}, True),
}


def scenarios() -> list[Scenario]:
    named = [f"{billed}{status}" for status in STATUSES for billed in ("", "billed-")]
    statuses = {name: Spec((f"fake-{name}",)) for name in named}
    timed = {name: Spec((upstream,), providers=(dict(fields),)) for name, (upstream, fields, _) in _TIMED.items()}
    return [
        Scenario("error statuses", error_statuses, statuses),
        Scenario("broken answers", broken_answers, {name: Spec((name,)) for name in BROKEN}),
        Scenario("deadlines", deadlines, timed),
        Scenario("no connection", no_connection, {
            "refused": Spec(providers=({"base_url": "http://127.0.0.1:9/v1"},)),
            "full": Spec(providers=({"base_url": f"http://127.0.0.1:{_FULL_PORT}/v1", "connect_timeout_s": 0.5},)),
        }),
        Scenario("retries and fallbacks", retries_and_fallbacks, {"chain": Spec(
            ("fake-flaky-1", "fake-hang", "fake-model"),
            providers=({"max_retries": 0}, {"max_retries": 1, "first_byte_timeout_s": 0.3}, {}),
        )}),
    ]  # fmt: skip


_FULL_PORT = free_ports().provider


def error_statuses(stage: Stage) -> dict[str, int]:
    """An error status costs 0 in the books, also where the provider bills it: its invoice is what settles those."""
    count, asked = stage.size(10, 1), 0
    for name, account in stage.accounts.items():
        status = int(name.rpartition("-")[2])
        for number in range(2 * count):
            asked += 1
            answer = stage.ask(account, stream=number % 2 == 1)
            stage.expect(answer.status in (429, 502, 503) and answer.code.startswith("provider_"), answer)
        for call in stage.settled(account, 2 * count):
            ended = (call.outcome, call.http_status, call.cost_usd, call.cost_source)
            outcome = "refused" if status < 500 else "failed"
            stage.expect(ended == (outcome, status, Decimal(0), "nothing_used"), call)
        lines = stage.arrivals(account)
        stage.expect([line.billed for line in lines] == [name.startswith("billed")] * 2 * count, lines)
    return {"errors": asked, "billed": asked // 2}


def broken_answers(stage: Stage) -> dict[str, int]:
    """Cut mid-line, cut before the usage, no JSON, no end, a bomb; counts that are none."""
    count = stage.size(5, 1)
    for name, ends in BROKEN.items():
        account = stage.accounts[name]
        for number in range(2 * count):
            stage.ask(account, stream=number % 2 == 1)
        calls = stage.settled(account, 2 * count)
        for place, call in enumerate(calls):
            ended = (call.outcome, call.error_code, call.usage_source)
            stage.expect(ended == ends[place % 2], f"{name} {'streamed' if place % 2 else 'whole'}: {call}")
            _unknown_or_priced(stage, call)
        stage.expect(len(stage.arrivals(account)) == len(calls), f"{name}: a row for each arrival")
    return {"answers": 2 * count * len(BROKEN)}


def deadlines(stage: Stage) -> dict[str, int]:
    """Each of the deadlines ends the call as what it is; what was seen of it is estimated, the rest is unknown."""
    count = stage.size(20, 2)

    def one(name: str, account: Account) -> Answer:
        return stage.ask(account, stream=_TIMED[name][2])

    for name, account in stage.accounts.items():
        answers = stage.at_once(count, lambda _, name=name, account=account: one(name, account))  # type: ignore[misc]
        for answer in answers:
            told = answer.code == "provider_timeout" and answer.status == 504
            stage.expect(told or b"provider_timeout" in answer.body, f"{name}: {answer}")
        for call in stage.settled(account, count):
            stage.expect((call.outcome, call.error_code) == ("failed", "provider_timeout"), f"{name}: {call}")
            stage.expect(call.cost_source != "nothing_used", f"{name}: it arrived, and is not free: {call}")
            _unknown_or_priced(stage, call)
    return {"timeouts": count * len(_TIMED)}


def no_connection(stage: Stage) -> dict[str, int]:
    """Refused, and never accepted: nothing was sent, so nothing was used."""
    count = stage.size(10, 2)
    with _full_backlog(_FULL_PORT):
        for name, account in stage.accounts.items():
            answers = stage.at_once(count, lambda number, account=account: stage.ask(account, stream=number % 2 == 1))  # type: ignore[misc]
            expected = {"refused": (502, "provider_unreachable"), "full": (504, "provider_timeout")}[name]
            stage.expect({(each.status, each.code) for each in answers} == {expected}, answers)
            for call in stage.settled(account, count):
                ended = (call.outcome, call.cost_usd, call.cost_source, call.counted_usd)
                stage.expect(ended == ("failed", 0, "nothing_used", 0), call)
    return {"not connected": 2 * count}


def retries_and_fallbacks(stage: Stage) -> dict[str, int]:
    """Three providers: each attempt is an arrival, a hold and a row; two timeouts that are billed are two rows."""
    account, count = stage.accounts["chain"], stage.size(60, 8)
    answers = stage.at_once(
        count, lambda number: stage.ask(account, stream=number % 2 == 1, user=f"{stage.name} {number}")
    )
    stage.expect({answer.status for answer in answers} == {200}, Counter(answer.status for answer in answers))
    attempts = sum(int(answer.headers.get("x-tollbook-attempts", 0)) for answer in answers)
    calls = stage.settled(account, attempts)
    lines = stage.arrivals(account)
    stage.expect(len(lines) == len(calls), f"{len(lines)} arrivals, {len(calls)} rows")
    by_request: dict[str, list[Call]] = {}
    for call in calls:
        by_request.setdefault(str(call.request_id), []).append(call)
    for request, made in by_request.items():
        arrived = [line for line in lines if line.idempotency_key == request]
        stage.expect([call.attempt for call in made] == list(range(1, len(made) + 1)), made)
        stage.expect(len(arrived) == len(made), f"{len(arrived)} arrivals of request {request}: {made}")
        stage.expect([call.outcome for call in made].count("ok") == 1, made)
        timeouts = [call for call in made if call.error_code == "provider_timeout"]
        billed = [line for line in arrived if line.billed and line.model == "fake-hang"]
        stage.expect(len(timeouts) == len(billed), f"{len(billed)} timeouts are billed: {timeouts}")
        stage.expect(all(call.cost_usd is None and call.counted_usd == call.bound_usd for call in timeouts), timeouts)
    return {"requests": count, "attempts": attempts, "timeouts": sum(c.error_code == "provider_timeout" for c in calls)}


def _unknown_or_priced(stage: Stage, call: Call) -> None:
    if call.usage_source == "none":
        stage.expect(call.cost_usd is None and call.unpriced_reason, f"unknown is NULL with a reason: {call}")
        stage.expect(call.counted_usd == call.bound_usd > 0, f"an unknown cost counts as its bound: {call}")
    else:
        stage.expect(call.cost_usd is not None and call.cost_usd == call.counted_usd > 0, f"not free: {call}")


@contextlib.contextmanager
def _full_backlog(port: int) -> Iterator[None]:
    """A port at which nobody accepts, and no room is left to wait: connecting ends in a timeout."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield
