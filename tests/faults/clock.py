"""A clock of the workers' own that can be set: `clock.c`, compiled here and preloaded into them."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")
_OFFSETS = struct.Struct("@qq")


@cache
def why_not() -> str | None:
    """Why no clock can be made here, or None."""
    if sys.platform != "linux":
        return "only Linux lets a library be preloaded this way"
    return None if shutil.which("cc") else "a clock of its own needs a C compiler"


def environment(folder: Path) -> Mapping[str, str]:
    """Make the clock in `folder`, at the right time; what a process that shall use it needs in its environment."""
    library = folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, _SOURCE], check=True)
    put(folder, even_s=0, odd_s=0)
    return {"LD_PRELOAD": str(library), "FAULTS_CLOCK": str(_file(folder))}


def put(folder: Path, *, even_s: int, odd_s: int) -> None:
    """From now on the clocks of processes with even and odd ids are off by so much."""
    # In place: the processes have mapped it.
    with _file(folder).open("r+b" if _file(folder).exists() else "wb") as file:
        file.write(_OFFSETS.pack(even_s, odd_s))


def _file(folder: Path) -> Path:
    return folder / "clock-offsets"
