"""List prices from the installed data set: what is read, what is compared, what is written."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from genai_prices import types

from ledger import rating
from ledger.meters import METERS
from ledger.models import PriceSheet
from ledger.models import Rate as StoredRate
from ledger.price_import import apply, make_plan, matching, source
from ledger.price_import.diff import RateChange, StoredSheet, compare
from ledger.price_import.plan import Plan
from ledger.price_import.source import BOOK_START, SourceModel, SourceProvider, SourceSheet
from ledger.prices import get_pricing, load
from ledger.publishing import content_sha256, publish
from ledger.rating import Rate, Sheet
from providers.models import Alias, Model, Provider
from tests.factories import make_model, make_provider, make_sheet

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MARCH = datetime(2026, 3, 13, tzinfo=UTC)


# --- reading ----------------------------------------------------------------------------------------------


def price(**amounts: Any) -> types.ModelPrice:
    return types.ModelPrice(
        **{key: Decimal(value) if isinstance(value, str) else value for key, value in amounts.items()}
    )


def tiered(base: str, *tiers: tuple[int, str]) -> types.TieredPrices:
    return types.TieredPrices(Decimal(base), [types.Tier(start, Decimal(amount)) for start, amount in tiers])


def read_model(prices: Any, *, source_id: str = "openai", variants: Any = None, **fields: Any) -> SourceModel:
    raw = types.ModelInfo(id="m", match=types.ClauseEquals("m"), prices=prices, price_variants=variants, **fields)
    return source.model_from(source_id=source_id, raw=raw)


def test_a_key_becomes_a_meter_per_so_many_units() -> None:
    [sheet] = read_model(
        price(
            input_mtok="2.5", cache_write_mtok="3.125", cache_audio_read_mtok="0.1", storage_searches_kcount="2.5",
            input_mchars="15", requests_kcount="12",
        )
    ).sheets
    assert [(rate.meter, str(rate.amount_usd.normalize()), rate.per) for rate in sheet.rates] == [
        ("input", "2.5", 1_000_000), ("cache_write_5m", "3.125", 1_000_000), ("cache_read_audio", "0.1", 1_000_000),
        ("file_searches", "2.5", 1_000), ("characters", "15", 1_000_000), ("requests", "12", 1_000),
    ]


def test_every_key_that_is_read_names_a_meter() -> None:
    for key, (meter, _, _) in source._UNITS.items():
        assert meter in METERS, key


def test_an_hour_of_audio_costs_what_the_hour_says() -> None:
    [sheet] = read_model(price(audio_hours="0.111", input_audio_hours="0.111"), source_id="groq").sheets
    [rate] = sheet.rates
    assert rate.minimum == 10
    conditions = rating.Conditions(at=NOW)
    priced = Sheet(rates=sheet.rates)
    for hours, cost in ((1, "0.111"), (24, "2.664")):
        meters = {"audio_seconds": hours * 3600}
        found = rating.rate(sheet=priced, meters=meters, input_total=0, conditions=conditions)
        assert found.cost_usd == Decimal(cost)


def test_cliffs_are_exclusive_and_199999_says_from_200000() -> None:
    [sheet] = read_model(price(input_mtok=tiered("1", (200_000, "2")), output_mtok=tiered("3", (199_999, "4")))).sheets
    assert [(rate.meter, rate.above_tokens, rate.tier_inclusive, rate.begins_at) for rate in sheet.rates] == [
        ("input", 0, False, 0), ("input", 200_000, False, 200_001),
        ("output", 0, False, 0), ("output", 200_000, True, 200_000),
    ]


def test_dates_become_sheets_and_the_first_has_an_unknown_history() -> None:
    model = read_model(
        [
            types.ConditionalPrice(None, prices=price(input_mtok="5")),
            types.ConditionalPrice(types.StartDateConstraint(date(2026, 3, 13)), prices=price(input_mtok="4")),
        ]
    )
    assert [(sheet.valid_from, sheet.history_unknown, sheet.rates[0].amount_usd) for sheet in model.sheets] == [
        (BOOK_START, True, Decimal(5)), (MARCH, False, Decimal(4))
    ]


def test_a_price_that_began_before_the_book_opens_it() -> None:
    model = read_model(
        [
            types.ConditionalPrice(None, prices=price(input_mtok="5")),
            types.ConditionalPrice(types.StartDateConstraint(date(2024, 3, 1)), prices=price(input_mtok="4")),
        ]
    )
    assert [(sheet.valid_from, sheet.rates[0].amount_usd) for sheet in model.sheets] == [(BOOK_START, Decimal(4))]


def test_windows_of_the_day_become_windows_of_rates() -> None:
    peak = types.TimeOfDateConstraint(time(1, tzinfo=UTC), time(4, tzinfo=UTC))
    model = read_model(
        [
            types.ConditionalPrice(None, prices=price(input_mtok="1")),
            types.ConditionalPrice(peak, prices=price(input_mtok="2")),
        ]
    )
    [sheet] = model.sheets
    assert [(rate.amount_usd, rate.window_start, rate.window_end) for rate in sheet.rates] == [
        (Decimal(1), None, None), (Decimal(2), time(1), time(4))
    ]


def test_variants_become_conditions_from_their_date_on() -> None:
    since = types.StartDateConstraint(date(2026, 3, 13))
    variants = [
        types.PriceVariant({"service_tier": "default"}, price()),
        types.PriceVariant({"service_tier": "priority"}, price(input_mtok="4"), since),
        types.PriceVariant({"processing": "batch"}, price(input_mtok="1"), since),
        types.PriceVariant({"speed": "fast"}, price(input_mtok="6"), since),
        types.PriceVariant({"moon": "full"}, price(input_mtok="0"), since),
    ]
    model = read_model(price(input_mtok="2"), variants=variants)
    first, second = model.sheets
    assert [rate.amount_usd for rate in first.rates] == [2]
    assert {(rate.service_tier, rate.speed): rate.amount_usd for rate in second.rates} == {
        ("", ""): 2, ("priority", ""): 4, ("batch", ""): 1, ("", "fast"): 6
    }
    assert model.notes == ("a variant under moon 'full'",)


def test_what_has_no_meter_is_noted_not_dropped_in_silence() -> None:
    model = read_model(price(input_text_messages_kcount="4", audio_hours="3"))
    assert model.notes == ("no meter for input_text_messages_kcount",)


def test_a_free_price_says_why_and_no_price_is_no_sheet() -> None:
    [sheet] = read_model(price(input_mtok="0")).sheets
    assert sheet.rates[0].zero_reason == source.FREE
    assert read_model(price()).sheets == ()
    assert read_model([]).sheets == ()


def test_the_whole_installed_data_set_can_be_read() -> None:
    sources = source.read()
    models = [model for shelf in sources.values() for model in shelf.models]
    assert len(models) > 2_000
    priced = [model for model in models if model.sheets]
    assert len(priced) > 0.8 * len(models)
    for model in priced:
        starts = [sheet.valid_from for sheet in model.sheets]
        assert starts == sorted(set(starts))
        for sheet in model.sheets:
            Sheet(rates=sheet.rates)


def test_what_is_read_prices_like_the_data_sets_own_calculator() -> None:
    """Plain, tiered, dated and cached prices of every large vendor against the package's own arithmetic."""
    from genai_prices.data import providers

    compared = 0
    for raw in (each for each in providers if each.id in ("openai", "anthropic", "google", "x-ai", "mistral")):
        for info in raw.models:
            mine = source.model_from(source_id=raw.id, raw=info)
            for at in (MARCH + timedelta(hours=12), NOW):
                begun = [sheet for sheet in mine.sheets if sheet.valid_from <= at]
                for usage in ({"input": 1_000, "output": 10}, {"input": 300_000, "output": 10}):
                    if not begun or not {"input", "output"} <= {rate.meter for rate in begun[-1].rates}:
                        continue
                    if "requests" in {rate.meter for rate in begun[-1].rates}:
                        continue
                    found = rating.rate(
                        sheet=Sheet(rates=begun[-1].rates), meters=usage, input_total=usage["input"],
                        conditions=rating.Conditions(at=at),
                    )
                    theirs = info.get_prices(at).calc_price(
                        types.Usage(input_tokens=usage["input"], output_tokens=usage["output"])
                    )
                    assert found.cost_usd == theirs["total_price"].quantize(Decimal("1e-12")), (raw.id, info.id, at)
                    compared += 1
    assert compared > 500


