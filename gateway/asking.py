"""The attempts of one request: each is held, sent, and settled when it fails; the first that succeeds is the answer.

A failed attempt's row and the next attempt's hold commit together. Attempts go on at the same target while the error
may pass (`providers.retry`), then at the route's next target where another provider may do better.
"""

from __future__ import annotations

import logging
import random
import socket
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from gateway import metrics, routing
from gateway.errors import ApiError, ledger_unavailable
from gateway.idempotency import Idempotency
from gateway.keyring import Principal
from gateway.limits import refused
from gateway.open_calls import OpenCall
from gateway.plan import Plan
from gateway.records import record
from gateway.runtime import Runtime
from gateway.settlement import Ending, ending_of_error
from gateway.snapshot import Snapshot
from gateway.watcher import closed
from ledger import faults
from ledger.ids import MAX_ATTEMPTS, call_id
from ledger.money import ZERO_USD
from ledger.rows import HoldRow, SettleRow
from ledger.writer import LedgerRejected, LedgerUnavailable, Verdict
from providers import retry
from providers.errors import ProviderError
from providers.http import Exchange
from providers.unified import Usage
from providers.wire.media import MEDIA

log = logging.getLogger("tollbook.asking")

# A hold outlives the deadline of its call by this much before it counts as overdue.
HOLD_MARGIN_S = 60.0


class Caller(Struct, frozen=True):
    """Who asks, and what their headers said. `client_request_id` is echoed; ids of ours are in every answer.

    `client` is the socket on which they wait, where there is one: a call ends when they leave it.
    """

    principal: Principal
    client_request_id: str = ""
    tags: dict[str, str] = {}
    timeout_s: float | None = None
    idempotency: Idempotency | None = None
    cache: Literal["read", "write", "off"] = "off"
    client: socket.socket | None = None


class Taken(Exception):
    """Another request holds the idempotency key."""


class Asked(NamedTuple):
    """A provider's successful answer: read whole, or an open stream. `ledger_s` is what the holds took."""

    plan: Plan
    call: OpenCall
    exchange: Exchange
    body: bytes | None
    attempts: int
    ledger_s: float
    room: dict[str, object]


