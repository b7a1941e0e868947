"""`make run`: the embedded database if there is no other, the quickstart, then gunicorn until a signal.

    python -m gateway.run          run
    python -m gateway.run check    exit 1 when the port is taken (needs nothing but Python)
    python -m gateway.run stop     end what an earlier run left behind

Nothing outside the standard library is imported before it is needed: `check` runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, NamedTuple

from gateway import embedded

BASE_DIR = Path(__file__).resolve().parent.parent
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 60.0
# How often the batch worker is looked at: one that cannot start is not started more often than this.
WORKER_LOOK_S = 2.0
_PR_SET_PDEATHSIG = 1


class CannotRun(Exception):
    """What the person at the terminal has to change first."""


class Address(NamedTuple):
    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """The host as a client on this machine writes it."""
        if self.host in ("", "0.0.0.0"):  # noqa: S104  # compared, not bound
            return "127.0.0.1"
        return "::1" if self.host == "::" else self.host

    @property
    def url(self) -> str:
        host = self.reachable_host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def address() -> Address:
    """Where gunicorn will listen, by TOLLBOOK_BIND or PORT. Raises CannotRun."""
    bind = os.environ.get("TOLLBOOK_BIND", "")
    if not bind:
        return Address("0.0.0.0", _port(os.environ.get("PORT", "8000"), name="PORT"))  # noqa: S104  # gunicorn.conf.py's
    host, _, port = bind.rpartition(":")
    if bind.startswith(("unix:", "fd:")) or "," in bind or not host:
        raise CannotRun(f"TOLLBOOK_BIND is HOST:PORT for make run, not {bind!r}: for a socket see docs/operating.md.")
    return Address(host.removeprefix("[").removesuffix("]"), _port(port, name="TOLLBOOK_BIND"))


def _port(text: str, *, name: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise CannotRun(f"{name} holds no port from 1 to 65535: {text!r}.")
    return int(text)


def check_free(where: Address) -> None:
    """Raise CannotRun when somebody listens there already."""
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            raise CannotRun(
                f"Cannot listen on {where.host}:{where.port}: {error.strerror}. Is a Tollbook running? "
                f"'make stop' ends one of this folder; 'PORT={where.port + 1} make run' takes another port."
            ) from None


def check() -> int:
    check_free(address())
    return 0


def var_dir() -> Path:
    return Path(os.environ.get("TOLLBOOK_VAR_DIR") or BASE_DIR / "var")


@contextlib.contextmanager
def _only_run(var: Path) -> Iterator[IO[str]]:
    """One run per var directory. The lock is inherited by gunicorn: it is free when all of a run has ended."""
    var.mkdir(parents=True, exist_ok=True)
    with (var / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotRun(f"Tollbook runs from {var} already (process {_owner(lock)}): make stop ends it.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield lock


def _owner(lock: IO[str]) -> str:
    lock.seek(0)
    return lock.read().strip() or "unknown"


def run() -> int:
    """Prepare, serve until a signal, clean up. Returns the exit status."""
    _read_env_file()
    where, var = address(), var_dir()
    check_free(where)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with _only_run(var) as lock, _database(var):
        return _serve(where, var, lock)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _read_env_file() -> None:
    """.env fills what the environment leaves out: for gunicorn's own settings, too."""
    if (BASE_DIR / ".env").is_file():
        import environ

        environ.Env.read_env(str(BASE_DIR / ".env"))


@contextlib.contextmanager
def _database(var: Path) -> Iterator[None]:
    """The embedded server, where no DATABASE_URL is set: stopped afterwards unless it ran before."""
    if os.environ.get("DATABASE_URL"):
        yield
        return
    data_dir = var / "postgres"
    if any(character.isspace() for character in str(data_dir.resolve())):
        raise CannotRun(
            f"The embedded PostgreSQL cannot live in a path with spaces ({data_dir}): "
            "set TOLLBOOK_VAR_DIR to another folder, or DATABASE_URL."
        )
    ran_before = embedded.is_running(data_dir=data_dir)
    try:
        yield
    finally:
        if not ran_before:
            embedded.stop(data_dir=data_dir)


