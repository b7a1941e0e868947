"""`make run` as a process: it refuses a taken port at once, serves, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import requests
from django.conf import settings

from gateway import run

ROOT = Path(__file__).resolve().parent.parent.parent
WITHIN_S = 90


@pytest.mark.parametrize(
    ("bind", "port", "expected"),
    [
        (None, None, "http://127.0.0.1:8000"),
        (None, "8123", "http://127.0.0.1:8123"),
        ("127.0.0.2:9000", "8123", "http://127.0.0.2:9000"),
        ("0.0.0.0:9000", None, "http://127.0.0.1:9000"),
        ("[::]:9000", None, "http://[::1]:9000"),
        ("[::1]:9000", None, "http://[::1]:9000"),
    ],
)
def test_the_address_is_that_of_gunicorn(
    monkeypatch: pytest.MonkeyPatch, bind: str | None, port: str | None, expected: str
) -> None:
    for name, value in (("TOLLBOOK_BIND", bind), ("PORT", port)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert run.address().url == expected


@pytest.mark.parametrize("bind", ["unix:/tmp/socket", "9000", "127.0.0.1:0", "127.0.0.1:99999", "a:1,b:2", "host:x"])
def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, bind: str) -> None:
    monkeypatch.setenv("TOLLBOOK_BIND", bind)
    with pytest.raises(run.CannotRun):
        run.address()


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_taken_port_is_told_before_anything_begins(taken_port: int, tmp_path: Path, command: str) -> None:
    var = tmp_path / "var"
    environment = {"PATH": os.environ["PATH"], "TOLLBOOK_BIND": f"127.0.0.1:{taken_port}", "TOLLBOOK_VAR_DIR": str(var)}
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.run", command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert f"127.0.0.1:{taken_port}" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not var.exists()


def test_one_var_directory_is_run_once(tmp_path: Path) -> None:
    refused = pytest.raises(run.CannotRun, match=f"process {os.getpid()}")
    with run._only_run(tmp_path), refused, run._only_run(tmp_path):
        pass
    with run._only_run(tmp_path):
        pass


def test_stopping_nothing_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLBOOK_VAR_DIR", str(tmp_path))
    assert run.stop() == 0


@pytest.fixture
def empty_database() -> Iterator[str]:
    """The URL of a database with no table in it."""
    url = settings.DATABASE_URL
    name = f"{settings.DATABASES['default']['TEST']['NAME']}_run_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield re.sub(r"(://[^/]*/)[^?]*", rf"\g<1>{name}", url, count=1)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def started(empty_database: str, free_port: int, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": empty_database,
        "TOLLBOOK_BIND": f"127.0.0.1:{free_port}",
        "TOLLBOOK_VAR_DIR": str(tmp_path),
        "TOLLBOOK_WORKERS": "2",
        "TOLLBOOK_THREADS": "8",
    }
    # The log goes to a file: a pipe that nobody reads stops whoever writes to it.
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.run"],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def _printed_until_up(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if "Ctrl-C" in line:
            break
    return "".join(printed)


def _log_in(session: requests.Session, made: dict[str, Any]) -> requests.Response:
    page = session.get(made["admin_url"], timeout=30)
    styles = re.findall(r'href="(/static/[^"]+\.css)"', page.text)
    assert styles
    assert {session.get(made["base_url"] + style, timeout=30).status_code for style in styles} == {200}
    form = {
        "csrfmiddlewaretoken": session.cookies["csrftoken"],
        "username": made["admin_user"],
        "password": made["admin_password"],
        "next": "/admin/",
    }
    return session.post(page.url, data=form, timeout=30)


def test_a_stranger_can_call_log_in_and_stop_it(started: subprocess.Popen[str], tmp_path: Path) -> None:
    printed = _printed_until_up(started)
    assert "Tollbook is up." in printed, (tmp_path / "log").read_text()[-3000:]
    made = json.loads((tmp_path / "quickstart.json").read_text())
    assert made["api_key"] in printed
    assert made["admin_password"] in printed

    call = {"model": "sandbox-echo", "messages": [{"role": "user", "content": "Hello, books"}]}
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    answer = requests.post(f"{made['base_url']}/v1/chat/completions", json=call, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    spend = requests.get(f"{made['base_url']}/api/spend/?group_by=user", headers=headers, timeout=30).json()
    assert [(row["user"], row["calls"]) for row in spend["rows"]] == [("demo", 1)]

    with requests.Session() as session:
        desk = _log_in(session, made)
        assert (desk.status_code, desk.url) == (200, made["admin_url"])
        assert "csrfmiddlewaretoken" in desk.text

    # The lock is inherited by gunicorn and its workers: when it can be had, all of them have ended.
    started.send_signal(signal.SIGTERM)
    assert started.wait(WITHIN_S) == 0
    errors = (tmp_path / "log").read_text()
    assert "No directory at" not in errors
    assert "Traceback" not in errors
    with run._only_run(tmp_path):
        pass


def test_a_batch_worker_that_dies_is_started_again(started: subprocess.Popen[str], tmp_path: Path) -> None:
    _printed_until_up(started)
    first = _batch_worker(started)
    assert first is not None
    first.kill()
    deadline = time.monotonic() + WITHIN_S
    while (second := _batch_worker(started)) is None or second == first:
        assert time.monotonic() < deadline
    assert f"ended with {-signal.SIGKILL}" in (tmp_path / "log").read_text()
    started.send_signal(signal.SIGTERM)
    assert started.wait(WITHIN_S) == 0
    assert not second.is_running()


def _batch_worker(started: subprocess.Popen[str]) -> psutil.Process | None:
    for child in psutil.Process(started.pid).children():
        with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if child.cmdline()[-1:] == ["work"]:
                return child
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_killed_run_takes_its_server_along_and_lets_calls_end(
    started: subprocess.Popen[str], empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _printed_until_up(started)
    made = json.loads((tmp_path / "quickstart.json").read_text())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_slow_call, made)
        _wait_for_a_hold(empty_database)
        started.kill()
        monkeypatch.setenv("TOLLBOOK_VAR_DIR", str(tmp_path))
        # It waits for the lock, which gunicorn has until its last call has ended.
        assert run.stop() == 0
        assert answer.done()
        assert answer.result().status_code == 200


def _slow_call(made: dict[str, Any]) -> requests.Response:
    call = {"model": "sandbox-slow", "messages": [{"role": "user", "content": "Take your time"}]}
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    return requests.post(f"{made['base_url']}/v1/chat/completions", json=call, headers=headers, timeout=30)


def _wait_for_a_hold(url: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    with psycopg.connect(url, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM ledger_hold").fetchone():
            assert time.monotonic() < deadline


def test_a_database_that_cannot_be_reached_is_told_in_a_line(free_port: int, tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": f"postgresql://someone:a-password@127.0.0.1:{free_port}/books",
        "TOLLBOOK_BIND": f"127.0.0.1:{free_port}",
        "TOLLBOOK_VAR_DIR": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "gateway.run"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "PostgreSQL cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "a-password" not in ended.stderr
