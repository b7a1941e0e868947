"""A database of a benchmark's own, beside the configured one."""

from __future__ import annotations

import os

from django.core.management import call_command
from django.db import connection


def scratch_database() -> str:
    """Create and migrate it, and point Django at it. Returns its name."""
    name = f"bench_{os.getpid()}"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()
    connection.settings_dict["NAME"] = name
    call_command("migrate", verbosity=0)
    return name


def drop(name: str, home: str) -> None:
    """Point Django back at `home` and drop it."""
    connection.close()
    connection.settings_dict["NAME"] = home
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
