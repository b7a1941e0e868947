"""The ledger's tables. Each file answers one question; importers use `ledger.models`."""

from ledger.models.accounts import ApiKey, Team
from ledger.models.anchors import Anchor
from ledger.models.archive import ArchivedBatch, ArchivedMonth, ArchivedRollup, ArchivedWindow
from ledger.models.calls import Adjustment, Batch, Call, Hold, Writer
from ledger.models.idempotency import IdempotencyKey
from ledger.models.limits import Limit, LimitWindow
from ledger.models.prices import PriceSheet, Rate
from ledger.models.reconciliation import ReconcileFile, ReconcileRun
from ledger.models.rerating import RerateRun
from ledger.models.rollups import DailySpend
from ledger.models.snapshot import SnapshotVersion

__all__ = [
    "Adjustment",
    "Anchor",
    "ApiKey",
    "ArchivedBatch",
    "ArchivedMonth",
    "ArchivedRollup",
    "ArchivedWindow",
    "Batch",
    "Call",
    "DailySpend",
    "Hold",
    "IdempotencyKey",
    "Limit",
    "LimitWindow",
    "PriceSheet",
    "Rate",
    "ReconcileFile",
    "ReconcileRun",
    "RerateRun",
    "SnapshotVersion",
    "Team",
    "Writer",
]
