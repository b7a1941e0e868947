"""What scenarios find in the catalog: a key each, and the models that it calls. A process of its own, as `world`.

`python -m tests.faults.catalog make` reads specs as JSON and prints accounts; `publish` publishes a price that
begins by itself some seconds later.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

from tests.faults.world import ROOT, environment


class Spec(Struct, frozen=True):
    """A key with `limits` (metric, period, amount, action) and a model for each of `upstream_names`.

    More than one model: a route that asks them in this order. `providers` are fields of each one's provider row; the
    last stands for those that follow.
    """

    upstream_names: tuple[str, ...] = ("fake-model",)
    limits: tuple[tuple[str, str, str, str], ...] = (("usd", "day", "1000", "block"),)
    providers: tuple[dict[str, Any], ...] = ({},)


class Account(Struct, frozen=True):
    """`name` is what its clients call: of the model, or of the route. `limits` by metric and action, `usd block`."""

    key_id: int
    text: str
    name: str
    model_ids: list[int]
    limits: dict[str, int]


def make(*, url: str, upstream_url: str, specs: dict[str, Spec]) -> dict[str, Account]:
    """Put the accounts of these specs into the database at `url`; their provider is at `upstream_url`."""
    said = _run(url, "make", "--upstream", upstream_url, stdin=msgspec.json.encode(specs))
    return msgspec.json.decode(said, type=dict[str, Account])


class Published(Struct, frozen=True):
    sheet: int
    valid_from: datetime


def publish(*, url: str, model_id: int, ahead_s: float, output_usd: str) -> Published:
    """Publish a sheet that begins by itself so much later, with this price per 1,000,000 tokens of output."""
    arguments = ("publish", "--model", str(model_id), "--ahead-s", str(ahead_s), "--output-usd", output_usd)
    return msgspec.json.decode(_run(url, *arguments), type=Published)


def _run(url: str, *arguments: str, stdin: bytes = b"") -> bytes:
    command = [sys.executable, "-m", "tests.faults.catalog", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(url), check=True, timeout=60, input=stdin, stdout=subprocess.PIPE
    ).stdout


# --- in the process of its own --------------------------------------------------------------------------------


def _make(upstream_url: str, specs: dict[str, Spec]) -> dict[str, Account]:
    from ledger.keys import create_key
    from providers.models import Route, RouteTarget
    from tests import factories

    made = {}
    for name, spec in specs.items():
        models = [
            _model(f"{name}-{place}", upstream_name, spec.providers[min(place, len(spec.providers) - 1)], upstream_url)
            for place, upstream_name in enumerate(spec.upstream_names)
        ]
        key, text = create_key(user=factories.make_user(username=f"s-{name}"))
        limits = {
            f"{metric} {action}": factories.make_limit(
                metric=metric, period=period, amount=amount, action=action, key=key
            ).pk
            for metric, period, amount, action in spec.limits
        }
        public = models[0].name
        if len(models) > 1:
            public = f"s-{name}"
            route = Route.objects.create(name=public, strategy="priority")
            for place, model in enumerate(models):
                RouteTarget.objects.create(route=route, model=model, priority=place + 1)
        made[name] = Account(key.pk, text, public, [model.pk for model in models], limits)
    return made


def _model(name: str, upstream_name: str, fields: dict[str, Any], upstream_url: str) -> Any:
    from tests import factories

    values = {"adapter": "openai", "base_url": f"{upstream_url}/v1", "max_retries": 0, **fields}
    provider = factories.make_provider(
        name=f"s-{name}", allow_plain_http=True, allow_private_address=True, credential_ref="env:TEST_CREDENTIAL",
        **values,
    )  # fmt: skip
    model = factories.make_model(name=f"s-{name}", provider=provider, upstream_name=upstream_name)
    factories.make_sheet(model=model, rates={"input": "3", "output": "15"}, per=1_000_000)
    return model


def _publish(model_id: int, ahead_s: float, output_usd: str) -> Published:
    from ledger import publishing, rating
    from providers.models import Model

    rates = [
        rating.Rate(meter=meter, amount_usd=Decimal(amount), per=1_000_000)
        for meter, amount in (("input", "3"), ("output", output_usd))
    ]
    now = datetime.now(UTC)
    valid_from = now + timedelta(seconds=ahead_s)
    sheet, _ = publishing.ensure_sheet(
        model=Model.objects.get(pk=model_id), book="override", valid_from=valid_from, rates=rates, source="admin",
        now=now, reason="a price that begins by itself",
    )  # fmt: skip
    return Published(sheet.pk, valid_from)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["make", "publish"])
    parser.add_argument("--upstream", default="")
    parser.add_argument("--model", type=int, default=0)
    parser.add_argument("--ahead-s", type=float, default=0.0)
    parser.add_argument("--output-usd", default="")
    options = parser.parse_args()
    import django

    django.setup()
    if options.what == "publish":
        print(msgspec.json.encode(_publish(options.model, options.ahead_s, options.output_usd)).decode())
        return
    specs = msgspec.json.decode(sys.stdin.buffer.read(), type=dict[str, Spec])
    print(msgspec.json.encode(_make(options.upstream, specs)).decode())


if __name__ == "__main__":
    main()
