"""Public model name -> the target to call, for a caller who may call it."""

from __future__ import annotations

from gateway.errors import ApiError
from gateway.keyring import Principal
from gateway.snapshot import Snapshot, Target


def resolve(*, snapshot: Snapshot, name: str, principal: Principal) -> Target:
    """The model behind a public name or alias. Raises ApiError model_not_found, model_not_allowed, scope_missing."""
    if "call" not in principal.scopes:
        raise ApiError("scope_missing", "This API key may not call models: it lacks the scope 'call'.")
    target = snapshot.targets.get(name)
    if target is None:
        raise ApiError(
            "model_not_found", f"There is no model {name[:200]!r} here: GET /v1/models lists them.", param="model"
        )
    allowed = principal.allowed_models
    if allowed and name not in allowed and target.name not in allowed:
        raise ApiError("model_not_allowed", f"This API key may not call {name[:200]!r}.", param="model")
    return target


def callable_targets(*, snapshot: Snapshot, principal: Principal) -> dict[str, Target]:
    """Every name this caller may use, with its target, by name."""
    allowed = principal.allowed_models
    return {
        name: target
        for name, target in sorted(snapshot.targets.items())
        if not allowed or name in allowed or target.name in allowed
    }
