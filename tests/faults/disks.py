"""Small disks: a folder with a file system of its own in memory, which can be filled up and freed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_BALLAST = "ballast"
_CHUNK = bytes(1 << 20)


@cache
def why_not() -> str | None:
    """Why no disk can be made here, or None."""
    if os.geteuid() != 0:
        return "a disk of its own needs root"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(_mount(Path(folder), 1), stderr=subprocess.PIPE, text=True)
        if done.returncode:
            return f"no disk can be mounted here: {done.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return None


@contextlib.contextmanager
def mounted(folder: Path, *, megabytes: int) -> Iterator[None]:
    """A disk of that size at `folder`, as long as it is used."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(_mount(folder, megabytes), check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free on the disk of `folder`."""
    descriptor = os.open(folder / _BALLAST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # The last write puts down as much as there is room for.
        while os.write(descriptor, _CHUNK):
            pass
    except OSError:
        return
    finally:
        os.close(descriptor)


def free(folder: Path) -> None:
    (folder / _BALLAST).unlink(missing_ok=True)


def _mount(folder: Path, megabytes: int) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(folder)]
