"""manage.py commands, each in a process of its own, forked from one that has loaded Django already: to start one costs
milliseconds instead of seconds.

`python -m tests.faults.commander` reads a JSON list of arguments a line; it answers with the process id of the command
and, when that has ended, with its exit status and what it said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import msgspec

from tests.faults.world import ROOT, environment


class Commander:
    """A context: commands on the database at `url`, one after the other."""

    def __init__(self, *, url: str) -> None:
        command = [sys.executable, "-m", "tests.faults.commander"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(url), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._pid: int | None = None

    def __enter__(self) -> Commander:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pid is not None:
            self.kill()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)

    def start(self, *arguments: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(arguments) + b"\n")
        self._process.stdin.flush()
        self._pid = int(self._line())

    def kill(self) -> None:
        """SIGKILL, and gone."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGKILL)
        self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for the command; its exit status, negative where a signal ended it, and what it said."""
        status, said = msgspec.json.decode(self._line(), type=tuple[int, str])
        self._pid = None
        return status, said

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the commander has ended")
        return line


# --- in the process of its own --------------------------------------------------------------------------------


def _run(arguments: list[str], out: Path) -> None:
    """The command, in a process that ends with it."""
    from django.core.management import execute_from_command_line

    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    status = 1
    try:
        execute_from_command_line(["manage.py", *arguments])
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


def main() -> None:
    import django

    django.setup()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        for line in sys.stdin.buffer:
            pid = os.fork()
            if pid == 0:
                _run(msgspec.json.decode(line), out)
            print(pid, flush=True)
            _, status = os.waitpid(pid, 0)
            said = out.read_text(errors="replace") if out.exists() else ""
            print(msgspec.json.encode((os.waitstatus_to_exitcode(status), said)).decode(), flush=True)


if __name__ == "__main__":
    main()