# --- comparing --------------------------------------------------------------------------------------------


def source_sheet(amount: str, *, valid_from: datetime = BOOK_START, meter: str = "input") -> SourceSheet:
    return SourceSheet(valid_from, valid_from == BOOK_START, (Rate(meter, Decimal(amount)),))


def stored(sheet: SourceSheet, *, book: str = "list", is_draft: bool = False) -> StoredSheet:
    return StoredSheet(book, sheet.valid_from, is_draft, content_sha256(Sheet(rates=sheet.rates)), sheet.rates)


def kinds(source_sheets: list[SourceSheet], in_database: list[StoredSheet]) -> list[tuple[str, datetime]]:
    changes = compare(source=source_sheets, stored=in_database, now=NOW)
    return [(change.kind, change.valid_from) for change in changes]


OLD, NEW = source_sheet("2"), source_sheet("3", valid_from=MARCH)


@pytest.mark.parametrize(
    ("read", "in_database", "expected"),
    [
        ([OLD, NEW], [], [("new", BOOK_START), ("new", MARCH)]),
        ([OLD], [stored(OLD)], [("unchanged", BOOK_START)]),
        ([OLD, NEW], [stored(OLD)], [("unchanged", BOOK_START), ("changed", MARCH)]),
        ([source_sheet("3")], [stored(OLD)], [("undated", NOW)]),
        ([source_sheet("6")], [stored(OLD)], [("undated", NOW)]),
        ([source_sheet("6.1")], [stored(OLD)], [("outlier", NOW)]),
        ([source_sheet("0.6")], [stored(OLD)], [("outlier", NOW)]),
        ([source_sheet("2000", valid_from=MARCH)], [stored(OLD)], [("outlier", MARCH)]),
        ([OLD], [stored(OLD, is_draft=True)], [("pending", BOOK_START)]),
        # An undated change that an admin published from the day it was found:
        ([source_sheet("3")], [stored(OLD), stored(source_sheet("3", valid_from=NOW))], [("unchanged", BOOK_START)]),
        ([OLD], [stored(OLD, book="seed")], [("new", BOOK_START)]),
        ([OLD, NEW], [stored(source_sheet("9"), book="seed")], [("seed", BOOK_START), ("seed", MARCH)]),
        # One that equals the seed waits with one that differs:
        ([OLD, NEW], [stored(OLD, book="seed")], [("seed", BOOK_START), ("seed", MARCH)]),
    ],
)
def test_each_sheet_is_classified(
    read: list[SourceSheet], in_database: list[StoredSheet], expected: list[tuple[str, datetime]]
) -> None:
    assert kinds(read, in_database) == expected


