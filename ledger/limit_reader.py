"""Reading limits: how much of each is used, held and left in its current period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import ROUND_UP, Decimal
from typing import Any

import msgspec
from django.db.models import DateTimeField, F, Func, OuterRef, Q, QuerySet, Subquery, Value
from django.utils import timezone

from ledger.models import ApiKey, Limit, LimitWindow
from providers.models import Model

_STEP = Decimal("1e-12")
_ZERO = Decimal(0)


class LimitState(msgspec.Struct, frozen=True, kw_only=True):
    """One limit now. Amounts are in the limit's metric: USD, tokens, requests or calls at once.

    used: in this period; of a sliding minute also the part of the minute before that still counts. held: reserved for
    calls in flight. remaining: never below zero. resets_at: None for a total, which never resets.
    """

    limit: Limit
    used: Decimal
    held: Decimal
    remaining: Decimal
    starts_at: datetime
    resets_at: datetime | None


def limits_of_everyone() -> QuerySet[Limit]:
    return Limit.objects.filter(enabled=True)


def limits_of_key(key: ApiKey) -> QuerySet[Limit]:
    """The limits that a call with this key can meet: its own, its user's and team's, everyone's and its models'."""
    own = Q(key=key) | Q(user_id=key.user_id) | Q(subject=Limit.Subject.EVERYONE)
    if key.team_id is not None:
        own |= Q(team_id=key.team_id)
    models = Model.objects.all()
    if key.allowed_models:
        models = models.filter(Q(name__in=key.allowed_models) | Q(aliases__name__in=key.allowed_models))
    return limits_of_everyone().filter(own | Q(model_id__in=models.values("pk")))


def limits_of_user(user_id: int) -> QuerySet[Limit]:
    """The limits that a call of this user, with any of their keys, can meet."""
    keys = ApiKey.objects.filter(user_id=user_id)
    return limits_of_everyone().filter(
        Q(user_id=user_id)
        | Q(key_id__in=keys.values("pk"))
        | Q(team_id__in=keys.filter(team_id__isnull=False).values("team_id"))
        | Q(subject__in=(Limit.Subject.EVERYONE, Limit.Subject.MODEL))
    )


def states(limits: QuerySet[Limit], *, at: datetime | None = None) -> list[LimitState]:
    """The state of each limit at an instant (now), in two queries; periods begin where the database says they do."""
    at = at or timezone.now()
    starts = Func(F("period"), Value(at), function="ledger_period_start", output_field=DateTimeField())
    ends = Func(F("period"), F("starts"), function="ledger_period_end", output_field=DateTimeField())
    window = LimitWindow.objects.filter(limit=OuterRef("pk"), starts_at=OuterRef("starts"))
    found = list(
        limits.select_related("key", "user", "team", "model")
        .annotate(starts=starts)
        .annotate(ends=ends, used=Subquery(window.values("used")), held=Subquery(window.values("held")))
        .order_by("pk")
    )
    carried = _minute_before([limit for limit in found if limit.period == Limit.Period.MINUTE], at=at)
    return [_state(limit, carried=carried.get(limit.pk, _ZERO)) for limit in found]


def _minute_before(limits: Sequence[Limit], *, at: datetime) -> dict[int, Decimal]:
    """What the minute before still counts for, by limit: its amount times the share of it that is in view."""
    begins = at.replace(second=0, microsecond=0)
    passed_s = Decimal(at.second) + Decimal(at.microsecond) / 1_000_000
    windows = LimitWindow.objects.filter(limit__in=limits, starts_at=begins - timedelta(minutes=1))
    return {
        window.limit_id: ((window.used + window.held) * (1 - passed_s / 60)).quantize(_STEP, rounding=ROUND_UP)
        for window in windows
    }


def _state(limit: Any, *, carried: Decimal) -> LimitState:
    """`limit` carries the annotations of `states`."""
    used, held = (limit.used or _ZERO) + carried, limit.held or _ZERO
    return LimitState(
        limit=limit,
        used=used,
        held=held,
        remaining=max(_ZERO, limit.amount - used - held),
        starts_at=limit.starts,
        resets_at=limit.ends,
    )
