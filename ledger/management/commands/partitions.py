"""manage.py partitions: the months of the ledger; made ahead, archived, dropped, restored."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger import archive, partitions, restore


class Command(BaseCommand):
    help = "List the monthly partitions of the calls; make, archive, drop or restore them (as the owner of the tables)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--create", type=int, metavar="N", help="Make this month's partition and the next N.")
        what.add_argument("--archive", metavar="YYYY-MM", help="Verify the month, write its calls to Parquet.")
        what.add_argument("--drop", metavar="YYYY-MM", help="Drop an archived month; its sums stay.")
        what.add_argument("--restore", metavar="YYYY-MM", help="Bring a dropped month back from its file.")
        parser.add_argument("--dir", metavar="FOLDER", help="Where archives go; archive/ in the var directory.")
        parser.add_argument("--file", metavar="FILE", help="For --drop and --restore: the file, if it was moved.")
        parser.add_argument("--count", action="store_true", help="Count rows exactly, which reads every partition.")

    def handle(self, *args: Any, **options: Any) -> None:
        file = Path(options["file"]) if options["file"] else None
        try:
            if options["create"] is not None:
                self._create(options["create"])
            elif options["archive"]:
                folder = Path(options["dir"] or settings.VAR_DIR / "archive")
                made = archive.archive(month=_month(options["archive"]), folder=folder, now=timezone.now())
                self.stdout.write(f"{made.calls} calls in {made.path}, {made.bytes} bytes, SHA-256 {made.sha256}.")
            elif options["restore"]:
                back = restore.restore(month=_month(options["restore"]), path=file)
                self.stdout.write(f"{back} is back: {back.calls} calls, each as it was archived; the books are right.")
            elif options["drop"]:
                gone = archive.drop(month=_month(options["drop"]), now=timezone.now(), path=file)
                self.stdout.write(f"{gone} dropped: {gone.calls} calls are in {gone.path} only.")
            else:
                self._list(count=options["count"])
        except archive.ArchiveError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from None

    def _create(self, months: int) -> None:
        if not 0 <= months <= 120:
            raise CommandError(f"--create {months}: 0 to 120 months ahead.")
        self.stdout.write(f"{partitions.create_ahead(months=months)} partitions made.")

    def _list(self, *, count: bool) -> None:
        for each in partitions.partitions(count=count):
            calls = f"{each.calls}" if each.counted else f"about {each.calls}"
            self.stdout.write(f"{each.name:<24}{calls:>16} calls {each.size_bytes / 2**20:>12.1f} MiB  {each.state}")
        stray = partitions.strays()
        if stray:
            raise CommandError(stray)


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise CommandError(f"{text!r} is no month: write it as 2026-11.") from None
