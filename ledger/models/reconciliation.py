"""Providers' exports that were uploaded, to look at again and to post from."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from providers.models import Provider


class ReconcileRun(models.Model):
    """One upload: the files as they came, how to read them, and what became of it."""

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="+")
    names = models.JSONField(default=list, help_text="The names of the files.")
    mapping: models.JSONField[Any, Any] = models.JSONField(null=True, help_text="How a CSV of another form is read.")
    account = models.CharField(max_length=200, blank=True, help_text="Only lines of this project, workspace or key.")
    sha256 = models.CharField(max_length=64, help_text="Of what was read, and how: names its adjustments.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    posted_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    posted_at = models.DateTimeField(null=True)
    posted_usd = models.DecimalField(max_digits=24, decimal_places=12, null=True)
    posted_calls = models.IntegerField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "reconciliation"
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=r"^[0-9a-f]{64}$"), name="reconcilerun_sha256"),
            models.CheckConstraint(
                condition=Q(posted_at__isnull=True, posted_usd__isnull=True, posted_calls__isnull=True)
                | Q(posted_at__isnull=False, posted_usd__isnull=False, posted_calls__isnull=False),
                name="reconcilerun_posted_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} {', '.join(self.names)}"


class ReconcileFile(models.Model):
    """The bytes of one uploaded file, kept apart so that lists do not read them."""

    run = models.ForeignKey(ReconcileRun, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255)
    content = models.BinaryField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.name
