"""Many open streams in one process: memory, what the gateway adds to each event, and whether every event arrives.

    python bench/streams.py [--streams 1000] [--open-s 5] [--events 10] [--every-s 2]

The provider and the clients are one asyncio process pinned to core 1; one gunicorn process is pinned to core 0, with a
thread for each stream. Each event carries its number and when it was sent, so that what the gateway adds is the
difference on one clock. The ledger is durable, and three limits apply. Runs on a scratch database beside the configured
one, dropped at the end. Measured for one stream first, then for all of them: compare within a run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.relay import GATEWAY_PORT, UPSTREAM_PORT, catalog, gateway  # noqa: E402
from bench.scratch import drop, scratch_database  # noqa: E402

_SENT = re.compile(rb"@(\d+)/(\d+)@")
_MIB = 1024 * 1024


class Heard(NamedTuple):
    """What one client got: event numbers in order, milliseconds that each took, whether the stream ended as meant."""

    numbers: list[int]
    took_ms: list[float]
    whole: bool


def chunk(value: object) -> bytes:
    data = b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def delta(content: str) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "bench-model", "choices": [choice]}


class Provider:
    """Answers each request with a stream of `events` numbered events, one every `every_s` seconds."""

    def __init__(self, *, events: int, every_s: float) -> None:
        self.events, self.every_s = events, every_s

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                await self._stream(writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            # The gateway keeps its connections: they end with the measurement.
            writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(self.events):
            writer.write(chunk(delta(f"@{number}/{time.monotonic_ns()}@")))
            await writer.drain()
            await asyncio.sleep(self.every_s)
        usage = {"prompt_tokens": 10, "completion_tokens": self.events, "total_tokens": 10 + self.events}
        writer.write(chunk({**delta(""), "choices": [], "usage": usage}) + chunk(b"[DONE]") + b"0\r\n\r\n")
        await writer.drain()


async def listen(text: str) -> Heard:
    body = json.dumps(
        {"model": "bench-model", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "Count."}]}
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", GATEWAY_PORT)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (text.encode(), len(body), body)
    )
    numbers: list[int] = []
    took_ms: list[float] = []
    ended = b""
    try:
        while line := await reader.readline():
            for number, sent_ns in _SENT.findall(line):
                numbers.append(int(number))
                took_ms.append((time.monotonic_ns() - int(sent_ns)) / 1e6)
            if b"[DONE]" in line:
                ended = line
                break
    finally:
        writer.close()
    return Heard(numbers, took_ms, bool(ended))


async def measure(
    text: str, *, streams: int, open_s: float, provider: Provider, worker: int
) -> tuple[list[Heard], int]:
    """All streams at once, opened over `open_s`; what they heard, and the worker's largest memory meanwhile."""
    server = await asyncio.start_server(provider.answer, "127.0.0.1", UPSTREAM_PORT, backlog=4096)
    most = 0

    async def one(index: int) -> Heard:
        await asyncio.sleep(open_s * index / streams)
        return await listen(text)

    tasks = [asyncio.create_task(one(index)) for index in range(streams)]
    while not all(task.done() for task in tasks):
        most = max(most, resident_bytes(worker))
        await asyncio.sleep(0.2)
    server.close()
    return [task.result() for task in tasks], most


def resident_bytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


def worker_of(master: int) -> int:
    return next(_children(master))


def _children(master: int) -> Iterator[int]:
    for text in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        yield int(text)


def tell(name: str, heard: list[Heard], *, events: int) -> bool:
    """Print a line; whether every event arrived once, in order, in every stream."""
    right = sum(one.whole and one.numbers == list(range(events)) for one in heard)
    first = [one.took_ms[0] for one in heard if one.took_ms]
    later = [took for one in heard for took in one.took_ms[1:]]
    print(
        f"{name:14} whole and in order {right}/{len(heard)}   added to the first event p50 {at(first, 50):.1f} ms, "
        f"p99 {at(first, 99):.1f} ms   to later ones p50 {at(later, 50):.1f} ms, p99 {at(later, 99):.1f} ms"
    )
    return right == len(heard)


def at(values: list[float], percent: int) -> float:
    if len(values) < 2:
        return values[0] if values else float("nan")
    return statistics.quantiles(values, n=100)[percent - 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--open-s", type=float, default=5.0, help="seconds over which the streams are opened")
    parser.add_argument("--events", type=int, default=10)
    parser.add_argument("--every-s", type=float, default=2.0)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ["TOLLBOOK_THREADS"] = str(options.streams + 24)
    from django.conf import settings

    home = str(settings.DATABASES["default"]["NAME"])
    database = scratch_database()
    try:
        text = catalog()
        with tempfile.TemporaryDirectory() as folder, gateway(database=database, folder=Path(folder)) as master:
            os.sched_setaffinity(0, {1 % (os.cpu_count() or 1)})
            return _measured(text, options, worker=worker_of(master))
    finally:
        drop(database, home)


def _measured(text: str, options: argparse.Namespace, *, worker: int) -> int:
    alone = Provider(events=30, every_s=0.05)
    heard, _ = asyncio.run(measure(text, streams=1, open_s=0, provider=alone, worker=worker))
    right = tell("one stream", heard, events=30)
    idle = resident_bytes(worker)
    many = Provider(events=options.events, every_s=options.every_s)
    heard, most = asyncio.run(
        measure(text, streams=options.streams, open_s=options.open_s, provider=many, worker=worker)
    )
    right &= tell(f"{options.streams} streams", heard, events=options.events)
    more = (most - idle) / _MIB
    print(f"memory: {idle / _MIB:.0f} MiB idle, {more:+.0f} MiB with {options.streams} streams open")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
