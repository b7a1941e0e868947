"""/metrics, and what is counted for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client, override_settings
from prometheus_client import REGISTRY

from gateway import metrics

pytestmark = pytest.mark.urls("gateway.api.urls")


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def record(**changes: object) -> None:
    call: dict[str, object] = {
        "provider": "acme", "model": "gpt-4", "outcome": "ok", "duration_s": 0.3, "upstream_s": 0.2,
        "tokens": {"input": 24, "output": 10, "cache_read": 0},
    }  # fmt: skip
    metrics.record_call(**{**call, **changes})  # type: ignore[arg-type]  # changed per test


def test_a_call_is_counted_once_with_its_times_and_tokens() -> None:
    labels = {"provider": "acme", "model": "gpt-4", "outcome": "ok"}
    before = value("tollbook_calls_total", **labels)
    tokens_before = value("tollbook_tokens_total", kind="input")
    times_before = value("tollbook_upstream_duration_seconds_sum", provider="acme")
    record()
    assert value("tollbook_calls_total", **labels) == before + 1
    assert value("tollbook_tokens_total", kind="input") == tokens_before + 24
    assert value("tollbook_upstream_duration_seconds_sum", provider="acme") == pytest.approx(times_before + 0.2)


def test_waits_refusals_and_retries_are_counted() -> None:
    before = (
        value("tollbook_ledger_wait_seconds_count", op="hold"),
        value("tollbook_holds_refused_total", metric="usd", subject="key"),
        value("tollbook_retries_total", provider="acme"),
    )
    metrics.record_ledger_wait(op="hold", wait_s=0.002)
    metrics.record_refusal(metric="usd", subject="key")
    metrics.record_retry(provider="acme")
    after = (
        value("tollbook_ledger_wait_seconds_count", op="hold"),
        value("tollbook_holds_refused_total", metric="usd", subject="key"),
        value("tollbook_retries_total", provider="acme"),
    )
    assert after == tuple(number + 1 for number in before)


def test_the_page_is_prometheus_text() -> None:
    record()
    metrics.open_streams.set(3)
    answer = Client().get("/metrics")
    assert answer.status_code == 200
    assert answer["content-type"].startswith("text/plain")
    assert b'tollbook_calls_total{model="gpt-4",outcome="ok",provider="acme"}' in answer.content
    assert b"tollbook_open_streams 3.0" in answer.content
    metrics.open_streams.set(0)


def test_the_page_is_not_there_when_switched_off() -> None:
    with override_settings(METRICS_ENABLED=False):
        assert Client().get("/metrics").status_code == 404


def test_no_label_names_a_user_or_a_key() -> None:
    record()
    known = {"provider", "model", "outcome", "op", "metric", "subject", "kind", "result", "le"}
    ours = [family for family in REGISTRY.collect() if family.name.startswith("tollbook_")]
    assert len(ours) == 11
    assert {label for family in ours for sample in family.samples for label in sample.labels} <= known


_WORKER = """
from gateway import metrics
metrics.record_call(provider="acme", model="m", outcome="ok", duration_s=1, upstream_s=1, tokens={"input": 5})
metrics.open_streams.inc()
"""
_READER = """
import sys
from django.conf import settings
settings.configure(METRICS_ENABLED=True)
from django.http import HttpRequest
from gateway import metrics
for pid in sys.argv[1:]:
    metrics.mark_process_dead(int(pid))
request = HttpRequest()
request.method = "GET"
print(metrics.exposition(request).content.decode())
"""


def run(code: str, folder: Path, *arguments: str) -> tuple[str, int]:
    """The output of a process of its own, and its pid."""
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.PIPE, text=True, cwd=folder.parent
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output, process.pid


def test_several_processes_are_one_page_and_the_dead_hold_no_streams(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    pids = [str(run(_WORKER, folder)[1]) for _ in range(2)]
    page, _ = run(_READER, folder, pids[0])
    assert 'tollbook_calls_total{model="m",outcome="ok",provider="acme"} 2.0' in page
    assert 'tollbook_tokens_total{kind="input"} 10.0' in page
    assert "tollbook_open_streams 1.0" in page
