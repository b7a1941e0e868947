"""manage.py export_catalog [FILE]: the catalog as a file that `apply` takes back."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger.catalog import export


class Command(BaseCommand):
    help = "Write providers, models, prices, teams, users, keys and limits as YAML, without any secret."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", help="Where to write it; left out: to standard output.")

    def handle(self, *args: Any, **options: Any) -> None:
        text = export()
        if not options["file"]:
            self.stdout.write(text, ending="")
            return
        try:
            Path(options["file"]).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}.") from None