def test_a_difference_is_shown_per_unit_with_its_percent() -> None:
    listed = SourceSheet(BOOK_START, True, (Rate("input", Decimal("0.25")), Rate("output", Decimal("1.25"))))
    seed = (Rate("input", Decimal("0.0003"), 1_000), Rate("output", Decimal("0.0013"), 1_000))
    in_database = [StoredSheet("seed", BOOK_START, False, "x", seed)]
    [change] = compare(source=[listed], stored=in_database, now=NOW)
    assert change.kind == "seed"
    assert [str(rate) for rate in change.rates] == [
        "input: 0.3 -> 0.25 per 1,000,000 (-16.7%)", "output: 1.3 -> 1.25 per 1,000,000 (-3.8%)"
    ]


def test_a_price_from_or_to_nothing_has_no_percent() -> None:
    assert str(RateChange("input", None, Decimal(1), 1_000)) == "input: none -> 1 per 1,000"
    assert str(RateChange("input", Decimal(0), Decimal(1), 1_000)) == "input: 0 -> 1 per 1,000"
    assert not RateChange("input", Decimal(0), Decimal(1), 1_000).is_outlier


# --- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "adapter", "settings", "expected"),
    [
        ("openai", "openai", {}, "openai"),
        ("openai-eu", "openai", {}, "openai"),
        ("groq", "openai_compatible", {}, "groq"),
        ("my-models", "openai_compatible", {}, ""),
        ("my-models", "openai_compatible", {"price_source": "together"}, "together"),
        ("openai", "openai", {"price_source": ""}, ""),
        ("eu", "azure_openai", {}, "azure"),
        ("bedrock-us", "bedrock", {}, "aws"),
        ("sandbox", "sandbox", {}, ""),
    ],
)
@pytest.mark.django_db
def test_a_provider_finds_its_prices(name: str, adapter: str, settings: dict[str, str], expected: str) -> None:
    assert matching.source_of(make_provider(name=name, adapter=adapter, settings=settings)) == expected


