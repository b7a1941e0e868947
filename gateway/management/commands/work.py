"""manage.py work: carry out batches and chores until a signal. Any number of workers may run, on any machines."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from gateway import runtime, workers


class Command(BaseCommand):
    help = "Carry out batches, health checks and pruning from the queue until SIGTERM or Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            workers.work()
        finally:
            runtime.stop()
