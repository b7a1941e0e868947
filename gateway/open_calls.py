"""One attempt in flight: from the commit of its hold to the one commit that ends it."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from gateway.idempotency import resolved
from gateway.settlement import Ending, estimated, settle_row
from gateway.snapshot import Snapshot, Target
from ledger.rating import Sheet
from ledger.rows import HoldRow, SettleRow
from providers.http import Exchange
from providers.line import Line
from providers.unified import Usage

if TYPE_CHECKING:
    from gateway.runtime import Runtime

Interruption = Literal["key_revoked", "client_gone", "gateway_stopped"]
# Reading on after the client has left, for the provider's final usage: how long, and how many at once.
DRAIN_S = 60.0
_draining = threading.BoundedSemaphore(64)


class Progress(Protocol):
    """What has been seen of an answer so far."""

    @property
    def usage(self) -> Usage: ...
    @property
    def output_bytes(self) -> int: ...
    @property
    def model(self) -> str: ...


class OpenCall:
    """Ends exactly once, whoever comes first: its own thread, the client's leaving, or the stop of the process."""

    def __init__(
        self, *, runtime: Runtime, snapshot: Snapshot, hold: HoldRow, target: Target, sheet: Sheet | None,
        input_estimate: int | None, client: socket.socket | None = None, bills: bool = True,
    ) -> None:
        self.hold = hold
        self.started_at = datetime.now(UTC)
        self.started = time.monotonic()
        self.first_token_ms: int | None = None
        self.exchange: Exchange | None = None
        self.progress: Progress | None = None
        self.client = client
        self.line = Line()
        # Why this call was ended from outside, if it was; and how long it may go on without its client.
        self.interrupted: Interruption | None = None
        self.drains_until: float | None = None
        self._runtime = runtime
        self._snapshot = snapshot
        self._target = target
        self._sheet = sheet
        self._input_estimate = input_estimate
        self._bills = bills
        self._ended = False
        self._lock = threading.Lock()
        runtime.open_calls[id(self)] = self

    def end(self, ending: Ending) -> SettleRow | None:
        """The row that settles this call; None when it has ended already. The caller commits it."""
        with self._lock:
            if self._ended:
                return None
            self._ended = True
            drained = self.drains_until is not None
        if drained:
            _draining.release()
        self._runtime.open_calls.pop(id(self), None)
        if not self._bills:
            ending = msgspec.structs.replace(ending, may_have_billed=False)
        row = settle_row(
            ending,
            call_id=self.hold.id,
            sheet=self._sheet_of(ending.served_name),
            held_sheet_id=self.hold.sheet,
            started_at=self.started_at,
            # By the monotonic clock: the machine's own may be set, back or forth, while a call is open.
            finished_at=self.started_at + timedelta(seconds=time.monotonic() - self.started),
            first_token_ms=self.first_token_ms,
        )
        return resolved(row) if self.hold.idempotency is not None else row

    def settle(self, ending: Ending) -> SettleRow | None:
        """End the call and commit its row."""
        row = self.end(ending)
        if row is not None:
            self._runtime.writer.settle(row)
        return row

    def usage_so_far(self) -> tuple[Usage, str]:
        """Usage and served model of an answer that broke off: what was reported, the rest estimated from its text."""
        seen = self.progress
        if seen is None:
            return Usage(), ""
        if seen.usage.source == "reported" and seen.usage.totals:
            # It failed in its very last event, which told what it used all the same.
            return seen.usage, seen.model
        usage = estimated(seen.usage, input_tokens=self._input_estimate, output_bytes=seen.output_bytes)
        return usage, seen.model

    def settled_usage(self, usage: Usage, *, output_bytes: int) -> Usage:
        """The usage of a whole answer: as reported, or estimated where the provider reported none."""
        if (usage.source == "reported" and usage.totals) or not self._bills:
            return usage
        return estimated(usage, input_tokens=self._input_estimate, output_bytes=output_bytes)

    def note_first_token(self) -> None:
        if self.first_token_ms is None:
            self.first_token_ms = int((time.monotonic() - self.started) * 1000)

    def may_drain(self) -> bool:
        """Whether the provider is read on without the client: where stopping saves nothing, for DRAIN_S at most."""
        with self._lock:
            may_begin = self.drains_until is None and self._target.drains and not self._ended
            if may_begin and _draining.acquire(blocking=False):
                self.drains_until = time.monotonic() + DRAIN_S
            return self.drains_until is not None

    def interrupt(self, why: Interruption) -> None:
        """Stop the call, wherever it is: the thread that relays it settles and tells the client."""
        self.interrupted = why
        self.line.cut()
        if self.exchange is not None:
            self.exchange.abort()

    def cut(self) -> None:
        """The process stops: settle with what was seen, here and now."""
        usage, served = self.usage_so_far()
        exchange = self.exchange
        self.settle(
            Ending(
                outcome="cancelled",
                usage=usage,
                served_name=served,
                upstream_request_id=exchange.upstream_request_id if exchange else "",
                http_status=exchange.status if exchange else None,
                error_code="gateway_stopped",
                unknown_reason="the gateway stopped while the provider was at work",
            )
        )
        self.interrupt("gateway_stopped")

    def _sheet_of(self, served_name: str) -> Sheet | None:
        """The held sheet, or that of another catalog model which the provider says it served."""
        served = self._snapshot.served_model(provider=self._target.provider_id, served_name=served_name)
        if served is None or served == self._target.model_id:
            return self._sheet
        return self._snapshot.prices.sheet_at(model_id=served, at=self.started_at) or self._sheet
