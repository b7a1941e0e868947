"""manage.py export_focus --month 2026-11: the month for FinOps tools, and what it leaves out."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger import focus_files
from ledger.focus import Export, FocusError
from ledger.money import format_short


class Command(BaseCommand):
    help = "Export one month as FOCUS 1.2. The rows add up to the ledger's charges and adjustments of that month."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--month", required=True, help="YYYY-MM: the calls of that UTC month.")
        parser.add_argument("--format", choices=focus_files.FORMATS, default="csv")
        parser.add_argument("--out", metavar="FILE", help="Left out: to standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            export = Export(month=focus_files.month_of(options["month"]))
            if options["out"]:
                self._to_file(export, options["format"], Path(options["out"]))
            else:
                focus_files.write(export=export, format=options["format"], out=sys.stdout.buffer)
                sys.stdout.buffer.flush()
        except FocusError as error:
            raise CommandError(str(error)) from None
        self.stderr.write(
            f"{format_short(export.total_usd)} USD: {format_short(export.charged_usd)} charged,"
            f" {format_short(export.adjusted_usd)} adjusted. {export.unpriced_calls} calls of unknown cost have no row."
        )

    def _to_file(self, export: Export, format: focus_files.Format, path: Path) -> None:
        """Write beside the target and rename: a reader never meets half a file."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as out:
                focus_files.write(export=export, format=format, out=out)
            unfinished.replace(path)
            aside = focus_files.unpriced_path(path)
            aside.unlink(missing_ok=True)
            if export.unpriced_calls:
                with aside.open("wb") as out:
                    focus_files.write_unpriced(export=export, out=out)
                self.stderr.write(f"They are listed in {aside}.")
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}.") from None
        finally:
            unfinished.unlink(missing_ok=True)
