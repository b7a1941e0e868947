"""The life of a batch: created, begun, cancelled, finished. Every step is one conditional UPDATE, so that none is lost.

    validating -> in_progress -> finalizing -> completed, expired or failed
         |              |
         +-> failed     +-> cancelling -> cancelled
"""

from __future__ import annotations

import uuid
from datetime import timedelta

import msgspec
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from gateway import files
from gateway.batches.lines import Fault
from gateway.errors import ApiError
from gateway.keyring import Principal
from gateway.models import BatchJob

WINDOW = "24h"
_WINDOW = timedelta(hours=24)
State = BatchJob.State


def owned_by(principal: Principal) -> QuerySet[BatchJob]:
    """The batches this caller may see: its user's, within its team."""
    return BatchJob.objects.filter(Q(user_id=principal.user_id, team_id=principal.team_id))


def create(*, principal: Principal, input_file_id: str, endpoint: str, metadata: dict[str, str]) -> BatchJob:
    """A new batch, and the job that carries it out, in one transaction. Raises ApiError for a file it may not see."""
    from gateway.tasks import run_batch

    now = timezone.now()
    with transaction.atomic():
        # Locked, so that it cannot be deleted meanwhile.
        file = files.owned_by(principal).select_for_update(of=("self",)).filter(pk=input_file_id).first()
        if file is None:
            raise ApiError("invalid_request", f"There is no file {input_file_id[:80]!r}.", param="input_file_id")
        if file.purpose != file.Purpose.BATCH:
            raise ApiError("invalid_request", "The file's purpose is not 'batch'.", param="input_file_id")
        job = BatchJob.objects.create(
            id=f"batch_{uuid.uuid4().hex}",
            key_id=principal.key_id,
            user_id=principal.user_id,
            team_id=principal.team_id,
            endpoint=endpoint,
            input_file_id=file.pk,
            completion_window=WINDOW,
            metadata=metadata,
            created_at=now,
            expires_at=now + _WINDOW,
        )
        run_batch.configure(queueing_lock=job.pk).defer(batch_id=job.pk)
    return job


def refuse(job_id: str, *, faults: list[Fault]) -> None:
    """The input is not fit to begin with."""
    _open(job_id, State.VALIDATING).update(
        state=State.FAILED, failed_at=timezone.now(), refused=msgspec.to_builtins(faults)
    )


def begin(job_id: str, *, total: int) -> None:
    _open(job_id, State.VALIDATING).update(state=State.IN_PROGRESS, in_progress_at=timezone.now(), total=total)


def cancel(job_id: str) -> bool:
    """Ask for its end: what is in flight is still answered. False when it had ended or was being ended already."""
    found = _open(job_id, State.VALIDATING, State.IN_PROGRESS)
    return found.update(state=State.CANCELLING, cancelling_at=timezone.now()) == 1


def note_progress(job_id: str, *, completed: int, failed: int, waits_for: str) -> None:
    BatchJob.objects.filter(pk=job_id).update(completed=completed, failed=failed, waits_for=waits_for[:500])


def conclude(job_id: str, *, is_expired: bool = False, fault: Fault | None = None) -> None:
    """Nothing more will be asked: why, if not because all is done. A batch being cancelled stays so."""
    now = timezone.now()
    _open(job_id, State.IN_PROGRESS).update(
        state=State.FINALIZING,
        finalizing_at=now,
        expired_at=now if is_expired else None,
        failed_at=now if fault is not None else None,
        refused=msgspec.to_builtins([fault] if fault is not None else []),
    )


def finish(job: BatchJob) -> None:
    """Publish what was written and end the batch. Begun again after a crash it does the same."""
    output_id, error_id = files.publish(job, kind="output"), files.publish(job, kind="errors")
    now = timezone.now()
    ends = {"output_file_id": output_id, "error_file_id": error_id, "waits_for": ""}
    finalizing = _open(job.pk, State.FINALIZING)
    finalizing.filter(expired_at__isnull=False).update(state=State.EXPIRED, **ends)
    finalizing.filter(failed_at__isnull=False).update(state=State.FAILED, **ends)
    finalizing.update(state=State.COMPLETED, completed_at=now, **ends)
    _open(job.pk, State.CANCELLING).update(state=State.CANCELLED, cancelled_at=now, **ends)


def _open(job_id: str, *states: State) -> QuerySet[BatchJob]:
    return BatchJob.objects.filter(pk=job_id, state__in=states)
