"""The story of one call: admit -> resolve -> hold -> ask -> settle -> answer.

`relay` is called by every surface. Nothing is sent before a hold is committed; nothing that ends an answer leaves
before the call is. A retry is an attempt of its own: the row of the failed one and the next hold commit together.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from gateway import cache, idempotency, metrics, routing
from gateway.asking import Asked, Asker, Caller, Taken, defect
from gateway.errors import ApiError
from gateway.limits import room_headers
from gateway.plan import Plan, plan_for
from gateway.records import record
from gateway.runtime import Runtime
from gateway.settlement import Ending, ending_of_error
from gateway.snapshot import Snapshot, Target
from gateway.streams import RelayedStream
from gateway.transit import encoded, or_of_headers, output_bytes, read_usage, type_of_answer
from ledger import faults
from ledger.ids import new_request_id
from ledger.money import format_usd
from ledger.rows import SettleRow
from providers.errors import ProviderError
from providers.wire.base import Admitted, Wire

log = logging.getLogger("tollbook.relay")


class Whole(NamedTuple):
    body: bytes
    headers: dict[str, str]


class Streamed(NamedTuple):
    chunks: Iterator[bytes]
    headers: dict[str, str]


def relay(
    *, runtime: Runtime, wire: Wire, surface: str, body: bytes, caller: Caller, request_id: UUID | None = None
) -> Whole | Streamed:
    """Answer one request of a surface. Raises ApiError and ProviderError; whatever was dispatched is settled then."""
    began = time.monotonic()
    request_id = request_id or new_request_id()
    snapshot = runtime.snapshot
    admitted = wire.admit(body)
    targets = routing.resolve(
        runtime=runtime, snapshot=snapshot, admitted=admitted, body_bytes=len(body), principal=caller.principal
    )
    plans = _plans(runtime, snapshot, wire, body, admitted, caller, targets)
    asker = Asker(
        runtime=runtime,
        snapshot=snapshot,
        surface=surface,
        caller=caller,
        request_id=request_id,
        began=began,
    )
    cache_key = ""
    if cache.applies(mode=caller.cache, admitted=admitted):
        plan = next(plans)
        plans = itertools.chain([plan], plans)
        cache_key = cache.key_of(plan=plan, surface=surface, principal=caller.principal)
    try:
        if cache_key and caller.cache == "read":
            hit = cache.look_up(cache_key)
            metrics.record_cache_look_up(
                provider=plan.target.provider_name, model=plan.target.name, hit=hit is not None
            )
            if hit is not None:
                return _cached(asker, plan, hit, caller, request_id)
        asked = asker.ask(plans)
    except Taken:
        return _again(caller, request_id)
    headers = _headers(asked, caller)
    if not wire.content_type:
        headers["Content-Type"] = type_of_answer(asked.exchange)
    if asked.body is None:
        stream = RelayedStream(
            call=asked.call,
            wire=wire,
            plan=asked.plan,
            exchange=asked.exchange,
            settle=_settler(runtime, asked, cache_key),
            headers=headers,
            keeps=bool(cache_key) or caller.idempotency is not None,
        )
        return Streamed(stream, headers)
    return _whole(_settler(runtime, asked, cache_key), wire, asked, headers, began)


def _plans(
    runtime: Runtime,
    snapshot: Snapshot,
    wire: Wire,
    body: bytes,
    admitted: Admitted,
    caller: Caller,
    targets: list[Target],
) -> Iterator[Plan]:
    """A plan for each target that can take the request. When none can, the first one's reason is raised."""
    reason: ApiError | ProviderError | None = None
    made = 0
    for target in targets:
        try:
            plan = plan_for(
                target,
                snapshot=snapshot,
                wire=wire,
                body=body,
                admitted=admitted,
                principal=caller.principal,
                timeout_s=caller.timeout_s,
                expectations=runtime.expectations,
            )
        except (ApiError, ProviderError) as error:
            reason = reason or error
            continue
        made += 1
        yield plan
    if not made and reason is not None:
        raise reason


def _cached(asker: Asker, plan: Plan, hit: cache.Entry, caller: Caller, request_id: UUID) -> Whole | Streamed:
    """An answer from the cache, booked as such."""
    saved = format_usd(hit.cost_usd) if hit.cost_usd is not None else ""
    row = asker.from_cache(plan, saving={"cached_call": hit.call_id, "saved_usd": saved})
    kept = hit.kept()
    headers = {**kept.headers, "X-Tollbook-Cache": "hit", "X-Tollbook-Cost-Usd": "0"}
    headers["X-Request-Id"] = caller.client_request_id or str(request_id)
    if row is not None:
        headers["X-Tollbook-Call-Id"] = str(row.id)
    return Streamed(kept.chunks(), headers) if kept.streamed else Whole(kept.body, headers)


def _again(caller: Caller, request_id: UUID) -> Whole | Streamed:
    """The answer that the holder of the idempotency key was given."""
    assert caller.idempotency is not None
    kept = idempotency.earlier(key_id=caller.principal.key_id, claim=caller.idempotency)
    if kept is None:
        # It failed without work done, in this very moment.
        raise ApiError("idempotency_conflict", "The first request with this key has just failed.", retry_after_s=1)
    headers = {"X-Request-Id": caller.client_request_id or str(request_id), **kept.headers}
    return Streamed(kept.chunks(), headers) if kept.streamed else Whole(kept.body, headers)


# --- answer -------------------------------------------------------------------------------------------------


