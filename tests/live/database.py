"""A database of a module's own, in which everything is committed.

The ledger's tables are append-only, so nothing can be cleaned up after a test: each module gets a copy of the migrated
test database instead, and drops it whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil  # type: ignore[import-untyped]  # the package has no types
import psycopg
from django.db import connections
from psycopg import sql

ROOT = Path(__file__).resolve().parents[2]
_START = """
import pathlib, sys
from gateway import embedded
print(embedded.start(data_dir=pathlib.Path(sys.argv[1])))
"""


def _params() -> dict[str, str]:
    params = connections["default"].get_connection_params()
    return {name: str(params[name]) for name in ("host", "port", "user", "password") if params.get(name)}


def url_of(name: str) -> str:
    """The URL of a database on the server that the tests use."""
    params = _params()
    login = quote(params.get("user", ""), safe="") + ":" + quote(params.get("password", ""), safe="")
    host = params.get("host", "")
    if host.startswith("/"):
        return f"postgresql://{login}@/{name}?{urlencode({'host': host})}"
    return f"postgresql://{login}@{host or 'localhost'}:{params.get('port', '5432')}/{name}"


def _switch(name: str) -> str:
    """Point Django's connection at another database; returns the name of the one before."""
    connection = connections["default"]
    connection.close()
    before = str(connection.settings_dict["NAME"])
    connection.settings_dict["NAME"] = connections.settings["default"]["NAME"] = name
    return before


@contextlib.contextmanager
def a_copy_of_the_test_database() -> Iterator[str]:
    """Clone the migrated test database, let Django write to the clone meanwhile, drop it. Yields its URL."""
    connections.close_all()
    template = str(connections["default"].settings_dict["NAME"])
    name = f"{template}_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dbname="postgres", autocommit=True, **_params()) as admin:  # type: ignore[arg-type]
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        admin.execute(copy)
        _switch(name)
        try:
            yield url_of(name)
        finally:
            connections.close_all()
            _switch(template)
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class Server:
    """A PostgreSQL of a test's own, which may be stopped, killed and frozen."""

    def __init__(self, *, folder: Path) -> None:
        self.data_dir = folder / "postgres"
        self.url = ""

    def start(self) -> None:
        # In a process of its own: the package remembers the servers it started, and believes that they run for ever.
        command = [sys.executable, "-c", _START, str(self.data_dir)]
        done = subprocess.run(command, cwd=ROOT, check=True, timeout=60, stdout=subprocess.PIPE, text=True)
        self.url = done.stdout.strip()

    def crash(self) -> None:
        """End it at once, as a power cut does: no farewell to its clients."""
        postmaster = self._postmaster()
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _family(self) -> list[psutil.Process]:
        postmaster = self._postmaster()
        return [postmaster, *postmaster.children(recursive=True)]

    def _postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0]))


@contextlib.contextmanager
def a_server_of_its_own() -> Iterator[Server]:
    """A new, migrated server in a temporary folder; Django's connection points at it meanwhile."""
    # Not under pytest's folder: the path of a unix socket may have 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="tollbook-"))
    folder.chmod(0o755)
    server = Server(folder=folder)
    connection = connections["default"]
    kept = dict(connection.settings_dict)
    try:
        server.start()
        environment = {**os.environ, "DATABASE_URL": server.url, "TOLLBOOK_VAR_DIR": str(folder / "var")}
        command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
        connection.close()
        _point_at(server)
        yield server
    finally:
        connections.close_all()
        for settings in (connection.settings_dict, connections.settings["default"]):
            settings.clear()
            settings.update(kept)
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            server.thaw()
            server.crash()
        shutil.rmtree(folder, ignore_errors=True)


def _point_at(server: Server) -> None:
    own = psycopg.conninfo.conninfo_to_dict(server.url)
    for settings in (connections["default"].settings_dict, connections.settings["default"]):
        options = {**settings["OPTIONS"], "host": own["host"]}
        settings.update(NAME=own["dbname"], USER=own["user"], PASSWORD="", HOST="", PORT="", OPTIONS=options)
