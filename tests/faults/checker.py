"""The invariants, looked up after the run: the provider's invoice, what clients were told, and the books.

Every problem is a line, under the number of its invariant in `INVARIANTS`. The arithmetic here is its own: nothing is
taken from the ledger's code.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from tests.faults.load import Told
from tests.upstream.invoice import Line

INVARIANTS = {
    "I1": "a committed hold precedes every arrival at the provider",
    "I2": "exactly one row for each hold, and no hold left",
    "I3": "nothing twice",
    "I4": "ledger = rollups = windows",
    "I5": "used + held <= amount, at every instant",
    "I6": "nothing held when quiet",
    "I7": "what was acknowledged is in the books",
    "I8": "the provider's invoice: equal where settled, within the hold where not",
    "I9": "the chain is whole and nobody writes behind his fence",
    "I10": "recovered within 30 s, holds of the dead closed within 25 s",
    "I11": "while the database is away calls are refused soon, and nothing is sent",
    "I12": "memory, descriptors and spool are bounded; no deadlock",
    "I13": "nobody sees another's answer",
}
SWEPT_WITHIN_S = 25.0
MAX_RSS_BYTES, MAX_DESCRIPTORS = 600 * 1024 * 1024, 900


class Asked(Protocol):
    """The server whose books are looked at."""

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]: ...
    def log(self) -> str: ...


class Problem(NamedTuple):
    invariant: str
    line: str


class Row(NamedTuple):
    """A call with what later settlements made of it. `settled_usd` None: unknown."""

    id: UUID
    request_id: UUID
    outcome: str
    cost_usd: Decimal | None
    settled_usd: Decimal | None
    counted_usd: Decimal
    usage_source: str
    input_tokens: int
    output_tokens: int
    upstream_ids: list[str]
    sheet_id: int | None
    tags: dict[str, str]
    finished_at: datetime


class Held(NamedTuple):
    id: UUID
    request_id: UUID
    bound_usd: Decimal
    at: datetime


_CALLS = """
SELECT c.id, c.request_id, c.outcome, c.cost_usd,
  CASE WHEN c.cost_usd IS NOT NULL OR bool_or(a.settles_unknown)
    THEN coalesce(c.cost_usd, 0) + coalesce(sum(a.delta_usd), 0) END,
  c.counted_usd + coalesce(sum(a.counted_delta_usd), 0), c.usage_source, c.input_tokens, c.output_tokens,
  array_remove(array_remove(array_agg(a.details ->> 'upstream_request_id') || c.upstream_request_id::text, NULL), ''),
  c.price_sheet_id, c.tags, c.finished_at
