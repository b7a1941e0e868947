"""Price sheets of a catalog file: checked rate by rate, then published; a sheet already published is left alone."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from msgspec import structs

from ledger import rating
from ledger.catalog.recording import Recorder
from ledger.catalog.schema import Catalog, PriceEntry
from ledger.models import PriceSheet, Rate
from ledger.publishing import PublishError, ensure_sheet
from ledger.rating import SheetError
from providers.models import Model


def keep_prices(catalog: Catalog, recorder: Recorder) -> None:
    """Publish the sheets that are not there yet. Faults go to the recorder, each with its path."""
    models = {row.name: row for row in Model.objects.filter(name__in={entry.model for entry in catalog.prices})}
    for index, entry in enumerate(catalog.prices):
        path = f"prices[{index}]"
        if _rates_stand(entry, path=path, recorder=recorder):
            _publish(entry, model=models[entry.model], path=path, recorder=recorder)


def _rates_stand(entry: PriceEntry, *, path: str, recorder: Recorder) -> bool:
    before = len(recorder.errors)
    for place, rate in enumerate(entry.rates):
        row = Rate(**structs.asdict(rate))
        try:
            row.clean_fields(exclude=["sheet"])
            row.validate_constraints(exclude=["sheet"])
        except ValidationError as error:
            recorder.refused(path=f"{path}.rates[{place}]", error=error)
    return len(recorder.errors) == before


def _publish(entry: PriceEntry, *, model: Model, path: str, recorder: Recorder) -> None:
    try:
        with transaction.atomic():
            sheet, created = ensure_sheet(
                model=model,
                book=entry.book,
                valid_from=entry.valid_from,
                rates=[rating.Rate(**structs.asdict(rate)) for rate in entry.rates],
                source=PriceSheet.Source.FILE,
                now=timezone.now(),
                reason=entry.reason,
                source_url=entry.source_url,
                history_unknown=entry.history_unknown,
                discontinued=entry.discontinued,
            )
    except (SheetError, PublishError) as error:
        recorder.errors.append(f"{path}: {error}")
        return
    if created:
        recorder.tell(what=f"price {sheet}")
    else:
        recorder.unchanged += 1