def test_every_mapped_source_is_in_the_data_set() -> None:
    known = source.read()
    assert set(matching.PRICE_SOURCES.values()) <= set(known)
    assert set(matching.OWNERS) <= set(known)


# --- writing ----------------------------------------------------------------------------------------------

SEEDED = {
    "openai": {"gpt-4": "gpt-4", "gpt-3.5-turbo": "gpt-3.5-turbo", "o1-mini": "o1-mini"},
    "anthropic": {"claude-3-haiku": "claude-3-haiku-20240307", "claude-3.5-sonnet": "claude-3-5-sonnet-20241022"},
}
SEED_PRICES = {
    "gpt-4": ("0.0300", "0.0600"), "gpt-3.5-turbo": ("0.0005", "0.0015"), "o1-mini": ("0.0030", "0.0120"),
    "claude-3-haiku": ("0.0003", "0.0013"), "claude-3.5-sonnet": ("0.0030", "0.0150"),
}


@pytest.fixture
def catalog(db: None) -> dict[str, Model]:
    """Three providers, five seeded models as the shipped catalog has them, and one that the data set has no idea of."""
    models = {}
    for provider_name, names in SEEDED.items():
        provider = make_provider(name=provider_name, adapter=provider_name)
        for name, upstream_name in names.items():
            aliases = [upstream_name] if upstream_name != name else []
            models[name] = make_model(name=name, provider=provider, upstream_name=upstream_name, aliases=aliases)
            into, out = SEED_PRICES[name]
            make_sheet(model=models[name], book="seed", source="seed", rates={"input": into, "output": out})
    make_provider(name="azure", adapter="azure")
    make_provider(name="sandbox", adapter="sandbox")
    make_provider(name="off", adapter="groq", enabled=False)
    return models


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("import_prices", *arguments, stdout=out)
    return out.getvalue()


def everything() -> tuple[int, int, int, int]:
    return Model.objects.count(), Alias.objects.count(), PriceSheet.objects.count(), StoredRate.objects.count()


def test_a_dry_run_changes_nothing(catalog: dict[str, Model]) -> None:
    before = everything()
    out = run()
    assert everything() == before
    assert "Nothing was written" in out
    assert "openai (prices of openai, " in out
    assert "sandbox: no list prices known" in out
    assert "off" not in out.split()


