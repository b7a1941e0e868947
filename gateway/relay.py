"""The story of one call: admit -> resolve -> hold -> ask -> settle -> answer.

`relay` is called by every surface. Nothing is sent before a hold is committed; nothing that ends an answer leaves
before the call is. A retry is an attempt of its own: the row of the failed one and the next hold commit together.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway import idempotency, metrics
from gateway import plan as plans
from gateway.errors import ApiError, ledger_unavailable
from gateway.idempotency import Idempotency
from gateway.keyring import Principal
from gateway.limits import refused, room_headers
from gateway.open_calls import OpenCall
from gateway.plan import Plan
from gateway.records import record
from gateway.runtime import Runtime
from gateway.settlement import Ending, ending_of_error
from gateway.snapshot import Snapshot
from gateway.streams import RelayedStream
from gateway.transit import output_bytes
from ledger import faults
from ledger.ids import MAX_ATTEMPTS, call_id, new_request_id
from ledger.money import format_usd
from ledger.rows import HoldRow, SettleRow
from ledger.writer import LedgerRejected, LedgerUnavailable, Verdict
from providers import retry
from providers.errors import ProviderError
from providers.http import Exchange
from providers.unified import Usage
from providers.wire.base import Wire

log = logging.getLogger("tollbook.relay")

# A hold outlives the deadline of its call by this much before it counts as overdue.
HOLD_MARGIN_S = 60.0


class Caller(Struct, frozen=True):
    """Who asks, and what their headers said. `client_request_id` is echoed; ids of ours are in every answer."""

    principal: Principal
    client_request_id: str = ""
    tags: dict[str, str] = {}
    timeout_s: float | None = None
    idempotency: Idempotency | None = None


class Taken(Exception):
    """Another request holds the idempotency key."""


class Whole(NamedTuple):
    body: bytes
    headers: dict[str, str]


class Streamed(NamedTuple):
    chunks: Iterator[bytes]
    headers: dict[str, str]


class Asked(NamedTuple):
    """A provider's successful answer: read whole, or an open stream. `ledger_s` is what the holds took."""

    call: OpenCall
    exchange: Exchange
    body: bytes | None
    attempts: int
    ledger_s: float
    room: dict[str, object]


def relay(
    *, runtime: Runtime, wire: Wire, surface: str, body: bytes, caller: Caller, request_id: UUID | None = None
) -> Whole | Streamed:
    """Answer one request of a surface. Raises ApiError and ProviderError; whatever was dispatched is settled then."""
    began = time.monotonic()
    snapshot = runtime.snapshot
    plan = plans.make(
        snapshot=snapshot,
        wire=wire,
        body=body,
        principal=caller.principal,
        timeout_s=caller.timeout_s,
        expectations=runtime.expectations,
    )
    try:
        asked = _ask(runtime, snapshot, plan, surface, caller, request_id or new_request_id(), began)
    except Taken:
        return _again(caller)
    headers = _headers(plan, asked, caller)
    headers.update(room_headers(asked.room, plan.limits))
    if asked.body is None:
        settle = _settler(runtime, asked, plan)
        stream = RelayedStream(
            call=asked.call, wire=wire, plan=plan, exchange=asked.exchange, settle=settle, headers=headers
        )
        return Streamed(stream, headers)
    return _whole(runtime, wire, plan, asked, headers, began)


def _again(caller: Caller) -> Whole | Streamed:
    """The answer that the holder of the idempotency key was given."""
    assert caller.idempotency is not None
    kept = idempotency.earlier(key_id=caller.principal.key_id, claim=caller.idempotency)
    if kept is None:
        # It failed without work done, in this very moment.
        raise ApiError("idempotency_conflict", "The first request with this key has just failed.", retry_after_s=1)
    headers = {"X-Request-Id": caller.client_request_id, **kept.headers} if caller.client_request_id else kept.headers
    return Streamed(kept.chunks(), headers) if kept.streamed else Whole(kept.body, headers)


# --- ask ----------------------------------------------------------------------------------------------------