class Asker:
    """Asks for one request. Raises ApiError, Taken or the last attempt's ProviderError; all it held is settled then."""

    def __init__(
        self, *, runtime: Runtime, snapshot: Snapshot, surface: str, caller: Caller, request_id: UUID, began: float
    ) -> None:
        self._runtime = runtime
        self._snapshot = snapshot
        self._surface = surface
        self._caller = caller
        self._request_id = request_id
        self._began = began
        self._attempt = 0
        self._at_this_target = 0
        self._failed: SettleRow | None = None
        self._ledger_s = 0.0
        self._room: dict[str, object] = {}

    def ask(self, plans: Iterator[Plan]) -> Asked:
        """Try the plans in order until one is answered."""
        plan = next(plans)
        self._runtime.retry_budget(plan.target.provider_id).record_request()
        while True:
            self._attempt += 1
            self._at_this_target += 1
            call = self._hold(plan)
            try:
                exchange, answer = self._send(plan, call)
            except ProviderError as error:
                following = self._following(plan, plans, call, error)
                self._fail(plan, call, error, is_last=following is None)
                if following is None:
                    raise
                if following is not plan:
                    self._at_this_target = 0
                plan = following
                time.sleep(retry.delay_s(attempt=self._at_this_target + 1, error=error, random=random.random))
            except BaseException:
                call.settle(defect())
                raise
            else:
                self._note_success(plan, call, exchange)
                return Asked(plan, call, exchange, answer, self._attempt, self._ledger_s, self._room)

    def from_cache(self, plan: Plan, *, saving: dict[str, str]) -> SettleRow | None:
        """Book an answer that needs no provider: held against limits on requests, used nothing, settled at once."""
        self._attempt += 1
        nothing = msgspec.structs.replace(plan, bound_usd=ZERO_USD, bound_tokens=0)
        call = self._hold(nothing)
        return call.settle(
            Ending(
                outcome="cached",
                usage=Usage(raw=saving),
                served_name=plan.target.upstream_name,
                may_have_billed=False,
            )
        )

    # --- hold ---------------------------------------------------------------------------------------------

    def _hold(self, plan: Plan) -> OpenCall:
        """Commit the hold of this attempt, with the row of the one before it."""
        hold, failed = self._hold_row(plan), self._failed
        held_from = time.monotonic()
        verdict = self._committed(hold)
        waited_s = time.monotonic() - held_from
        self._ledger_s += waited_s
        metrics.record_ledger_wait(op="hold", wait_s=waited_s)
        if verdict.refusal is not None:
            if verdict.refusal.why == "idempotency":
                raise Taken
            # Nothing was held: the only call in the books is the attempt that failed before.
            raise refused(
                verdict.refusal,
                snapshot=self._snapshot,
                call_id=str(failed.id) if failed is not None else "",
                room=verdict.room,
            )
        self._room = verdict.room
        return OpenCall(
            runtime=self._runtime,
            snapshot=self._snapshot,
            hold=hold,
            target=plan.target,
            sheet=plan.sheet,
            input_estimate=plan.input_estimate,
            client=self._caller.client,
            bills=plan.bills,
        )

    def _committed(self, hold: HoldRow) -> Verdict:
        failed, self._failed = self._failed, None
        try:
            if failed is None:
                return self._runtime.writer.hold(hold)
            return self._runtime.writer.settle_and_hold(failed, hold)
        except LedgerUnavailable as error:
            log.warning("hold_refused", extra={"reason": str(error)})
            raise ledger_unavailable() from None
        except LedgerRejected as error:
            log.error("hold_rejected", extra={"reason": str(error)})
            raise ApiError("internal_error", "The ledger rejected this call; nothing was sent.") from None

    def _hold_row(self, plan: Plan) -> HoldRow:
        principal, claim = self._caller.principal, self._caller.idempotency
        return HoldRow(
            id=call_id(request_id=self._request_id, attempt=self._attempt),
            request_id=self._request_id,
            attempt=self._attempt,
            key=principal.key_id,
            user=principal.user_id,
            team=principal.team_id,
            model=plan.target.model_id,
            provider=plan.target.provider_id,
            sheet=plan.sheet.id if plan.sheet is not None else None,
            surface=self._surface,
            name=plan.admitted.model[:200],
            streamed=plan.admitted.stream,
            tags={**plan.admitted.metadata, **self._caller.tags},
            usd=plan.bound_usd,
            tokens=plan.bound_tokens,
            limits=tuple(limit.id for limit in plan.limits),
            deadline_s=plan.deadlines.total_s + HOLD_MARGIN_S,
            idempotency=claim.text_sha256 if claim is not None else None,
            body_sha256=claim.body_sha256 if claim is not None else None,
        )

    # --- send ---------------------------------------------------------------------------------------------

    def _send(self, plan: Plan, call: OpenCall) -> tuple[Exchange, bytes | None]:
        """One attempt: the exchange, and the whole answer unless it streams."""
        faults.point("held")
        left_s = plan.deadlines.total_s - self._elapsed_s()
        exchange = plan.adapter.send(
            body=plan.body,
            model=plan.target.upstream_name,
            stream=plan.admitted.stream,
            deadlines=msgspec.structs.replace(plan.deadlines, total_s=max(0.05, left_s)),
            idempotency_key=str(call.hold.request_id),
            operation=plan.operation,
            line=call.line,
        )
        call.exchange = exchange
        faults.point("dispatched")
        if plan.admitted.stream and not _is_whole(plan, exchange):
            return exchange, None
        answer = exchange.body()
        faults.point("upstream_done")
        return exchange, answer

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

    # --- after a failure ----------------------------------------------------------------------------------

    def _following(self, plan: Plan, plans: Iterator[Plan], call: OpenCall, error: ProviderError) -> Plan | None:
        """The plan to try next: the same again, the route's next, or none."""
        if call.interrupted or self._attempt >= MAX_ATTEMPTS or self._client_is_gone():
            return None
        budget = self._runtime.retry_budget(plan.target.provider_id)
        again = retry.should_retry(
            error=error,
            attempt=self._at_this_target,
            max_retries=plan.adapter.config.max_retries,
            elapsed_s=self._elapsed_s(),
            deadline_s=plan.deadlines.total_s,
            bytes_sent_to_client=False,
        )
        if again and budget.take():
            return plan
        if routing.may_fall_back(error) and self._elapsed_s() < plan.deadlines.total_s:
            return next(plans, None)
        return None

    def _client_is_gone(self) -> bool:
        client = self._caller.client
        return client is not None and bool(closed([client]))

    def _fail(self, plan: Plan, call: OpenCall, error: ProviderError, *, is_last: bool) -> None:
        """End a failed attempt: committed now when it is the last, else with the next hold."""
        ending = ending_of_error(error)
        if call.interrupted:
            ending = msgspec.structs.replace(
                ending,
                outcome="cancelled",
                error_code=call.interrupted,
                unknown_reason=f"{call.interrupted}: the provider may have billed it",
            )
        elif error.retryable:
            self._runtime.breaker(plan.target.model_id).record(ok=False)
        error.call_id = str(call.hold.id)  # type: ignore[attr-defined]
        row = call.end(ending)
        if row is None:
            raise error
        record(row, plan=plan, hold=call.hold, upstream_s=time.monotonic() - call.started)
        if is_last:
            self._runtime.writer.settle(row)
        else:
            self._failed = row

    def _note_success(self, plan: Plan, call: OpenCall, exchange: Exchange) -> None:
        self._runtime.breaker(plan.target.model_id).record(ok=True)
        if plan.bills:  # how fast a model counts says nothing of how fast it answers
            self._runtime.first_bytes(plan.target.model_id).note(max(0.0, exchange.first_byte_at - call.started))


def _is_whole(plan: Plan, exchange: Exchange) -> bool:
    """Whether a stream was asked for in vain: a model that has none answers its medium in JSON, and bills it."""
    return plan.operation in MEDIA and exchange.headers.get("content-type", "").lower().startswith("application/json")


def defect() -> Ending:
    """A defect of ours after the hold: the provider may have been asked."""
    return Ending(
        outcome="failed",
        usage=Usage(),
        error_code="internal_error",
        unknown_reason="the gateway failed while the provider may have been at work",
    )