def test_a_second_import_changes_nothing(catalog: dict[str, Model]) -> None:
    run("--apply")
    first = everything()
    assert first[0] > 100
    out = run("--apply")
    assert everything() == first
    assert "0 new models, 0 new sheets, 0 changed, 0 as drafts" in out


def test_seed_prices_that_differ_stay_and_the_list_price_waits_as_a_draft(catalog: dict[str, Model]) -> None:
    out = run("--apply")
    for name in ("o1-mini", "claude-3-haiku"):
        model = catalog[name]
        in_force = get_pricing(model, NOW)
        assert in_force is not None
        assert in_force.book == "seed"
        assert {sheet.status for sheet in model.price_sheets.filter(book="list")} == {"draft"}
        assert name in out
    assert "input: 3 -> 1.1 per 1,000,000 (-63.3%)" in out
    assert "input: 0.3 -> 0.25 per 1,000,000 (-16.7%)" in out


def test_the_admin_publishes_the_list_price_that_waited(catalog: dict[str, Model]) -> None:
    run("--apply")
    [draft] = catalog["o1-mini"].price_sheets.filter(book="list")
    publish(sheet=draft, actor=None, reason="checked", now=NOW)
    in_force = get_pricing(catalog["o1-mini"], NOW)
    assert in_force is not None
    assert in_force.id == draft.pk
    before = everything()
    assert "0 as drafts, 0 pending" not in run()
    run("--apply")
    assert everything() == before


def test_list_prices_go_to_the_very_models_that_are_there(catalog: dict[str, Model]) -> None:
    run("--apply")
    assert not Model.objects.filter(provider__name="anthropic", name__startswith="claude-3-5-sonnet").exists()
    sonnet = catalog["claude-3.5-sonnet"]
    assert sonnet.price_sheets.filter(book="list", status="published").exists()
    assert Alias.objects.get(name="claude-3-5-sonnet").model == sonnet
    assert Alias.objects.get(name="gpt-4-0613").model == catalog["gpt-4"]


def test_a_resellers_model_carries_its_name(catalog: dict[str, Model]) -> None:
    run("--apply")
    assert Model.objects.get(name="ada").provider.name == "openai"
    resold = Model.objects.get(name="azure/ada")
    assert (resold.provider.name, resold.upstream_name) == ("azure", "ada")


def test_a_resold_model_that_only_its_maker_prices_has_the_makers_price(catalog: dict[str, Model]) -> None:
    azure = Provider.objects.get(name="azure")
    deployed = make_model(name="azure/gpt-4o", provider=azure, upstream_name="our-deployment")
    run("--apply")
    sheet = get_pricing(deployed, NOW)
    assert sheet is not None
    assert next(rate.amount_usd for rate in sheet.rates if rate.meter == "input") == Decimal("2.5")


def test_new_models_know_what_the_data_set_says(catalog: dict[str, Model]) -> None:
    run("--apply")
    gpt_4o = Model.objects.get(name="gpt-4o")
    assert (gpt_4o.upstream_name, gpt_4o.context_window) == ("gpt-4o", 128_000)
    assert gpt_4o.capabilities == ["chat", "streaming"]
    assert Model.objects.get(name="text-embedding-3-small").capabilities == ["embeddings"]
    assert Alias.objects.get(name="gpt-4o-2024-08-06").model == gpt_4o
    sheets = list(gpt_4o.price_sheets.order_by("valid_from"))
    assert (sheets[0].valid_from, sheets[0].history_unknown) == (BOOK_START, True)
    assert {sheet.source for sheet in sheets} == {"genai-prices"}
    assert all(sheet.status == "published" and sheet.source_url for sheet in sheets)


def test_the_answers_tier_is_priced_after_an_import(catalog: dict[str, Model]) -> None:
    run("--apply")
    sheet = load().sheet_at(model_id=Model.objects.get(name="gpt-4o").pk, at=NOW)
    costs = [
        rating.rate(
            sheet=sheet, meters={"input": 1_000_000}, input_total=1_000,
            conditions=rating.Conditions(at=NOW, service_tier=tier),
        ).cost_usd
        for tier in ("default", "priority", "batch", "flex")
    ]
    assert costs == [Decimal("2.5"), Decimal("4.25"), Decimal("1.25"), None]


