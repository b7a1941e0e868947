"""The SQL that migrations install: functions, triggers, partitions."""

from __future__ import annotations

from pathlib import Path


def read(name: str) -> str:
    """The text of `name`.sql in this folder."""
    return (Path(__file__).parent / f"{name}.sql").read_text()
