"""Uploads kept: what was read, so that the same bytes are looked at again and posted from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from ledger.models import ReconcileFile, ReconcileRun
from ledger.reconcile.export import Export
from ledger.reconcile.mapped import parse_mapping
from ledger.reconcile.posting import Posted, post
from ledger.reconcile.reading import SourceFile, read
from providers.models import Provider


def fingerprint(
    *, provider: Provider, files: Sequence[SourceFile], mapping: Mapping[str, Any] | None, account: str
) -> str:
    """The SHA-256 of what is read and how: the same upload has the same one, whatever its files are called."""
    contents = sorted(hashlib.sha256(file.content).hexdigest() for file in files)
    text = json.dumps([provider.pk, contents, mapping, account], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def keep(
    *, provider: Provider, files: Sequence[SourceFile], now: datetime, mapping: str | bytes | None = None,
    account: str = "", actor: AbstractBaseUser | None = None,
) -> ReconcileRun:
    """Read the files and keep them as a run; the same upload again finds the run there is. Raises ExportError."""
    parsed = None if mapping is None else msgspec.to_builtins(parse_mapping(mapping))
    read(files, now=now, mapping=parsed, account=account)
    digest = fingerprint(provider=provider, files=files, mapping=parsed, account=account)
    found = ReconcileRun.objects.filter(sha256=digest).first()
    if found is not None:
        return found
    with transaction.atomic():
        run = ReconcileRun.objects.create(
            provider=provider, names=[file.name[:255] for file in files], mapping=parsed, account=account,
            sha256=digest, created_by_id=None if actor is None else actor.pk,
        )
        for file in files:
            ReconcileFile.objects.create(run=run, name=file.name[:255], content=file.content)
    return run


def export_of(run: ReconcileRun, *, now: datetime) -> Export:
    """The run's files, read again."""
    files = [SourceFile(file.name, bytes(file.content)) for file in run.files.all()]
    return read(files, now=now, mapping=run.mapping, account=run.account)


def post_run(run: ReconcileRun, *, actor: AbstractBaseUser | None, now: datetime) -> Posted:
    """Post the run's differences and note what was written. Raises PostError before anything is."""
    posted = post(
        export=export_of(run, now=now), provider=run.provider, reference=reference_of(run), actor=actor, now=now
    )
    if posted.adjustments or run.posted_at is None:
        run.posted_at = now
        run.posted_by_id = None if actor is None else actor.pk
        run.posted_calls = (run.posted_calls or 0) + posted.adjustments
        run.posted_usd = (run.posted_usd or 0) + posted.total_usd
        run.save(update_fields=["posted_at", "posted_by", "posted_calls", "posted_usd"])
    return posted


def reference_of(run: ReconcileRun) -> str:
    """What the adjustments of a run are found by."""
    return f"reconcile {run.provider.name} {run.sha256[:16]}"
