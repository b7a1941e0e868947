"""The faults of the machine, each once and small. `make faults` has them at their whole size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import machine, machine_acts
from tests.faults.cluster import Template
from tests.faults.machine import Act
from tests.faults.run import new_seed


@pytest.fixture(scope="module")
def template() -> Iterator[Template]:
    made = Template()
    yield made
    made.remove()


def _stand(template: Template, acts: list[Act]) -> None:
    played = machine.play(template, acts, is_long=False, seed=new_seed())
    text = "\n".join(played.lines())
    assert not played.problems, text
    # What nobody felt proves nothing.
    assert all(felt.times for felt in played.acts), text
    assert len(played.acts) + len(played.skipped) == len(acts)
    assert played.calls > 0, text
    if not played.acts:
        pytest.skip("; ".join(sorted(set(played.skipped.values()))))


def test_the_books_stand_a_database_that_is_away_and_disks_that_are_full(template: Template) -> None:
    _stand(template, machine_acts.away())


def test_the_books_stand_a_clock_that_jumps_and_processes_that_are_killed(template: Template) -> None:
    _stand(template, machine_acts.killed())
