"""manage.py verify_ledger: prove the books. Exit 1 and a line for every difference."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_date

from ledger import verify


class Command(BaseCommand):
    help = "Sum, hash and rate everything again; exit 1 with a line for every difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", help="Only calls of this UTC day (YYYY-MM-DD) and later.")
        parser.add_argument("--partition", help="Only the calls of this month (YYYY-MM).")
        parser.add_argument("--quiet", action="store_true", help="No progress.")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        found = verify.verify(scope=_scope(options), progress=None if options["quiet"] else self._progress)
        for difference in found:
            self.stdout.write(f"{difference.check}: {difference.line}")
        took_s = time.monotonic() - began
        if found:
            raise SystemExit(1)
        self.stdout.write(f"The books are right: {len(verify.CHECKS)} checks, no difference, {took_s:.1f} s.")

    def _progress(self, text: str, count: int) -> None:
        if sys.stderr.isatty() or not count:
            self.stderr.write(f"{text}{f' {count:,}' if count else ''}", ending="\r" if count else "\n")


def _scope(options: dict[str, Any]) -> verify.Scope:
    if options["since"] and options["partition"]:
        raise CommandError("Give --since or --partition, not both.")
    if options["since"]:
        return verify.since(_day(options["since"], "--since"))
    if options["partition"]:
        return verify.month(_day(f"{options['partition']}-01", "--partition"))
    return verify.EVERYTHING


def _day(text: str, option: str) -> datetime:
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None:
        raise CommandError(f"{option}: {text!r} is not a date.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
