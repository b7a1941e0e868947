"""What a process tells the metrics about itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import REGISTRY

from gateway.runtime import Runtime


def test_the_gauges_show_what_is_queued_spooled_and_streaming(tmp_path: Path, settings: Any) -> None:
    settings.SPOOL_DIR = tmp_path
    runtime = Runtime()
    spool = runtime.writer._spool
    spool.append(b"{}")
    spool.append(b"{}")
    for number, streamed in enumerate((True, False, True, True)):
        runtime.open_calls[number] = SimpleNamespace(hold=SimpleNamespace(streamed=streamed))  # type: ignore[assignment]
    try:
        runtime.note_state()
        gauges = ("writer_queue_depth", "spool_rows", "open_streams")
        assert [REGISTRY.get_sample_value(f"tollbook_{name}") for name in gauges] == [0, 2, 3]
    finally:
        runtime.open_calls.clear()
        spool.close()
