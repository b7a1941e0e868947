"""What a process keeps in memory is one moment of the database."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connection

from gateway import snapshot
from ledger.models import SnapshotVersion
from providers.models import Provider
from tests import factories


@pytest.mark.django_db(transaction=True)
def test_a_change_made_while_it_is_read_is_seen_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    factories.make_model(name="before", provider=factories.make_provider(name="p-before"))
    version = SnapshotVersion.objects.get(pk=1).version
    told = snapshot._adapter
    url = connection.get_connection_params()

    def in_between(row: Provider) -> Any:
        """Providers have been read; models, aliases, limits and prices have not."""
        with psycopg.connect(**{name: url[name] for name in ("dbname", "host", "user")}, autocommit=True) as other:
            other.execute("INSERT INTO providers_alias (name, model_id) SELECT 'late', id FROM providers_model")
        return told(row)

    monkeypatch.setattr(snapshot, "_adapter", in_between)
    read = snapshot.load()
    assert set(read.targets) == {"before"}
    assert read.version == version
    monkeypatch.undo()
    again = snapshot.load()
    assert set(again.targets) == {"before", "late"}
    assert again.version > version
