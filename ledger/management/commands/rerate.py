"""manage.py rerate: what calls would have cost at the right price; `--apply` writes the differences as adjustments."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_date

from ledger import rerate_runs
from ledger.models import RerateRun
from ledger.money import format_short
from ledger.reports import names_of
from ledger.rerate import RerateError, Selection, Tally, tally
from providers.models import Alias, Model


class Command(BaseCommand):
    help = (
        "Rate the calls of a model in a period again: a dry run, or with --apply adjustments. The sheet is the one now "
        "known to have been in force, or --sheet. The same run twice changes nothing; --resume goes on after a kill."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", help="A model's name or alias.")
        parser.add_argument("--from", dest="start", metavar="DAY", help="First UTC day (YYYY-MM-DD).")
        parser.add_argument("--to", dest="end", metavar="DAY", help="Last UTC day, included.")
        parser.add_argument("--sheet", type=int, help="Rate with this published price sheet.")
        parser.add_argument("--apply", action="store_true", help="Write the adjustments.")
        parser.add_argument("--reason", default="", help="Kept in every adjustment.")
        parser.add_argument("--resume", action="store_true", help="Finish the runs that wait or were interrupted.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["resume"]:
            done = rerate_runs.work_on_open_runs(progress=self._progress)
            self.stdout.write(f"{done} run(s) finished.")
            return
        selection = _selection(options)
        try:
            if options["apply"]:
                self._apply(selection, reason=options["reason"])
            else:
                self._show(tally(selection))
                self.stdout.write("Nothing was written: run again with --apply.")
        except RerateError as error:
            raise CommandError(str(error)) from None

    def _apply(self, selection: Selection, *, reason: str) -> None:
        run = rerate_runs.begin(selection, applies=True, reason=reason)
        run = rerate_runs.work(run.pk, progress=self._progress)
        if run.state == RerateRun.State.FAILED:
            raise CommandError(f"Run {run.pk} failed after {run.calls:,} calls: {run.problem}")
        self._show(rerate_runs.tally_of(run))
        self.stdout.write(f"Applied as run {run.pk}: its adjustments say rerate:{run.pk}.")

    def _show(self, found: Tally) -> None:
        self.stdout.write(
            f"{found.calls:,} calls: {found.corrected:,} change, {found.settled:,} of unknown cost become known, "
            f"{found.unpriced:,} stay without a price; {_signed(found)} USD."
        )
        pairs = {spender: spender.partition("/") for spender in found.spenders}
        users = names_of("user", (int(user) for user, _, _ in pairs.values()))
        teams = names_of("team", (int(team) for _, _, team in pairs.values() if team))
        for spender, (calls, delta) in sorted(found.spenders.items()):
            user, _, team = pairs[spender]
            whom = users[int(user)].name + (f" ({teams[int(team)].name})" if team else "")
            self.stdout.write(f"  {whom}: {calls:,} calls, {format_short(delta)} USD")

    def _progress(self, run: RerateRun) -> None:
        if sys.stderr.isatty():
            expected = max(rerate_runs.expected_calls(run), run.calls)
            self.stderr.write(f"run {run.pk}: {run.calls:,} of about {expected:,} calls", ending="\r")


def _signed(found: Tally) -> str:
    return f"{'+' if found.delta_usd > 0 else ''}{format_short(found.delta_usd)}"


def _selection(options: dict[str, Any]) -> Selection:
    missing = [name for name, key in (("--model", "model"), ("--from", "start"), ("--to", "end")) if not options[key]]
    if missing:
        raise CommandError(f"Give {', '.join(missing)}.")
    name = options["model"]
    model_id = Model.objects.filter(name=name).values_list("pk", flat=True).first()
    model_id = model_id or Alias.objects.filter(name=name).values_list("model_id", flat=True).first()
    if model_id is None:
        raise CommandError(f"There is no model {name!r}.")
    start, end = _day(options["start"], "--from"), _day(options["end"], "--to") + timedelta(days=1)
    if start >= end:
        raise CommandError("--to lies before --from.")
    return Selection(model_id=model_id, start=start, end=end, sheet_id=options["sheet"])


def _day(text: str, option: str) -> datetime:
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None or not 1970 <= day.year < 9999:
        raise CommandError(f"{option}: {text!r} is not a day such as 2026-11-30.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
