"""manage.py import_sheets FILE.csv: price sheets from a spreadsheet, all of them or none."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger import sheet_csv, sheet_import
from ledger.sheet_csv import SheetCsvError


class Command(BaseCommand):
    help = "Read price sheets from a CSV file as drafts, or with --publish as published sheets: all of them or none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--publish", action="store_true", help="Publish the sheets instead of drafting them.")
        parser.add_argument("--reason", default="", help="Why; kept with each sheet. Needed to publish.")
        parser.add_argument("--confirm-outliers", action="store_true", help="Take prices moved by more than x3.")
        parser.add_argument("--check", action="store_true", help="Only say what is wrong; write nothing.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            text = options["file"].read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{options['file']}: not readable: {error}") from None
        try:
            sheets = sheet_csv.read(text)
            if options["check"]:
                self._check(sheets)
                return
            done = sheet_import.carry_in(
                sheets, now=timezone.now(), publish=options["publish"], reason=options["reason"],
                confirm_outliers=options["confirm_outliers"],
            )  # fmt: skip
        except SheetCsvError as error:
            raise CommandError("\n".join([*error.faults, "Nothing was written."])) from None
        self.stdout.write(done.told(published=options["publish"]))

    def _check(self, sheets: list[sheet_csv.CsvSheet]) -> None:
        for line in sheet_import.outliers(sheets):
            self.stdout.write(line)
        self.stdout.write(f"{len(sheets)} sheet(s) can be read. Nothing was written.")
