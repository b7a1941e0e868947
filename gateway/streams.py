"""A streamed answer, relayed event by event, and settled before its last one leaves."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from django.conf import settings

from gateway.idempotency import MAX_ANSWER_BYTES
from gateway.open_calls import OpenCall
from gateway.settlement import Ending, ending_of_error
from gateway.transit import Piece, transit
from gateway.watcher import hang_up
from ledger import faults
from ledger.money import format_usd
from ledger.rows import SettleRow
from providers.errors import ProviderError, StreamInterrupted
from providers.http import Exchange
from providers.wire.base import StreamDecoder, Wire, stream_decoder
from providers.wire.media import FileDecoder

if TYPE_CHECKING:
    from gateway.plan import Plan
    from gateway.relay import Settler

log = logging.getLogger("tollbook.streams")

# A comment, which clients skip: proxies on the way do not take a thinking provider for a dead connection.
HEARTBEAT = b": waiting for the provider\n\n"


class RelayedStream:
    """An iterator of bytes for the client. `close` (called by the server in every case) settles what is not settled."""

    def __init__(
        self,
        *,
        call: OpenCall,
        wire: Wire,
        plan: Plan,
        exchange: Exchange,
        settle: Settler,
        headers: dict[str, str],
        keeps: bool = False,
    ) -> None:
        self._call = call
        self._wire = wire
        self._plan = plan
        self._exchange = exchange
        # One iterator for relaying and draining: the exchange closes with it.
        self._raw = plan.admitted.raw_stream
        self._chunks = exchange.chunks(tick_s=None if self._raw else settings.HEARTBEAT_S or None)
        self._settle = settle
        self._transit = transit(client=wire, provider=plan.wire, admitted=plan.admitted)
        call.progress = self._transit
        self._decoder: StreamDecoder = FileDecoder() if self._raw else stream_decoder(plan.wire)
        self._settled = False
        self._headers = headers
        # What was sent, for the request's idempotency key or the cache; no more once it is too large.
        self._kept: bytearray | None = bytearray() if keeps else None
        self._pieces = self._relay()
        self._begun = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._begun = True
        return next(self._pieces)

    def close(self) -> None:
        """The client has all of it, or has gone."""
        if self._begun:
            self._pieces.close()
        elif not self._settled:
            self._client_gone()
        self._exchange.close()
        faults.point("answered")

    # --- inside -------------------------------------------------------------------------------------------

    def _relay(self) -> Generator[bytes, None, None]:
        try:
            for chunk in self._chunks:
                if not chunk:
                    yield HEARTBEAT
                    continue
                data, broken = self._seen(chunk)
                if data:
                    yield data
                if broken is not None:
                    raise broken
            if not self._settled:
                yield self._ended()
        except GeneratorExit:
            if not self._settled:
                self._client_gone()
            raise
        except ProviderError as error:
            if self._settled:
                # The answer is whole and in the books; only its connection ended badly.
                log.info("stream_tail_broken", extra={"reason": error.message})
                return
            if self._call.interrupted == "client_gone":
                self._client_gone()
                return
            yield self._failed(error)
        except Exception:
            log.exception("stream_defect", extra={"call_id": str(self._call.hold.id)})
            yield self._failed(StreamInterrupted("The gateway failed while it relayed this answer."))

    def _seen(self, chunk: bytes) -> tuple[bytes, ProviderError | None]:
        """What one read of the provider's stream gives the client, and the error that ends it, if one does.

        Settles before the last piece is handed out.
        """
        out: list[bytes] = []
        try:
            for event in self._decoder.feed(chunk):
                if self._settled:
                    break  # nothing follows the last event
                piece = self._transit.see(event)
                if piece.data:
                    self._call.note_first_token()
                out.append(self._finish(piece) if piece.last else self._keep(piece.data))
        except ProviderError as error:
            return b"".join(out), error
        faults.point("mid_stream")
        return b"".join(out), None

    def _ended(self) -> bytes:
        """The provider's bytes ended without its last event: whole enough, or broken off."""
        out = []
        for event in self._decoder.end():
            piece = self._transit.see(event)
            out.append(self._finish(piece) if piece.last else self._keep(piece.data))
        if not self._settled:
            out.append(self._finish(self._transit.end()))
        return b"".join(out)

    def _finish(self, piece: Piece) -> bytes:
        seen = self._transit
        usage = self._call.settled_usage(seen.usage, output_bytes=seen.output_bytes)
        faults.point("upstream_done")
        row = self._end(
            Ending(
                outcome="ok",
                usage=usage,
                served_name=seen.model,
                upstream_request_id=self._exchange.upstream_request_id,
                http_status=self._exchange.status,
            ),
            answer=None if self._kept is None else bytes(self._kept + piece.data),
        )
        faults.point("settled")
        return self._cost_comment(row) + piece.data

    def _keep(self, data: bytes) -> bytes:
        if self._kept is not None and len(self._kept) <= MAX_ANSWER_BYTES:
            self._kept += data
        return data

    def _cost_comment(self, row: SettleRow | None) -> bytes:
        """A comment event, which clients skip: what the headers of a whole answer say."""
        if row is None or self._raw:
            return b""
        cost = f" cost_usd={format_usd(row.cost_usd)}" if row.cost_usd is not None else ""
        tokens = f" input_tokens={row.input_tokens} output_tokens={row.output_tokens}"
        return f": tollbook call_id={row.id}{cost}{tokens}\n\n".encode()

    def _failed(self, error: ProviderError) -> bytes:
        usage, served = self._call.usage_so_far()
        code, outcome = error.code, "failed"
        if self._call.interrupted:
            code, outcome = self._call.interrupted, "cancelled"
        self._end(
            Ending(
                outcome=outcome,  # type: ignore[arg-type]
                usage=usage,
                served_name=served,
                upstream_request_id=self._exchange.upstream_request_id,
                http_status=self._exchange.status,
                error_code=code,
                unknown_reason=ending_of_error(error).unknown_reason,
            )
        )
        if self._raw:
            return self._broken(error)
        return self._wire.encode_stream_error(
            status=error.client_status,
            code=code,
            message=error.message,
            request_id=str(self._call.hold.request_id),
            call_id=str(self._call.hold.id),
        )

    def _broken(self, error: ProviderError) -> bytes:
        """A file that is not whole has no place for an error: its connection ends before its end."""
        if self._call.client is None:
            raise error
        hang_up(self._call.client)
        return b""

    def _client_gone(self) -> None:
        """Nobody reads any more: stop the provider, or read on to its usage where stopping saves nothing."""
        if self._call.client is not None:
            hang_up(self._call.client)
        if not self._call.interrupted and self._call.may_drain():
            self._drain()
        usage, served = self._call.usage_so_far()
        self._exchange.close()
        self._end(
            Ending(
                outcome="cancelled",
                usage=usage,
                served_name=served,
                upstream_request_id=self._exchange.upstream_request_id,
                http_status=self._exchange.status,
                error_code="client_gone",
            )
        )

    def _drain(self) -> None:
        """Read on: the watcher ends the call when its time is over."""
        try:
            for chunk in self._chunks:
                for event in self._decoder.feed(chunk):
                    self._transit.see(event)
        except ProviderError as error:
            log.info("drain_broken", extra={"reason": error.message})

    def _end(self, ending: Ending, *, answer: bytes | None = None) -> SettleRow | None:
        self._settled = True
        return self._settle(ending, answer=answer, headers=self._headers)
