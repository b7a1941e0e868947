"""What the harness puts into the catalog, by the product's own code: a process of its own, told its database by URL.

`python -m tests.faults.world make --upstream URL` prints a World as JSON; `publish MODEL_ID` publishes a new price.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
# Upstream names, see tests/upstream/shapes.py. A model's public name is "m-" and its upstream name.
UPSTREAM_NAMES = (
    "fake-model", "fake-other", "fake-words-40", "fake-paced-20ms", "fake-slow-250ms", "fake-400", "fake-429",
    "fake-503", "fake-flaky-1", "fake-reset", "fake-cut", "fake-cut-usage", "fake-nousage", "fake-malformed",
    "fake-paced-100ms", "fake-paced-250ms", "fake-paced-2s", "fake-paced-4s",
)  # fmt: skip
WIDE_KEYS, TIGHT_KEYS, SPARE_KEYS = 4, 4, 30
TIGHT_USD = "0.05"


class Key(Struct, frozen=True):
    id: int
    text: str


class World(Struct, frozen=True):
    """`tight` keys have limits (`tight_limits`) that calls meet all the time; `spare` ones are there to be revoked."""

    wide: list[Key]
    tight: list[Key]
    spare: list[Key]
    tight_limits: list[int]
    models: dict[str, int]


class RaceWorld(Struct, frozen=True):
    """`limits` one tuple a race: what its key, user and team may use."""

    model: int
    provider: int
    sheet: int
    keys: list[int]
    users: list[int]
    limits: list[list[int]]


def make(*, url: str, upstream_url: str) -> World:
    """Fill the database at `url`; the provider's address is `upstream_url`."""
    return msgspec.json.decode(_run(url, "make", "--upstream", upstream_url), type=World)


def make_races(*, url: str, count: int) -> RaceWorld:
    """A key with limits of its own for each race."""
    return msgspec.json.decode(_run(url, "races", "--count", str(count)), type=RaceWorld)


def publish(*, url: str, model_id: int) -> None:
    """Publish a new price of a model, in force at once."""
    _run(url, "publish", "--model", str(model_id))


def environment(url: str) -> dict[str, str]:
    own = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "gateway.settings", "LOG_LEVEL": "WARNING"}
    return {**os.environ, **own}


def _run(url: str, *arguments: str) -> bytes:
    command = [sys.executable, "-m", "tests.faults.world", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment(url), check=True, timeout=60, stdout=subprocess.PIPE
    ).stdout


# --- in the process of its own --------------------------------------------------------------------------------


def _make(upstream_url: str) -> World:
    from tests import factories

    provider = factories.make_provider(
        adapter="openai", base_url=f"{upstream_url}/v1", allow_plain_http=True, allow_private_address=True,
        max_retries=2, credential_ref="env:TEST_CREDENTIAL",
    )  # fmt: skip
    models = {}
    for name in UPSTREAM_NAMES:
        model = factories.make_model(name=f"m-{name}", provider=provider, upstream_name=name)
        factories.make_sheet(model=model, rates={"input": "3", "output": "15"}, per=1_000_000)
        models[name] = model.pk
    team = factories.make_team(name="everybody")
    # Limits that all calls share: every batch of every process locks the same windows.
    factories.make_limit(metric="usd", period="day", amount="1000", team=team)
    factories.make_limit(metric="tokens", period="total", amount="1000000000")
    wide = [_key(team, limits=(("usd", "day", "1000"),)) for _ in range(WIDE_KEYS)]
    tight = [
        _key(team, limits=(("usd", "total", TIGHT_USD), ("concurrency", "total", "3"))) for _ in range(TIGHT_KEYS)
    ]
    spare = [_key(team, limits=(("usd", "day", "1000"),)) for _ in range(SPARE_KEYS)]
    from ledger.models import Limit

    found = Limit.objects.filter(key__in=[key.id for key in tight], metric="usd").order_by("id")
    return World(wide, tight, spare, [limit.pk for limit in found], models)


def _key(team: object, *, limits: tuple[tuple[str, str, str], ...]) -> Key:
    from ledger.keys import create_key
    from tests import factories

    row, text = create_key(user=factories.make_user(), team=team)  # type: ignore[arg-type]
    for metric, period, amount in limits:
        factories.make_limit(metric=metric, period=period, amount=amount, key=row)
    return Key(row.pk, text)


def _races(count: int) -> RaceWorld:
    from tests import factories

    # Names of its own: the numbers of the factories begin anew in each process.
    model = factories.make_model(name="m-race", provider=factories.make_provider(name="races"))
    sheet = factories.make_sheet(model=model, rates={"input": "3", "output": "15"}, per=1_000_000)
    users = [factories.make_user(username=f"racer-{number}") for number in range(count)]
    keys = [factories.make_key(user=user) for user in users]
    limits = []
    for user, key in zip(users, keys, strict=True):
        first = factories.make_limit(metric="usd", period="total", amount="0.010", key=key)
        others = (
            factories.make_limit(metric="tokens", period="total", amount="1000000", user=user),
            factories.make_limit(metric="concurrency", period="total", amount="11", key=key),
        )
        limits.append([first.pk, *(limit.pk for limit in others)])
    return RaceWorld(
        model.pk, model.provider_id, sheet.pk, [key.pk for key in keys], [user.pk for user in users], limits
    )


def _publish(model_id: int) -> None:
    from ledger import publishing, rating
    from providers.models import Model

    now = datetime.now(UTC)
    rates = [
        rating.Rate(meter=meter, amount_usd=Decimal(random.randint(2, 30)), per=1_000_000)
        for meter in ("input", "output")
    ]
    publishing.ensure_sheet(
        model=Model.objects.get(pk=model_id), book="override", valid_from=now, rates=rates, source="admin", now=now,
        reason="a price that changes while calls are in flight",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["make", "races", "publish"])
    parser.add_argument("--upstream", default="")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--model", type=int, default=0)
    options = parser.parse_args()
    import django

    django.setup()
    if options.what == "publish":
        _publish(options.model)
        return
    made = _make(options.upstream) if options.what == "make" else _races(options.count)
    print(msgspec.json.encode(made).decode())


if __name__ == "__main__":
    main()
