"""`python -m tests.faults.scenarios`: clients, bodies, providers and limits at their worst; exit 1 if anything broke.

`--only clients` plays one part, `--quick` all of it small.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable

from tests.faults import scenarios_bodies, scenarios_clients, scenarios_limits, scenarios_providers
from tests.faults.cluster import Template
from tests.faults.performing import Report, perform
from tests.faults.stage import Scenario

PARTS: dict[str, Callable[[], list[Scenario]]] = {
    "clients": scenarios_clients.scenarios,
    "bodies": scenarios_bodies.scenarios,
    "providers": scenarios_providers.scenarios,
    "limits": scenarios_limits.scenarios,
}


def scenarios(only: Iterable[str] = ()) -> list[Scenario]:
    """Those of the parts named, or of all."""
    return [scenario for part in (list(only) or PARTS) for scenario in PARTS[part]()]


def run(
    template: Template, *, full: bool, only: Iterable[str] = (), says: Callable[[str], object] = str
) -> Report:
    """Play them on one cluster. `says` is told of each one that has ended."""
    return perform(template, scenarios(only), full=full, says=says)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.scenarios", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="each small, as in the test suite")
    options = parser.parse_args()
    template = Template()
    kept = False
    try:
        report = run(template, full=not options.quick, only=options.only, says=lambda line: print(line, flush=True))
        print("\n".join(report.lines()), flush=True)
        kept = not report.is_clean
        return 1 if kept else 0
    finally:
        if kept:
            print(f"What is left of the run stays in {template.folder}.")
        else:
            template.remove()


if __name__ == "__main__":
    sys.exit(main())
