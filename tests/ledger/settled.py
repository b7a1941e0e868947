"""Calls of a chosen instant, written as a writer does: with their rollups, windows and batch."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger import ids
from ledger.models import ApiKey, Call, Limit
from providers.models import Model
from tests.ledger.rows import Pen, make_hold, make_settle

_number = itertools.count(1)


def request_id_at(at: datetime) -> UUID:
    """A request id of an instant, as a UUIDv7."""
    return UUID(int=ids.floor(at).int | 7 << 76 | 2 << 62 | next(_number) << 8)


def settle_at(
    at: datetime, *, key: ApiKey, model: Model, limits: tuple[Limit, ...] = (), pen: Pen | None = None, **fields: Any
) -> Call:
    """One settled call of the instant `at`; `sheet` goes to its hold, the rest to its settle."""
    pen = pen or Pen()
    hold = make_hold(key=key, model=model, limits=limits, request_id=request_id_at(at), sheet=fields.pop("sheet", None))
    pen.write(holds=[hold])
    pen.write(settles=[make_settle(hold, **{"started_at": at, "finished_at": at, **fields})])
    return Call.objects.get(pk=hold.id)
