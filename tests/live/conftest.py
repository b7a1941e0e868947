"""A database and a gateway for each module: what one module breaks, no other one meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections
from django.test.utils import setup_databases, teardown_databases
from pytest_django import DjangoDbBlocker

pytest.register_assert_rewrite("tests.live.books", "tests.live.gateway")

from ledger.spool import Spool  # noqa: E402
from ledger.writer import Writer  # noqa: E402
from tests import factories  # noqa: E402
from tests.live import books, database  # noqa: E402  # after their asserts are made to tell what they saw
from tests.live.gateway import Gateway, running  # noqa: E402
from tests.live.writers import Make, World  # noqa: E402


@pytest.fixture(scope="session")
def migrated_database(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, django_db_keepdb: bool, django_db_createdb: bool
) -> Iterator[None]:
    """The test database of this session, which pytest-django makes only where a test is marked with django_db."""
    settings = connections["default"].settings_dict
    if settings["NAME"] == settings["TEST"]["NAME"]:
        yield
        return
    keepdb = django_db_keepdb and not django_db_createdb
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, aliases={"default": None}, keepdb=keepdb)
    yield
    if not django_db_keepdb:
        with django_db_blocker.unblock():
            teardown_databases(made, verbosity=0)


@pytest.fixture(scope="module")
def own_database(migrated_database: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """The URL of a database in which this module's rows are committed."""
    with django_db_blocker.unblock(), database.a_copy_of_the_test_database() as url:
        yield url


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One worker for the whole module; at the end its books must be right."""
    with running(database_url=own_database, var_dir=tmp_path_factory.mktemp("var")) as made:
        yield made
        books.until(lambda: not books.rows("SELECT 1 FROM ledger_hold LIMIT 1"), what="no hold is left")
        books.verify()


@pytest.fixture
def world(own_database: str) -> World:
    return {"key": factories.make_key(), "model": factories.make_model()}


@pytest.fixture
def make_writer(own_database: str, tmp_path: Path) -> Iterator[Make]:
    """Started writers, closed at the end; then the books must be right."""
    made: list[Writer] = []

    def make(*, connect: Callable[[], psycopg.Connection[Any]] | None = None, **options: Any) -> Writer:
        spool = Spool(folder=tmp_path / "spool")
        writer = Writer(spool=spool, connect=connect, **{"lease_s": 30.0, "timeout_s": 5.0, **options})
        writer.start()
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()
    # Not ledger.verify: the costs here are made up, and no sheet gives them.
    assert books.differences() == {}
