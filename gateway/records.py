"""One log line and the counters of an attempt that has ended."""

from __future__ import annotations

from gateway import logs, metrics
from gateway.plan import Plan
from ledger.rows import HoldRow, SettleRow


def record(row: SettleRow, *, plan: Plan, hold: HoldRow, upstream_s: float) -> None:
    """Tell the log and the metrics. Never holds a prompt, an answer or a credential; metrics never a user or a key."""
    target = plan.target
    metrics.record_call(
        provider=target.provider_name,
        model=target.name,
        outcome=row.outcome,
        duration_s=row.duration_ms / 1000,
        upstream_s=upstream_s,
        tokens={"input": row.input_tokens, "output": row.output_tokens, "cache_read": row.cache_read_tokens},
    )
    if hold.attempt > 1:
        metrics.record_retry(provider=target.provider_name)
    logs.log_call(
        call_id=row.id,
        request_id=hold.request_id,
        provider=target.provider_name,
        model=target.name,
        outcome=row.outcome,
        status=row.http_status,
        cost_usd=row.cost_usd,
        duration_ms=row.duration_ms,
        error_code=row.error_code,
    )
