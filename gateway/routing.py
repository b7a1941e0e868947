"""Public model name -> the targets to try, in order, for a caller who may call them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from gateway.errors import ApiError
from gateway.keyring import Principal
from gateway.settlement import estimated_input_tokens
from gateway.snapshot import RouteInfo, RouteLeg, Snapshot, Target
from ledger.bounds import priced_sides, upper_bound_usd
from providers import errors
from providers.errors import ProviderError
from providers.wire.base import Admitted
from providers.wire.media import MEDIA

if TYPE_CHECKING:
    from gateway.runtime import Runtime

# What a request's output is taken to be when targets are compared by price and the client named no cap.
USUAL_OUTPUT_TOKENS = 500
# Errors that say something about this provider, not about the request: the next target may do better.
_PROVIDERS_OWN = (
    errors.InvalidCredential,
    errors.PermissionDenied,
    errors.QuotaExhausted,
    errors.ModelNotFound,
    errors.ContextTooLong,
    errors.MalformedAnswer,
)


def resolve(
    *, runtime: Runtime, snapshot: Snapshot, admitted: Admitted, body_bytes: int, principal: Principal
) -> list[Target]:
    """The targets behind a public name, best first; never empty.

    Raises ApiError model_not_found, model_not_allowed, scope_missing.
    """
    name = admitted.model
    if "call" not in principal.scopes:
        raise ApiError("scope_missing", "This API key may not call models: it lacks the scope 'call'.")
    route = snapshot.routes.get(name)
    target = snapshot.targets.get(name)
    if route is None and target is None:
        raise ApiError(
            "model_not_found", f"There is no model {name[:200]!r} here: GET /v1/models lists them.", param="model"
        )
    allowed = principal.allowed_models
    if allowed and name not in allowed and (target is None or target.name not in allowed):
        raise ApiError("model_not_allowed", f"This API key may not call {name[:200]!r}.", param="model")
    if route is None:
        assert target is not None
        return [target]
    fitting = [leg for leg in route.legs if _fits(leg.target, admitted, body_bytes)] or list(route.legs)
    ordered = _order(route, fitting, runtime=runtime, snapshot=snapshot, admitted=admitted, body_bytes=body_bytes)
    closed = [target for target in ordered if runtime.breaker(target.model_id).allows()]
    # All broken: better a call that may fail than none that could succeed.
    return closed or ordered


def may_fall_back(error: ProviderError) -> bool:
    """Whether another target may answer what this one could not."""
    return error.retryable or isinstance(error, _PROVIDERS_OWN)


def callable_names(*, snapshot: Snapshot, principal: Principal) -> dict[str, Target]:
    """Every name this caller may use, with its (first) target, by name."""
    allowed = principal.allowed_models
    names = {**snapshot.targets, **{name: route.legs[0].target for name, route in snapshot.routes.items()}}
    return {
        name: target
        for name, target in sorted(names.items())
        if not allowed or name in allowed or (target.name in allowed and name not in snapshot.routes)
    }


def _fits(target: Target, admitted: Admitted, body_bytes: int) -> bool:
    """Whether the catalog says the target can take this request; what the catalog does not know does not hinder."""
    if target.adapter is None or not target.offers(admitted.operation):
        return False
    if admitted.operation in MEDIA:
        return True
    needs = {"image": "vision", "file": "documents", "audio": "audio"}
    known = target.capabilities
    if known:
        wanted = {needs[kind] for kind in admitted.media if kind in needs}
        if "tools" in admitted.fields:
            wanted.add("tools")
        if not wanted <= known:
            return False
    tokens = estimated_input_tokens(body_bytes=body_bytes, admitted=admitted)
    return target.context_window is None or tokens <= target.context_window


def _order(
    route: RouteInfo,
    legs: Sequence[RouteLeg],
    *,
    runtime: Runtime,
    snapshot: Snapshot,
    admitted: Admitted,
    body_bytes: int,
) -> list[Target]:
    match route.strategy:
        case "weighted":
            return _weighted(legs)
        case "cheapest":
            return _sorted(legs, lambda leg: _cost_usd(leg.target, snapshot, admitted, body_bytes))
        case "fastest":
            return _sorted(legs, lambda leg: _first_byte_s(leg.target, runtime))
    return _sorted(legs, lambda leg: leg.priority)


def _sorted(legs: Sequence[RouteLeg], key: Callable[[RouteLeg], Decimal | float | int]) -> list[Target]:
    """Best first; equals in the order of their priority."""
    return [leg.target for leg in sorted(legs, key=lambda leg: (key(leg), leg.priority))]


def _weighted(legs: Sequence[RouteLeg]) -> list[Target]:
    """A random order in which a leg is first as often as its share of the weights says."""
    # Efraimidis and Spirakis: the largest u^(1/w) first.
    drawn = [(random.random() ** (1 / leg.weight), leg) for leg in legs if leg.weight > 0]  # noqa: S311  # no secret
    return [leg.target for _, leg in sorted(drawn, key=lambda pair: -pair[0])] or [leg.target for leg in legs]


def _cost_usd(target: Target, snapshot: Snapshot, admitted: Admitted, body_bytes: int) -> Decimal:
    """What this request would cost at most there, by the live sheet; without a price it comes last."""
    sheet = snapshot.prices.sheet_at(model_id=target.model_id, at=datetime.now(UTC))
    if sheet is None:
        return Decimal("Infinity")
    input_tokens = admitted.input_bound or estimated_input_tokens(body_bytes=body_bytes, admitted=admitted)
    output_tokens = admitted.max_output_tokens or USUAL_OUTPUT_TOKENS
    if admitted.operation in MEDIA:
        input_tokens, output_tokens = priced_sides(
            sheet, input_tokens=input_tokens, output_tokens=output_tokens, counted=admitted.fees
        )
    bound = upper_bound_usd(
        sheet=sheet,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        n=admitted.n,
        service_tier=admitted.service_tier or "default",
        variant=admitted.variant,
        fees=admitted.fees if admitted.operation in MEDIA else None,
    )
    return bound if bound is not None else Decimal("Infinity")


def _first_byte_s(target: Target, runtime: Runtime) -> float:
    """The recent median time to first byte; one never called is tried, so that it gets one."""
    return runtime.first_bytes(target.model_id).p50_s() or 0.0
