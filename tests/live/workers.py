"""`manage.py work` as a process of its own, beside a gateway; and what batches are made of."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from openai import OpenAI
from openai.types import Batch

from tests.live import books
from tests.live.database import ROOT
from tests.live.gateway import Account, Gateway, chat_body

# Health checks by the clock would arrive among the requests that tests count.
NO_CHORES = {"TOLLBOOK_HEALTH_CRON": ""}
ENDED = ("completed", "failed", "expired", "cancelled")


class Worker:
    """A running worker."""

    def __init__(self, gateway: Gateway, *, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "manage.py", "work"]
        self._gateway = gateway
        with (gateway.var_dir / "work.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**gateway.environment, **NO_CHORES, **(environment or {})},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self) -> str:
        return (self._gateway.var_dir / "work.log").read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, and gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)

    def terminate(self) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


@contextlib.contextmanager
def working(gateway: Gateway, *, environment: Mapping[str, str] | None = None) -> Iterator[Worker]:
    worker = Worker(gateway, environment=environment)
    try:
        yield worker
    finally:
        worker.kill()


def client_of(gateway: Gateway, account: Account) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=account.text, max_retries=0, timeout=20)


def line(custom_id: str, body: Any, *, url: str = "/v1/chat/completions", **changes: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body, **changes}


def chat_lines(account: Account, count: int, **fields: Any) -> list[dict[str, Any]]:
    """Requests whose custom ids are r-1, r-2..."""
    return [
        line(f"r-{number}", chat_body(account.model.name, user=f"{number}", **fields))
        for number in range(1, count + 1)
    ]


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(each) + b"\n" for each in lines)


def submit(client: OpenAI, content: bytes, *, endpoint: Any = "/v1/chat/completions", **fields: Any) -> Batch:
    """Upload these bytes and make a batch of them."""
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields)


def ended(client: OpenAI, batch: Batch, *, timeout_s: float = 25) -> Batch:
    """The batch once it has ended."""

    def look() -> Batch | None:
        now = client.batches.retrieve(batch.id)
        return now if now.status in ENDED else None

    found = books.until(look, what=f"{batch.id} has ended", timeout_s=timeout_s)
    assert found is not None
    return found


def results(client: OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The records of a file by custom id; each has one."""
    if file_id is None:
        return {}
    records = [msgspec.json.decode(raw) for raw in client.files.content(file_id).content.splitlines()]
    found = {record["custom_id"]: record for record in records}
    assert len(found) == len(records)
    return found


def counts(batch: Batch) -> tuple[int, int, int]:
    """Total, completed, failed."""
    told = batch.request_counts
    assert told is not None
    return told.total, told.completed, told.failed


def arrived(gateway: Gateway, account: Account, since: int) -> Counter[str]:
    """How often each request of `chat_lines` reached the provider, by its number."""
    found = [msgspec.json.decode(each.body) for each in gateway.upstream.arrivals[since:]]
    return Counter(body["user"] for body in found if body["model"] == account.model.upstream_name)
