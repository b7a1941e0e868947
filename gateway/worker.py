"""gunicorn's threaded worker, which does not wait for ever for the headers of a request."""

from __future__ import annotations

from typing import Any

from gunicorn.workers.gthread import ThreadWorker

from gateway import slow_clients


class Worker(ThreadWorker):  # type: ignore[misc]  # the package has no types
    def handle(self, conn: Any) -> Any:
        conn.waited_for = slow_clients.begin(conn.sock)
        try:
            return super().handle(conn)
        finally:
            slow_clients.end(conn.waited_for)

    def handle_request(self, req: Any, conn: Any) -> Any:
        slow_clients.end(conn.waited_for)
        return super().handle_request(req, conn)
