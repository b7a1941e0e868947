"""Idempotency-Key: the same key and body give the same answer once more, without another call.

The claim commits with the hold and the answer with the settle, so no crash lies between. What happened stands in
ledger.models.IdempotencyKey; this module says what a second request gets.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from django.db import connection
from django.utils import timezone
from msgspec import Struct

from gateway.errors import ApiError
from ledger.models import IdempotencyKey
from ledger.rows import Claim, SettleRow
from providers import fields
from providers.wire import forms

MAX_ANSWER_BYTES = 1024 * 1024
_TEXT = re.compile(r"[\x21-\x7e]{1,255}")


class Idempotency(Struct, frozen=True):
    """What a request claims: hashes only, for its key's text may be telling."""

    text_sha256: str
    body_sha256: str


class Kept(NamedTuple):
    """An answer given before. `streamed`: it was a stream, and is one again."""

    body: bytes
    headers: dict[str, str]
    streamed: bool

    def chunks(self) -> Iterator[bytes]:
        return iter((self.body,))


def read(text: str | None, *, surface: str, body: bytes) -> Idempotency | None:
    """The claim of a request with this header. Raises ApiError invalid_request."""
    if text is None:
        return None
    if not _TEXT.fullmatch(text):
        raise ApiError(
            "invalid_request", "Idempotency-Key must be 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )
    if forms.is_form(body):
        body = forms.without_boundary(body)
    return Idempotency(
        hashlib.sha256(text.encode()).hexdigest(), hashlib.sha256(surface.encode() + b"\0" + body).hexdigest()
    )


def earlier(*, key_id: int, claim: Idempotency) -> Kept | None:
    """What became of the request that holds the claim: its answer; None when it let go of it meanwhile.

    Raises ApiError: still running, another body, outcome unknown, or an answer too large to have been kept.
    """
    try:
        record = IdempotencyKey.objects.filter(
            key_id=key_id, text_sha256=claim.text_sha256, expires_at__gt=timezone.now()
        ).first()
    finally:
        # The thread may stream for minutes: it keeps no connection meanwhile.
        connection.close()
    if record is None:
        return None
    call = str(record.call_id or "")
    if record.body_sha256 != claim.body_sha256:
        raise ApiError(
            "idempotency_mismatch", "This Idempotency-Key was used with another body: use a new key.", call_id=call
        )
    if record.state == IdempotencyKey.State.RUNNING:
        raise ApiError(
            "idempotency_conflict", "The first request with this Idempotency-Key is still running.", retry_after_s=1
        )
    if record.state == IdempotencyKey.State.INDETERMINATE:
        raise ApiError(
            "idempotency_indeterminate",
            f"The request with this Idempotency-Key broke off; the provider may have answered it. Call {call} is in "
            "the ledger. Use a new key to ask again.",
            call_id=call,
        )
    if not record.answer_encrypted:
        raise ApiError(
            "idempotency_conflict",
            f"The request with this Idempotency-Key was answered, but its answer was too large to keep. Call {call}.",
            call_id=call,
        )
    headers = {**record.headers, "Idempotent-Replayed": "true"}
    return Kept(fields.decrypt(record.answer_encrypted), headers, headers.pop("streamed", "") == "true")


def prune() -> int:
    """Delete the claims that are past their time, with their answers; not those of requests in flight. How many."""
    ended = IdempotencyKey.objects.filter(expires_at__lte=timezone.now()).exclude(state=IdempotencyKey.State.RUNNING)
    return ended.delete()[0]


def resolved(
    row: SettleRow, *, answer: bytes | None = None, headers: dict[str, str] | None = None, streamed: bool = False
) -> SettleRow:
    """The settle of a request's last attempt, with what becomes of its claim."""
    if answer is None:
        return msgspec.structs.replace(row, claim=_without_answer(row))
    kept = {name: value for name, value in (headers or {}).items() if name.startswith(("X-Tollbook-", "Content-Type"))}
    return msgspec.structs.replace(
        row,
        claim="done",
        answer_headers={**kept, "streamed": str(streamed).lower()},
        answer_encrypted=fields.encrypt(answer) if len(answer) <= MAX_ANSWER_BYTES else "",
    )


def _without_answer(row: SettleRow) -> Claim:
    """No work done: the key is free again. Otherwise nobody may ask twice without saying so."""
    return "release" if row.cost_usd is not None and row.cost_usd == 0 else "indeterminate"
