"""Batches as a writer sends them, one statement each, for tests that look at what the database makes of them."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

from ledger import ids
from ledger.models import ApiKey, PriceSheet
from ledger.rows import HoldRow, SettleRow, encode
from tests import factories

LEASE_S = 15.0


class Sender:
    """One registered writer. `seq` is that of its last committed batch."""

    def __init__(self) -> None:
        self.id = uuid.uuid4()
        self.seq = 0
        self.slot: int = _one("SELECT ledger_register_writer(%s, 'test', 1, %s)", self.id, LEASE_S)

    def write(
        self, *, settles: Sequence[SettleRow] = (), holds: Sequence[HoldRow] = (), seq: int | None = None
    ) -> dict[str, Any] | None:
        """Send a batch; the next one unless `seq` is given. Returns the answer. Raises django.db.Error."""
        settled, held = _array(settles), _array(holds)
        wanted = self.seq + 1 if seq is None else seq
        digest = hashlib.sha256(f"{settled}|{held}".encode()).digest()
        answer = _one(
            "SELECT ledger_write(%s, %s, %s, %s, %s::jsonb, %s::jsonb)", self.id, wanted, digest, LEASE_S, settled, held
        )
        self.seq = max(self.seq, wanted)
        decoded: dict[str, Any] | None = json.loads(answer) if isinstance(answer, str) else answer
        return decoded


def make_hold(
    *, key: ApiKey, sheet: PriceSheet, usd: str | None = "1", tokens: int = 2000, limits: Sequence[int] = (),
    at: datetime | None = None, dispatched: bool = True,
) -> HoldRow:  # fmt: skip
    """A hold of a new request of the instant `at`."""
    request_id = ids.new_request_id()
    if at is not None:
        request_id = UUID(int=ids.floor(at).int | request_id.int & (1 << 80) - 1)
    return HoldRow(
        id=ids.call_id(request_id=request_id, attempt=1), request_id=request_id, attempt=1, key=key.pk,
        user=key.user_id, team=key.team_id, model=sheet.model_id, provider=sheet.model.provider_id, sheet=sheet.pk,
        surface="chat", name=sheet.model.name, streamed=False, tags={}, usd=None if usd is None else Decimal(usd),
        tokens=tokens, limits=tuple(limits), deadline_s=600, dispatched=dispatched,
    )  # fmt: skip


def make_settle(hold: HoldRow, **fields: Any) -> SettleRow:
    """How a held call ended: 1,000 in and 500 out at gpt-4's seed prices, 0.06, unless told."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "outcome": "ok", "started_at": now, "finished_at": now, "duration_ms": 5, "cost_usd": Decimal("0.06"),
        "cost_source": "computed", "http_status": 200, "input_tokens": 1000, "output_tokens": 500,
        "meters": {"input": 1000, "output": 500}, "usage_source": "reported", **fields,
    }  # fmt: skip
    return SettleRow(id=hold.id, **values)


def unknown(hold: HoldRow) -> SettleRow:
    """The end of a call whose process died: what it cost nobody knows."""
    return make_settle(
        hold, outcome="abandoned", cost_usd=None, cost_source="unknown", unpriced_reason="the process died",
        http_status=None, input_tokens=0, output_tokens=0, meters={}, usage_source="none",
    )  # fmt: skip


def make_priced() -> tuple[ApiKey, PriceSheet]:
    """A key in a team, and a sheet with gpt-4's seed prices."""
    return factories.make_key(team=factories.make_team()), factories.make_sheet()


def _array(rows: Sequence[HoldRow | SettleRow]) -> str | None:
    return "[" + ",".join(encode(row).decode() for row in rows) + "]" if rows else None


def _one(sql: str, *values: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0]
