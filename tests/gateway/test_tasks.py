"""The chores by the clock."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from procrastinate.contrib.django import app

from gateway import idempotency, tasks
from ledger.models import IdempotencyKey
from tests import factories


def claim(*, hours_left: int, state: str) -> IdempotencyKey:
    return IdempotencyKey.objects.create(
        key=factories.make_key(), text_sha256="0" * 64, body_sha256="0" * 64, request_id=uuid.uuid4(), state=state,
        expires_at=timezone.now() + timedelta(hours=hours_left),
    )  # fmt: skip


@pytest.mark.django_db
def test_claims_past_their_time_are_deleted_but_not_those_in_flight() -> None:
    claim(hours_left=-1, state="done")
    claim(hours_left=-1, state="indeterminate")
    kept = [claim(hours_left=-1, state="running"), claim(hours_left=1, state="done")]
    assert idempotency.prune() == 2
    assert set(IdempotencyKey.objects.values_list("pk", flat=True)) == {row.pk for row in kept}


def test_every_chore_is_known_to_the_workers_and_has_its_hour() -> None:
    periodic = {name for name, _ in app.periodic_registry.periodic_tasks}
    assert {tasks.prune_files.name, tasks.prune_claims.name, tasks.check_providers.name} <= periodic
    assert tasks.run_batch.name in app.tasks
