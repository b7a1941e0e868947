from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from ledger import keys
from ledger.models import ApiKey
from tests.factories import make_key, make_model, make_team, make_user

LIST = "admin:ledger_apikey_changelist"


def new_key(page: Client, **changes: Any) -> Any:
    form = {"user": make_user().pk, "name": "ci", "scopes": ["call"], "allowed_models": "", **changes}
    return page.post(reverse("admin:ledger_apikey_add"), form)


def text_in(page: str) -> str:
    found = re.search(r"tb_live_\w{12}_[A-Za-z0-9-]+", page)
    assert found is not None, page
    return found[0]


def test_the_text_of_a_new_key_is_shown_once(admin_page: Client) -> None:
    make_model(name="gpt-4", aliases=["four"])

    answer = new_key(admin_page, allowed_models="gpt-4,four", scopes=["call", "admin"])

    key = ApiKey.objects.get()
    parsed = keys.parse(text_in(answer.content.decode()))
    assert parsed is not None
    assert parsed[0] == key.public_id
    assert keys.matches(secret=parsed[1], sha256=key.secret_sha256)
    assert (key.scopes, key.allowed_models) == (["call", "admin"], ["gpt-4", "four"])
    assert "no-store" in answer["Cache-Control"]
    assert not answer.cookies.get("messages")
    for url in (
        reverse(LIST),
        reverse("admin:ledger_apikey_change", args=[key.pk]),
        reverse("admin:ledger_apikey_history", args=[key.pk]),
    ):
        later = admin_page.get(url)
        assert later.status_code == 200
        assert parsed[1] not in later.content.decode()
        assert key.secret_sha256 not in later.content.decode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"allowed_models": "gpt-9"}, "There is no model or alias &#x27;gpt-9&#x27;"),
        ({"scopes": []}, "This field is required"),
        ({"scopes": ["root"]}, "Select a valid choice"),
        ({"user": ""}, "This field is required"),
    ],
)
def test_a_wrong_key_form_makes_no_key(changes: dict[str, Any], message: str, admin_page: Client) -> None:
    answer = new_key(admin_page, **changes)

    assert message in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_is_renamed_but_never_given_to_another_user(admin_page: Client) -> None:
    key = make_key()
    form = {"user": make_user().pk, "name": "renamed", "scopes": ["call"], "allowed_models": ""}

    answer = admin_page.post(reverse("admin:ledger_apikey_change", args=[key.pk]), form)

    changed = ApiKey.objects.get()
    assert answer.status_code == 302
    assert (changed.name, changed.user, changed.secret_sha256) == ("renamed", key.user, key.secret_sha256)


def test_revoking_ends_the_chosen_keys_only(admin_page: Client) -> None:
    gone, kept = make_key(), make_key()

    admin_page.post(reverse(LIST), {"action": "revoke_keys", "_selected_action": [gone.pk]})

    gone.refresh_from_db()
    kept.refresh_from_db()
    assert gone.revoked_at is not None
    assert kept.revoked_at is None


def test_rotating_shows_the_successor_and_ends_the_old_key_later(admin_page: Client) -> None:
    old = make_key(name="ci")

    answer = admin_page.post(reverse(LIST), {"action": "rotate_keys", "_selected_action": [old.pk]})

    old.refresh_from_db()
    successor = ApiKey.objects.get(replaces=old)
    parsed = keys.parse(text_in(answer.content.decode()))
    assert parsed is not None
    assert parsed[0] == successor.public_id
    assert old.expires_at is not None
    assert old.expires_at > datetime.now(UTC)


def test_a_revoked_key_is_not_rotated(admin_page: Client) -> None:
    old = make_key(revoked_at=datetime(2026, 1, 1, tzinfo=UTC))

    answer = admin_page.post(reverse(LIST), {"action": "rotate_keys", "_selected_action": [old.pk]}, follow=True)

    assert "create a new one instead" in answer.content.decode()
    assert ApiKey.objects.count() == 1


def test_keys_are_found_by_public_id_name_and_user(admin_page: Client) -> None:
    wanted = make_key(name="nightly", user=make_user(username="zoe"))
    make_key(name="other")

    for term in (wanted.public_id, "nightly", "zoe"):
        page = admin_page.get(reverse(LIST), {"q": term}).content.decode()
        assert wanted.public_id in page
        assert "other" not in re.findall(r"<td[^>]*>\s*(\w+)\s*</td>", page)


def test_keys_are_never_deleted(admin_page: Client) -> None:
    key = make_key()

    answer = admin_page.post(reverse("admin:ledger_apikey_delete", args=[key.pk]), {"post": "yes"})
    admin_page.post(reverse(LIST), {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"})

    assert answer.status_code == 403
    assert ApiKey.objects.filter(pk=key.pk).exists()


@pytest.mark.parametrize("page", ["auth_user", "auth_group", "ledger_team", "ledger_apikey"])
def test_account_pages_open(page: str, admin_page: Client) -> None:
    make_key(team=make_team())

    assert admin_page.get(reverse(f"admin:{page}_changelist")).status_code == 200
    assert admin_page.get(reverse(f"admin:{page}_add")).status_code == 200


def test_a_user_page_opens_and_users_are_not_deleted(admin_page: Client) -> None:
    user = make_user()

    assert admin_page.get(reverse("admin:auth_user_change", args=[user.pk])).status_code == 200
    assert admin_page.post(reverse("admin:auth_user_delete", args=[user.pk]), {"post": "yes"}).status_code == 403
