"""Files of clients: their bytes lie in the files directory, whose they are in the database.

Who may see a file is said in one place: `owned_by`.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone

from gateway.errors import ApiError
from gateway.keyring import Principal
from gateway.models import BatchJob, StoredFile

_CHUNK_BYTES = 1024 * 1024


def owned_by(principal: Principal) -> QuerySet[StoredFile]:
    """The files this caller may see: its user's, within its team. A key that replaces another sees the same."""
    return StoredFile.objects.filter(Q(user_id=principal.user_id, team_id=principal.team_id))


def path_of(file_id: str) -> Path:
    """Where a file's bytes are: a folder for each first byte of the id, so that none grows large."""
    return Path(settings.FILES_DIR) / file_id.removeprefix("file-")[:2] / file_id


class Upload:
    """A file on its way in: `write` its pieces, then `keep` it, or `discard` it."""

    def __init__(self) -> None:
        self.id = f"file-{uuid.uuid4().hex}"
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._path = path_of(self.id)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._open = True

    def write(self, piece: bytes) -> None:
        """Raises ApiError request_too_large; nothing is kept then."""
        self.size_bytes += len(piece)
        if self.size_bytes > settings.MAX_FILE_BYTES:
            self.discard()
            raise too_large()
        self._digest.update(piece)
        left = memoryview(piece)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def keep(self, *, principal: Principal, filename: str) -> StoredFile:
        """Make it a file of the caller's: on the disk first, then in the database."""
        os.fsync(self._descriptor)
        self._close()
        return StoredFile.objects.create(
            id=self.id,
            key_id=principal.key_id,
            user_id=principal.user_id,
            team_id=principal.team_id,
            purpose=StoredFile.Purpose.BATCH,
            filename=filename,
            size_bytes=self.size_bytes,
            sha256=self._digest.hexdigest(),
            created_at=timezone.now(),
        )

    def discard(self) -> None:
        if self._open:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)


def too_large() -> ApiError:
    return ApiError("request_too_large", f"The file is larger than {settings.MAX_FILE_BYTES} bytes.", param="file")


def written_by(job: BatchJob, *, kind: str) -> str:
    """The id of the file that a batch writes: the same each time, so that a resumed batch goes on with it."""
    return f"file-{uuid.uuid5(uuid.UUID(job.pk.removeprefix('batch_')), kind).hex}"


def publish(job: BatchJob, *, kind: str) -> str:
    """Make what a batch wrote a file of its owner's. Returns its id; '' when there is nothing. May be done again."""
    file_id = written_by(job, kind=kind)
    path = path_of(file_id)
    if not path.exists() or not path.stat().st_size:
        path.unlink(missing_ok=True)
        return ""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
    StoredFile.objects.update_or_create(
        id=file_id,
        defaults={
            "key_id": job.key_id,
            "user_id": job.user_id,
            "team_id": job.team_id,
            "purpose": StoredFile.Purpose.BATCH_OUTPUT,
            "filename": f"{job.pk}_{kind}.jsonl",
            "size_bytes": size,
            "sha256": digest.hexdigest(),
            "created_at": timezone.now(),
        },
    )
    return file_id


def delete(file: StoredFile) -> None:
    """Remove a file and its bytes. Raises ApiError while a batch works through it."""
    if BatchJob.objects.filter(input_file_id=file.pk, state__in=BatchJob.OPEN).exists():
        raise ApiError("invalid_request", f"A batch works through {file.pk}: cancel it, or wait for its end.")
    path = path_of(file.pk)
    file.delete()
    path.unlink(missing_ok=True)


def prune() -> int:
    """Delete files past their age, but for those of open batches. Returns how many."""
    before = timezone.now() - timedelta(days=settings.FILES_KEPT_DAYS)
    in_use = BatchJob.objects.filter(state__in=BatchJob.OPEN).values("input_file_id")
    pruned = 0
    for file in StoredFile.objects.filter(created_at__lt=before).exclude(pk__in=in_use).iterator():
        delete(file)
        pruned += 1
    return pruned
