"""`manage.py import_prices`: shows what the installed price list would change; `--apply` writes it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from ledger.price_import import Plan, apply, make_plan
from ledger.price_import.costs import previews_of
from ledger.price_import.diff import Change
from ledger.price_import.plan import ModelPlan
from ledger.price_preview import Preview, said
from providers.models import Provider

# kind -> what is said above the changes of that kind
HEADINGS = {
    "seed": "differ from the seed price: written as drafts, publish them in the admin",
    "outlier": "moved by more than three times: written only with --confirm-outliers, and then as drafts",
    "undated": "changed without a date: written as drafts, check from when",
    "changed": "changed with a date: published from that date",
    "pending": "drafts of an earlier import that wait to be published",
    "removed": "no longer in the data: the model is marked deprecated, its prices stay",
}


class Command(BaseCommand):
    help = "Import list prices from the installed genai-prices data (offline). Without --apply nothing is written."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--apply", action="store_true", help="Write the models, aliases and sheets shown.")
        parser.add_argument("--confirm-outliers", action="store_true", help="Write the outliers, too, as drafts.")
        parser.add_argument("--provider", action="append", metavar="NAME", help="Only this provider; may be repeated.")

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["provider"]
        unknown = set(names or ()) - set(Provider.objects.filter(enabled=True).values_list("name", flat=True))
        if unknown:
            raise CommandError(f"No enabled provider is called {', '.join(sorted(map(repr, unknown)))}.")
        plan = make_plan(now=timezone.now(), provider_names=names)
        self._show(plan, verbose=options["verbosity"] > 1)
        if options["apply"]:
            apply(plan, confirm_outliers=options["confirm_outliers"])
            self.stdout.write("Applied.")
        else:
            self.stdout.write("Nothing was written: run again with --apply.")

    def _show(self, plan: Plan, *, verbose: bool) -> None:
        for provider in plan.providers:
            source = f", {provider.source_url}" if provider.source_url else ""
            self.stdout.write(
                f"{provider.provider} (prices of {provider.source_id}{source}): {len(provider.models)} models"
            )
            for skipped in provider.skipped if verbose else ():
                self.stdout.write(f"  skipped {skipped}")
            if provider.skipped and not verbose:
                self.stdout.write(f"  {len(provider.skipped)} names or prices skipped (-v 2 lists them)")
        for name in plan.unmapped:
            self.stdout.write(f"{name}: no list prices known (set price_source in its settings)")
        previews = previews_of(plan)
        for kind, heading in HEADINGS.items():
            self._show_kind(plan.changes(kind), heading, previews)
        self.stdout.write(
            f"{len(plan.new_models)} new models, {len(plan.changes('new'))} new sheets, "
            f"{len(plan.changes('changed'))} changed, {len(plan.changes('seed', 'undated'))} as drafts, "
            f"{len(plan.changes('outlier'))} outliers, "
            f"{len(plan.changes('pending'))} pending, {len(plan.changes('unchanged'))} unchanged."
        )

    def _show_kind(
        self, changes: list[tuple[ModelPlan, Change]], heading: str, previews: Mapping[int, Preview]
    ) -> None:
        if changes:
            self.stdout.write(f"{len(changes)} {heading}")
        for model, change in changes:
            self.stdout.write(f"  {model.name} from {change.valid_from:%Y-%m-%d}")
            for rate in change.rates:
                self.stdout.write(f"    {rate}{'; about x1000: the unit?' if rate.is_unit_slip else ''}")
            for conflict in change.conflicts:
                self.stdout.write(f"    goes on at the price set by hand: {conflict}")
            if id(change) in previews:
                self.stdout.write(f"    {said(previews[id(change)])}")
