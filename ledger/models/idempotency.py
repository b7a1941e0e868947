"""Requests that must not be made twice: claimed with the hold, answered with the settle, kept for a day."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from ledger.models.accounts import ApiKey


class IdempotencyKey(models.Model):
    """One `Idempotency-Key` of one API key. Nobody else's request can meet it.

    running: the claim of a request in flight. done: its answer, encrypted, or no answer when it was too large to keep.
    indeterminate: the provider may have worked and nobody knows; only a new key asks again.
    """

    class State(models.TextChoices):
        RUNNING = "running", "running"
        DONE = "done", "done"
        INDETERMINATE = "indeterminate", "indeterminate"

    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+")
    text_sha256 = models.CharField(max_length=64)
    body_sha256 = models.CharField(max_length=64)
    request_id = models.UUIDField(unique=True)
    state = models.CharField(max_length=13, choices=State.choices, default=State.RUNNING)
    call_id = models.UUIDField(null=True)
    headers = models.JSONField(default=dict)
    answer_encrypted = models.TextField(blank=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "text_sha256"], name="idempotency_key_once"),
            models.CheckConstraint(
                condition=Q(state__in=["running", "done", "indeterminate"]), name="idempotency_state_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} ({self.state})"
