"""What an import would do, gathered without writing anything: the dry run, and what `write` carries out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct, field

from ledger import rating
from ledger.models import PriceSheet
from ledger.price_import import matching, source
from ledger.price_import.diff import Change, StoredSheet, compare
from ledger.price_import.matching import CatalogModel
from ledger.price_import.source import SourceModel, SourceProvider
from ledger.prices import RATE_FIELDS
from providers.models import Alias, Model, Provider


class ModelPlan(Struct, frozen=True):
    """One catalog model (`model_id` None: to be created as `name`), its new aliases and its price changes."""

    provider_id: int
    model_id: int | None
    name: str
    found: SourceModel | None
    aliases: tuple[str, ...]
    changes: tuple[Change, ...]


class ProviderPlan(Struct, frozen=True):
    """The import for one provider. `skipped` says in words what was left out, and why."""

    provider: str
    source_id: str
    source_url: str
    models: tuple[ModelPlan, ...]
    skipped: tuple[str, ...] = ()


class Plan(Struct, frozen=True):
    """The import as a whole. `unmapped`: enabled providers that the data set does not know."""

    now: datetime
    providers: tuple[ProviderPlan, ...]
    unmapped: tuple[str, ...] = ()

    def changes(self, *kinds: str) -> list[tuple[ModelPlan, Change]]:
        """Every (model, change) of these kinds."""
        models = (model for provider in self.providers for model in provider.models)
        return [(model, change) for model in models for change in model.changes if change.kind in kinds]

    @property
    def new_models(self) -> list[ModelPlan]:
        return [model for provider in self.providers for model in provider.models if model.model_id is None]


class _Names(Struct):
    """Public names in use or promised in this plan: models' and aliases' share one space."""

    taken: set[str]
    owners: dict[str, str]
    skipped: list[str] = field(default_factory=list)


def make_plan(
    *, now: datetime, provider_names: Iterable[str] | None = None, sources: Mapping[str, SourceProvider] | None = None
) -> Plan:
    """The import for every enabled provider (or those named) from the installed data, or from `sources`."""
    known = source.read() if sources is None else sources
    enabled = Provider.objects.filter(enabled=True).order_by("id")
    if provider_names is not None:
        enabled = enabled.filter(name__in=list(provider_names))
    taken = set(Model.objects.values_list("name", flat=True)) | set(Alias.objects.values_list("name", flat=True))
    owners = matching.owners_of_names(known)
    plans, unmapped = [], []
    for provider in enabled:
        found = known.get(matching.source_of(provider))
        if found is None:
            unmapped.append(provider.name)
        else:
            plans.append(_plan_provider(provider, found, known, _Names(taken, owners), now))
    return Plan(now, tuple(plans), tuple(unmapped))


def _plan_provider(
    provider: Provider, shelf: SourceProvider, known: Mapping[str, SourceProvider], names: _Names, now: datetime
) -> ProviderPlan:
    catalog = [
        CatalogModel(model.pk, model.name, model.upstream_name, tuple(alias.name for alias in model.aliases.all()))
        for model in Model.objects.filter(provider=provider).order_by("id").prefetch_related("aliases")
    ]
    pairs = [(model, matching.find(model, source=shelf, sources=known)) for model in catalog]
    stored = _stored_sheets(provider)
    plans: list[ModelPlan] = []
    matched: set[str] = set()
    for model, found in pairs:
        fresh = found is not None and found.id not in matched
        matched |= {found.id} if found else set()
        changes = _changes(found, stored.get(model.id, []), now)
        aliases = _aliases(found, provider, shelf, names, plain_is=model.name) if found and fresh else ()
        plans.append(ModelPlan(provider.pk, model.id, model.name, found, aliases, changes))
    for found in shelf.models:
        if found.id not in matched:
            plans += _plan_new(found, provider, shelf, names, now)
    notes = [f"{model.id}: {note}" for model in shelf.models for note in model.notes]
    return ProviderPlan(provider.name, shelf.id, shelf.url, tuple(plans), (*names.skipped, *notes))


def _plan_new(
    found: SourceModel, provider: Provider, shelf: SourceProvider, names: _Names, now: datetime
) -> list[ModelPlan]:
    if not matching.is_callable_name(found.id):
        names.skipped.append(f"{found.id}: not the name of one model")
        return []
    name = _claim(found.id, provider, shelf, names)
    if not name:
        names.skipped.append(f"{found.id}: the name is taken")
        return []
    aliases = _aliases(found, provider, shelf, names, plain_is=name)
    return [ModelPlan(provider.pk, None, name, found, aliases, _changes(found, [], now))]


def _claim(name: str, provider: Provider, shelf: SourceProvider, names: _Names) -> str:
    claimed = matching.public_name(
        name, provider_name=provider.name, source_id=shelf.id, owners=names.owners, taken=names.taken
    )
    if claimed:
        names.taken.add(claimed)
    return claimed


def _aliases(
    found: SourceModel, provider: Provider, shelf: SourceProvider, names: _Names, *, plain_is: str
) -> tuple[str, ...]:
    """New aliases for the model's other exact names. A name in use already is left alone and listed."""
    aliases = []
    own = Alias.objects.filter(model__name=plain_is).values_list("name", flat=True)
    present = {plain_is, *own}
    for name in dict.fromkeys((found.id, *found.equal_names)):
        prefixed = f"{provider.name}/{name}"
        if name in present or prefixed in present:
            continue
        if not matching.is_callable_name(name):
            names.skipped.append(f"{name}: not a name we can take as an alias")
            continue
        resold = names.owners.get(name.lower(), shelf.id) != shelf.id
        if (prefixed if resold else name) in names.taken:
            names.skipped.append(f"{name}: the alias of {plain_is} is another model's name")
            continue
        aliases.append(_claim(name, provider, shelf, names))
    return tuple(aliases)


def _changes(found: SourceModel | None, stored: list[StoredSheet], now: datetime) -> tuple[Change, ...]:
    if found is not None:
        return tuple(compare(source=found.sheets, stored=stored, now=now))
    listed = any(sheet.book == PriceSheet.Book.LIST and not sheet.is_draft for sheet in stored)
    return (Change("removed", now, None),) if listed else ()


def _stored_sheets(provider: Provider) -> dict[int, list[StoredSheet]]:
    """{model id: its sheets of every book}: what the list says, and what it is compared with."""
    from_here = PriceSheet.objects.filter(model__provider=provider)
    stored: dict[int, list[StoredSheet]] = {}
    for sheet in from_here.prefetch_related("rates"):
        rates = tuple(
            rating.Rate(**{name: getattr(rate, name) for name in RATE_FIELDS}) for rate in sheet.rates.all()
        )
        stored.setdefault(sheet.model_id, []).append(
            StoredSheet(
                sheet.book, sheet.valid_from, sheet.status == PriceSheet.Status.DRAFT, sheet.content_sha256, rates,
                sheet.discontinued,
            )
        )
    return stored
