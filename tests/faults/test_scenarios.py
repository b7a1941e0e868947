"""Every scenario once, small. `python -m tests.faults.scenarios` plays them at their whole size."""

from __future__ import annotations

from tests.faults import scenarios
from tests.faults.cluster import Template


def test_the_books_stand_clients_and_providers_at_their_worst() -> None:
    template = Template()
    try:
        report = scenarios.run(template, full=False)
    finally:
        template.remove()
    text = "\n".join(report.lines())
    assert report.is_clean, text
    # A scenario in which nothing happened proves nothing.
    assert all(sum(counts.values()) > 0 for counts in report.counts.values()), text
    assert report.totals["arrivals at the provider"] > 500, text
    assert report.totals["billed errors left to reconciliation"] > 0, text
