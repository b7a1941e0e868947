"""What holds for the project as a whole: its schema, its settings, its chores."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from django.core.management import call_command
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
PARTITIONED = "SELECT partrelid::regclass::text FROM pg_partitioned_table ORDER BY 1"
UNIQUE_KEYS = """
    SELECT i.indexrelid::regclass::text, i.indkey::int2[], p.partattrs::int2[]
    FROM pg_index i JOIN pg_partitioned_table p ON p.partrelid = i.indrelid WHERE i.indisunique
"""
PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'ledger_call'::regclass ORDER BY 1"
# tgtype bits: 1 row, 2 before, 8 delete, 16 update, 32 truncate
TRIGGERS = """
    SELECT tgtype & 1 = 1, tgtype & 2 = 2, tgtype & 56, tgenabled::text FROM pg_trigger
    WHERE tgrelid = %s::regclass AND tgfoid = 'ledger_refuse_change'::regproc
"""
ROW_BEFORE_UPDATE_OR_DELETE, STATEMENT_BEFORE_TRUNCATE = (True, True, 24), (False, True, 32)

READS = re.compile(r"env\.(str|bool|int|float|list|cache_url)|os\.environ(\.get)?|os\.getenv")
# Read by tests and by the process that tests kill, never set by whoever runs Tollbook.
NOT_FOR_OPERATORS = {"TOLLBOOK_CRASH_AT", "DJANGO_SETTINGS_MODULE"}


def _rows(query: str, *values: str) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


@pytest.mark.django_db
def test_every_unique_key_of_a_partitioned_table_contains_its_partition_key() -> None:
    assert _rows(PARTITIONED) == [("ledger_call",)]
    keys = _rows(UNIQUE_KEYS)
    assert keys
    for name, columns, partition_key in keys:
        assert isinstance(columns, list)
        assert isinstance(partition_key, list)
        assert set(partition_key) <= set(columns), name


@pytest.mark.django_db
def test_every_partition_of_the_calls_refuses_change_always() -> None:
    partitions = [str(name) for (name,) in _rows(PARTITIONS)]
    assert "ledger_call_default" in partitions
    assert len(partitions) >= 5
    for table in ("ledger_call", *partitions, "ledger_adjustment", "ledger_batch"):
        found = {(row, before, what): enabled for row, before, what, enabled in _rows(TRIGGERS, table)}
        assert found == {ROW_BEFORE_UPDATE_OR_DELETE: "A", STATEMENT_BEFORE_TRUNCATE: "A"}, table


@pytest.mark.django_db
def test_a_partition_made_later_refuses_change_too() -> None:
    assert _rows("SELECT ledger_make_partitions('2031-05-10', 1)") == [(1,)]
    found = {(row, before, what): enabled for row, before, what, enabled in _rows(TRIGGERS, "ledger_call_2031_05")}
    assert found == {ROW_BEFORE_UPDATE_OR_DELETE: "A", STATEMENT_BEFORE_TRUNCATE: "A"}


@pytest.mark.django_db
def test_the_models_have_no_change_without_a_migration(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        call_command("makemigrations", check=True, dry_run=True, verbosity=1)
    except SystemExit:
        pytest.fail(f"run manage.py makemigrations:\n{capsys.readouterr().out}")


def _read_from_environment(file: Path) -> Iterator[str]:
    """The names in `env.int("NAME")`, `os.environ.get("NAME")` and `os.environ["NAME"]`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute):
            called, first = ast.unparse(node.func), node.args[0]
        elif isinstance(node, ast.Subscript):
            called, first = ast.unparse(node.value), node.slice
        else:
            continue
        if READS.fullmatch(called) and isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def _settings() -> set[str]:
    files = [file for package in ("gateway", "ledger", "providers") for file in (ROOT / package).rglob("*.py")]
    return {name for file in files for name in _read_from_environment(file)} - NOT_FOR_OPERATORS


def _seed_credentials() -> set[str]:
    providers = yaml.safe_load((ROOT / "deploy" / "seed.yaml").read_text())["providers"]
    references = [row.get("credential_ref", "") for row in providers]
    return {reference.removeprefix("env:") for reference in references if reference.startswith("env:")}


def test_the_example_environment_lists_every_setting_and_nothing_else() -> None:
    listed = re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {"PORT", "DATABASE_URL", "OPENAI_API_KEY"} <= set(listed)
    assert set(listed) == _settings() | _seed_credentials()


def test_the_configuration_page_explains_every_setting_and_nothing_else() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    explained = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \|", page, re.MULTILINE)
    assert len(explained) == len(set(explained))
    assert set(explained) == _settings() | _seed_credentials()


def _pages() -> list[Path]:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").glob("*.md")]
    return sorted([*pages, *(page for page in ROOT.glob("*/README.md") if page.parent.name != "var")])


def test_every_make_word_in_the_pages_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "check", "help", "stop", "bench"} <= targets
    named = {word for page in _pages() for word in re.findall(r"`make ([a-z-]+)", page.read_text())}
    assert "run" in named
    assert named <= targets


def test_every_link_between_the_pages_leads_somewhere() -> None:
    links = [(page, link) for page in _pages() for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert links
    assert [(str(page.relative_to(ROOT)), link) for page, link in links if not (page.parent / link).exists()] == []


def test_every_test_and_file_that_a_page_names_exists() -> None:
    prefixes = "gateway|providers|ledger|tests|docs|deploy|bench"
    named = [
        (page, name)
        for page in _pages()
        if page.name != "CHANGELOG.md"
        for name in re.findall(rf"`((?:{prefixes})/[\w./-]*\w(?:/|\.\w+))(?:::\w+)?`", page.read_text())
    ]
    assert named
    assert [(str(page.relative_to(ROOT)), name) for page, name in named if not (ROOT / name).exists()] == []


def test_every_test_function_that_a_page_names_exists() -> None:
    named = {
        pair for page in _pages() for pair in re.findall(r"`(tests/[\w./-]+\.py)::(test_\w+)`", page.read_text())
    }
    assert named
    missing = [pair for pair in sorted(named) if f"def {pair[1]}(" not in (ROOT / pair[0]).read_text()]
    assert missing == []
