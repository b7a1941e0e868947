"""gunicorn as a process of its own, and what its tests put into the catalog."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped]  # the package has no types
import requests

from ledger.keys import create_key
from ledger.models import ApiKey
from providers.models import Alias, Model, Provider
from tests import factories
from tests.live import books
from tests.live.database import ROOT
from tests.upstream import Upstream, shapes
from tests.upstream.server import Handler

CREDENTIAL = "sk-planted-0123456789abcdef"
# Short, so that a test of a death does not take half a minute.
QUICK = {"TOLLBOOK_WRITER_LEASE_S": "2", "TOLLBOOK_WRITER_GRACE_S": "0.5", "TOLLBOOK_SWEEP_INTERVAL_S": "0.3"}


class Account(msgspec.Struct, frozen=True):
    """A key, its text, and the model that its tests call."""

    key: ApiKey
    text: str
    model: Model

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}", "Content-Type": "application/json"}


class Gateway:
    """A running gateway at `url`; its provider is `upstream`."""

    def __init__(
        self, *, database_url: str, var_dir: Path, upstream: Upstream, workers: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.upstream = upstream
        self.var_dir = var_dir
        self.workers = workers
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "TOLLBOOK_VAR_DIR": str(var_dir),
            "TOLLBOOK_BIND": f"127.0.0.1:{self.port}",
            "TOLLBOOK_WORKERS": str(workers),
            "TOLLBOOK_THREADS": "256",
            "TOLLBOOK_SNAPSHOT_POLL_S": "0.1",
            "TOLLBOOK_GRACEFUL_TIMEOUT_S": "6",
            "TEST_CREDENTIAL": CREDENTIAL,
            "PROMETHEUS_MULTIPROC_DIR": str(var_dir / "metrics"),
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = ""

    # --- the process --------------------------------------------------------------------------------------

    def start(self) -> None:
        self.var_dir.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "gunicorn", "-c", "gateway/gunicorn.conf.py"]
        with (self.var_dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stderr=log, stdout=log, start_new_session=True
            )
        books.until(self._ready, what=f"the gateway is ready; its log ends: {self.log()[-2000:]}", timeout_s=40)

    def stop(self) -> None:
        """End it at once: tests of a graceful end use `terminate`."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)

    def kill(self) -> None:
        """SIGKILL to the master and all its workers."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(5)

    def terminate(self) -> None:
        """SIGTERM to the master, and do not wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait_for_end(self, *, timeout_s: float = 20) -> None:
        assert self._process is not None
        self._process.wait(timeout_s)

    def worker_pids(self) -> list[int]:
        assert self._process is not None
        return sorted(child.pid for child in psutil.Process(self._process.pid).children())

    def log(self) -> str:
        path = self.var_dir / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()[-3000:]
        try:
            return requests.get(f"{self.url}/readyz", timeout=2).status_code == 200 and self._all_registered()
        except requests.RequestException:
            return False

    def _all_registered(self) -> bool:
        """Every worker has a writer in the ledger and so its catalog, too."""
        pids = self.worker_pids()
        live = {row[0] for row in books.rows("SELECT pid FROM ledger_writer WHERE state = 'live'")}
        return len(pids) == self.workers and set(pids) <= live

    # --- what it knows ------------------------------------------------------------------------------------

    def provider(self, *, wire: str = "openai", **fields: Any) -> Provider:
        """A provider row that points at the fake upstream; `wire` is the adapter's name."""
        values: dict[str, Any] = {"max_retries": 0, "credential_ref": "env:TEST_CREDENTIAL", **fields}
        return factories.make_provider(
            adapter=wire,
            base_url=f"{self.upstream.url}/v1",
            allow_plain_http=True,
            allow_private_address=True,
            **values,
        )

    def account(
        self,
        *,
        wire: str = "openai",
        upstream_name: str = "fake-model",
        rates: Mapping[str, str] | None = None,
        priced: bool = True,
        limits: tuple[tuple[str, str, str], ...] = (),
        provider: Mapping[str, Any] | None = None,
        key: Mapping[str, Any] | None = None,
        sync: bool = True,
        **model: Any,
    ) -> Account:
        """A new key and a new model at a new provider, priced per 1,000,000, which the gateway knows on return.

        `limits` are (metric, period, amount) of the key. Who makes many says `sync=False` and syncs once.
        """
        row = factories.make_model(
            name=f"m-{uuid.uuid4().hex[:10]}",
            provider=self.provider(wire=wire, **(provider or {})),
            upstream_name=upstream_name,
            **model,
        )
        if priced:
            factories.make_sheet(model=row, rates=rates or {"input": "3", "output": "15"}, per=1_000_000)
        made, text = create_key(user=factories.make_user(username=f"u-{uuid.uuid4().hex[:10]}"), **(key or {}))
        for metric, period, amount in limits:
            factories.make_limit(key=made, metric=metric, period=period, amount=amount)
        if sync:
            self.sync()
        return Account(made, text, row)

    def sync(self) -> None:
        """Return once every worker has seen every change committed before."""
        # A snapshot reads all or nothing: who sees the newest name has seen what was committed before it.
        beacon = Alias.objects.create(name=f"beacon-{uuid.uuid4().hex}", model=self._any_model())
        if not self._reader:
            _, self._reader = create_key(user=factories.make_user(username=f"reader-{uuid.uuid4().hex[:10]}"))
        headers = {"Authorization": f"Bearer {self._reader}"}

        # Nobody can choose which worker answers: all have seen it when none has missed it for longer than a poll.
        quiet_s = 0.0 if self.workers == 1 else 0.5 + 2 * float(self.environment["TOLLBOOK_SNAPSHOT_POLL_S"])
        last_miss = time.monotonic()

        def seen() -> bool:
            nonlocal last_miss
            answered = requests.get(f"{self.url}/v1/models/{beacon.name}", headers=headers, timeout=5)
            if answered.status_code != 200:
                last_miss = time.monotonic()
                return False
            return time.monotonic() - last_miss >= quiet_s

        books.until(seen, what="the gateway reads its catalog anew")

    def _any_model(self) -> Model:
        found = Model.objects.filter(enabled=True, provider__enabled=True).first()
        assert found is not None
        return found

    # --- asking -------------------------------------------------------------------------------------------

    def post(self, path: str, body: bytes, *, headers: Mapping[str, str], timeout_s: float = 30) -> requests.Response:
        return requests.post(f"{self.url}{path}", data=body, headers=dict(headers), timeout=timeout_s)

    def chat(self, account: Account, *, timeout_s: float = 30, headers: Mapping[str, str] | None = None,
             **fields: Any) -> requests.Response:
        """One chat completion; `fields` are added to the body."""
        body = msgspec.json.encode(chat_body(account.model.name, **fields))
        return self.post(
            "/v1/chat/completions", body, headers={**account.headers, **(headers or {})}, timeout_s=timeout_s
        )

    def messages(self, account: Account, *, timeout_s: float = 30, **fields: Any) -> requests.Response:
        body = msgspec.json.encode(messages_body(account.model.name, **fields))
        return self.post("/v1/messages", body, headers=account.headers, timeout_s=timeout_s)

    def open_raw(self, path: str, body: bytes, *, headers: Mapping[str, str]) -> socket.socket:
        """Send a request on a socket of the test's own; nothing is read."""
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return sock


