from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import CommandError

from ledger.catalog import export, parse
from ledger.models import ApiKey
from providers.models import Alias, Model, Provider, Route, RouteTarget
from tests.ledger.test_catalog import run, whole_catalog

MODELS = """
providers:
  - {name: acme, adapter: openai, credential_ref: "env:ACME"}
models:
  - {name: large, provider: acme, aliases: [big]}
  - {name: small, provider: acme}
  - {name: spare, provider: acme}
"""
ROUTES = (
    MODELS
    + """
routes:
  - name: best
    strategy: weighted
    targets:
      - {model: large, priority: 2, weight: 3}
      - {model: small, weight: 0}
      - {model: spare, priority: 7, enabled: false}
  - {name: resting, enabled: false, targets: [{model: small}]}
users:
  - {username: alice}
keys:
  - {name: ci, user: alice, allowed_models: [best]}
"""
)

pytestmark = pytest.mark.django_db


def targets_of(name: str) -> list[tuple[str, int, int, bool]]:
    found = RouteTarget.objects.filter(route__name=name).select_related("model").order_by("model__name")
    return [(row.model.name, row.priority, row.weight, row.enabled) for row in found]


def test_a_file_declares_routes_and_keys_that_may_call_them(tmp_path: Path) -> None:
    printed = run(ROUTES, tmp_path)

    assert [(row.name, row.strategy, row.enabled) for row in Route.objects.all()] == [
        ("best", "weighted", True),
        ("resting", "priority", False),
    ]
    assert targets_of("best") == [("large", 2, 3, True), ("small", 1, 0, True), ("spare", 7, 1, False)]
    assert ApiKey.objects.get().allowed_models == ["best"]
    assert "+ route best\n+ target large of route best\n+ target small of route best" in printed


def test_the_second_time_changes_nothing(tmp_path: Path) -> None:
    run(ROUTES, tmp_path)
    before = whole_catalog()

    printed = run(ROUTES, tmp_path)

    assert whole_catalog() == before
    assert "+" not in printed
    assert "~" not in printed


def test_the_difference_is_told_and_made(tmp_path: Path) -> None:
    run(ROUTES, tmp_path)
    changed = ROUTES.replace("strategy: weighted", "strategy: cheapest").replace("weight: 3", "weight: 4")
    changed = changed.replace("      - {model: spare, priority: 7, enabled: false}\n", "")
    before = whole_catalog()

    dry = run(changed, tmp_path, "--dry-run")
    assert whole_catalog() == before
    printed = run(changed, tmp_path)

    assert targets_of("best") == [("large", 2, 4, True), ("small", 1, 0, True)]
    for text in (dry, printed):
        assert "~ route best: strategy 'weighted' -> 'cheapest'" in text
        assert "~ target large of route best: weight 3 -> 4" in text
        assert "- target spare of route best" in text


def test_a_route_without_targets_in_the_file_keeps_those_it_has(tmp_path: Path) -> None:
    run(ROUTES, tmp_path)
    run(MODELS + "\nroutes:\n  - {name: best, strategy: fastest}\n", tmp_path)
    assert Route.objects.get(name="best").strategy == "fastest"
    assert len(targets_of("best")) == 3


def test_an_export_rebuilds_the_routes(tmp_path: Path) -> None:
    run(ROUTES, tmp_path)
    routes = {name: targets_of(name) for name in ("best", "resting")}
    text = export()
    assert "+" not in run(text, tmp_path)

    for table in (RouteTarget, Route, Alias, Model, Provider):
        table.objects.all().delete()
    run(text, tmp_path)

    assert {name: targets_of(name) for name in ("best", "resting")} == routes
    assert export() == text
    assert parse(text).routes == parse(export()).routes


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("model: large, priority", "model: lrge, priority", "routes[0].targets[0].model: no model 'lrge'"),
        ("model: small, weight", "model: big, weight", "routes[0].targets[1].model: no model 'big'"),
        (
            "model: small, weight",
            "model: large, weight",
            "routes[0].targets[1]: the same model as routes[0].targets[0]",
        ),
        ("name: resting", "name: best", "routes[1]: the same name as routes[0]"),
        ("name: resting", "name: small", "routes[1].name: 'small' is the name of a model or an alias"),
        ("name: resting", "name: big", "routes[1].name: 'big' is the name of a model or an alias"),
        ("name: resting", "name: 'no spaces'", "routes[1].name: A name starts with a letter"),
        ("strategy: weighted", "strategy: random", "routes[0].strategy: Invalid enum value 'random'"),
        ("weight: 3", "weight: -3", "routes[0].targets[0].weight: Expected `int` >= 0"),
        ("priority: 7", "priority: 70000", "routes[0].targets[2].priority: Expected `int` <= 32767"),
        ("weight: 3", "wait: 3", "routes[0].targets[0]: Object contains unknown field `wait`"),
        ("allowed_models: [best]", "allowed_models: [worst]", "no model, alias or route 'worst'"),
    ],
)
def test_a_fault_is_told_with_its_path_and_nothing_is_applied(old: str, new: str, error: str, tmp_path: Path) -> None:
    text = ROUTES.replace(old, new, 1)
    assert text != ROUTES
    before = whole_catalog()

    with pytest.raises(CommandError) as refused:
        run(text, tmp_path)

    assert error in str(refused.value)
    assert whole_catalog() == before


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("{name: best, provider: acme}", "models[0].name: 'best' is the name of a route"),
        ("{name: new, provider: acme, aliases: [old, best]}", "models[0].aliases[1]: 'best' is the name of a route"),
    ],
)
def test_a_name_that_a_route_has_is_refused_for_others(model: str, error: str, tmp_path: Path) -> None:
    run(ROUTES, tmp_path)
    with pytest.raises(CommandError, match=r".") as refused:
        run(f"models:\n  - {model}\n", tmp_path)
    assert error in str(refused.value)