def _whole(
    settle: Settler, wire: Wire, asked: Asked, headers: dict[str, str], began: float
) -> Whole:
    """Settle a whole answer, then give it out."""
    plan, call, exchange, answer = asked.plan, asked.call, asked.exchange, asked.body
    assert answer is not None
    upstream_s = time.monotonic() - call.started
    try:
        if plan.passes_through:
            body = answer
            usage, served = read_usage(answer, wire=plan.wire, admitted=plan.admitted)
            is_known = usage.source == "reported" or plan.input_estimate is None
            written = 0 if is_known else output_bytes(plan.wire.decode_answer(answer))
        else:
            decoded = plan.wire.decode_answer(answer)
            usage, served, written = decoded.usage, decoded.model, output_bytes(decoded)
            body = encoded(decoded, wire=wire, admitted=plan.admitted)
    except ProviderError as error:
        # The provider did its work and we cannot read it: it may well bill.
        error.call_id = str(call.hold.id)  # type: ignore[attr-defined]
        error.provider, error.status = plan.target.provider_name, exchange.status
        call.settle(_ending_of_answer(error, wire=plan.wire, answer=answer))
        raise
    except BaseException:
        call.settle(defect())
        raise
    row = settle(
        Ending(
            outcome="ok",
            usage=call.settled_usage(or_of_headers(usage, wire=plan.wire, exchange=exchange), output_bytes=written),
            served_name=served,
            upstream_request_id=exchange.upstream_request_id,
            http_status=exchange.status,
        ),
        answer=body,
        headers=headers,
    )
    faults.point("settled")
    ledger_s = asked.ledger_s + (time.monotonic() - call.started - upstream_s)
    if row is not None:
        if row.cost_usd is not None:
            headers["X-Tollbook-Cost-Usd"] = format_usd(row.cost_usd)
        headers["X-Tollbook-Input-Tokens"] = str(row.input_tokens)
        headers["X-Tollbook-Output-Tokens"] = str(row.output_tokens)
    headers["Server-Timing"] = (
        f"upstream;dur={upstream_s * 1000:.1f}, ledger;dur={ledger_s * 1000:.1f}, "
        f"total;dur={(time.monotonic() - began) * 1000:.1f}"
    )
    return Whole(body, headers)


def _ending_of_answer(error: ProviderError, *, wire: Wire, answer: bytes) -> Ending:
    """How a call ended whose whole answer is an error. One that failed on the way tells what it used all the same."""
    ending = msgspec.structs.replace(ending_of_error(error), outcome="failed", may_have_billed=True)
    try:
        usage, served = wire.read_usage(answer)
    except ProviderError:
        return ending
    if usage.source != "reported":
        return ending
    return msgspec.structs.replace(ending, usage=usage, served_name=served)


class Settler(Protocol):
    """Commits the end of a call. `answer`, where there is one, is kept for the request's idempotency key."""

    def __call__(
        self, ending: Ending, *, answer: bytes | None = None, headers: dict[str, str] | None = None
    ) -> SettleRow | None: ...


def _settler(runtime: Runtime, asked: Asked, cache_key: str) -> Settler:
    """Commit the end of the call, count it, and keep its answer where the client asked for that."""

    def settle(
        ending: Ending, *, answer: bytes | None = None, headers: dict[str, str] | None = None
    ) -> SettleRow | None:
        plan, call = asked.plan, asked.call
        row = call.end(ending)
        if row is None:
            return None
        if call.hold.idempotency is not None and answer is not None:
            row = idempotency.resolved(row, answer=answer, headers=headers, streamed=plan.admitted.stream)
        began = time.monotonic()
        runtime.writer.settle(row)
        try:
            metrics.record_ledger_wait(op="settle", wait_s=time.monotonic() - began)
            record(row, plan=plan, hold=call.hold, upstream_s=began - call.started)
            _remember(runtime, asked, row, cache_key=cache_key, answer=answer, headers=headers or {})
        except Exception:
            # The call is in the books and its answer is paid for: what is merely nice to have must not take it away.
            log.exception("bookkeeping_beside_the_books_failed")
        return row

    return settle


def _remember(
    runtime: Runtime, asked: Asked, row: SettleRow, *, cache_key: str, answer: bytes | None, headers: dict[str, str]
) -> None:
    """What later calls profit from: the answer, where the client asked for that, and what a call usually costs."""
    if cache_key and answer is not None:
        told = {name: value for name, value in headers.items() if name.startswith("X-Tollbook-")}
        cache.keep(cache_key, cache.Entry(answer, told, asked.plan.admitted.stream, str(row.id), row.cost_usd))
    if row.cost_usd is not None and row.outcome == "ok" and asked.plan.bills:
        used = row.input_tokens + row.output_tokens
        runtime.expectations.note(model=asked.call.hold.model, cost_usd=row.cost_usd, tokens=used)


def _headers(asked: Asked, caller: Caller) -> dict[str, str]:
    plan, hold = asked.plan, asked.call.hold
    headers = {
        "X-Request-Id": caller.client_request_id or str(hold.request_id),
        "X-Tollbook-Call-Id": str(hold.id),
        "X-Tollbook-Provider": plan.target.provider_name,
        "X-Tollbook-Model": plan.target.name,
        "X-Tollbook-Attempts": str(asked.attempts),
    }
    if plan.sent_cap is not None:
        headers["X-Tollbook-Max-Output-Tokens"] = str(plan.sent_cap)
    headers.update(room_headers(asked.room, plan.limits))
    return headers
