from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import Error, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from ledger import keys
from ledger.models import ApiKey, Limit
from tests.factories import make_key, make_limit, make_team, make_user


@pytest.mark.django_db
def test_a_created_key_is_found_by_its_text_and_only_its_hash_is_kept() -> None:
    key, text = keys.create_key(user=make_user(), name="ci", scopes=["call"])

    parsed = keys.parse(text)

    assert parsed is not None
    public_id, secret = parsed
    assert public_id == key.public_id
    assert keys.matches(secret=secret, sha256=key.secret_sha256)
    assert secret not in str(ApiKey.objects.filter(pk=key.pk).values().get())


@pytest.mark.django_db
def test_no_other_secret_matches() -> None:
    key, _ = keys.create_key(user=make_user())
    _, other_text = keys.create_key(user=make_user())
    other = keys.parse(other_text)

    assert other is not None
    assert not keys.matches(secret=other[1], sha256=key.secret_sha256)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        b"tb_live_AAAAAAAAAAAA_" + b"a" * 40,
        "",
        "tb_live_",
        "tb_live_AAAAAAAAAAAA",
        "tb_live_AAAAAAAAAAAA_short",
        "tb_live_AAAAAAAAAAAA_" + "a" * 40 + "\n",
        "tb_live_AAAAAAAAAAAA_" + "a" * 39 + "\x00",
        "tb_live_AAAAAAAAAAA٣_" + "a" * 40,
        "tb_live_AAAAAAAAAAAA_" + "\ud800" * 40,
        "tb_test_AAAAAAAAAAAA_" + "a" * 40,
        "tb_live_AAAAAAAAAAAA_" + "a" * 1_000_000,
        "sk-" + "a" * 48,
    ],
)
def test_a_text_of_another_form_is_no_key(odd: object) -> None:
    assert keys.parse(odd) is None


@given(st.one_of(st.text(), st.binary(), st.integers(), st.none()))
def test_parsing_never_raises(odd: object) -> None:
    assert keys.parse(odd) is None


@pytest.mark.django_db
@pytest.mark.parametrize("scopes", [[], ["root"], ["call", "root"]])
def test_it_refuses_unknown_scopes(scopes: list[str]) -> None:
    with pytest.raises(ValueError, match="scope"):
        keys.create_key(user=make_user(), scopes=scopes)


@pytest.mark.django_db
def test_a_rotation_keeps_rights_and_limits_and_ends_the_old_key_after_the_overlap() -> None:
    old = make_key(team=make_team(), name="ci", scopes=["call", "admin"], allowed_models=["gpt-4"])
    make_limit(key=old, amount="5", metric="usd", period="day")
    before = datetime.now(UTC)

    new, text = keys.rotate(key=old, overlap_s=60)

    old.refresh_from_db()
    assert keys.parse(text) is not None
    assert new.replaces_id == old.pk
    assert (new.user, new.team, new.name) == (old.user, old.team, "ci")
    assert (new.scopes, new.allowed_models) == (["call", "admin"], ["gpt-4"])
    assert old.expires_at is not None
    assert before + timedelta(seconds=60) <= old.expires_at <= datetime.now(UTC) + timedelta(seconds=60)
    assert new.expires_at is None
    assert list(Limit.objects.filter(key=new).values_list("metric", "period", "amount")) == [("usd", "day", Decimal(5))]
    assert Limit.objects.filter(key=old).count() == 1


@pytest.mark.django_db
def test_a_rotation_never_lengthens_the_old_key() -> None:
    ends = datetime.now(UTC) + timedelta(seconds=5)
    old = make_key(expires_at=ends)

    keys.rotate(key=old, overlap_s=3600)

    old.refresh_from_db()
    assert old.expires_at == ends


@pytest.mark.django_db
@pytest.mark.parametrize(
    "ended", [{"revoked_at": datetime(2026, 1, 1, tzinfo=UTC)}, {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}]
)
def test_an_ended_key_is_not_rotated(ended: dict[str, Any]) -> None:
    key = make_key(**ended)

    with pytest.raises(keys.KeyNotActive):
        keys.rotate(key=key)

    assert ApiKey.objects.count() == 1


@pytest.mark.django_db
def test_a_second_revocation_keeps_the_first_instant() -> None:
    key = make_key()

    keys.revoke(key=key)
    first = key.revoked_at
    keys.revoke(key=key)

    assert first is not None
    assert key.revoked_at == first


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM ledger_apikey WHERE id = %s", "never deleted"),
        ("UPDATE ledger_apikey SET secret_sha256 = repeat('0', 64) WHERE id = %s", "never change"),
        ("UPDATE ledger_apikey SET public_id = 'other' WHERE id = %s", "never change"),
        ("UPDATE ledger_apikey SET revoked_at = NULL WHERE id = %s", "revoked for good"),
        ("TRUNCATE ledger_apikey CASCADE", "never deleted"),
    ],
)
def test_the_database_keeps_keys_whoever_asks(statement: str, message: str) -> None:
    key = make_key(revoked_at=datetime(2026, 1, 1, tzinfo=UTC))
    parameters: list[Any] = [key.pk] if "%s" in statement else []

    # Foreign keys still to be checked would stop the TRUNCATE before the trigger does.
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    with pytest.raises(Error, match=message), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)

    assert ApiKey.objects.get(pk=key.pk).revoked_at == key.revoked_at
