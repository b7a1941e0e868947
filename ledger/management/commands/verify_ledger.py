"""manage.py verify_ledger: prove the books. Exit 1 and a line for every difference."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_date

from ledger import partitions, verify
from ledger.verify import shipped

_BAR_WIDTH = 30


class Command(BaseCommand):
    help = "Sum, hash and rate everything again; exit 1 with a line for every difference."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--since", help="Only calls of this UTC day (YYYY-MM-DD) and later.")
        parser.add_argument("--partition", help="Only the calls of this month (YYYY-MM).")
        parser.add_argument("--jobs", type=int, default=1, help="How many connections work side by side (1).")
        parser.add_argument("--anchors", help="A file of log lines: their anchors must be on the chains, too.")
        parser.add_argument("--quiet", action="store_true", help="No progress.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["jobs"] < 1:
            raise CommandError(f"--jobs: {options['jobs']!r} is not at least 1.")
        began = time.monotonic()
        report = None if options["quiet"] else self._report
        found = verify.verify(scope=_scope(options), jobs=options["jobs"], report=report)
        if options["anchors"]:
            found += _shipped(options["anchors"])
        if report is not None and sys.stderr.isatty():
            self.stderr.write("")
        for difference in found:
            self.stdout.write(f"{difference.check}: {difference.line}")
        if found:
            raise SystemExit(1)
        took_s = time.monotonic() - began
        self.stdout.write(f"The books are right: {len(verify.CHECKS)} checks, no difference, {took_s:.1f} s.")

    def _report(self, progress: verify.Progress) -> None:
        """On a terminal one line that fills up; in a log a line whenever a tenth is done."""
        text = f"{progress.done}/{progress.slices} {progress.check}, {progress.found} differences"
        if sys.stderr.isatty():
            full = _BAR_WIDTH * progress.done // progress.slices
            self.stderr.write(f"[{'#' * full}{'.' * (_BAR_WIDTH - full)}] {text:50}", ending="\r")
        elif progress.done * 10 // progress.slices > (progress.done - 1) * 10 // progress.slices:
            self.stderr.write(text)


def _shipped(path: str) -> list[verify.Difference]:
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--anchors: {path!r} cannot be read: {error}") from error
    try:
        return shipped.differences(lines)
    except ValueError as error:
        raise CommandError(f"--anchors: {path!r}: {error}") from error


def _scope(options: dict[str, Any]) -> verify.Scope:
    if options["since"] and options["partition"]:
        raise CommandError("Give --since or --partition, not both.")
    if options["since"]:
        return verify.since(_day(options["since"], "--since"))
    if options["partition"]:
        return verify.month(_month(options["partition"]))
    return verify.EVERYTHING


def _month(text: str) -> datetime:
    try:
        month = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise CommandError(f"--partition: {text!r} is not a month: YYYY-MM.") from None
    if month.date() not in {each.month for each in partitions.partitions()}:
        raise CommandError(f"--partition: there is no partition of {text}: manage.py partitions lists them.")
    return month


def _day(text: str, option: str) -> datetime:
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None:
        raise CommandError(f"{option}: {text!r} is not a date.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
