"""manage.py stated_costs: calls whose provider states another cost than our price sheet gives."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger import stated_costs
from ledger.money import MoneyError, format_short, parse_usd


class Command(BaseCommand):
    help = "List calls whose provider states another cost than the one computed here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=7, help="How many days back, today included. Default: 7.")
        parser.add_argument("--above-usd", default=format_short(stated_costs.ABOVE_USD), help="Least difference, USD.")
        parser.add_argument("--above-percent", default="1", help="Least difference in per cent of the stated cost.")
        parser.add_argument("--most", type=int, default=100, help="List at most so many. Default: 100.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["days"] <= 3660:
            raise CommandError("--days is from 1 to 3660.")
        try:
            above_usd, above_share = parse_usd(options["above_usd"]), parse_usd(options["above_percent"]) / 100
        except MoneyError as error:
            raise CommandError(str(error)) from None
        end = timezone.now()
        start = datetime(end.year, end.month, end.day, tzinfo=UTC) - timedelta(days=options["days"] - 1)
        found = stated_costs.listed(start=start, end=end, above_usd=above_usd, above_share=above_share)
        calls = list(found[: options["most"]])
        for call in calls:
            ours = "unknown" if call.cost_usd is None else format_short(call.cost_usd)
            stated = format_short(call.stated_cost_usd or 0)
            self.stdout.write(f"{call.pk} {call.model.name}: computed {ours}, stated {stated} USD")
        self.stdout.write(f"{len(calls)} call(s) differ since {start:%Y-%m-%d}.")
