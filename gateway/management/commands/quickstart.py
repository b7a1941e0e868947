"""manage.py quickstart: what `make run` prepares, without starting a server."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from gateway import quickstart


class Command(BaseCommand):
    help = "Migrate, seed the catalog and prices, make a demo key and an admin log-in; write var/quickstart.json."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--base-url", default="http://127.0.0.1:8000", help="Where the gateway will be reached.")

    def handle(self, *args: Any, **options: Any) -> None:
        file = Path(settings.VAR_DIR) / "quickstart.json"
        quickstart.prepare(base_url=options["base_url"].rstrip("/"), file=file, say=self.stdout.write)
        self.stdout.write(f"Ready: base URL, key and admin log-in are in {file}.")
