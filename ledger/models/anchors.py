"""Where the chains stood, minute by minute: what makes rewriting the whole of one visible."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from ledger.models.calls import Writer


class Anchor(models.Model):
    """The head of one writer's chain at an instant, inserted once and immutable (by trigger)."""

    taken_at = models.DateTimeField(db_index=True)
    writer = models.ForeignKey(Writer, on_delete=models.PROTECT, related_name="anchors")
    seq = models.BigIntegerField(help_text="How many batches the chain had.")
    head = models.BinaryField(help_text="The hash of the last of them.")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["writer", "seq"], name="anchor_once"),
            models.CheckConstraint(condition=Q(seq__gt=0), name="anchor_of_a_batch"),
        ]

    def __str__(self) -> str:
        return f"{self.writer_id} at {self.seq}"
