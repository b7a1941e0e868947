from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import transaction

from ledger import keys
from ledger.catalog import CatalogError, apply, export, parse
from ledger.models import ApiKey, Limit, PriceSheet
from ledger.prices import get_pricing
from providers.models import Alias, Model, Provider

SEED = Path(__file__).resolve().parents[2] / "deploy" / "seed.yaml"
EVERYTHING = """
providers:
  - {name: acme, adapter: openai, credential_secret: sk-planted-secret, timeout_s: 12.5, settings: {organization: o1}}
models:
  - name: acme-large
    provider: acme
    upstream_name: large-2026
    aliases: [large, "1e5", "no"]
    capabilities: [chat, streaming]
    context_window: 128_000
    timeout_s: 90
prices:
  - model: acme-large
    book: contract
    valid_from: 2026-01-01T00:00:00+01:00
    reason: signed in December
    rates:
      - {meter: input, amount_usd: 0.123456789012}
      - {meter: input, amount_usd: 2.5, above_tokens: 200000}
      - {meter: output, amount_usd: "0.60", service_tier: priority}
      - {meter: output, amount_usd: "0", zero_reason: free because it is a preview}
      - {meter: web_searches, amount_usd: 10, per: 1000, window_start: "16:30:00", window_end: "00:30:00"}
      - {meter: audio_seconds, amount_usd: "0.0001", per: 1, minimum: "10"}
  - {model: acme-large, book: list, valid_from: "2026-01-01T00:00:00Z", discontinued: true}
teams:
  - {name: research}
users:
  - {username: alice, email: alice@example.com, is_staff: true}
keys:
  - {name: ci, user: alice, team: research, scopes: [call, read-spend], allowed_models: [large],
     expires_at: "2099-01-01T00:00:00Z"}
limits:
  - {key: alice/ci, metric: usd, period: month, amount: "99.95"}
  - {user: alice, metric: tokens, period: day, amount: 1000000, alert_thresholds: [80, 95]}
  - {team: research, metric: requests, period: minute, amount: 60, action: alert}
  - {model: acme-large, metric: concurrency, period: total, amount: 5, mode: expected}
  - {everyone: true, metric: usd, period: total, amount: 10000, enabled: false}
"""


def run(text: str, tmp_path: Path, *options: str) -> str:
    """Apply `text` through the command; what it printed."""
    file = tmp_path / "catalog.yaml"
    file.write_text(text)
    printed = StringIO()
    call_command("apply", str(file), *options, stdout=printed, stderr=printed)
    return printed.getvalue()


