from __future__ import annotations

import re
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.test import Client
from django.urls import reverse

from providers.models import Alias, Model, Provider
from tests.factories import make_model, make_provider, make_user

SECRET = "sk-planted-secret-1234567890"


@pytest.fixture
def admin_page(db: None) -> Client:
    client = Client()
    client.force_login(make_user(superuser=True))
    return client


def provider_form(**changes: Any) -> dict[str, Any]:
    return {
        "name": "acme",
        "adapter": "openai",
        "base_url": "",
        "enabled": "on",
        "credential_ref": "",
        "new_credential": "",
        "max_retries": "3",
        "disconnect_policy": "cancel",
        "timeout_s": "30",
        "connect_timeout_s": "5",
        "idle_timeout_s": "30",
        "stream_timeout_s": "600",
        "settings": "{}",
        **changes,
    }


def change_url(row: Any) -> str:
    return reverse(f"admin:providers_{type(row).__name__.lower()}_change", args=[row.pk])


@pytest.mark.parametrize("table", ["provider", "model", "alias"])
def test_every_page_opens(table: str, admin_page: Client) -> None:
    model = make_model(aliases=["other-name"])
    row = {"provider": model.provider, "model": model, "alias": model.aliases.get()}[table]

    for url in (
        reverse(f"admin:providers_{table}_changelist"),
        reverse(f"admin:providers_{table}_add"),
        change_url(row),
    ):
        assert admin_page.get(url).status_code == 200, url


def test_a_new_provider_keeps_its_credential_to_itself(admin_page: Client) -> None:
    answer = admin_page.post(reverse("admin:providers_provider_add"), provider_form(new_credential=SECRET), follow=True)

    provider = Provider.objects.get()
    assert provider.credential_secret == SECRET
    urls = [
        change_url(provider),
        reverse("admin:providers_provider_changelist"),
        reverse("admin:providers_provider_history", args=[provider.pk]),
    ]
    for page in (answer, *(admin_page.get(url) for url in urls)):
        assert page.status_code == 200
        assert SECRET not in page.content.decode()


@pytest.mark.parametrize(("stored", "shown"), [(SECRET, "set"), ("", "not set")])
def test_whether_a_credential_is_stored_is_shown(stored: str, shown: str, admin_page: Client) -> None:
    make_provider(credential_secret=stored)

    page = admin_page.get(reverse("admin:providers_provider_changelist")).content.decode()

    assert re.search(rf">\s*{shown}\s*<", page)


def test_a_refused_form_does_not_send_the_credential_back(admin_page: Client) -> None:
    form = provider_form(new_credential=SECRET, timeout_s="-1")

    answer = admin_page.post(reverse("admin:providers_provider_add"), form)

    assert not Provider.objects.exists()
    assert SECRET not in answer.content.decode()


def test_an_empty_credential_keeps_the_stored_one(admin_page: Client) -> None:
    provider = make_provider(name="acme", adapter="openai", credential_secret=SECRET)

    admin_page.post(change_url(provider), provider_form(timeout_s="45"))

    provider.refresh_from_db()
    assert (provider.timeout_s, provider.credential_secret) == (45, SECRET)


def test_a_credential_can_be_replaced_and_forgotten(admin_page: Client) -> None:
    provider = make_provider(name="acme", adapter="openai", credential_secret=SECRET)

    admin_page.post(change_url(provider), provider_form(new_credential="sk-second"))
    provider.refresh_from_db()
    assert provider.credential_secret == "sk-second"

    admin_page.post(change_url(provider), provider_form(forget_credential="on"))
    provider.refresh_from_db()
    assert provider.credential_secret == ""


def test_a_lost_encryption_key_does_not_break_the_page_that_replaces_the_credential(
    admin_page: Client, settings: Any
) -> None:
    provider = make_provider(name="acme", adapter="openai", credential_secret=SECRET)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]

    assert admin_page.get(change_url(provider)).status_code == 200
    admin_page.post(change_url(provider), provider_form(new_credential="sk-second"))

    provider.refresh_from_db()
    assert provider.credential_secret == "sk-second"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "http://169.254.169.254/latest"}, "https://"),
        ({"base_url": "https://169.254.169.254/latest"}, "link-local"),
        ({"base_url": "https://127.0.0.1:8000"}, "not on the public internet"),
        ({"adapter": "nope"}, "Select a valid choice"),
        ({"credential_ref": "vault:x"}, "env:NAME or file:PATH"),
    ],
)
def test_a_provider_that_cannot_be_called_is_refused_with_a_message(
    changes: dict[str, str], message: str, admin_page: Client
) -> None:
    answer = admin_page.post(reverse("admin:providers_provider_add"), provider_form(**changes))

    assert message in answer.content.decode()
    assert not Provider.objects.exists()


def test_a_private_address_passes_where_the_provider_allows_it(admin_page: Client) -> None:
    form = provider_form(base_url="http://127.0.0.1:8000", allow_plain_http="on", allow_private_address="on")

    admin_page.post(reverse("admin:providers_provider_add"), form)

    assert Provider.objects.get().base_url == "http://127.0.0.1:8000"


def test_a_name_taken_by_a_model_is_refused_for_an_alias(admin_page: Client) -> None:
    model = make_model(name="gpt-4")

    answer = admin_page.post(reverse("admin:providers_alias_add"), {"name": "gpt-4", "model": model.pk})

    assert "is the name of a model" in answer.content.decode()
    assert not Alias.objects.exists()


def test_a_name_taken_by_an_alias_is_refused_for_a_model(admin_page: Client) -> None:
    other = make_model(name="gpt-4", aliases=["four"])
    form = {
        "name": "four",
        "provider": other.provider.pk,
        "upstream_name": "x",
        "aliases-TOTAL_FORMS": "0",
        "aliases-INITIAL_FORMS": "0",
    }

    answer = admin_page.post(reverse("admin:providers_model_add"), form)

    assert "is the name of an alias" in answer.content.decode()
    assert Model.objects.count() == 1


@pytest.mark.parametrize("table", ["provider", "model"])
def test_what_the_books_may_point_at_is_not_deleted(table: str, admin_page: Client) -> None:
    model = make_model()
    row: Any = {"provider": model.provider, "model": model}[table]

    answer = admin_page.post(reverse(f"admin:providers_{table}_delete", args=[row.pk]), {"post": "yes"})

    assert answer.status_code == 403
    assert type(row).objects.filter(pk=row.pk).exists()


def test_markup_in_a_name_is_text(admin_page: Client) -> None:
    make_model(display_name="<script>alert(1)</script>", upstream_name="<script>alert(2)</script>")

    answer = admin_page.get(reverse("admin:providers_model_changelist"))

    assert "<script>alert(" not in answer.content.decode()
