from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from ledger import keys
from ledger.models import ApiKey, Limit, Team
from tests.factories import make_model, make_user


def run(*options: str) -> str:
    printed = StringIO()
    call_command("create_key", *options, stdout=printed, stderr=printed)
    return printed.getvalue()


@pytest.mark.django_db
def test_on_a_fresh_database_the_user_is_made_and_the_last_line_is_the_key() -> None:
    printed = run("--user", "alice")

    parsed = keys.parse(printed.splitlines()[-1])
    key = ApiKey.objects.get()
    assert parsed is not None
    assert parsed[0] == key.public_id
    assert keys.matches(secret=parsed[1], sha256=key.secret_sha256)
    assert "Created user alice." in printed
    assert not User.objects.get(username="alice").has_usable_password()


@pytest.mark.django_db
def test_an_existing_user_is_taken_and_not_told_as_new() -> None:
    user = make_user(username="alice")

    printed = run("--user", "alice")

    assert ApiKey.objects.get().user == user
    assert "Created" not in printed


@pytest.mark.django_db
def test_json_holds_all_that_was_asked_for() -> None:
    make_model(name="gpt-4", aliases=["four"])

    told = json.loads(
        run(
            "--user", "alice", "--team", "research", "--name", "ci", "--models", "gpt-4, four", "--scopes",
            "call,read-spend", "--expires", "2099-01-31T00:00:00Z", "--limit", "usd:month:100.50", "--limit",
            "requests:minute:60", "--json",
        )
    )  # fmt: skip

    key = ApiKey.objects.get()
    assert keys.parse(told["key"]) is not None
    assert told["public_id"] == key.public_id
    assert (told["user"], told["team"], told["name"]) == ("alice", "research", "ci")
    assert told["scopes"] == key.scopes == ["call", "read-spend"]
    assert told["allowed_models"] == key.allowed_models == ["gpt-4", "four"]
    assert told["expires_at"] == "2099-01-31T00:00:00+00:00"
    assert told["created"] == ["user alice", "team research"]
    assert [limit["amount"] for limit in told["limits"]] == ["100.50", "60"]
    assert set(Limit.objects.filter(key=key).values_list("metric", "period", "amount")) == {
        ("usd", "month", Decimal("100.50")),
        ("requests", "minute", Decimal(60)),
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--limit", "usd:100"], "METRIC:PERIOD:AMOUNT"),
        (["--limit", "usd:month:100:1"], "METRIC:PERIOD:AMOUNT"),
        (["--limit", "eur:month:100"], "METRIC is one of usd, tokens, requests, concurrency"),
        (["--limit", "usd:fortnight:100"], "PERIOD one of minute, hour"),
        (["--limit", "usd:month:ten"], "'ten' is no number"),
        (["--limit", "usd:month:-1"], "'-1' is no such number"),
        (["--limit", "usd:month:NaN"], "'NaN' is no such number"),
        (["--limit", "concurrency:day:5"], "concurrent calls has the period 'total'"),
        (["--limit", "usd:month:1", "--limit", "usd:month:2"], "already has a limit"),
        (["--scopes", "root"], "Unknown scope 'root'"),
        (["--models", "gpt-5"], "no model or alias 'gpt-5'"),
        (["--expires", "tomorrow"], "ISO date"),
        (["--expires", "2020-01-01"], "has passed"),
        (["--team", "x" * 101], "at most 100 characters"),
    ],
)
def test_a_wrong_option_is_explained_and_nothing_is_made(options: list[str], error: str) -> None:
    with pytest.raises(CommandError) as raised:
        run("--user", "alice", *options)

    assert error in str(raised.value)
    assert not ApiKey.objects.exists()
    assert not User.objects.exists()
    assert not Team.objects.exists()
