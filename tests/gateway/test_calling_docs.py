"""docs/calling.md names every header that the gateway reads or sends."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Its headers go with a file for FinOps tools, and docs/focus.md has them.
ELSEWHERE = "focus.py"


def test_every_header_of_tollbooks_own_is_documented() -> None:
    told = set(re.findall(r"X-Tollbook(?:-[A-Za-z]+)+", (ROOT / "docs/calling.md").read_text(encoding="utf-8")))
    files = (path for path in (ROOT / "gateway").rglob("*.py") if path.name != ELSEWHERE)
    sources = "".join(path.read_text(encoding="utf-8") for path in files)
    used = set(re.findall(r'"(X-Tollbook(?:-[A-Za-z]+)+)"', sources))
    used |= {name.replace("_", "-").title() for name in re.findall(r"HTTP_(X_TOLLBOOK_[A-Z_]+)", sources)}
    assert {"X-Tollbook-Call-Id", "X-Tollbook-Tags", "X-Tollbook-Timeout-S"} <= used
    assert used == told
