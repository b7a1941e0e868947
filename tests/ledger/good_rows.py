"""One good row for each table of ours, and what makes a copy of it as good: the ground that bad rows stand on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import uuid4

from django.db import connection

from gateway.models import BatchJob, StoredFile
from ledger.ids import call_id, new_request_id
from ledger.models import (
    Adjustment,
    Anchor,
    ArchivedBatch,
    ArchivedMonth,
    ArchivedRollup,
    ArchivedWindow,
    Call,
    IdempotencyKey,
    ReconcileFile,
    ReconcileRun,
    RerateRun,
    Writer,
)
from providers.models import HealthCheck, Route, RouteTarget
from tests import factories
from tests.ledger.rows import Pen, make_hold, make_settle

Changes = Mapping[str, str]
NOON = datetime(2026, 10, 5, 12, tzinfo=UTC)
SHA256 = hashlib.sha256(b"").hexdigest()
HEX = "md5(random()::text)"


class Good(NamedTuple):
    """`make` leaves a row in the table; `other` are the columns, as SQL, that its copy must not share with it."""

    make: Callable[[], object]
    other: Callable[[], Changes] = dict


def held_call() -> None:
    Pen().write(holds=[make_hold(key=factories.make_key(team=factories.make_team()), model=factories.make_model())])


def settled_call() -> Call:
    """A call with its batch, its writer and its daily sums."""
    key, model = factories.make_key(team=factories.make_team()), factories.make_model()
    hold, pen = make_hold(key=key, model=model), Pen()
    pen.write(holds=[hold])
    pen.write(settles=[make_settle(hold)])
    return Call.objects.get(pk=hold.id)


def make_adjustment() -> Adjustment:
    return Adjustment.objects.create(
        call=settled_call(), delta_usd=1, counted_delta_usd=1, reason="manual", reference="invoice-1"
    )


def make_window() -> None:
    limit = factories.make_limit()
    run("INSERT INTO ledger_limitwindow (limit_id, starts_at, used, held) VALUES (%s, now(), 0, 0)", limit.pk)


def make_anchor() -> None:
    settled_call()
    Anchor.objects.create(taken_at=NOON, writer=Writer.objects.get(), seq=1, head=b"\x01" * 32)


def make_archived_rollup() -> ArchivedRollup:
    numbers = dict.fromkeys((
        "calls", "unpriced_calls", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
        "reasoning_tokens", "cost_usd", "adjustments_usd",
    ), 1)  # fmt: skip
    return ArchivedRollup.objects.create(
        month=date(2025, 10, 1), day=date(2025, 10, 5), user_id=1, key_id=1, model_id=1, provider_id=1, outcome="ok",
        **numbers,
    )  # fmt: skip


def make_archived_month() -> ArchivedMonth:
    return ArchivedMonth.objects.create(
        month=date(2025, 10, 1), path="/x", sha256=SHA256, bytes=1, calls=1, archived_at=NOON, dropped_at=NOON
    )


def make_rerate_run() -> RerateRun:
    return RerateRun.objects.create(model=factories.make_model(), start=NOON, end=NOON.replace(day=6))


def make_reconcile_run() -> ReconcileRun:
    return ReconcileRun.objects.create(provider=factories.make_provider(), names=["costs.json"], sha256=SHA256)


def make_reconcile_file() -> ReconcileFile:
    return ReconcileFile.objects.create(run=make_reconcile_run(), name="costs.json", content=b"{}")


def make_idempotency_key() -> IdempotencyKey:
    return IdempotencyKey.objects.create(
        key=factories.make_key(), text_sha256=SHA256, body_sha256=SHA256, request_id=uuid4(), expires_at=NOON
    )


def make_alias() -> None:
    factories.make_model(aliases=["short"])


def make_route() -> Route:
    return Route.objects.create(name="smart")


def make_route_target() -> RouteTarget:
    factories.make_model()
    return RouteTarget.objects.create(route=make_route(), model=factories.make_model())


def make_health_check() -> HealthCheck:
    return HealthCheck.objects.create(
        provider=factories.make_provider(), checked_at=NOON, healthy=True, latency_ms=1.0
    )


def make_file() -> StoredFile:
    key = factories.make_key()
    return StoredFile.objects.create(
        id=f"file-{'0' * 32}", key=key, user=key.user, purpose="batch", filename="in.jsonl", size_bytes=2,
        sha256=SHA256, created_at=NOON,
    )  # fmt: skip


def make_batch_job() -> BatchJob:
    key = factories.make_key()
    return BatchJob.objects.create(
        id=f"batch_{'0' * 32}", key=key, user=key.user, endpoint="/v1/chat/completions",
        input_file_id=f"file-{'0' * 32}", completion_window="24h", created_at=NOON, expires_at=NOON,
    )  # fmt: skip


def draft() -> None:
    factories.make_sheet(published=False)


def other_call() -> Changes:
    request_id = new_request_id()
    identifier = call_id(request_id=request_id, attempt=1)
    return {"id": f"'{identifier}'", "request_id": f"'{request_id}'", "attempt": "1"}


def other_name() -> Changes:
    return {"name": HEX}


def other_key() -> Changes:
    return {"public_id": f"left({HEX}, 12)"}


def other_seq() -> Changes:
    return {"seq": "seq + 1"}


GOOD: dict[str, Good] = {
    "gateway_batchjob": Good(make_batch_job, lambda: {"id": f"'batch_' || {HEX}"}),
    "gateway_storedfile": Good(make_file, lambda: {"id": f"'file-' || {HEX}"}),
    "ledger_adjustment": Good(make_adjustment, lambda: {"reference": "'invoice-2'"}),
    "ledger_anchor": Good(make_anchor, other_seq),
    "ledger_apikey": Good(factories.make_key, other_key),
    "ledger_apikeyevent": Good(factories.make_key),
    "ledger_archivedbatch": Good(
        lambda: ArchivedBatch.objects.create(
            month=date(2025, 10, 1), writer_id=uuid4(), seq=1, count=1, positions=[1], rows=[b"x"]
        ),
        other_seq,
    ),
    "ledger_archivedmonth": Good(make_archived_month, lambda: {"month": "'2025-11-01'"}),
    "ledger_archivedrollup": Good(make_archived_rollup, lambda: {"day": "day + 1"}),
    "ledger_archivedwindow": Good(
        lambda: ArchivedWindow.objects.create(month=date(2025, 10, 1), window_id=1, used=Decimal(1)),
        lambda: {"window_id": "2"},
    ),
    "ledger_batch": Good(settled_call, other_seq),
    "ledger_call": Good(settled_call, other_call),
    "ledger_dailyspend": Good(settled_call, lambda: {"day": "day + 1"}),
    "ledger_hold": Good(held_call, other_call),
    "ledger_idempotencykey": Good(
        make_idempotency_key, lambda: {"request_id": "gen_random_uuid()", "text_sha256": HEX}
    ),
    "ledger_limit": Good(factories.make_limit, lambda: {"period": "'week'"}),
    "ledger_limitevent": Good(factories.make_limit),
    "ledger_limitwindow": Good(make_window, lambda: {"starts_at": "starts_at + interval '1 day'"}),
    "ledger_pricesheet": Good(draft),
    "ledger_pricesheetevent": Good(draft),
    "ledger_rate": Good(draft, lambda: {"meter": "'requests'"}),
    "ledger_rateevent": Good(draft),
    "ledger_reconcilefile": Good(make_reconcile_file),
    "ledger_reconcilerun": Good(make_reconcile_run),
    "ledger_reraterun": Good(make_rerate_run),
    # The one row that a migration made.
    "ledger_snapshotversion": Good(lambda: None),
    "ledger_team": Good(factories.make_team, other_name),
    "ledger_teamevent": Good(factories.make_team),
    "ledger_writer": Good(Pen, lambda: {"id": "gen_random_uuid()", "slot": "slot + 1"}),
    "providers_alias": Good(make_alias, other_name),
    "providers_aliasevent": Good(make_alias),
    "providers_healthcheck": Good(make_health_check),
    "providers_model": Good(factories.make_model, lambda: {"name": HEX, "upstream_name": HEX}),
    "providers_modelevent": Good(factories.make_model),
    "providers_provider": Good(factories.make_provider, other_name),
    "providers_providerevent": Good(factories.make_provider),
    "providers_route": Good(make_route, other_name),
    "providers_routetarget": Good(make_route_target, lambda: {"model_id": "(SELECT min(id) FROM providers_model)"}),
}


def run(sql: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values) or None)


def rows(sql: str, *values: Any) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(values) or None)
        return list(cursor.fetchall())


_COLUMNS = """
SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
  AND a.attidentity = '' ORDER BY a.attnum
"""


def copy_of(table: str, changes: Changes) -> str:
    """An INSERT of the table's newest row once more, but for `changes`: column -> SQL over that row."""
    columns = [str(name) for (name,) in rows(_COLUMNS, table)]
    columns += [column for column in changes if column not in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(changes.get(column, f'"{column}"') for column in columns)
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} ORDER BY ctid DESC LIMIT 1"
