"""One row whose number grows with every change of what processes keep in memory (catalog, prices, limits, keys)."""

from __future__ import annotations

from django.db import models


class SnapshotVersion(models.Model):
    """Triggers on those tables bump `version`; every process polls it and reloads when it moved."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    version = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="snapshotversion_single_row")]

    def __str__(self) -> str:
        return str(self.version)
