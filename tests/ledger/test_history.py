"""The history: every change of a tracked row, with who, from and to; never a secret."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ledger import history
from ledger.models import ApiKey, Limit
from providers.models import Alias, Model
from tests import factories
from tests.ledger.admin.test_prices import start_form

pytestmark = pytest.mark.django_db


def test_a_change_tells_from_and_to() -> None:
    limit = factories.make_limit(amount="10")
    Limit.objects.filter(pk=limit.pk).update(amount=Decimal(20))
    changed, added = history.entries(kinds=["limit"], object_id=limit.pk)
    assert (changed.action, added.action) == ("changed", "added")
    [difference] = changed.differences
    assert (difference.field, Decimal(difference.old), Decimal(difference.new)) == ("amount", Decimal(10), Decimal(20))
    assert "metric" in {each.field for each in added.differences}


def test_every_kind_is_kept_also_when_it_is_deleted_and_by_plain_sql() -> None:
    sheet = factories.make_sheet(published=False)
    factories.make_limit()
    factories.make_key(team=factories.make_team())
    alias = Alias.objects.create(name="short", model=sheet.model)
    assert {entry.kind for entry in history.entries()} == set(history.KINDS)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE providers_alias SET name = 'shorter' WHERE id = %s", [alias.pk])
    alias_id = alias.pk
    alias.delete()
    deleted, changed, _ = history.entries(kinds=["alias"], object_id=alias_id)
    assert (deleted.action, deleted.differences[-1].new, changed.differences[0].new) == ("deleted", "", "shorter")


def test_the_person_behind_a_request_is_named(admin_client: Client) -> None:
    current = factories.make_sheet()
    start = timezone.now().replace(year=timezone.now().year + 1, microsecond=0)
    admin_client.post(
        reverse("admin:ledger_pricesheet_new_price", args=[current.model_id]), start_form(start, book="override")
    )
    drafted = history.entries(kinds=["price sheet"])[0]
    assert (drafted.user, drafted.action) == ("admin", "added")
    page = admin_client.get(reverse("admin:pghistory_events_changelist")).content.decode()
    assert "price sheet" in page
    assert "no request (a command)" in page
    assert admin_client.get(reverse("admin:pghistory_events_changelist"), {"kind": "rate", "before": "x"}).status_code


def test_whoever_may_not_see_it_is_refused() -> None:
    client = Client()
    client.force_login(factories.make_user(staff=True))
    assert client.get(reverse("admin:pghistory_events_changelist")).status_code == 403


def test_no_secret_is_kept() -> None:
    tables = [apps.get_model(name) for name in history.KINDS.values()]
    columns = {field.name for table in tables for field in table._meta.get_fields()}
    assert columns.isdisjoint({"secret_sha256", "credential_secret"})
    factories.make_provider(credential_secret="sk-planted")
    key = factories.make_key(secret="planted")
    for entry in history.entries():
        assert "planted" not in str(entry.differences)
        assert key.secret_sha256 not in str(entry.differences)


def test_using_a_key_is_no_change_of_it() -> None:
    key = factories.make_key()
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now())
    assert [entry.action for entry in history.entries(kinds=["key"])] == ["added"]


def test_the_history_itself_cannot_be_changed() -> None:
    factories.make_team()
    table = apps.get_model(history.KINDS["team"])
    for change in ("UPDATE ledger_teamevent SET name = 'x'", "DELETE FROM ledger_teamevent"):
        with pytest.raises(DatabaseError, match="Cannot update or delete"), transaction.atomic():
            connection.cursor().execute(change)
    assert table.objects.count() == 1


def test_the_tables_that_calls_write_have_no_history() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE 'pgtrigger_%%'")
        tracked = {table for (table,) in cursor.fetchall() if not table.endswith("event")}
    assert tracked == {
        "ledger_pricesheet", "ledger_rate", "ledger_limit", "ledger_apikey", "ledger_team", "providers_provider",
        "providers_model", "providers_alias",
    }  # fmt: skip


def test_a_page_costs_the_same_number_of_queries_however_long_the_history(
    django_assert_max_num_queries: Callable[[int], Any],
) -> None:
    model = factories.make_model()
    for number in range(60):
        Model.objects.filter(pk=model.pk).update(display_name=f"name {number}")
    with django_assert_max_num_queries(2 * len(history.KINDS) + 1):
        assert len(history.entries(most=50)) == 50