def _serve(where: Address, var: Path, lock: IO[str]) -> int:
    text = _prepare(where, var)
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", _emptied(var / "metrics"))
    # A session of its own: Ctrl-C reaches this process alone, which then asks for the graceful way.
    gunicorn = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "gateway/gunicorn.conf.py", "--log-level", "warning"],
        cwd=BASE_DIR,
        start_new_session=True,
        pass_fds=(lock.fileno(),),
        preexec_fn=_end_with_parent,
    )
    with _worker(lock), _forwarded_signals(gunicorn) as asked_to_stop:
        if _wait_until_ready(where, alive=lambda: gunicorn.poll() is None):
            print(text, flush=True)
        elif gunicorn.poll() is None and not asked_to_stop():
            print(f"Not ready within {READY_WITHIN_S:.0f} s: see the log above.", file=sys.stderr)
            gunicorn.terminate()
            gunicorn.wait()
            return 1
        status = gunicorn.wait()
        return 0 if asked_to_stop() else status or 1


@contextlib.contextmanager
def _worker(lock: IO[str]) -> Iterator[None]:
    """`manage.py work` beside gunicorn: batches and chores, started again when it dies, as gunicorn does its workers.

    At the end it finishes the requests in flight.
    """
    worker = _started_worker(lock)
    stopping = threading.Event()

    def watch() -> None:
        nonlocal worker
        while not stopping.wait(WORKER_LOOK_S):
            if worker.poll() is not None:
                print(f"The batch worker ended with {worker.returncode}: starting another one.", file=sys.stderr)
                worker = _started_worker(lock)

    # The kernel ties a child to the thread that started it: this one lives as long as its children may.
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stopping.set()
        watcher.join()
        worker.terminate()
        try:
            worker.wait(STOP_WITHIN_S / 2)
        except subprocess.TimeoutExpired:
            # What it left is gone on with at the next run.
            worker.kill()
            worker.wait()


def _started_worker(lock: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "work"],
        cwd=BASE_DIR,
        start_new_session=True,
        pass_fds=(lock.fileno(),),
        preexec_fn=_end_with_parent,
    )


def _prepare(where: Address, var: Path) -> str:
    """Bring the database up to date; return the text to print when the gateway answers."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    import django
    from django.db import OperationalError, connections

    try:
        django.setup()
        from gateway import quickstart

        file = var.resolve() / "quickstart.json"
        made = quickstart.prepare(base_url=where.url, file=file, say=_say)
        return quickstart.told(made, file=file, providers=quickstart.readiness())
    except OperationalError as error:
        raise CannotRun(f"PostgreSQL cannot be used: {str(error).strip()}") from None
    finally:
        connections.close_all()


def _say(line: str) -> None:
    print(line, flush=True)


def _emptied(folder: Path) -> str:
    """Numbers of processes that are gone must not count again."""
    shutil.rmtree(folder, ignore_errors=True)
    return str(folder.resolve())


def _end_with_parent() -> None:
    """In the child: stop gracefully when the parent was killed and could not say so (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def _forwarded_signals(child: subprocess.Popen[bytes]) -> Iterator[Callable[[], bool]]:
    """The first signal asks `child` to end its open calls and stop, a second one to stop at once."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if child.poll() is None:
            child.send_signal(signal.SIGTERM if len(received) == 1 else signal.SIGQUIT)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_until_ready(where: Address, *, alive: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + READY_WITHIN_S
    while alive() and time.monotonic() < deadline:
        if _answers(where):
            return True
        time.sleep(0.1)
    return False


def _answers(where: Address) -> bool:
    """Whether /readyz says yes, or 400, which other ALLOWED_HOSTS make of it: the process is up all the same."""
    connection = http.client.HTTPConnection(where.reachable_host, where.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop() -> int:
    """End the run of this var directory, whatever is left of it, and the embedded server."""
    var = var_dir()
    var.mkdir(parents=True, exist_ok=True)
    with (var / "run.lock").open("a+") as lock:
        if not _stop_run(lock):
            print(f"The run of {var} (process {_owner(lock)}) did not end.", file=sys.stderr)
            return 1
        embedded.stop(data_dir=var / "postgres")
    print("Stopped.")
    return 0


def _stop_run(lock: IO[str]) -> bool:
    """Whether the lock could be had: at once, or after its owner was asked to stop."""
    deadline = time.monotonic() + STOP_WITHIN_S
    asked = False
    while time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if not asked:
                asked = True
                # While the lock is held the number is the owner's, or that of an owner whose gunicorn is stopping.
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.kill(int(_owner(lock)), signal.SIGTERM)
            time.sleep(0.1)
    return False


def main(arguments: list[str]) -> int:
    commands: dict[str, Callable[[], int]] = {"run": run, "check": check, "stop": stop}
    try:
        return commands[arguments[0] if arguments else "run"]()
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
