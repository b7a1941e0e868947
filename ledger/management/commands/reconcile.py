"""manage.py reconcile FILE... --provider NAME: our books against the provider's export."""

from __future__ import annotations

from argparse import ArgumentParser
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger.money import format_short
from ledger.reconcile import ExportError, Report, SourceFile, reconcile
from ledger.reconcile.export import Export
from ledger.reconcile.matching import Class, Difference
from ledger.reconcile.posting import Posted, PostError, refuse_unpostable
from ledger.reconcile.proposing import make_drafts, proposals
from ledger.reconcile.runs import export_of, keep, post_run
from providers.models import Provider


class Command(BaseCommand):
    help = "Compare a provider's cost or usage export with the ledger. Without --post --confirm nothing is adjusted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", metavar="FILE", help="Exports; costs and usage complete each other.")
        parser.add_argument("--provider", required=True, metavar="NAME", help="Whose export it is.")
        parser.add_argument("--mapping", metavar="FILE", help="YAML or JSON: the columns of a CSV of another form.")
        parser.add_argument("--account", default="", help="Only lines of this project, workspace or key.")
        parser.add_argument("--draft", action="store_true", help="Write the proposed prices as draft sheets.")
        parser.add_argument("--post", action="store_true", help="Post the differences as adjustments; needs --confirm.")
        parser.add_argument("--confirm", action="store_true", help="Yes, write the adjustments.")

    def handle(self, *args: Any, **options: Any) -> None:
        provider = Provider.objects.filter(name=options["provider"]).first()
        if provider is None:
            raise CommandError(f"There is no provider {options['provider']!r}.")
        if options["confirm"] and not options["post"]:
            raise CommandError("--confirm goes with --post.")
        files = [SourceFile(Path(name).name, _content(name)) for name in options["files"]]
        mapping = _content(options["mapping"]) if options["mapping"] else None
        now = timezone.now()
        try:
            run = keep(provider=provider, files=files, now=now, mapping=mapping, account=options["account"])
            export = export_of(run, now=now)
            report = reconcile(export=export, provider=provider)
            self._show(export, report, verbose=options["verbosity"] > 1)
            self._propose(report, provider, draft=options["draft"])
            if options["post"]:
                refuse_unpostable(export, now=now)
                if not options["confirm"]:
                    raise CommandError("Nothing was posted: look at the differences, then add --confirm.")
                self._show_posted(post_run(run, actor=None, now=now))
        except (ExportError, PostError) as error:
            raise CommandError(f"{str(error).rstrip('.')}. Nothing was applied.") from None

    def _show(self, export: Export, report: Report, *, verbose: bool) -> None:
        first, last = min(export.days), max(export.days)
        self.stdout.write(f"{export.format}: {len(export.lines)} lines, {first} to {last} (UTC).")
        for each in report.differences:
            if verbose or each.kind not in (Class.EQUAL, Class.ROUNDING):
                self.stdout.write(f"  {_told(each, has_amounts=report.has_amounts)}")
        for kind, total in report.totals.items():
            self.stdout.write(
                f"{kind.value:<20}{total.groups:>7} groups  theirs {_amount(total.theirs_usd)}"
                f"  ours {format_short(total.ours_usd)}  apart {_amount(total.apart_usd)} USD"
            )
        percent = report.unexplained_percent
        self.stdout.write("Unexplained: " + ("unknown" if percent is None else f"{format_short(percent)} %"))

    def _propose(self, report: Report, provider: Provider, *, draft: bool) -> None:
        found = proposals(report, provider=provider)
        for each in found:
            old = "no rate" if each.old_usd is None else format_short(each.old_usd)
            self.stdout.write(
                f"Proposed: {each.model} {each.meter} from {each.day}: {old} -> {format_short(each.amount_usd)}"
                " USD per 1,000,000"
            )
        if draft:
            made = make_drafts(found, now=timezone.now(), actor=None)
            self.stdout.write(f"{len(made)} draft sheets written: check and publish them in the admin.")

    def _show_posted(self, posted: Posted) -> None:
        for each in posted.left:
            self.stdout.write(f"  not posted, no call to carry it: {_told(each)}")
        self.stdout.write(f"{posted.adjustments} adjustments, {format_short(posted.total_usd)} USD.")


def _amount(usd: Decimal | None) -> str:
    return "unknown" if usd is None else format_short(usd)


def _told(each: Difference, *, has_amounts: bool = True) -> str:
    """One group in one line. What a side does not say is unknown, never 0."""
    theirs = each.theirs_usd if has_amounts else None
    ours = None if each.ours_is_unknown else each.ours_usd
    day, *rest = each.group
    place = " ".join(part for part in rest if part) or "all"
    quantities = [
        f"{name} {format_short(side.quantity)}"
        for name, side in (("theirs", each.theirs), ("ours", each.ours))
        if side is not None and side.quantity is not None
    ]
    counted = f" ({', '.join(quantities)} units)" if quantities else ""
    note = f": {each.note}" if each.note else ""
    return (
        f"{day} {place}: {each.kind.value}, theirs {_amount(theirs)} USD, ours {_amount(ours)} USD{counted}{note}"
    )


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}.") from None