def chat_body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Do the books balance?"}], **fields}


def messages_body(model: str, **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 64, **chat_body(model), **fields}


def usd(tokens_in: int, tokens_out: int, *, rate_in: str = "3", rate_out: str = "15") -> Decimal:
    """The cost at rates per 1,000,000."""
    return (Decimal(rate_in) * tokens_in + Decimal(rate_out) * tokens_out) / 1_000_000


def read_until(sock: socket.socket, mark: bytes, *, timeout_s: float = 15) -> bytes:
    """What arrives, up to the read that holds `mark`."""
    seen = b""
    ends_at = time.monotonic() + timeout_s
    while mark not in seen:
        assert time.monotonic() < ends_at, seen
        data = sock.recv(65536)
        assert data, f"the connection ended before {mark!r}: {seen!r}"
        seen += data
    return seen


def read_all(sock: socket.socket) -> bytes:
    """Everything until the other side ends the connection."""
    seen = b""
    while data := sock.recv(65536):
        seen += data
    return seen


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def running(
    *,
    database_url: str,
    var_dir: Path,
    workers: int = 1,
    environment: Mapping[str, str] | None = None,
    handler: Handler = shapes.reply_to,
) -> Iterator[Gateway]:
    """A gateway and its provider, which answers as `handler` does, both gone at the end, whatever happens."""
    with Upstream(handler=handler) as upstream:
        gateway = Gateway(
            database_url=database_url, var_dir=var_dir, upstream=upstream, workers=workers, environment=environment
        )
        try:
            gateway.start()
            yield gateway
        finally:
            gateway.stop()
