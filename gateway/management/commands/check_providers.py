"""manage.py check_providers [NAME ...]: ask providers whether they are well; exit 1 when one is not."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway import health_checks, runtime
from providers.models import Provider


class Command(BaseCommand):
    help = "Check the named providers, or every enabled one, all at once. Exit 1 when one is not healthy."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="Names of providers; none: every enabled one.")

    def handle(self, *args: Any, names: list[str], **options: Any) -> None:
        found = list(Provider.objects.filter(name__in=names).order_by("name"))
        missing = sorted(set(names) - {row.name for row in found})
        if missing:
            raise CommandError(f"There is no provider {missing[0]!r}.")
        try:
            results = health_checks.check(found if names else health_checks.enabled_providers())
        finally:
            # A check that is booked started it.
            runtime.stop()
        for result in results:
            state = "healthy" if result.healthy else "UNHEALTHY"
            line = f"{result.provider.name:<24} {state:<9} {result.latency_ms:>8.0f} ms  {result.error}"
            self.stdout.write(line.rstrip())
        if not all(result.healthy for result in results):
            sys.exit(1)
