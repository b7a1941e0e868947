"""Batches: files that clients upload and get back, and the jobs that work through them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from ledger.models import ApiKey, Team


class StoredFile(models.Model):
    """A file of a client's, or one that a batch wrote for it. Its bytes are in the files directory, under its id.

    Seen by the keys of its user within its team, by nobody else.
    """

    class Purpose(models.TextChoices):
        BATCH = "batch", "batch: requests of a client"
        BATCH_OUTPUT = "batch_output", "batch_output: what a batch wrote"

    id = models.CharField(max_length=64, primary_key=True)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, related_name="+")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    filename = models.CharField(max_length=255)
    size_bytes = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "file"
        indexes = [
            models.Index(fields=["user", "-created_at"], name="storedfile_user"),
            models.Index(fields=["created_at"], name="storedfile_age"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(purpose__in=["batch", "batch_output"]), name="storedfile_purpose_known"),
            models.CheckConstraint(condition=Q(size_bytes__gte=0), name="storedfile_size_not_negative"),
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="storedfile_sha256_form"),
            models.CheckConstraint(condition=Q(id__regex=r"^file-[0-9a-f]{32}$"), name="storedfile_id_form"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.filename}"


class BatchJob(models.Model):
    """One batch: every line of its input file is a request. Where it stands is here; what it wrote is in its files.

    `refused` holds what was wrong with the input: {"code", "message", "param", "line"} each.
    """

    class State(models.TextChoices):
        VALIDATING = "validating", "validating"
        FAILED = "failed", "failed"
        IN_PROGRESS = "in_progress", "in progress"
        FINALIZING = "finalizing", "finalizing"
        COMPLETED = "completed", "completed"
        EXPIRED = "expired", "expired"
        CANCELLING = "cancelling", "cancelling"
        CANCELLED = "cancelled", "cancelled"

    OPEN = (State.VALIDATING, State.IN_PROGRESS, State.FINALIZING, State.CANCELLING)

    id = models.CharField(max_length=64, primary_key=True)
    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, related_name="+")
    endpoint = models.CharField(max_length=64)
    # By name: a file may be deleted when the batch has ended, and the batch still says which it was.
    input_file_id = models.CharField(max_length=64)
    output_file_id = models.CharField(max_length=64, blank=True)
    error_file_id = models.CharField(max_length=64, blank=True)
    completion_window = models.CharField(max_length=8)
    metadata = models.JSONField(default=dict)
    state = models.CharField(max_length=11, choices=State.choices, default=State.VALIDATING)
    total = models.PositiveIntegerField(default=0, help_text="Requests.")
    completed = models.PositiveIntegerField(default=0, help_text="Requests that succeeded.")
    failed = models.PositiveIntegerField(default=0, help_text="Requests that did not.")
    waits_for = models.CharField(max_length=500, blank=True, help_text="The newest reason why requests wait.")
    refused = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    in_progress_at = models.DateTimeField(null=True)
    finalizing_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    failed_at = models.DateTimeField(null=True)
    expired_at = models.DateTimeField(null=True)
    cancelling_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        verbose_name = "batch"
        verbose_name_plural = "batches"
        indexes = [
            models.Index(fields=["user", "-created_at", "-id"], name="batchjob_user"),
            models.Index(
                fields=["created_at"],
                condition=Q(state__in=["validating", "in_progress", "finalizing", "cancelling"]),
                name="batchjob_open",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling",
                        "cancelled",
                    ]
                ),
                name="batchjob_state_known",
            ),
            models.CheckConstraint(
                condition=Q(total__gte=models.F("completed") + models.F("failed")), name="batchjob_counts_add_up"
            ),
            models.CheckConstraint(condition=Q(id__regex=r"^batch_[0-9a-f]{32}$"), name="batchjob_id_form"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.id} ({self.state})"
