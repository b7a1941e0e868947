"""All faults of the machine, and how the quick set plays them."""

from __future__ import annotations

from tests.faults import machine_clock, machine_deaths, machine_disk, machine_outage
from tests.faults.machine import Act


def every() -> list[Act]:
    return [*machine_outage.acts(), *machine_disk.acts(), *machine_clock.acts(), *machine_deaths.acts()]


def away() -> list[Act]:
    """On one cluster: databases that are away and disks that are full."""
    return [*machine_disk.acts(), *machine_outage.acts()]


def killed() -> list[Act]:
    """On one cluster, side by side: leases run out while the clock is wrong and commands are killed."""
    workers, *others = machine_deaths.acts()
    return [workers, *machine_clock.acts(), *others]
