"""Runs the checks of one client: `python -m tests.clients.run NAME`, jobs on stdin, a line of JSON for each on stdout.

Jobs: {"base_url": ..., "api_key": ..., "jobs": [{"check": ..., "provider": ..., "model": ...}, ...]}. A line is the job
with its `error`, a traceback or null.
"""

from __future__ import annotations

import importlib
import ipaddress
import json
import sys
import traceback
from typing import Any

OTHER_THAN_LOOPBACK = "A check of a client reaches loopback only, not {!r}."


def _loopback_only(event: str, args: tuple[Any, ...]) -> None:
    """Refuses every look-up and every connection that would leave this machine, whoever asks for it."""
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if text not in ("None", "", "localhost") and not _is_loopback(text):
        raise RuntimeError(OTHER_THAN_LOOPBACK.format(text))


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def main(name: str) -> None:
    told = json.load(sys.stdin)
    sys.addaudithook(_loopback_only)
    client = importlib.import_module(f"tests.clients.{name}_client")
    for job in told["jobs"]:
        error = None
        try:
            getattr(client, job["check"])(told["base_url"], told["api_key"], job["model"])
        except Exception:  # told to whoever started this, for every job
            error = traceback.format_exc()
        # The line stands by itself, whatever a client prints.
        print("\n" + json.dumps({**job, "error": error}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
