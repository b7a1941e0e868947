"""gunicorn: a thread per open call, a process per core, nothing shared but PostgreSQL.

No preload: the writer and its connection belong to one process. No max_requests: a recycled worker cuts streams.
"""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

wsgi_app = "gateway.wsgi:application"
bind = os.environ.get("TOLLBOOK_BIND", f"0.0.0.0:{os.environ.get('PORT', '8000')}")
# gthread, with an end to waiting for slow clients.
worker_class = "gateway.worker.Worker"
workers = int(os.environ.get("TOLLBOOK_WORKERS", os.cpu_count() or 1))
threads = int(os.environ.get("TOLLBOOK_THREADS", "512"))
# Beyond the threads, so many idle connections are kept open for their clients' next request.
worker_connections = threads * 2
preload_app = False
keepalive = 75
timeout = 120
graceful_timeout = int(os.environ.get("TOLLBOOK_GRACEFUL_TIMEOUT_S", "30"))
control_socket_disable = True
accesslog = None
errorlog = "-"
# Wide enough for the headers of proxies in front.
limit_request_field_size = 16_380

# Two sockets for each open call: the usual soft limit of 1,024 ends at 500. The hard one is the administrator's.
_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (65_536 if _hard == resource.RLIM_INFINITY else _hard, _hard))

# The master kills its workers when graceful_timeout is over: they stop waiting for open calls so much earlier, in order
# to settle them.
SETTLE_S = 5


def post_worker_init(worker: Worker) -> None:
    """Start the writer and read the catalog before the first call, not in it."""
    # The worker's own copy: the master's stays as it is.
    worker.cfg.set("graceful_timeout", max(1, graceful_timeout - SETTLE_S))
    from gateway.runtime import runtime

    runtime()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Settle what is still open, commit what is queued, close the writer's row."""
    from gateway import runtime

    runtime.stop()


def child_exit(server: Arbiter, worker: Worker) -> None:
    from gateway.metrics import mark_process_dead

    mark_process_dead(worker.pid)
