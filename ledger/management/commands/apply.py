"""manage.py apply FILE.yaml [--dry-run]: make the database agree with a catalog file."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ledger.catalog import CatalogError, Outcome, apply, parse


class Command(BaseCommand):
    help = "Declare providers, models, routes, prices, teams, users, keys and limits from a YAML file: all or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="A YAML file, or - for standard input.")
        parser.add_argument("--dry-run", action="store_true", help="Show what would change, and change nothing.")
        parser.add_argument("--keys-file", help="Write the texts of new keys to this new file (mode 600) instead.")

    def handle(self, *args: Any, **options: Any) -> None:
        # Opened first: the text of a key exists only once, so its place must be certain before the key is made.
        keys_file = None if options["dry_run"] else _new_file(options["keys_file"])
        try:
            outcome = apply(catalog=parse(_text_of(options["file"])), dry_run=options["dry_run"])
        except (CatalogError, CommandError) as error:
            _discard(keys_file, options["keys_file"])
            raise CommandError(f"{error}\nNothing was applied.") from None
        for line in outcome.lines():
            self.stdout.write(line)
        if options["dry_run"]:
            self.stdout.write("Dry run: nothing was changed.")
        self._tell_keys(outcome, keys_file=keys_file, path=options["keys_file"])

    def _tell_keys(self, outcome: Outcome, *, keys_file: int | None, path: str | None) -> None:
        if keys_file is not None:
            with os.fdopen(keys_file, "w") as file:
                file.writelines(f"{name} {text}\n" for name, text in outcome.key_texts)
            self.stdout.write(f"{len(outcome.key_texts)} new key(s) written to {path}.")
            return
        for name, text in outcome.key_texts:
            self.stdout.write(f"Key {name}, shown only now: {text}")


def _text_of(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path}: not UTF-8 text.") from None


def _new_file(path: str | None) -> int | None:
    """A descriptor of a file that did not exist before."""
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"--keys-file {path}: {error.strerror}.") from None


def _discard(keys_file: int | None, path: str | None) -> None:
    if keys_file is not None and path is not None:
        os.close(keys_file)
        Path(path).unlink()
