"""Clients that ask for all kinds of calls, and write down what they were told."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
import uuid
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from tests.faults.world import Key, World

TIMEOUT_S = 20.0
# How often each kind of call is made; what it names is an upstream model, or a way to behave.
KINDS = {
    "fake-model": 30, "fake-other": 10, "fake-words-40": 8, "fake-paced-20ms": 10, "fake-slow-250ms": 8,
    "fake-400": 2, "fake-429": 1, "fake-503": 1, "fake-flaky-1": 5, "fake-reset": 2, "fake-cut": 4,
    "fake-cut-usage": 3, "fake-nousage": 3, "fake-malformed": 2,
}  # fmt: skip


class Told(NamedTuple):
    """A successful answer. `answer_id` is the provider's, which names the arrival that it answered."""

    call_id: UUID
    cost_usd: Decimal | None
    answer_id: str
    load_id: str
    idempotent: bool
    whole: bool


class Notes:
    """What all clients were told so far."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.asked = 0
        self.statuses: dict[str, int] = {}
        self.last_ok = time.monotonic()
        self._lock = threading.Lock()

    def add(self, status: str, told: Told | None = None) -> None:
        with self._lock:
            self.asked += 1
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if told is not None:
                self.told.append(told)
                self.last_ok = time.monotonic()


class _Ask(NamedTuple):
    model: str
    key: Key
    stream: bool
    leaves_after: int | None
    idempotency_key: str
    load_id: str

    def body(self) -> bytes:
        fields: dict[str, Any] = {
            "model": f"m-{self.model}",
            "messages": [{"role": "user", "content": f"Do the books balance? {self.load_id}"}],
            "max_tokens": 64,
            "metadata": {"load": self.load_id},
        }
        return msgspec.json.encode({**fields, "stream": True} if self.stream else fields)

    def headers(self) -> dict[str, str]:
        known = {"Authorization": f"Bearer {self.key.text}", "Content-Type": "application/json"}
        return {**known, "Idempotency-Key": self.idempotency_key} if self.idempotency_key else known


class Load:
    """`clients` threads that ask until `stop`. `pause_s` between two calls of one client."""

    def __init__(self, *, port: int, world: World, clients: int, seed: int, pause_s: float = 0.01) -> None:
        self.notes = Notes()
        self.revocable = list(world.spare[:2])
        self._port, self._world, self._pause_s = port, world, pause_s
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(random.Random(f"{seed} client {number}"),), daemon=True)
            for number in range(clients)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)

    def ask_once(self, *, timeout_s: float = 2.0) -> bool:
        """One plain call by a key with room: whether it was answered."""
        return self.ask("fake-model", timeout_s=timeout_s) == "200"

    def ask(self, model: str, *, stream: bool = False, load_id: str = "", timeout_s: float = TIMEOUT_S) -> str:
        """One call of an upstream model by a key with room; the status, or "broken"."""
        ask = _Ask(model, self._world.wide[0], stream, None, "", load_id or uuid.uuid4().hex)
        return self._make(ask, timeout_s=timeout_s)

    # --- one client ---------------------------------------------------------------------------------------

    def _client(self, rng: random.Random) -> None:
        while not self._stopping.is_set():
            ask = self._next(rng)
            if ask.idempotency_key and rng.random() < 0.5:
                self._twice_at_once(ask)
            times = rng.choice((1, 2)) if ask.idempotency_key else 1
            for _ in range(times):
                status = self._make(ask)
                self._stopping.wait(self._pause_s if status == "200" else 0.1)

    def _next(self, rng: random.Random) -> _Ask:
        (model,) = rng.choices(list(KINDS), weights=list(KINDS.values()))
        key = rng.choice((*self._world.wide, *self._world.tight, *self._world.tight, *self.revocable))
        stream = model.startswith("fake-paced") or rng.random() < 0.45
        leaves = rng.randint(0, 6) if stream and rng.random() < 0.15 else None
        load_id = f"{rng.getrandbits(64):016x}"
        return _Ask(model, key, stream, leaves, load_id if rng.random() < 0.12 else "", load_id)

    def _twice_at_once(self, ask: _Ask) -> None:
        other = threading.Thread(target=self._make, args=(ask,), daemon=True)
        other.start()
        self._make(ask)
        other.join(TIMEOUT_S)

    def _make(self, ask: _Ask, *, timeout_s: float = TIMEOUT_S) -> str:
        status, told = "broken", None
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/v1/chat/completions", ask.body(), ask.headers())
            answer = connection.getresponse()
            status = str(answer.status)
            if answer.status == 200:
                told = _streamed(answer, ask) if ask.stream else _whole(answer, ask)
            else:
                answer.read()
        connection.close()
        self.notes.add(status, told)
        return status


def _whole(answer: http.client.HTTPResponse, ask: _Ask) -> Told | None:
    """What a whole answer says. Its headers are a promise already, even when its body never comes."""
    call_id, cost = answer.getheader("X-Tollbook-Call-Id"), answer.getheader("X-Tollbook-Cost-Usd")
    if call_id is None:
        return None
    answer_id, whole = "", False
    with contextlib.suppress(OSError, http.client.HTTPException, msgspec.DecodeError):
        answer_id, whole = str(msgspec.json.decode(answer.read()).get("id", "")), True
    return _told(call_id, cost, answer_id, ask, whole=whole)


def _streamed(answer: http.client.HTTPResponse, ask: _Ask) -> Told | None:
    """What a stream says: the promise is the comment before its last event."""
    answer_id, promise, done, lines = "", b"", False, 0
    with contextlib.suppress(OSError, http.client.HTTPException, msgspec.DecodeError):
        while line := answer.readline():
            lines += 1
            if ask.leaves_after is not None and lines > ask.leaves_after:
                break
            if line.startswith(b": tollbook call_id="):
                promise = line
            elif line.startswith(b"data: {") and not answer_id:
                answer_id = str(msgspec.json.decode(line[6:]).get("id", ""))
            done = done or line.startswith(b"data: [DONE]")
    if not promise:
        return None
    fields = dict(word.split("=", 1) for word in promise.decode().split() if "=" in word)
    return _told(fields["call_id"], fields.get("cost_usd"), answer_id, ask, whole=done)


def _told(call_id: str, cost: str | None, answer_id: str, ask: _Ask, *, whole: bool) -> Told:
    known = Decimal(cost) if cost is not None else None
    return Told(UUID(call_id), known, answer_id, ask.load_id, bool(ask.idempotency_key), whole)