def _ask(
    runtime: Runtime,
    snapshot: Snapshot,
    plan: Plan,
    surface: str,
    caller: Caller,
    request_id: UUID,
    began: float,
) -> Asked:
    """Hold and send until an attempt succeeds or none may follow."""
    budget = runtime.retry_budget(plan.target.provider_id)
    budget.record_request()
    max_retries = min(plan.adapter.config.max_retries, MAX_ATTEMPTS - 1)
    failed: SettleRow | None = None
    ledger_s = 0.0
    attempt = 1
    while True:
        hold = _hold_row(plan, surface, caller, request_id, attempt)
        held_from = time.monotonic()
        verdict = _hold(runtime, hold, failed)
        waited_s = time.monotonic() - held_from
        ledger_s += waited_s
        metrics.record_ledger_wait(op="hold", wait_s=waited_s)
        if verdict.refusal is not None and verdict.refusal.why == "idempotency":
            raise Taken
        if verdict.refusal is not None:
            raise refused(verdict.refusal, snapshot=snapshot, call_id=str(hold.id))
        call = OpenCall(
            runtime=runtime,
            snapshot=snapshot,
            hold=hold,
            target=plan.target,
            sheet=plan.sheet,
            input_estimate=plan.input_estimate,
        )
        try:
            exchange, answer = _send(plan, call, began)
            return Asked(call, exchange, answer, attempt, ledger_s, verdict.room)
        except ProviderError as error:
            again = not call.interrupted and retry.should_retry(
                error=error,
                attempt=attempt,
                max_retries=max_retries,
                elapsed_s=time.monotonic() - began,
                deadline_s=plan.deadlines.total_s,
                bytes_sent_to_client=False,
            )
            again = again and budget.take()
            row = call.end(_interrupted(call, error))
            error.call_id = str(hold.id)  # type: ignore[attr-defined]
            if row is None:
                raise
            record(row, plan=plan, hold=hold, upstream_s=time.monotonic() - call.started)
            if not again:
                runtime.writer.settle(row)
                raise
            failed = row
            attempt += 1
            time.sleep(retry.delay_s(attempt=attempt, error=error, random=random.random))
        except BaseException:
            call.settle(_defect())
            raise


def _hold(runtime: Runtime, hold: HoldRow, failed: SettleRow | None) -> Verdict:
    try:
        if failed is None:
            return runtime.writer.hold(hold)
        return runtime.writer.settle_and_hold(failed, hold)
    except LedgerUnavailable as error:
        log.warning("hold_refused", extra={"reason": str(error)})
        raise ledger_unavailable() from None
    except LedgerRejected as error:
        log.error("hold_rejected", extra={"reason": str(error)})
        raise ApiError("internal_error", "The ledger rejected this call; nothing was sent.") from None


def _hold_row(plan: Plan, surface: str, caller: Caller, request_id: UUID, attempt: int) -> HoldRow:
    principal, claim = caller.principal, caller.idempotency
    return HoldRow(
        id=call_id(request_id=request_id, attempt=attempt),
        request_id=request_id,
        attempt=attempt,
        key=principal.key_id,
        user=principal.user_id,
        team=principal.team_id,
        model=plan.target.model_id,
        provider=plan.target.provider_id,
        sheet=plan.sheet.id if plan.sheet is not None else None,
        surface=surface,
        name=plan.admitted.model[:200],
        streamed=plan.admitted.stream,
        tags={**plan.admitted.metadata, **caller.tags},
        usd=plan.bound_usd,
        tokens=plan.bound_tokens,
        limits=tuple(limit.id for limit in plan.limits),
        deadline_s=plan.deadlines.total_s + HOLD_MARGIN_S,
        idempotency=claim.text_sha256 if claim is not None else None,
        body_sha256=claim.body_sha256 if claim is not None else None,
    )


