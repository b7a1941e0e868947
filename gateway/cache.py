"""The response cache: an answer given before, given again without a call upstream, where the client asks for that.

Exact match of the request, opt-in by key or by header, never shared between teams (or users without one). What is kept
is encrypted. A hit is a call in the books all the same: outcome `cached`, cost 0, the saving noted.
"""

from __future__ import annotations

import hashlib
import logging
from decimal import Decimal
from typing import Literal

import msgspec
import orjson
from cryptography.fernet import InvalidToken
from django.conf import settings
from django.core.cache import caches
from msgspec import Struct

from gateway.errors import ApiError
from gateway.idempotency import MAX_ANSWER_BYTES, Kept
from gateway.keyring import Principal
from gateway.plan import Plan
from providers import fields
from providers.wire.base import Admitted

log = logging.getLogger("tollbook.cache")

Mode = Literal["read", "write", "off"]
# What is asked for in JSON and answered in JSON; forms and sounds are not kept.
_OPERATIONS = ("chat", "responses", "completions", "embeddings", "rerank")
# What tells nothing about the answer that is wanted.
_IRRELEVANT = ("metadata", "user", "drop_unsupported")


class Entry(Struct, frozen=True):
    """A kept answer, and what the call that made it was and cost."""

    answer: bytes
    headers: dict[str, str]
    streamed: bool
    call_id: str
    cost_usd: Decimal | None

    def kept(self) -> Kept:
        return Kept(self.answer, dict(self.headers), self.streamed)


def mode(text: str | None, *, principal: Principal) -> Mode:
    """`X-Tollbook-Cache`: read (and keep what is not there yet), write (ask anew and keep), off. Raises ApiError.

    Without the header the key decides.
    """
    if text is None:
        return "read" if principal.reads_cache else "off"
    match text.strip().lower():
        case "read":
            return "read"
        case "write":
            return "write"
        case "off":
            return "off"
    raise ApiError("invalid_request", "X-Tollbook-Cache is read, write or off.", param="X-Tollbook-Cache")


def applies(*, mode: Mode, admitted: Admitted) -> bool:
    """Whether the answer to this request may come from the cache, or go there."""
    return mode != "off" and admitted.operation in _OPERATIONS


def key_of(*, plan: Plan, surface: str, principal: Principal) -> str:
    """The name of an answer: whose, which model, and the request in canonical form."""
    whose = f"team:{principal.team_id}" if principal.team_id is not None else f"user:{principal.user_id}"
    request = {
        name: msgspec.json.decode(value)
        for name, value in plan.admitted.fields.items()
        if name not in _IRRELEVANT and name != "model"
    }
    # Numbers are compared as they are read: 1 and 1.0 are two requests, which costs a call and never a wrong answer.
    canonical = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(canonical).hexdigest()
    return f"answer:{whose}:{surface}:{plan.target.model_id}:{digest}"


def look_up(key: str) -> Entry | None:
    """The entry of that name, if it is there and can be read."""
    try:
        token = caches["default"].get(key)
    except Exception:
        # A cache server that is away makes every look-up a miss; which exception says so is its client's affair.
        log.warning("cache_away", exc_info=True)
        return None
    if not isinstance(token, str):
        return None
    try:
        return msgspec.msgpack.decode(fields.decrypt(token), type=Entry)
    except (InvalidToken, msgspec.DecodeError):
        # Kept under a key that is gone, or by another version: a miss.
        return None


def keep(key: str, entry: Entry) -> None:
    """Keep an answer for a while, unless it is too large."""
    if len(entry.answer) <= MAX_ANSWER_BYTES:
        caches["default"].set(key, fields.encrypt(msgspec.msgpack.encode(entry)), timeout=settings.CACHE_TTL_S)
