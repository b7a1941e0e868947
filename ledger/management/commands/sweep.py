"""manage.py sweep: close what dead processes left open. The gateway does the same by itself every few seconds."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from ledger import database, recovery
from ledger.spool import Spool
from ledger.writer import Writer


class Command(BaseCommand):
    help = "Fence writers whose lease ran out and close their holds as abandoned; replay spools of dead processes."

    def handle(self, *args: Any, **options: Any) -> None:
        writer = Writer(
            spool=Spool(folder=settings.SPOOL_DIR), lease_s=settings.WRITER_LEASE_S, timeout_s=30.0
        )
        writer.start()
        try:
            with database.connect(application_name="tollbook sweep") as connection:
                closed = recovery.sweep(connection, writer=writer, grace_s=settings.WRITER_GRACE_S)
        finally:
            writer.close()
        self.stdout.write(f"{closed} holds closed.")