def _send(plan: Plan, call: OpenCall, began: float) -> tuple[Exchange, bytes | None]:
    """One attempt: the exchange, and the whole answer unless it streams."""
    faults.point("held")
    left_s = plan.deadlines.total_s - (time.monotonic() - began)
    exchange = plan.adapter.send(
        body=plan.body,
        model=plan.target.upstream_name,
        stream=plan.admitted.stream,
        deadlines=msgspec.structs.replace(plan.deadlines, total_s=max(0.05, left_s)),
        idempotency_key=str(call.hold.request_id),
    )
    call.exchange = exchange
    faults.point("dispatched")
    if plan.admitted.stream:
        return exchange, None
    answer = exchange.body()
    faults.point("upstream_done")
    return exchange, answer


def _interrupted(call: OpenCall, error: ProviderError) -> Ending:
    ending = ending_of_error(error)
    if call.interrupted:
        return msgspec.structs.replace(ending, outcome="cancelled", error_code="key_revoked")
    return ending


def _defect() -> Ending:
    """A defect of ours after the hold: the provider may have been asked."""
    return Ending(
        outcome="failed",
        usage=Usage(),
        error_code="internal_error",
        unknown_reason="the gateway failed while the provider may have been at work",
    )


# --- answer -------------------------------------------------------------------------------------------------


def _whole(
    runtime: Runtime, wire: Wire, plan: Plan, asked: Asked, headers: dict[str, str], began: float
) -> Whole:
    """Settle a whole answer, then give it out."""
    call, exchange, answer = asked.call, asked.exchange, asked.body
    assert answer is not None
    upstream_s = time.monotonic() - call.started
    try:
        if plan.passes_through:
            body = answer
            usage, served = plan.adapter.wire.read_usage(answer)
            written = 0 if usage.source == "reported" else output_bytes(plan.adapter.wire.decode_answer(answer))
        else:
            decoded = plan.adapter.wire.decode_answer(answer)
            usage, served, written = decoded.usage, decoded.model, output_bytes(decoded)
            body = wire.encode_answer(decoded)
    except ProviderError as error:
        # The provider did its work and we cannot read it: it may well bill.
        error.call_id = str(call.hold.id)  # type: ignore[attr-defined]
        error.provider, error.status = plan.target.provider_name, exchange.status
        call.settle(msgspec.structs.replace(ending_of_error(error), outcome="failed", may_have_billed=True))
        raise
    except BaseException:
        call.settle(_defect())
        raise
    row = _settler(runtime, asked, plan)(
        Ending(
            outcome="ok",
            usage=call.settled_usage(usage, output_bytes=written),
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


class Settler(Protocol):
    """Commits the end of a call. `answer`, where there is one, is kept for the request's idempotency key."""

    def __call__(
        self, ending: Ending, *, answer: bytes | None = None, headers: dict[str, str] | None = None
    ) -> SettleRow | None: ...


def _settler(runtime: Runtime, asked: Asked, plan: Plan) -> Settler:
    """Commit the end of the call, and count it."""

    def settle(
        ending: Ending, *, answer: bytes | None = None, headers: dict[str, str] | None = None
    ) -> SettleRow | None:
        call = asked.call
        row = call.end(ending)
        if row is None:
            return None
        if call.hold.idempotency is not None and answer is not None:
            row = idempotency.resolved(row, answer=answer, headers=headers, streamed=plan.admitted.stream)
        began = time.monotonic()
        runtime.writer.settle(row)
        metrics.record_ledger_wait(op="settle", wait_s=time.monotonic() - began)
        if row.cost_usd is not None and row.outcome == "ok":
            used = row.input_tokens + row.output_tokens
            runtime.expectations.note(model=call.hold.model, cost_usd=row.cost_usd, tokens=used)
        record(row, plan=plan, hold=call.hold, upstream_s=began - call.started)
        return row

    return settle


def _headers(plan: Plan, asked: Asked, caller: Caller) -> dict[str, str]:
    hold = asked.call.hold
    headers = {
        "X-Request-Id": caller.client_request_id or str(hold.request_id),
        "X-Tollbook-Call-Id": str(hold.id),
        "X-Tollbook-Provider": plan.target.provider_name,
        "X-Tollbook-Model": plan.target.name,
        "X-Tollbook-Attempts": str(asked.attempts),
    }
    if plan.sent_cap is not None:
        headers["X-Tollbook-Max-Output-Tokens"] = str(plan.sent_cap)
    return headers
