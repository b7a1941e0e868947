"""A database of a benchmark's own, beside the configured one."""

from __future__ import annotations

import os

from django.core.management import call_command
from django.db import connection


def scratch_database() -> str:
    """Create and migrate it, and point Django at it. Returns its name."""
    name = f"bench_{os.getpid()}"
    made_database(name)
    return name


def made_database(name: str) -> None:
    """Create and migrate the database `name`, in place of one that is there, and point Django at it."""
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
    use(name)
    call_command("migrate", verbosity=0)


def use(name: str) -> str:
    """Point Django at the database `name`. Returns the one it pointed at."""
    connection.close()
    before = str(connection.settings_dict["NAME"])
    connection.settings_dict["NAME"] = name
    return before


def drop(name: str, home: str) -> None:
    """Point Django back at `home` and drop it."""
    use(home)
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