def whole_catalog() -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that a file can touch."""
    tables: list[Any] = [
        *apps.get_app_config("providers").get_models(),
        *apps.get_app_config("ledger").get_models(),
        User,
    ]
    return {
        table.__name__: list(table._default_manager.order_by("pk").values())
        for table in tables
        if table.__name__ != "SnapshotVersion"
    }


@pytest.mark.django_db
def test_a_file_declares_everything(tmp_path: Path) -> None:
    printed = run(EVERYTHING, tmp_path)

    model = Model.objects.get(name="acme-large")
    assert (model.upstream_name, model.context_window, model.timeout_s) == ("large-2026", 128_000, 90)
    assert set(model.aliases.values_list("name", flat=True)) == {"large", "1e5", "no"}
    assert model.provider.credential_secret == "sk-planted-secret"
    assert model.provider.timeout_s == 12.5
    sheet = get_pricing(model, datetime(2026, 6, 1, tzinfo=UTC))
    assert sheet is not None
    assert sheet.valid_from == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert {rate.amount_usd for rate in sheet.rates if rate.meter == "input"} == {
        Decimal("0.123456789012"),
        Decimal("2.5"),
    }
    alice = User.objects.get(username="alice")
    assert not alice.has_usable_password()
    key = ApiKey.objects.get(user=alice, name="ci")
    assert (key.scopes, key.allowed_models) == (["call", "read-spend"], ["large"])
    assert Limit.objects.get(key=key).amount == Decimal("99.95")
    assert Limit.objects.count() == 5
    assert f"shown only now: tb_live_{key.public_id}_" in printed
    assert "sk-planted-secret" not in printed


@pytest.mark.django_db
def test_the_second_time_changes_nothing(tmp_path: Path) -> None:
    run(EVERYTHING, tmp_path)
    before = whole_catalog()

    printed = run(EVERYTHING, tmp_path)

    assert whole_catalog() == before
    assert printed.strip() == "= 15 unchanged"


@pytest.mark.django_db
def test_a_dry_run_tells_the_difference_and_changes_nothing(tmp_path: Path) -> None:
    run(EVERYTHING, tmp_path)
    before = whole_catalog()
    changed = (
        EVERYTHING.replace("timeout_s: 12.5", "timeout_s: 15")
        .replace("sk-planted-secret", "sk-new-secret")
        .replace('amount: "99.95"', "amount: 120")
        .replace("  - {name: research}", "  - {name: research}\n  - {name: sales}")
        .replace("scopes: [call, read-spend]", "scopes: [call]")
    )

    printed = run(changed, tmp_path, "--dry-run")

    assert whole_catalog() == before
    assert "+ team sales\n" in printed
    assert "~ provider acme: credential_secret set -> set anew, timeout_s 12.5 -> 15.0\n" in printed
    assert "~ key alice/ci: scopes ['call', 'read-spend'] -> ['call']\n" in printed
    assert "~ limit key alice/ci usd per month (block): amount 99.95 -> 120\n" in printed
    assert "= 12 unchanged" in printed
    assert "sk-" not in printed


@pytest.mark.django_db
def test_a_dry_run_of_new_rows_makes_no_key(tmp_path: Path) -> None:
    printed = run(EVERYTHING, tmp_path, "--dry-run")

    assert "+ key alice/ci" in printed
    assert "tb_live_" not in printed
    assert not ApiKey.objects.exists()
    assert not Provider.objects.exists()


@pytest.mark.django_db
def test_fields_left_out_keep_what_people_set(tmp_path: Path) -> None:
    run(EVERYTHING, tmp_path)
    Model.objects.update(enabled=False)
    Provider.objects.update(max_retries=7)

    run("providers: [{name: acme, adapter: openai}]\nmodels: [{name: acme-large, provider: acme}]", tmp_path)

    model = Model.objects.get()
    assert (model.enabled, model.upstream_name, model.provider.max_retries) == (False, "large-2026", 7)
    assert model.provider.credential_secret == "sk-planted-secret"
    assert Alias.objects.count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("adapter: openai,", "adapter: openai, colour: red,", "providers[0]: Object contains unknown field `colour`"),
        ("adapter: openai,", "adapter: nope,", "providers[0].adapter: No adapter 'nope'"),
        ("timeout_s: 12.5", "timeout_s: 0", "providers[0].timeout_s:"),
        ("timeout_s: 12.5", "base_url: 'http://169.254.169.254/'", "providers[0].base_url:"),
        ("timeout_s: 12.5", "credential_ref: vault", "providers[0]: A credential reference is env:NAME"),
        ("provider: acme\n", "provider: none\n", "models[0].provider: no provider 'none'"),
        ("context_window: 128_000", "context_window: big", "models[0].context_window: Expected `int | null`"),
        ("aliases: [large,", "aliases: [acme-large, large,", "models[0].aliases[0]: 'acme-large' is the name of"),
        ("aliases: [large,", "aliases: [large, large,", "models[0].aliases[0]: the alias 'large' is given 2 times"),
        ("aliases: [large,", "aliases: ['a b', large,", "models[0].aliases[0].name: A name starts with a letter"),
        ("model: acme-large\n    book", "model: nope\n    book", "prices[0].model: no model 'nope'"),
        ("meter: input, amount_usd: 2.5", "meter: inptu, amount_usd: 2.5", "prices[0].rates[1].meter: no meter"),
        ("amount_usd: 2.5", "amount_usd: -2.5", "prices[0].rates[1]: A rate cannot be negative."),
        ("amount_usd: 2.5", "amount_usd: .nan", "prices[0].rates[1].amount_usd"),
        ("amount_usd: 2.5", "amount_usd: 0.0000000000001", "prices[0].rates[1].amount_usd: Ensure that"),
        ("amount_usd: 2.5", "amount_usd: 2.5, per: 7", "prices[0].rates[1]: A rate is per 1, 10, 100"),
        ("zero_reason: free because it is a preview", "zero_reason: ''", "prices[0].rates[3]: A zero rate needs"),
        (", above_tokens: 200000", "", "prices[0]: two rates for 'input' apply under the same conditions"),
        ("discontinued: true", "discontinued: false", "prices[1].rates: a sheet has rates, unless it is discontinued"),
        ("2026-01-01T00:00:00+01:00", "2026-01-01", "prices[0].valid_from: Invalid RFC3339 encoded datetime"),
        ("book: list", "book: contract, valid_from: '2026-01-01T00:00:00Z'", "duplicate key 'valid_from'"),
        ("user: alice, team: research", "user: bob, team: research", "keys[0].user: no user 'bob'"),
        ("user: alice, team: research", "user: alice, team: nope", "keys[0].team: no team 'nope'"),
        (
            "allowed_models: [large]",
            "allowed_models: [larg]",
            "keys[0].allowed_models[0]: no model, alias or route 'larg'",
        ),
        ("scopes: [call, read-spend]", "scopes: [root]", "keys[0].scopes[0]: Invalid enum value 'root'"),
        ("{key: alice/ci,", "{key: alice/cd,", "limits[0].key: no key 'alice/cd'"),
        ("{user: alice, metric", "{user: alice, team: research, metric", "limits[1]: name exactly one of"),
        ("amount: 60", "amount: -60", "limits[2]: A limit cannot be negative."),
        ("period: total, amount: 5", "period: day, amount: 5", "limits[3]: A limit on concurrent calls has"),
        ("metric: usd, period: total", "metric: eur, period: total", "limits[4].metric: Invalid enum value 'eur'"),
        ("  - {name: research}", "  - {name: research}\n  - {name: research}", "teams[1]: the same name as teams[0]"),
        ("providers:\n", "providers:\n  - {name: acme, adapter: x}\n", "providers[1]: the same name as providers[0]"),
        ("teams:\n", "teams:\n  [", "not readable as YAML: line"),
        ("teams:", "tems:", "the file: Object contains unknown field `tems`"),
    ],
)
def test_a_fault_is_told_with_its_path_and_nothing_is_applied(old: str, new: str, error: str, tmp_path: Path) -> None:
    text = EVERYTHING.replace(old, new, 1)
    assert text != EVERYTHING
    before = whole_catalog()

    with pytest.raises(CommandError) as raised:
        run(text, tmp_path)

    assert error in str(raised.value)
    assert "sk-planted" not in str(raised.value)
    assert whole_catalog() == before


@pytest.mark.django_db
def test_all_unknown_references_are_told_at_once() -> None:
    catalog = parse("models: [{name: a, provider: x}, {name: b, provider: y}]\nkeys: [{name: k, user: u}]")

    with pytest.raises(CatalogError) as raised:
        apply(catalog=catalog)

    assert raised.value.errors == [
        "models[0].provider: no provider 'x'",
        "models[1].provider: no provider 'y'",
        "keys[0].user: no user 'u'",
    ]


def test_a_quoted_secret_is_not_told_by_a_syntax_error() -> None:
    with pytest.raises(CatalogError) as raised:
        parse('providers: [{name: a, credential_secret: "sk-planted-secret", name: b}]')

    assert "duplicate key 'name'" in str(raised.value)
    assert "sk-planted" not in str(raised.value)


@pytest.mark.parametrize("text", ["a: &x [*x]", "[" * 5_000, "!!python/object:os.system {}", "{[1]: 2}", '"\\0"'])
def test_a_hostile_file_is_refused_with_a_message(text: str) -> None:
    with pytest.raises(CatalogError):
        parse(text)


def test_amounts_are_read_from_the_text_not_through_a_float() -> None:
    rates = "[{meter: input, amount_usd: 0.10000000000000001}]"
    catalog = parse(f"prices: [{{model: m, valid_from: 2026-01-01T00:00:00Z, rates: {rates}}}]")

    assert catalog.prices[0].rates[0].amount_usd == Decimal("0.10000000000000001")


@pytest.mark.django_db
def test_another_price_for_an_instant_already_published_is_refused(tmp_path: Path) -> None:
    run(EVERYTHING, tmp_path)

    with pytest.raises(CommandError, match=r"prices\[0\]: .*already has a published sheet"):
        run(EVERYTHING.replace("amount_usd: 2.5", "amount_usd: 2.6"), tmp_path)

    assert PriceSheet.objects.count() == 2


@pytest.mark.django_db
def test_a_revoked_key_is_not_made_anew(tmp_path: Path) -> None:
    run(EVERYTHING, tmp_path)
    keys.revoke(key=ApiKey.objects.get())

    printed = run(EVERYTHING, tmp_path)

    assert "! key alice/ci is revoked or expired: left as it is" in printed
    assert ApiKey.objects.count() == 1


@pytest.mark.django_db
def test_the_texts_of_keys_go_to_a_new_private_file(tmp_path: Path) -> None:
    place = tmp_path / "keys.txt"

    printed = run(EVERYTHING, tmp_path, "--keys-file", str(place))

    assert "tb_live_" not in printed
    name, text = place.read_text().split()
    assert name == "alice/ci"
    assert keys.parse(text) is not None
    assert place.stat().st_mode & 0o777 == 0o600


@pytest.mark.django_db
def test_a_keys_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "keys.txt"
    place.write_text("mine")

    with pytest.raises(CommandError, match="File exists"):
        run(EVERYTHING, tmp_path, "--keys-file", str(place))

    assert place.read_text() == "mine"
    assert not ApiKey.objects.exists()


@pytest.mark.django_db
def test_applying_an_export_changes_nothing_and_holds_no_secret(tmp_path: Path) -> None:
    run(SEED.read_text(), tmp_path)
    run(EVERYTHING, tmp_path)
    keys.rotate(key=ApiKey.objects.get())
    before = whole_catalog()

    text = export()
    outcome = apply(catalog=parse(text))

    assert outcome.changes == ()
    assert outcome.notes == ()
    assert whole_catalog() == before
    for secret in ("sk-planted", "credential_secret", "secret_sha256", *ApiKey.objects.values_list("secret_sha256")):
        assert str(secret) not in text


@pytest.mark.django_db
def test_an_export_rebuilds_an_empty_database(tmp_path: Path) -> None:
    with transaction.atomic():
        run(SEED.read_text(), tmp_path)
        run(EVERYTHING, tmp_path)
        text = export()
        transaction.set_rollback(True)
    assert not Provider.objects.exists()

    apply(catalog=parse(text))

    assert export() == text


@pytest.mark.django_db
def test_the_seed_file_has_exactly_the_nine_agreed_prices(tmp_path: Path) -> None:
    run(SEED.read_text(), tmp_path)

    prices = {
        sheet.model.name: {rate.meter: (rate.amount_usd, rate.per) for rate in sheet.rates.all()}
        for sheet in PriceSheet.objects.filter(book="seed").select_related("model")
    }
    agreed = {
        "gpt-4": ("0.0300", "0.0600"),
        "gpt-4-turbo": ("0.0100", "0.0300"),
        "gpt-3.5-turbo": ("0.0005", "0.0015"),
        "o1-preview": ("0.0150", "0.0600"),
        "o1-mini": ("0.0030", "0.0120"),
        "claude-3.5-sonnet": ("0.0030", "0.0150"),
        "claude-3-opus": ("0.0150", "0.0750"),
        "claude-3-sonnet": ("0.0030", "0.0150"),
        "claude-3-haiku": ("0.0003", "0.0013"),
    }
    assert prices == {
        name: {"input": (Decimal(read), 1000), "output": (Decimal(written), 1000)}
        for name, (read, written) in agreed.items()
    }
    starts = PriceSheet.objects.filter(book="seed").values_list("valid_from", flat=True)
    assert set(starts) == {datetime(2025, 1, 1, tzinfo=UTC)}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name",
    [
        "gpt-4-turbo-preview",
        "gpt-3.5-turbo-16k",
        "claude-3-5-sonnet-20241022",
        "claude-3-opus-20240229",
        "claude-3-sonnet-20240229",
        "claude-3-haiku-20240307",
    ],
)
def test_the_seed_file_knows_the_dated_names(name: str, tmp_path: Path) -> None:
    run(SEED.read_text(), tmp_path)

    assert Alias.objects.filter(name=name).exists()


@pytest.mark.django_db
def test_credentials_are_encrypted_anew_with_the_first_key(tmp_path: Path, settings: Any) -> None:
    run(EVERYTHING, tmp_path)
    old_keys, new_key = settings.CREDENTIAL_KEYS, Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [new_key, *old_keys]

    printed = StringIO()
    call_command("rotate_credentials", stdout=printed)

    settings.CREDENTIAL_KEYS = [new_key]
    assert Provider.objects.get().credential_secret == "sk-planted-secret"
    assert "1 credential" in printed.getvalue()


@pytest.mark.django_db
def test_a_credential_that_no_key_opens_is_named_and_can_be_set_anew(tmp_path: Path, settings: Any) -> None:
    run(EVERYTHING, tmp_path)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]

    with pytest.raises(CommandError, match="'acme' opens with none"):
        call_command("rotate_credentials", stdout=StringIO())

    run("providers: [{name: acme, adapter: openai, credential_secret: sk-second}]", tmp_path)
    assert Provider.objects.get().credential_secret == "sk-second"