FROM ledger_call c LEFT JOIN ledger_adjustment a ON a.call_id = c.id GROUP BY c.id
"""
_HELD = "SELECT id, request_id, coalesce(bound_usd, 0), at FROM faults.held"


class Evidence:
    """All that a run has left behind."""

    def __init__(self, *, postgres: Asked, invoice: Iterable[Line], told: Iterable[Told]) -> None:
        self.postgres = postgres
        self.invoice, self.told = list(invoice), list(told)
        self.calls: dict[UUID, Row] = {row[0]: Row._make(row) for row in postgres.rows(_CALLS)}
        self.held = [Held(*row) for row in postgres.rows(_HELD)]
        self.rates: dict[int, dict[str, Decimal]] = defaultdict(dict)
        for sheet, meter, amount, per in postgres.rows("SELECT sheet_id, meter, amount_usd, per FROM ledger_rate"):
            self.rates[sheet][meter] = amount / per
        self.calls_of: dict[UUID, list[Row]] = defaultdict(list)
        for call in self.calls.values():
            self.calls_of[call.request_id].append(call)
        self.lines_of: dict[UUID, list[Line]] = defaultdict(list)
        for line in self.invoice:
            self.lines_of[UUID(line.idempotency_key)].append(line)

    def price(self, line: Line, sheet_id: int | None) -> Decimal:
        """What the provider bills for an arrival, at the rates of that sheet."""
        rates = self.rates.get(sheet_id or 0, {})
        zero = Decimal(0)
        return line.input_tokens * rates.get("input", zero) + line.output_tokens * rates.get("output", zero)


def check(evidence: Evidence) -> list[Problem]:
    """Every broken invariant that can be seen in the evidence."""
    checks = (_arrivals, _rows, _once, _sums, _limits, _acknowledged, _invoice, _fences, _swept, _answers, _deadlocks)
    return [problem for each in checks for problem in each(evidence)]


def _arrivals(evidence: Evidence) -> Iterator[Problem]:
    """The n-th arrival of a request came after its n-th hold was made."""
    holds: dict[UUID, list[float]] = defaultdict(list)
    for held in evidence.held:
        holds[held.request_id].append(held.at.timestamp())
    for request, lines in evidence.lines_of.items():
        made = sorted(holds.get(request, ()))
        for place, line in enumerate(sorted(lines, key=lambda each: each.at)):
            if place >= len(made) or made[place] > line.at:
                yield Problem("I1", f"arrival {line.arrival} of request {request} at {line.at}: holds at {made}")


def _rows(evidence: Evidence) -> Iterator[Problem]:
    counts: dict[UUID, int] = defaultdict(int)
    for held in evidence.held:
        counts[held.id] += 1
    for identifier, count in counts.items():
        if identifier not in evidence.calls:
            yield Problem("I2", f"hold {identifier} has no call")
        if count > 1:
            yield Problem("I3", f"hold {identifier} was made {count} times")
    for identifier in evidence.calls:
        if identifier not in counts:
            yield Problem("I2", f"call {identifier} was never held")
    for (left,) in evidence.postgres.rows("SELECT id FROM ledger_hold"):
        yield Problem("I2", f"hold {left} is left")


def _once(evidence: Evidence) -> Iterator[Problem]:
    """A request that came twice with one idempotency key did its work once; all who asked heard the same."""
    keys = {told.load_id for told in evidence.told if told.idempotent}
    worked: dict[str, set[UUID]] = defaultdict(set)
    for call in evidence.calls.values():
        load = call.tags.get("load", "")
        if load in keys and call.settled_usd != 0:
            worked[load].add(call.request_id)
    for load, requests in worked.items():
        if len(requests) > 1:
            yield Problem("I3", f"idempotency key {load} did its work in requests {sorted(map(str, requests))}")
    heard: dict[str, set[UUID]] = defaultdict(set)
    for told in evidence.told:
        if told.idempotent:
            heard[told.load_id].add(told.call_id)
    for load, calls in heard.items():
        if len(calls) > 1:
            yield Problem("I3", f"idempotency key {load} was answered by calls {sorted(map(str, calls))}")


_SUMS = {
    "calls and adjustments: (calls, input, output, cost, adjusted) in the ledger, in the rollups": """
        SELECT * FROM (SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
            coalesce(sum(cost_usd), 0), (SELECT coalesce(sum(delta_usd), 0) FROM ledger_adjustment) FROM ledger_call) c,
          (SELECT coalesce(sum(calls), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
            coalesce(sum(cost_usd), 0), coalesce(sum(adjustments_usd), 0) FROM ledger_dailyspend) r""",
    "USD windows: counted by calls, used": """
        SELECT (SELECT coalesce(sum(c.counted_usd + coalesce((SELECT sum(a.counted_delta_usd)
              FROM ledger_adjustment a WHERE a.call_id = c.id), 0)), 0)
            FROM ledger_call c CROSS JOIN unnest(c.windows) AS t(id) JOIN ledger_limitwindow w ON w.id = t.id
            JOIN ledger_limit l ON l.id = w.limit_id WHERE l.metric = 'usd'),
          (SELECT coalesce(sum(w.used), 0) FROM ledger_limitwindow w JOIN ledger_limit l ON l.id = w.limit_id
            WHERE l.metric = 'usd')""",
}


def _sums(evidence: Evidence) -> Iterator[Problem]:
    for what, query in _SUMS.items():
        ((*values,),) = evidence.postgres.rows(query)
        half = len(values) // 2
        if values[:half] != values[half:]:
            yield Problem("I4", f"{what}: {values[:half]} and {values[half:]}")
    for window, held in evidence.postgres.rows("SELECT id, held FROM ledger_limitwindow WHERE held <> 0"):
        yield Problem("I6", f"window {window} still holds {held}")


def _limits(evidence: Evidence) -> Iterator[Problem]:
    """A limit that somebody lowers in the very moment of an admission was judged by its amount before that."""
    found = evidence.postgres.rows(
        "SELECT o.limit_id, o.used, o.held, o.amount, o.at FROM faults.overspent o WHERE NOT EXISTS ("
        "SELECT FROM faults.lowered l WHERE l.limit_id = o.limit_id "
        "AND o.at BETWEEN l.at - interval '1 s' AND l.at + interval '1 s')"
    )
    for limit, used, held, amount, at in found:
        yield Problem("I5", f"limit {limit} at {at}: used {used} + held {held} > {amount}")


def _acknowledged(evidence: Evidence) -> Iterator[Problem]:
    for told in evidence.told:
        call = evidence.calls.get(told.call_id)
        if call is None:
            yield Problem("I7", f"call {told.call_id} was acknowledged and is not in the books")
        elif told.cost_usd is not None and call.settled_usd != told.cost_usd:
            yield Problem("I7", f"call {told.call_id} was told {told.cost_usd}, the books say {call.settled_usd}")


def _invoice(evidence: Evidence) -> Iterator[Problem]:
    """Line by line where the answer named its arrival; the rest of a request together."""
    bounds = {held.id: held.bound_usd for held in evidence.held}
    for request, lines in evidence.lines_of.items():
        calls = evidence.calls_of.get(request, [])
        if len(calls) < len(lines):
            yield Problem("I8", f"request {request} arrived {len(lines)} times and has {len(calls)} calls")
        for line in lines:
            named = [call for call in calls if line.request_id in call.upstream_ids]
            if len(named) > 1:
                yield Problem("I3", f"arrival {line.arrival} is booked by {[str(call.id) for call in named]}")
            for call in named:
                yield from _line(evidence, line, call, bounds.get(call.id, Decimal(0)))
            if not named and line.billed:
                room = [bounds.get(call.id, Decimal(0)) for call in calls if not call.upstream_ids]
                if not room or evidence.price(line, calls[0].sheet_id) > max(room):
                    yield Problem("I8", f"arrival {line.arrival} of request {request} is billed beyond its hold")
                if all(call.settled_usd == 0 for call in calls):
                    yield Problem("I8", f"arrival {line.arrival} of request {request} is billed, the books say 0")


def _line(evidence: Evidence, line: Line, call: Row, bound_usd: Decimal) -> Iterator[Problem]:
    billed = evidence.price(line, call.sheet_id)
    if call.usage_source == "reported" and call.outcome == "ok":
        if (call.input_tokens, call.output_tokens) != (line.input_tokens, line.output_tokens):
            yield Problem("I8", f"call {call.id} counts {call.input_tokens} + {call.output_tokens}, not {line}")
        if call.settled_usd != billed:
            yield Problem("I8", f"call {call.id} costs {call.settled_usd}, the invoice says {billed}")
    elif not line.billed and call.settled_usd != 0:
        yield Problem("I8", f"call {call.id} costs {call.settled_usd}, and nothing is billed")
    elif billed > bound_usd:
        yield Problem("I8", f"call {call.id} is billed {billed}, more than the {bound_usd} it held")


def unreconciled(evidence: Evidence) -> dict[str, Any]:
    """What is billed for answers with an error status, which the books have at 0 until the invoice says otherwise."""
    billed = [
        evidence.price(line, call.sheet_id)
        for line in evidence.invoice if line.billed and line.status >= 400
        for call in evidence.calls_of.get(UUID(line.idempotency_key), []) if line.request_id in call.upstream_ids
    ]  # fmt: skip
    return {"billed errors left to reconciliation": len(billed), "their USD": sum(billed, Decimal(0))}


def _fences(evidence: Evidence) -> Iterator[Problem]:
    for table in ("held", "batches"):
        for writer, count in evidence.postgres.rows(
            f"SELECT writer_id, count(*) FROM faults.{table} WHERE NOT by_live GROUP BY 1"
        ):
            yield Problem("I9", f"writer {writer} wrote {count} rows of {table} behind its fence")
    for writer, batches, seqs in evidence.postgres.rows(
        "SELECT w.id, w.batches, count(b.seq) FROM ledger_writer w LEFT JOIN ledger_batch b ON b.writer_id = w.id "
        "GROUP BY 1, 2 HAVING w.batches <> count(b.seq) OR w.batches <> coalesce(max(b.seq), 0)"
    ):
        yield Problem("I9", f"writer {writer} made {batches} batches, {seqs} are there")


def _swept(evidence: Evidence) -> Iterator[Problem]:
    slow = evidence.postgres.rows(
        "SELECT c.id, c.finished_at - w.lease_until FROM ledger_call c JOIN faults.held h ON h.id = c.id "
        "JOIN ledger_writer w ON w.id = h.writer_id WHERE c.outcome = 'abandoned' "
        "AND c.finished_at - w.lease_until > make_interval(secs => %s)", SWEPT_WITHIN_S,
    )  # fmt: skip
    for identifier, late in slow:
        yield Problem("I10", f"call {identifier} was closed {late} after its writer's lease had run out")


def _answers(evidence: Evidence) -> Iterator[Problem]:
    """The answer that a client got is the one to its own call."""
    by_name: dict[str, UUID] = {line.request_id: UUID(line.idempotency_key) for line in evidence.invoice}
    for told in evidence.told:
        call = evidence.calls.get(told.call_id)
        if call is None:
            continue
        if call.tags.get("load") != told.load_id:
            yield Problem("I13", f"client {told.load_id} was told of call {told.call_id}, which is another's")
        if told.answer_id and by_name.get(told.answer_id.removeprefix("chatcmpl-")) != call.request_id:
            yield Problem("I13", f"client {told.load_id} got the answer {told.answer_id}, not that of its own call")


def _deadlocks(evidence: Evidence) -> Iterator[Problem]:
    count = evidence.postgres.log().count("deadlock detected")
    if count:
        yield Problem("I12", f"{count} deadlocks in PostgreSQL's log")


def figures(problems: Iterable[Problem]) -> dict[str, Any]:
    """The three that matter most: how much was lost, duplicated, overspent."""
    counts: dict[str, int] = defaultdict(int)
    for problem in problems:
        counts[problem.invariant] += 1
    lost = counts["I1"] + counts["I2"] + counts["I7"] + counts["I8"]
    return {"lost": lost, "duplicated": counts["I3"] + counts["I4"], "overspent": counts["I5"] + counts["I6"]}
