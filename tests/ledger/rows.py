"""Holds and settles for tests that write the ledger themselves."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
from django.db import connection

from ledger.ids import call_id, new_request_id
from ledger.models import ApiKey, Limit
from ledger.rows import HoldRow, SettleRow, encode
from providers.models import Model


def make_hold(
    *, key: ApiKey, model: Model, limits: tuple[Limit, ...] = (), attempt: int = 1, request_id: UUID | None = None,
    **fields: Any,
) -> HoldRow:
    """A hold of 1 USD and 100 tokens."""
    request_id = request_id or new_request_id()
    values: dict[str, Any] = {
        "sheet": None, "surface": "chat", "name": model.name, "streamed": False, "tags": {}, "usd": Decimal(1),
        "tokens": 100, "deadline_s": 60.0, **fields,
    }  # fmt: skip
    return HoldRow(
        id=call_id(request_id=request_id, attempt=attempt), request_id=request_id, attempt=attempt, key=key.pk,
        user=key.user_id, team=key.team_id, model=model.pk, provider=model.provider_id,
        limits=tuple(limit.pk for limit in limits), **values,
    )  # fmt: skip


def make_settle(hold: HoldRow, **fields: Any) -> SettleRow:
    """A settle of 0.25 USD and 10 + 5 tokens."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "outcome": "ok", "started_at": now, "finished_at": now, "duration_ms": 5, "cost_usd": Decimal("0.25"),
        "cost_source": "computed", "input_tokens": 10, "output_tokens": 5, "meters": {"input": 10, "output": 5},
        "usage_source": "reported", **fields,
    }  # fmt: skip
    return SettleRow(id=hold.id, **values)


class Pen:
    """A registered writer, one batch at a time, on Django's own connection."""

    def __init__(self, *, lease_s: float = 60.0) -> None:
        self.id = uuid4()
        self.seq = 0
        self._lease_s = lease_s
        with connection.cursor() as cursor:
            cursor.execute("SELECT ledger_register_writer(%s, 'test', 1, %s)", [self.id, lease_s])

    def write(
        self, *, settles: list[SettleRow] | None = None, holds: list[HoldRow] | None = None, seq: int | None = None
    ) -> dict[str, Any] | None:
        """Send a batch; the database's answer. Advances the seq unless one is given."""
        sent = self.seq + 1 if seq is None else seq
        parts = [b"[" + b",".join(map(encode, rows)) + b"]" if rows else b"" for rows in (settles or [], holds or [])]
        digest = hashlib.sha256(b"\0".join(parts)).digest()
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT ledger_write(%s, %s, %s, %s, %s::jsonb, %s::jsonb)",
                [self.id, sent, digest, self._lease_s, *(part.decode() or None for part in parts)],
            )
            (answer,) = cursor.fetchone()
        if seq is None:
            self.seq = sent
        decoded = msgspec.json.decode(answer) if isinstance(answer, str) else answer
        return decoded if decoded is None else dict(decoded)
