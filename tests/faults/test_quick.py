"""The quick set: every fault once, in an order that is new each time. `make faults` runs the long one."""

from __future__ import annotations

from tests.faults.cluster import Template
from tests.faults.run import Plan, new_seed, run


def test_the_books_stand_every_fault_once() -> None:
    template = Template()
    try:
        report = run(template, Plan(seed=new_seed(), minutes=3.0, races=30, clients=8, workers=2, freeze_s=3.0))
    finally:
        template.remove()
    text = "\n".join(report.lines())
    assert report.is_clean, text
    assert (report.counts["lost"], report.counts["duplicated"], report.counts["overspent"]) == (0, 0, 0)
    # A run in which nothing happened proves nothing.
    for what in ("worker kills", "PostgreSQL kills", "eaten commit replies", "acknowledged", "abandoned"):
        assert report.counts[what] > 0, text
