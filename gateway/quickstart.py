"""What a first run needs in the database: tables, catalog, prices, a user with a key, an admin log-in.

`prepare` may run any number of times: what is there already is left as people made it.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import msgspec
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from msgspec import Struct

from ledger import keys
from ledger.models import ApiKey, Limit, PriceSheet
from providers import registry
from providers.errors import ProviderError
from providers.models import Provider

SEED = Path(settings.BASE_DIR) / "deploy" / "seed.yaml"
DEMO_USER, ADMIN_USER = "demo", "admin"
DEMO_LIMIT_USD_PER_DAY = Decimal("5.00")

Say = Callable[[str], object]


class Quickstart(Struct, frozen=True):
    """What `var/quickstart.json` holds. `base_url` is the server's root, without /v1."""

    base_url: str
    api_key: str
    admin_url: str
    admin_user: str
    admin_password: str


def prepare(*, base_url: str, file: Path, say: Say = print) -> Quickstart:
    """Bring the database to where a stranger can call; write `file` (mode 600) and return what it holds."""
    say("Preparing the database...")
    call_command("migrate", verbosity=0, interactive=False)
    _seed(say)
    _import_prices(stamp=file.with_name("prices.imported"), say=say)
    kept = _read(file)
    api_key = _kept_key(kept) or _new_key(lost=kept is None, say=say)
    password = _admin_password(kept, say=say)
    made = Quickstart(base_url, api_key, f"{base_url}/admin/", ADMIN_USER, password)
    if made != kept:
        _write(file, made)
    return made


def readiness() -> dict[str, str]:
    """Each enabled provider's name -> '' when it can be called, else why not."""
    found: dict[str, str] = {}
    for row in Provider.objects.filter(enabled=True):
        try:
            registry.adapter_for(row)
            found[row.name] = ""
        except (ProviderError, ValueError) as error:
            found[row.name] = getattr(error, "detail", str(error))
    return found


def told(made: Quickstart, *, file: Path, providers: dict[str, str]) -> str:
    """The text to print when the gateway is up."""
    body = json.dumps({"model": "sandbox-echo", "messages": [{"role": "user", "content": "Hello, books"}]})
    lines = [
        "",
        "Tollbook is up.",
        "",
        f"  Base URL   {made.base_url}   (OpenAI clients: {made.base_url}/v1)",
        f"  API key    {made.api_key}   (user {DEMO_USER}, {DEMO_LIMIT_USD_PER_DAY} USD a day at first)",
        f"  Admin      {made.admin_url}   user {made.admin_user}, password {made.admin_password}",
        f"  Kept in    {file}",
        "",
        "Providers",
        *(f"  {name:<12} {'ready' if not reason else 'not ready: ' + reason}" for name, reason in providers.items()),
        "",
        "A first call",
        f"  curl -s {made.base_url}/v1/chat/completions -H 'Authorization: Bearer {made.api_key}' \\",
        f"    -H 'Content-Type: application/json' -d '{body}'",
        "",
        "Ctrl-C stops it.",
    ]
    return "\n".join(lines)


def _seed(say: Say) -> None:
    """The catalog of deploy/seed.yaml, for a database without one: later the admin is right, not the file."""
    if not Provider.objects.exists():
        say("Applying deploy/seed.yaml...")
        _quietly("apply", str(SEED))


def _import_prices(*, stamp: Path, say: Say) -> None:
    """Today's list prices, once for each version of the installed price data."""
    data = f"genai-prices {version('genai-prices')}"
    imported = PriceSheet.objects.filter(source=PriceSheet.Source.GENAI_PRICES).exists()
    if imported and stamp.is_file() and stamp.read_text().strip() == data:
        return
    say(f"Importing the list prices of {data}...")
    _quietly("import_prices", "--apply")
    stamp.write_text(f"{data}\n")


def _quietly(*command: str) -> None:
    with open(os.devnull, "w") as nowhere:
        call_command(*command, stdout=nowhere)


def _kept_key(kept: Quickstart | None) -> str | None:
    """The text of the key in the file, while it opens this database."""
    parsed = keys.parse(kept.api_key) if kept else None
    if kept is None or parsed is None:
        return None
    public_id, secret = parsed
    row = ApiKey.objects.filter(public_id=public_id).first()
    if row is None or not keys.matches(secret=secret, sha256=row.secret_sha256):
        return None
    return kept.api_key if keys.is_active(row, at=datetime.now(UTC)) else None


def _new_key(*, lost: bool, say: Say) -> str:
    with transaction.atomic():
        user, made = User.objects.get_or_create(username=DEMO_USER)
        if made:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        key, text = keys.create_key(user=user, name="quickstart")
        Limit.objects.create(
            subject=Limit.Subject.KEY,
            key=key,
            metric=Limit.Metric.USD,
            period=Limit.Period.DAY,
            amount=DEMO_LIMIT_USD_PER_DAY,
        )
    if not made:
        why = "the file with the old one is gone" if lost else "the old one does not open this database any more"
        say(f"Made a new API key for {DEMO_USER}: {why}.")
    return text


def _admin_password(kept: Quickstart | None, *, say: Say) -> str:
    """The admin's password. One that a person changed is left alone; one that nobody knows any more is reset."""
    user = User.objects.filter(username=ADMIN_USER).first()
    if user is not None and kept is not None:
        if not user.check_password(kept.admin_password):
            say(f"The password of {ADMIN_USER} was changed since; to reset it, delete quickstart.json and run again.")
        return kept.admin_password
    password = secrets.token_urlsafe(15)
    if user is None:
        User.objects.create_superuser(ADMIN_USER, password=password)
        return password
    user.set_password(password)
    user.save(update_fields=["password"])
    say(f"Reset the password of {ADMIN_USER}: the file with the old one is gone.")
    return password


def _read(file: Path) -> Quickstart | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Quickstart)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(file: Path, made: Quickstart) -> None:
    """Whole or not at all, and readable by its owner only."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    os.replace(name, file)
