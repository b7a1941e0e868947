"""manage.py export_sheets: published price sheets as CSV, for a spreadsheet; `import_sheets` takes it back."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger import price_list, sheet_csv


class Command(BaseCommand):
    help = "Write the price sheets in force (or with --history all that were published) as CSV to standard output."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", action="append", metavar="NAME", help="Only this model; may be repeated.")
        parser.add_argument("--history", action="store_true", help="Every sheet ever published.")

    def handle(self, *args: Any, **options: Any) -> None:
        models = price_list.models_named(options["model"])
        if options["model"] and not models.exists():
            raise CommandError(f"There is no model {', '.join(map(repr, options['model']))}.")
        at = None if options["history"] else timezone.now()
        sheets = price_list.sheets(model_ids=models.values_list("pk", flat=True), at=at)
        self.stdout.write(sheet_csv.dump(sheets), ending="")
