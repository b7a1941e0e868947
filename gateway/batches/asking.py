"""One line of a batch, asked as its surface would: an answer, an error, or a reason to ask again later."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from gateway.api import parsing
from gateway.api.surface import known_error
from gateway.asking import Caller
from gateway.batches.lines import Line
from gateway.batches.results import Record
from gateway.errors import ApiError
from gateway.idempotency import Idempotency
from gateway.keyring import Principal
from gateway.relay import Whole, relay
from gateway.runtime import Runtime
from ledger.ids import new_request_id
from providers.wire import anthropic_messages, openai_chat, openai_completions, openai_embeddings, openai_responses
from providers.wire.base import Wire

# What a batch may ask for: path -> surface and wire.
ENDPOINTS: Mapping[str, tuple[str, Wire]] = {
    "/v1/chat/completions": ("chat", openai_chat.WIRE),
    "/v1/responses": ("responses", openai_responses.WIRE),
    "/v1/completions": ("completions", openai_completions.WIRE),
    "/v1/embeddings": ("embeddings", openai_embeddings.WIRE),
    "/v1/messages": ("messages", anthropic_messages.WIRE),
}
# A limit may be raised, or room be made by a call that cost less than was held: worth a look before it resets.
LONGEST_WAIT_S = 30.0
# How often a line is asked anew where the provider itself has no room, beyond the retries of each call.
MOST_BUSY_ANSWERS = 8
_BUSY = ("provider_rate_limited", "provider_overloaded")


class Later(Struct, frozen=True):
    """Not now: `wait_s` for every line of this model, or for this line alone."""

    number: int
    model: str
    wait_s: float
    reason: str
    line_only: bool = False
    is_busy: bool = False


def ask(
    line: Line, *, batch_id: str, endpoint: str, runtime: Runtime, principal: Principal, earlier_busy: int = 0
) -> Record | Later:
    """Ask for one line; what it costs is in the books when this returns. Raises nothing that a line may cause.

    `earlier_busy`: how often this line's provider was too busy already.
    """
    surface, wire = ENDPOINTS[endpoint]
    request_id = new_request_id()
    try:
        answer = relay(
            runtime=runtime,
            wire=wire,
            surface=surface,
            body=parsing.checked(line.body),
            caller=Caller(
                principal=principal,
                tags={"batch": batch_id},
                idempotency=_claim(line, batch_id=batch_id, surface=surface),
            ),
            request_id=request_id,
        )
    except Exception as error:  # told as any surface tells it; a defect is logged there
        known = known_error(error)
        return _later(line, known, earlier_busy) or _refused(line, error, known, wire=wire, request_id=str(request_id))
    # A line that asks for a stream was refused before.
    assert isinstance(answer, Whole)
    shown = answer.headers.get("X-Request-Id", str(request_id))
    return Record(line.number, line.custom_id, status=200, request_id=shown, body=answer.body)


def _claim(line: Line, *, batch_id: str, surface: str) -> Idempotency:
    """Stable: whoever asks for this line again is given the first answer. No client can send a key with a NUL."""
    text = f"batch\0{batch_id}\0{line.number}"
    return Idempotency(
        hashlib.sha256(text.encode()).hexdigest(), hashlib.sha256(surface.encode() + b"\0" + line.body).hexdigest()
    )


def _later(line: Line, error: ApiError, earlier_busy: int) -> Later | None:
    """When to ask again, where that may help."""
    told_s = float(error.headers.get("Retry-After", LONGEST_WAIT_S))
    wait_s = min(told_s, LONGEST_WAIT_S)
    if error.code in ("limit_reached", "ledger_unavailable"):
        return Later(line.number, line.model, wait_s, error.message)
    if error.code == "idempotency_conflict" and "Retry-After" in error.headers:
        # A worker that died was at it: its call is about to be closed.
        return Later(line.number, line.model, wait_s, error.message, line_only=True)
    if error.code in _BUSY and earlier_busy < MOST_BUSY_ANSWERS:
        backoff_s = wait_s if "Retry-After" in error.headers else min(2.0**earlier_busy, LONGEST_WAIT_S)
        return Later(line.number, line.model, backoff_s, error.message, is_busy=True)
    return None


def _refused(line: Line, error: Exception, known: ApiError, *, wire: Wire, request_id: str) -> Record:
    body = wire.encode_error(
        status=known.status,
        code=known.code,
        message=known.message,
        param=known.param,
        request_id=request_id,
        call_id=getattr(error, "call_id", "") or "",
    )
    return Record(line.number, line.custom_id, status=known.status, request_id=request_id, body=body)
