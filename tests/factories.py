"""Small factories for everyone's tests: each makes one valid row, and what the row needs, from keyword arguments."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User

from ledger import ids
from ledger.models import ApiKey, Call, Limit, PriceSheet, Rate, Team
from providers.models import Alias, Model, Provider

_number = itertools.count(1)

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def make_user(*, username: str | None = None, staff: bool = False, superuser: bool = False) -> User:
    """A user without a password; log in with `client.force_login`."""
    return User.objects.create_user(
        username or f"user-{next(_number)}", is_staff=staff or superuser, is_superuser=superuser
    )


def make_team(*, name: str | None = None) -> Team:
    return Team.objects.create(name=name or f"team-{next(_number)}")


def make_key(
    *,
    user: User | None = None,
    team: Team | None = None,
    name: str = "",
    scopes: Sequence[str] = ("call",),
    allowed_models: Sequence[str] = (),
    secret: str | None = None,
    **fields: Any,
) -> ApiKey:
    """An API key whose text is `key_text(key, secret=...)`; give the secret when the test needs to send it."""
    secret = secret or secrets.token_hex(20)
    return ApiKey.objects.create(
        public_id=secrets.token_hex(6),
        secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
        name=name or f"key-{next(_number)}",
        user=user or make_user(),
        team=team,
        scopes=list(scopes),
        allowed_models=list(allowed_models),
        **fields,
    )


def key_text(key: ApiKey, *, secret: str) -> str:
    """What a client sends."""
    return f"tb_live_{key.public_id}_{secret}"


def make_provider(*, name: str | None = None, adapter: str = "sandbox", **fields: Any) -> Provider:
    return Provider.objects.create(name=name or f"provider-{next(_number)}", adapter=adapter, **fields)


def make_model(
    *,
    name: str | None = None,
    provider: Provider | None = None,
    upstream_name: str | None = None,
    aliases: Sequence[str] = (),
    **fields: Any,
) -> Model:
    name = name or f"model-{next(_number)}"
    model = Model.objects.create(
        name=name, provider=provider or make_provider(), upstream_name=upstream_name or name, **fields
    )
    Alias.objects.bulk_create(Alias(name=alias, model=model) for alias in aliases)
    return model


def make_sheet(
    *,
    model: Model | None = None,
    book: str = "list",
    valid_from: datetime = LONG_AGO,
    rates: Mapping[str, str] | None = None,
    per: int = 1_000,
    published: bool = True,
    **fields: Any,
) -> PriceSheet:
    """A price sheet; `rates` is meter -> USD per `per` units (gpt-4's seed prices unless given)."""
    fields.setdefault("source", PriceSheet.Source.FILE)
    sheet = PriceSheet.objects.create(model=model or make_model(), book=book, valid_from=valid_from, **fields)
    amounts = {"input": "0.03", "output": "0.06"} if rates is None else rates
    for meter, amount in amounts.items():
        Rate.objects.create(
            sheet=sheet,
            meter=meter,
            amount_usd=Decimal(amount),
            per=per,
            zero_reason="" if Decimal(amount) else "free because a test says so",
        )
    if published:
        # Rates first, status second: a published sheet takes no rates.
        sheet.status = PriceSheet.Status.PUBLISHED
        sheet.published_at = datetime.now(UTC)
        sheet.save(update_fields=["status", "published_at"])
    return sheet


def make_limit(
    *, amount: str | Decimal = "10", metric: str = "usd", period: str = "day", **subject_and_fields: Any
) -> Limit:
    """A limit on the one of `key=`, `user=`, `team=`, `model=` given, or on everyone."""
    subject = next((name for name in ("key", "user", "team", "model") if name in subject_and_fields), "everyone")
    return Limit.objects.create(
        subject=subject, metric=metric, period=period, amount=Decimal(amount), **subject_and_fields
    )


def make_call(*, key: ApiKey | None = None, model: Model | None = None, **fields: Any) -> Call:
    """A settled call written straight into the table: no hold, no batch, no rollup. Costs 0.06 unless told."""
    key = key or make_key()
    model = model or make_model()
    now = datetime.now(UTC)
    call_id = fields.pop("id", None) or ids.call_id(request_id=ids.new_request_id(), attempt=1)
    values: dict[str, Any] = {
        "request_id": uuid.UUID(int=call_id.int & ~0xFF),
        "attempt": call_id.int & 0xFF,
        "writer_id": uuid.UUID(int=1),
        "batch_seq": 1,
        "position": next(_number),
        "team": key.team,
        "surface": "chat",
        "requested_name": model.name,
        "outcome": Call.Outcome.OK,
        "http_status": 200,
        "streamed": False,
        "started_at": now,
        "finished_at": now,
        "duration_ms": 120,
        "input_tokens": 1000,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 500,
        "reasoning_tokens": 0,
        "meters": {"input": 1000, "output": 500},
        "usage_source": Call.UsageSource.REPORTED,
        "cost_usd": Decimal("0.06"),
        "cost_source": Call.CostSource.COMPUTED,
        "counted_usd": Decimal("0.06"),
        "counted_tokens": 1500,
        "windows": [],
        **fields,
    }
    return Call.objects.create(id=call_id, key=key, user=key.user, model=model, provider=model.provider, **values)
