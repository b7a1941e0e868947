"""A first run makes all a stranger needs; a second one changes nothing."""

from __future__ import annotations

import json
import stat
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from pytest_django import Settings

from gateway import quickstart
from gateway.quickstart import Quickstart, prepare, readiness, told
from ledger import keys
from ledger.models import ApiKey, Limit, PriceSheet, SnapshotVersion
from providers.models import Model, Provider

pytestmark = pytest.mark.django_db
BASE_URL = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def _no_provider_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


@pytest.fixture
def real_import() -> None:
    """For tests that need the list prices: the import takes seconds, and most tests are about something else."""


@pytest.fixture(autouse=True)
def _no_import(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_import" not in request.fixturenames:
        monkeypatch.setattr(quickstart, "_import_prices", lambda *, stamp, say: None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "quickstart.json"


def _prepare(file: Path, *, base_url: str = BASE_URL) -> tuple[Quickstart, list[str]]:
    said: list[str] = []
    return prepare(base_url=base_url, file=file, say=said.append), said


def _the_key(made: Quickstart) -> ApiKey:
    parsed = keys.parse(made.api_key)
    assert parsed is not None
    return ApiKey.objects.get(public_id=parsed[0])


def test_a_first_run_makes_a_key_with_a_usd_limit_and_an_admin(file: Path) -> None:
    made, _ = _prepare(file)
    key = _the_key(made)
    assert (key.user.username, key.scopes) == ("demo", ["call"])
    limit = Limit.objects.get(key=key)
    assert (limit.metric, limit.period, limit.amount, limit.action) == ("usd", "day", Decimal(5), "block")
    admin = User.objects.get(username=made.admin_user)
    assert admin.is_superuser
    assert admin.check_password(made.admin_password)
    assert not key.user.has_usable_password()


def test_a_first_run_brings_the_seed_and_the_list_prices(file: Path, real_import: None) -> None:
    _prepare(file)
    assert {"openai", "anthropic", "sandbox"} <= set(Provider.objects.values_list("name", flat=True))
    gpt_4 = Model.objects.get(name="gpt-4")
    assert gpt_4.price_sheets.filter(book="seed", status="published").exists()
    assert PriceSheet.objects.filter(source="genai-prices", status="published").exists()


def test_the_file_holds_the_five_facts_for_its_owner_only(file: Path) -> None:
    made, _ = _prepare(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {
        "base_url": BASE_URL,
        "api_key": made.api_key,
        "admin_url": f"{BASE_URL}/admin/",
        "admin_user": "admin",
        "admin_password": made.admin_password,
    }
    assert not list(file.parent.glob("quickstart.json?*"))


def test_a_second_run_changes_nothing(file: Path, real_import: None) -> None:
    made, _ = _prepare(file)
    admin_hash = User.objects.get(username="admin").password
    before = (file.stat().st_mtime_ns, SnapshotVersion.objects.get().version, ApiKey.objects.count())
    again, said = _prepare(file)
    assert again == made
    assert (file.stat().st_mtime_ns, SnapshotVersion.objects.get().version, ApiKey.objects.count()) == before
    assert User.objects.get(username="admin").password == admin_hash
    assert said == ["Preparing the database..."]


def test_what_people_changed_in_the_catalog_stays(file: Path) -> None:
    _prepare(file)
    Provider.objects.filter(name="openai").update(enabled=False, timeout_s=77)
    Model.objects.filter(name="sandbox-echo").update(context_window=1)
    _prepare(file)
    openai = Provider.objects.get(name="openai")
    assert (openai.enabled, openai.timeout_s) == (False, 77)
    assert Model.objects.get(name="sandbox-echo").context_window == 1


def test_another_port_keeps_the_key_and_the_password(file: Path) -> None:
    made, _ = _prepare(file)
    moved, _ = _prepare(file, base_url="http://127.0.0.1:9000")
    assert (moved.api_key, moved.admin_password) == (made.api_key, made.admin_password)
    assert json.loads(file.read_text())["admin_url"] == "http://127.0.0.1:9000/admin/"


def test_a_lost_file_means_a_new_key_and_a_new_password_and_says_so(file: Path) -> None:
    made, _ = _prepare(file)
    file.unlink()
    again, said = _prepare(file)
    assert again.api_key != made.api_key
    assert again.admin_password != made.admin_password
    assert User.objects.get(username="admin").check_password(again.admin_password)
    assert any("new API key" in line and "gone" in line for line in said)
    assert any("Reset the password" in line for line in said)
    assert Limit.objects.filter(key=_the_key(again), metric="usd").exists()


def test_a_damaged_file_is_a_lost_file(file: Path) -> None:
    made, _ = _prepare(file)
    file.write_text('{"base_url": ')
    again, _ = _prepare(file)
    assert again.api_key != made.api_key


def test_a_password_that_a_person_changed_is_left_alone(file: Path) -> None:
    _prepare(file)
    admin = User.objects.get(username="admin")
    admin.set_password("my own choice")
    admin.save()
    _, said = _prepare(file)
    assert User.objects.get(username="admin").check_password("my own choice")
    assert any("was changed since" in line for line in said)


def test_a_revoked_key_is_replaced(file: Path) -> None:
    made, _ = _prepare(file)
    keys.revoke(key=_the_key(made))
    again, said = _prepare(file)
    assert again.api_key != made.api_key
    assert any("new API key" in line for line in said)
    assert again.admin_password == made.admin_password


@pytest.mark.parametrize("foreign", ["tb_live_{unknown}_{secret}", "tb_live_{known}_{secret}", "no key"])
def test_a_key_that_does_not_open_this_database_is_replaced(file: Path, foreign: str) -> None:
    made, _ = _prepare(file)
    text = foreign.format(unknown="A" * 12, known=_the_key(made).public_id, secret="B" * 40)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"api_key": text}))
    again, said = _prepare(file)
    assert again.api_key not in (made.api_key, text)
    assert any("does not open this database" in line for line in said)


def test_prices_are_imported_again_when_the_price_data_is_newer(
    file: Path, monkeypatch: pytest.MonkeyPatch, real_import: None
) -> None:
    _prepare(file)
    monkeypatch.setattr(quickstart, "version", lambda name: "999.0")
    _, said = _prepare(file)
    assert "Importing the list prices of genai-prices 999.0..." in said
    assert len(_prepare(file)[1]) == 1


def test_it_tells_which_providers_can_be_called(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    made, _ = _prepare(file)
    # An address of this machine: whether a provider can be called includes that its name is found.
    Provider.objects.filter(name="openai").update(base_url="https://127.0.0.1/v1", allow_private_address=True)
    found = readiness()
    assert found["openai"] == found["sandbox"] == ""
    assert "ANTHROPIC_API_KEY" in found["anthropic"]
    text = told(made, file=file, providers=found)
    assert "openai       ready" in text
    assert "anthropic    not ready" in text
    assert made.api_key in text
    assert made.admin_password in text
    assert f"curl -s {BASE_URL}/v1/chat/completions" in text


def test_the_command_prepares_without_a_server(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.VAR_DIR = tmp_path
    call_command("quickstart", base_url="http://gateway.example/")
    assert json.loads((tmp_path / "quickstart.json").read_text())["base_url"] == "http://gateway.example"
    assert str(tmp_path / "quickstart.json") in capsys.readouterr().out
