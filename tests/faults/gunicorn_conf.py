"""The product's own gunicorn settings, and two hooks: a worker may be told where to die, and may run broken code.

`plan` in the var directory holds one TOLLBOOK_CRASH_AT: the next worker takes it, before it loads the product.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from tests.faults.world import ROOT

_product: dict[str, Any] = runpy.run_path(str(ROOT / "gateway" / "gunicorn.conf.py"))
globals().update({name: value for name, value in _product.items() if not name.startswith("_")})
_PLAN = Path(os.environ["TOLLBOOK_VAR_DIR"]) / "plan"
_BROKEN = os.environ.get("FAULTS_BREAK", "")


def post_fork(server: Any, worker: Any) -> None:
    taken = _PLAN.with_name(f"plan-{os.getpid()}")
    try:
        _PLAN.rename(taken)
    except FileNotFoundError:
        return
    os.environ["TOLLBOOK_CRASH_AT"] = taken.read_text()


def post_worker_init(worker: Any) -> None:
    if _BROKEN:
        from tests.faults import broken

        broken.IN_PYTHON[_BROKEN]()
    _product["post_worker_init"](worker)
