"""The ledger's pages in the admin; Django finds them through this package."""

from ledger.admin import accounts, calls, history, keys, limits, models, partitions, prices, reconcile, rerating, spend

__all__ = [
    "accounts",
    "calls",
    "history",
    "keys",
    "limits",
    "models",
    "partitions",
    "prices",
    "reconcile",
    "rerating",
    "spend",
]
