"""Prometheus metrics. Labels name providers, models and outcomes: never a user or a key.

With PROMETHEUS_MULTIPROC_DIR set, every process keeps its numbers in files there and any process answers /metrics for
all of them. The directory must be empty when the server starts; `mark_process_dead` belongs in its child_exit hook.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

_MULTIPROCESS_DIR = os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")
if _MULTIPROCESS_DIR:
    # Made before the first metric, which opens its file there.
    os.makedirs(_MULTIPROCESS_DIR, exist_ok=True)

from prometheus_client import (  # noqa: E402  # reads the environment when imported
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

_CALL_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_LEDGER_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)

calls_total = Counter("tollbook_calls_total", "Calls that ended.", ["provider", "model", "outcome"])
call_duration_seconds = Histogram(
    "tollbook_call_duration_seconds", "From request to the end of the answer.", ["provider"], buckets=_CALL_BUCKETS_S
)
upstream_duration_seconds = Histogram(
    "tollbook_upstream_duration_seconds", "The provider's part of it.", ["provider"], buckets=_CALL_BUCKETS_S
)
ledger_wait_seconds = Histogram(
    "tollbook_ledger_wait_seconds", "Waiting for a commit of the ledger.", ["op"], buckets=_LEDGER_BUCKETS_S
)
holds_refused_total = Counter("tollbook_holds_refused_total", "Calls a limit refused.", ["metric", "subject"])
cache_look_ups_total = Counter(
    "tollbook_cache_look_ups_total", "Requests looked up in the response cache.", ["provider", "model", "result"]
)
tokens_total = Counter("tollbook_tokens_total", "Tokens of calls that ended; cached ones are in input too.", ["kind"])
retries_total = Counter("tollbook_retries_total", "Attempts beyond the first of a request.", ["provider"])
writer_queue_depth = Gauge(
    "tollbook_writer_queue_depth", "Holds and settles waiting for the writer.", multiprocess_mode="livesum"
)
spool_rows = Gauge("tollbook_spool_rows", "Settles on disk that wait for the database.", multiprocess_mode="livesum")
open_streams = Gauge("tollbook_open_streams", "Streams being sent to clients.", multiprocess_mode="livesum")


# `labels()` takes a lock and builds a key: a hot path asks for each child once. Bounded by the catalog in practice, and
# by the cache in any case.
@lru_cache(maxsize=4096)
def _calls(provider: str, model: str, outcome: str) -> Counter:
    return calls_total.labels(provider, model, outcome)


@lru_cache(maxsize=512)
def _durations(provider: str) -> tuple[Histogram, Histogram]:
    return call_duration_seconds.labels(provider), upstream_duration_seconds.labels(provider)


@lru_cache(maxsize=64)
def _tokens(kind: str) -> Counter:
    return tokens_total.labels(kind)


@lru_cache(maxsize=16)
def _waits(op: str) -> Histogram:
    return ledger_wait_seconds.labels(op)


def record_call(
    *,
    provider: str,
    model: str,
    outcome: str,
    duration_s: float,
    upstream_s: float,
    tokens: Mapping[str, int],
) -> None:
    """Count one call that ended. `model` is the catalog's name, never the client's text; `tokens` is kind -> number."""
    _calls(provider, model, outcome).inc()
    whole, upstream = _durations(provider)
    whole.observe(duration_s)
    upstream.observe(upstream_s)
    for kind, number in tokens.items():
        if number:
            _tokens(kind).inc(number)


def record_ledger_wait(*, op: str, wait_s: float) -> None:
    """Time one waited for a commit; `op` is hold or settle."""
    _waits(op).observe(wait_s)


def record_refusal(*, metric: str, subject: str) -> None:
    """A limit refused a call. `subject` is the kind (key, user, team, model, everyone), never which one."""
    holds_refused_total.labels(metric, subject).inc()


def record_cache_look_up(*, provider: str, model: str, hit: bool) -> None:
    """An equal request's answer was looked for in the cache. hits / all is the hit rate."""
    cache_look_ups_total.labels(provider, model, "hit" if hit else "miss").inc()


def record_retry(*, provider: str) -> None:
    retries_total.labels(provider).inc()


def record_state(*, queued: int, spooled: int, streams: int) -> None:
    """How much is under way in this process now: told by its housekeeping, not by each call."""
    writer_queue_depth.set(queued)
    spool_rows.set(spooled)
    open_streams.set(streams)


def mark_process_dead(pid: int) -> None:
    """Take a dead worker's gauges out of the sums; its counters stay. Nothing to do in single-process mode."""
    if _MULTIPROCESS_DIR:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # untyped in the package


@require_safe
def exposition(request: HttpRequest) -> HttpResponse:
    """GET /metrics, in the text format; 404 where settings.METRICS_ENABLED is off."""
    if not settings.METRICS_ENABLED:
        raise Http404
    registry = REGISTRY
    if _MULTIPROCESS_DIR:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # untyped in the package
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
