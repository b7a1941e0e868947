"""The routes of a catalog: a row each, and exactly the targets that the file lists."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from ledger.catalog.recording import Recorder
from ledger.catalog.schema import Catalog, RouteEntry
from providers.models import Model, Route, RouteTarget


def keep_routes(catalog: Catalog, recorder: Recorder) -> None:
    """Make the routes as the file says. A target that the file no longer lists is taken out of its route."""
    there = {row.name: row for row in Route.objects.all()}
    models = {row.name: row for row in Model.objects.all()}
    for index, entry in enumerate(catalog.routes):
        path, what = f"routes[{index}]", f"route {entry.name}"
        row = there.get(entry.name) or Route(name=entry.name)
        stated = {"strategy": entry.strategy, "enabled": entry.enabled}
        values = {name: value for name, value in stated.items() if value is not UNSET}
        before = len(recorder.errors)
        recorder.keep(path=path, what=what, row=row, values=values)
        if len(recorder.errors) == before:
            _targets(entry, route=row, models=models, path=path, recorder=recorder)


def _targets(entry: RouteEntry, *, route: Route, models: dict[str, Model], path: str, recorder: Recorder) -> None:
    if entry.targets is UNSET:
        return
    there = {row.model.name: row for row in RouteTarget.objects.filter(route=route).select_related("model")}
    for place, target in enumerate(entry.targets):
        row = there.pop(target.model, None) or RouteTarget(route=route, model=models[target.model])
        values: dict[str, Any] = {"priority": target.priority, "weight": target.weight, "enabled": target.enabled}
        recorder.keep(
            path=f"{path}.targets[{place}]", what=f"target {target.model} of route {route.name}", row=row, values=values
        )
    for name, row in there.items():
        row.delete()
        recorder.tell_gone(what=f"target {name} of route {route.name}")
