"""The books prove themselves: everything that was summed is summed again, everything rated is rated again.

`scope` says which calls, `run` runs the checks from one snapshot, and each other file is one family of checks: `sums`
(rollups, windows, holds), `chain` (hashes, anchors), `costs`, `guards` (triggers, functions, constraints, grants).
"""

from ledger.verify.run import CHECKS, differences, verify
from ledger.verify.scope import EVERYTHING, Difference, Progress, Scope, month, since

__all__ = ["CHECKS", "EVERYTHING", "Difference", "Progress", "Scope", "differences", "month", "since", "verify"]