def test_one_provider_can_be_imported_alone(catalog: dict[str, Model]) -> None:
    run("--apply", "--provider", "anthropic")
    assert not Model.objects.filter(provider__name="azure").exists()
    assert Model.objects.filter(provider__name="anthropic").count() > 10
    with pytest.raises(CommandError, match="'nobody'"):
        run("--provider", "nobody")


def made_up(*models: SourceModel, source_id: str = "openai") -> dict[str, SourceProvider]:
    return {source_id: SourceProvider(source_id, "https://prices.example/", (), models)}


def made_up_model(name: str, *sheets: SourceSheet, equal_names: tuple[str, ...] = ()) -> SourceModel:
    return SourceModel(
        id=name, name=name, context_window=None, deprecated=False, equal_names=equal_names,
        matches=lambda text: text in (name, *equal_names), sheets=sheets,
    )


def plan_for(sources: dict[str, SourceProvider]) -> Plan:
    return make_plan(now=NOW, sources=sources)


@pytest.mark.django_db
def test_a_model_without_prices_is_created_unpriced() -> None:
    make_provider(name="openai", adapter="openai")
    apply(plan_for(made_up(made_up_model("dark-horse"))))
    assert get_pricing(Model.objects.get(name="dark-horse"), NOW) is None


@pytest.mark.django_db
def test_a_changed_price_with_a_date_is_published_and_one_without_is_a_draft_from_now() -> None:
    make_provider(name="openai", adapter="openai")
    apply(plan_for(made_up(made_up_model("dated", OLD), made_up_model("undated", OLD))))
    again = made_up(made_up_model("dated", OLD, NEW), made_up_model("undated", source_sheet("3")))
    apply(plan_for(again))
    listed = PriceSheet.objects.order_by("id").values_list("model__name", "valid_from", "status", "history_unknown")
    assert list(listed)[2:] == [("dated", MARCH, "published", False), ("undated", NOW, "draft", True)]
    apply(make_plan(now=NOW + timedelta(days=1), sources=again))
    assert PriceSheet.objects.count() == 4


@pytest.mark.django_db
def test_a_model_that_vanished_is_marked_deprecated_and_keeps_its_prices() -> None:
    make_provider(name="openai", adapter="openai")
    apply(plan_for(made_up(made_up_model("gone", OLD))))
    plan = plan_for(made_up())
    assert [model.name for model, _ in plan.changes("removed")] == ["gone"]
    apply(plan)
    model = Model.objects.get(name="gone")
    assert model.deprecated
    assert get_pricing(model, NOW) is not None


@pytest.mark.django_db
def test_a_name_that_is_taken_is_skipped_and_listed() -> None:
    other = make_model(name="taken")
    make_provider(name="openai", adapter="openai")
    plan = plan_for(made_up(made_up_model("fresh", OLD, equal_names=("taken", "free")), made_up_model("ft:stem", OLD)))
    apply(plan)
    assert set(Alias.objects.values_list("name", "model__name")) == {("free", "fresh")}
    assert other.aliases.count() == 0
    [skipped] = [each.skipped for each in plan.providers]
    assert "taken: the alias of fresh is another model's name" in skipped
    assert "ft:stem: not the name of one model" in skipped


@pytest.mark.django_db
def test_two_accounts_of_one_vendor_share_no_name() -> None:
    make_provider(name="openai", adapter="openai")
    make_provider(name="openai-eu", adapter="openai")
    apply(plan_for(made_up(made_up_model("m", OLD))))
    assert set(Model.objects.values_list("name", "provider__name")) == {("m", "openai"), ("openai-eu/m", "openai-eu")}
