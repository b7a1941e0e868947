"""What a process keeps in memory to admit and price a call without a query: catalog, limits, price book.

Immutable; a refresher thread replaces it when the database's snapshot number has moved, so a change in the admin is
seen by every process within seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from decimal import Decimal

from django.db import connection, transaction
from msgspec import Struct

from ledger import prices as price_books
from ledger.models import Limit, SnapshotVersion
from ledger.prices import PriceBook
from providers import registry
from providers.adapters.base import PART_OF, Adapter
from providers.errors import ProviderError
from providers.models import Alias, Model, Provider, Route, RouteTarget
from providers.wire.base import Operation
from providers.wire.media import MEDIA

log = logging.getLogger("tollbook.snapshot")

# What a model may be for. A catalog that names none of these says nothing about it.
KINDS = frozenset({"chat", "embeddings", "rerank", "images", "transcriptions", "speech"})
# What any model that chats may be asked for, too. Tokens are counted for models of every kind.
_CHATTED: frozenset[Operation] = frozenset({"responses", "completions"})


class Target(Struct, frozen=True):
    """One model, ready to be called. Without an `adapter` its provider is not usable, and `problem` says why."""

    model_id: int
    provider_id: int
    provider_name: str
    name: str
    upstream_name: str
    adapter: Adapter | None
    problem: str = ""
    capabilities: frozenset[str] = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    default_max_output_tokens: int | None = None
    timeout_s: float | None = None
    drains: bool = False

    def offers(self, operation: Operation) -> bool:
        """Whether the catalog says that the model can do this, or does not say what it is for."""
        known = self.capabilities
        if not known or ("chat" if operation in _CHATTED else PART_OF.get(operation, operation)) in known:
            return True
        return operation == "count_tokens" or (operation not in MEDIA and known.isdisjoint(KINDS))


class LimitInfo(Struct, frozen=True):
    """A limit as admission needs it; how much is used and held only the database knows."""

    id: int
    subject: str
    subject_id: int | None
    metric: str
    period: str
    amount: Decimal
    blocks: bool
    strict: bool


class RouteLeg(Struct, frozen=True):
    target: Target
    priority: int
    weight: int


class RouteInfo(Struct, frozen=True):
    """A public name for several targets; `legs` is never empty and stands in the order of priority."""

    name: str
    strategy: str
    legs: tuple[RouteLeg, ...]


class Snapshot:
    """`targets` by every public name; `limits_for` a caller and a model; `prices` by model and instant."""

    def __init__(
        self,
        *,
        version: int,
        targets: dict[str, Target],
        routes: dict[str, RouteInfo],
        limits: Iterable[LimitInfo],
        prices: PriceBook,
    ) -> None:
        self.version = version
        self.targets = targets
        self.routes = routes
        self.prices = prices
        self.limits_by_id = {limit.id: limit for limit in limits}
        self._by_subject: dict[tuple[str, int | None], list[LimitInfo]] = {}
        for limit in self.limits_by_id.values():
            self._by_subject.setdefault((limit.subject, limit.subject_id), []).append(limit)
        self._served = {(t.provider_id, name): t.model_id for name, t in targets.items()}
        self._served.update({(t.provider_id, t.upstream_name): t.model_id for t in targets.values()})
        self._memo: dict[tuple[int, int], tuple[LimitInfo, ...]] = {}

    def limits_for(self, *, key: int, user: int, team: int | None, model: int) -> tuple[LimitInfo, ...]:
        """Every enabled limit that a call by this key to this model counts against."""
        found = self._memo.get((key, model))
        if found is None:
            subjects = [("everyone", None), ("key", key), ("user", user), ("model", model)]
            if team is not None:
                subjects.append(("team", team))
            found = tuple(limit for subject in subjects for limit in self._by_subject.get(subject, ()))
            self._memo[key, model] = found
        return found

    def served_model(self, *, provider: int, served_name: str) -> int | None:
        """The catalog model a provider means by the name in its answer; None when the catalog has no such name."""
        return self._served.get((provider, served_name))


def load() -> Snapshot:
    """Read a snapshot from the database, in one transaction's view of it: never half of a change."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        version = SnapshotVersion.objects.values_list("version", flat=True).get(pk=1)
        targets = _targets()
        routes = _routes(targets)
        limits = [_limit(row) for row in Limit.objects.filter(enabled=True)]
        prices = price_books.load()
    connection.close()
    return Snapshot(version=version, targets=targets, routes=routes, limits=limits, prices=prices)


def _targets() -> dict[str, Target]:
    adapters = {row.pk: _adapter(row) for row in Provider.objects.filter(enabled=True)}
    by_model: dict[int, Target] = {}
    names: dict[str, Target] = {}
    for model in Model.objects.filter(enabled=True, provider__enabled=True).select_related("provider"):
        adapter, problem = adapters[model.provider_id]
        target = Target(
            model_id=model.pk,
            provider_id=model.provider_id,
            provider_name=model.provider.name,
            name=model.name,
            upstream_name=model.upstream_name,
            adapter=adapter,
            problem=problem,
            capabilities=frozenset(model.capabilities),
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            default_max_output_tokens=model.default_max_output_tokens,
            timeout_s=model.timeout_s,
            drains=model.provider.disconnect_policy == Provider.DisconnectPolicy.DRAIN,
        )
        by_model[model.pk] = names[model.name] = target
    for name, model_id in Alias.objects.values_list("name", "model_id"):
        if model_id in by_model:
            names[name] = by_model[model_id]
    return names


def _routes(targets: dict[str, Target]) -> dict[str, RouteInfo]:
    """The routes that have a leg which can be called."""
    by_model = {target.model_id: target for target in targets.values()}
    legs: dict[int, list[RouteLeg]] = {}
    for row in RouteTarget.objects.filter(enabled=True).order_by("priority", "id"):
        if row.model_id in by_model:
            legs.setdefault(row.route_id, []).append(RouteLeg(by_model[row.model_id], row.priority, row.weight))
    return {
        row.name: RouteInfo(row.name, row.strategy, tuple(legs[row.pk]))
        for row in Route.objects.filter(enabled=True)
        if row.pk in legs
    }


def _adapter(row: Provider) -> tuple[Adapter | None, str]:
    try:
        return registry.adapter_for(row), ""
    except (ProviderError, ValueError) as error:
        # One provider that is not set up must not take the others down.
        detail = getattr(error, "detail", str(error))
        log.warning("provider_not_ready", extra={"provider": row.name, "reason": detail})
        return None, detail


def _limit(row: Limit) -> LimitInfo:
    return LimitInfo(
        id=row.pk,
        subject=row.subject,
        subject_id=row.key_id or row.user_id or row.team_id or row.model_id,
        metric=row.metric,
        period=row.period,
        amount=row.amount,
        blocks=row.action == Limit.Action.BLOCK,
        strict=row.mode == Limit.Mode.STRICT,
    )
