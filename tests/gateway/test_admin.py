"""The pages of batches and files."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from gateway.models import BatchJob, StoredFile
from ledger.models import ApiKey
from tests import factories
from tests.gateway.api.callers import by_session

pytestmark = pytest.mark.django_db


def make_job(key: ApiKey, **fields: object) -> BatchJob:
    now = timezone.now()
    values = {
        "id": "batch_" + "a" * 32, "endpoint": "/v1/embeddings", "input_file_id": "file-x", "completion_window": "24h",
        "created_at": now, "expires_at": now + timedelta(hours=24), **fields,
    }  # fmt: skip
    return BatchJob.objects.create(key=key, user=key.user, team=key.team, **values)


@pytest.fixture
def client() -> Client:
    return by_session(factories.make_user(superuser=True))


def test_the_batches_page_shows_progress(client: Client) -> None:
    make_job(factories.make_key(), state="in_progress", total=200, completed=49, failed=1, waits_for="The limit of 5")
    page = client.get(reverse("admin:gateway_batchjob_changelist")).content.decode()
    assert "50 of 200 (25 %)" in page
    assert "The limit of 5" in page


def test_a_batch_can_be_cancelled_and_nothing_else_changed(client: Client) -> None:
    job = make_job(factories.make_key(), state="in_progress", total=2)
    listed = reverse("admin:gateway_batchjob_changelist")
    client.post(listed, {"action": "cancel", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert job.state == "cancelling"
    client.post(reverse("admin:gateway_batchjob_change", args=[job.pk]), {"state": "completed"})
    job.refresh_from_db()
    assert job.state == "cancelling"


def test_the_files_page_shows_whose_they_are(client: Client) -> None:
    key = factories.make_key()
    StoredFile.objects.create(
        id="file-" + "b" * 32, key=key, user=key.user, purpose="batch", filename="<b>in</b>.jsonl", size_bytes=2048,
        sha256="0" * 64, created_at=timezone.now(),
    )  # fmt: skip
    page = client.get(reverse("admin:gateway_storedfile_changelist")).content.decode()
    assert key.user.username in page
    assert "&lt;b&gt;in&lt;/b&gt;.jsonl" in page


@pytest.mark.parametrize("fields", [{"state": "done"}, {"total": 1, "completed": 1, "failed": 1}, {"id": "x"}])
def test_the_database_refuses_a_batch_that_cannot_be(fields: dict[str, object]) -> None:
    key = factories.make_key()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(key, **fields)
