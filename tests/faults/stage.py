"""Where scenarios are played: one cluster, an account for each, clients on plain sockets, and the books by SQL.

A scenario breaks one thing in one way and says what must follow. What must be true of every run is looked up by the
same checker as after the faults.
"""

from __future__ import annotations

import contextlib
import http.client
import selectors
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psutil  # type: ignore[import-untyped]  # the package has no types
from msgspec import Struct

from tests.faults.catalog import Account, Spec
from tests.faults.checker import Problem
from tests.faults.cluster import Cluster, until
from tests.faults.load import Notes, Told
from tests.upstream import invoice
from tests.upstream.invoice import Line

CHAT = "/v1/chat/completions"
WORKERS = 3
# What the workers of a run are told: bounds that a scenario can reach within seconds.
MAX_BODY_BYTES = 12_000_000
CLIENT_TIMEOUT_S = 3.0
SCENARIO = "scenario"


class Call(NamedTuple):
    """A row of the books, as far as scenarios ask for it."""

    id: UUID
    request_id: UUID
    attempt: int
    outcome: str
    error_code: str
    http_status: int | None
    cost_usd: Decimal | None
    cost_source: str
    unpriced_reason: str
    counted_usd: Decimal
    usage_source: str
    input_tokens: int
    output_tokens: int
    sheet_id: int | None
    writer_id: UUID
    held_at: float
    bound_usd: Decimal


_CALLS = """
SELECT c.id, c.request_id, c.attempt, c.outcome, c.error_code, c.http_status, c.cost_usd, c.cost_source,
  c.unpriced_reason, c.counted_usd, c.usage_source, c.input_tokens, c.output_tokens, c.price_sheet_id, c.writer_id,
  extract(epoch FROM h.at)::float8, coalesce(h.bound_usd, 0)
FROM ledger_call c JOIN faults.held h ON h.id = c.id WHERE c.key_id = %s ORDER BY c.id
"""


class Answer(NamedTuple):
    """What a client got; status 0: nothing, or not to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The stable code of an error, '' for an answer."""
        with contextlib.suppress(msgspec.DecodeError, AttributeError):
            return str((msgspec.json.decode(self.body).get("error") or {}).get("code", ""))
        return ""


class Scenario(Struct, frozen=True):
    """`play` says what happened by name. `alone`: it measures or kills processes, so nothing else runs meanwhile."""

    name: str
    play: Callable[[Stage], dict[str, int]]
    specs: dict[str, Spec]
    alone: bool = False
    is_long: bool = False


class Stage:
    """What a scenario is given. `full`: at its whole size, not only enough to see that it works."""

    def __init__(
        self, *, cluster: Cluster, name: str, accounts: Mapping[str, Account], notes: Notes, full: bool
    ) -> None:
        self.cluster, self.accounts, self.notes, self.full = cluster, accounts, notes, full
        self.name = name
        self.problems: list[Problem] = []

    def size(self, full: int, quick: int) -> int:
        return full if self.full else quick

    def expect(self, is_so: object, line: object) -> None:
        """A problem when it is not so."""
        if not is_so:
            self.problems.append(Problem(SCENARIO, f"{self.name}: {line}"))

    # --- clients ------------------------------------------------------------------------------------------

    def ask(
        self, account: Account, *, path: str = CHAT, body: bytes | None = None,
        headers: Mapping[str, str] | None = None, timeout_s: float = 60.0, **fields: Any,
    ) -> Answer:
        """One request, read to its end; a promise in it is noted for the checker.

        Who is told that the ledger is busy asks again, as it says: that a machine is slow is not what is tried here.
        """
        # Who asks again with one idempotency key asks for one call.
        load_id = (headers or {}).get("Idempotency-Key") or uuid.uuid4().hex
        sent = {**headers_of(account, load_id), **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.ports.gateway, timeout=timeout_s)
        answer, ends_at = Answer(0, {}, b""), time.monotonic() + timeout_s
        with contextlib.suppress(OSError, http.client.HTTPException):
            while not answer.status or (_is_busy(answer.body) and time.monotonic() < ends_at):
                connection.request("POST", path, chat(account, **fields) if body is None else body, sent)
                got = connection.getresponse()
                found = {name.lower(): value for name, value in got.getheaders()}
                answer = Answer(got.status, found, got.read())
        connection.close()
        self.notes.add(str(answer.status), _told(answer, load_id, is_repeatable="Idempotency-Key" in sent))
        return answer

    def at_once(self, count: int, one: Callable[[int], Answer]) -> list[Answer]:
        """So many clients, a thread each."""
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    def visit(self, account: Account, *, receives: int = 0, **fields: Any) -> socket.socket:
        """A client that has asked and reads nothing yet. `receives`: the bytes that its system takes meanwhile."""
        sock = socket.socket()
        if receives:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", self.cluster.ports.gateway))
        sock.sendall(request(CHAT, chat(account, **fields), headers_of(account, uuid.uuid4().hex)))
        return sock

    def visits(self, account: Account, count: int, **fields: Any) -> list[socket.socket]:
        """So many clients, once all their calls are held; who is told that the ledger is busy asks again."""
        before = len(self.calls(account)) + self.held(account)
        socks = [self.visit(account, **fields) for _ in range(count)]

        def all_are_held() -> bool:
            for place, sock in enumerate(socks):
                if _is_busy(_peeked(sock)):
                    sock.close()
                    socks[place] = self.visit(account, **fields)
            return self.held(account) + len(self.calls(account)) >= before + count

        until(all_are_held, what=f"{count} calls of {self.name} are held", timeout_s=60)
        return socks

    def crowd(
        self, account: Account, count: int, *, sees: bytes, timeout_s: float = 60.0, **fields: Any
    ) -> list[socket.socket]:
        """So many clients, once each of them has seen these bytes."""
        socks = self.visits(account, count, **fields)
        missing = unseen(socks, sees, timeout_s=timeout_s)
        self.expect(not missing, f"{missing} of {count} clients did not see {sees!r}")
        return socks

    # --- books --------------------------------------------------------------------------------------------

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.cluster.postgres.rows(query, *values)

    def calls(self, account: Account) -> list[Call]:
        return [Call._make(row) for row in self.rows(_CALLS, account.key_id)]

    def held(self, account: Account) -> int:
        ((count,),) = self.rows("SELECT count(*) FROM ledger_hold WHERE key_id = %s", account.key_id)
        return int(count)

    def until_held(self, account: Account, count: int, *, timeout_s: float = 30.0) -> None:
        """Once so many calls are held, or were."""
        until(
            lambda: self.held(account) + len(self.calls(account)) >= count,
            what=f"{count} calls of {self.name} are held", timeout_s=timeout_s,
        )  # fmt: skip

    def settled(self, account: Account, count: int, *, timeout_s: float = 60.0) -> list[Call]:
        """The calls of an account, once there are so many and none is open any more; a problem when it is otherwise."""
        with contextlib.suppress(TimeoutError):
            until(
                lambda: self.held(account) == 0 and len(self.calls(account)) >= count,
                what=f"{count} calls of {self.name} are settled", timeout_s=timeout_s,
            )  # fmt: skip
        found = self.calls(account)
        self.expect(len(found) == count, f"{count} calls were made, {len(found)} are in the books")
        self.expect(self.held(account) == 0, "a hold is left")
        return found

    def arrivals(self, account: Account) -> list[Line]:
        """What reached the provider of this account's requests."""
        requests = {str(call.request_id) for call in self.calls(account)}
        return [line for line in self.invoiced() if line.idempotency_key in requests]

    def invoiced(self) -> list[Line]:
        return invoice.read(self.cluster.invoice)

    def window(self, account: Account, limit: str) -> tuple[Decimal, Decimal]:
        """(used, held) over all periods of one of its limits, e.g. `usd block`."""
        ((used, held),) = self.rows(
            "SELECT coalesce(sum(used), 0), coalesce(sum(held), 0) FROM ledger_limitwindow WHERE limit_id = %s",
            account.limits[limit],
        )
        return used, held


def chat(account: Account, **fields: Any) -> bytes:
    messages = [{"role": "user", "content": "Do the books balance?"}]
    return msgspec.json.encode({"model": account.name, "messages": messages, "max_tokens": 64, **fields})


def headers_of(account: Account, load_id: str) -> dict[str, str]:
    """The tag tells the checker whose call this is."""
    known = {"Authorization": f"Bearer {account.text}", "Content-Type": "application/json"}
    return {**known, "X-Tollbook-Tags": f"load={load_id}"}


def request(path: str, body: bytes, headers: Mapping[str, str], *, length: int | None = None) -> bytes:
    """A request as bytes. `length`: what it says that its body has."""
    told = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", f"Content-Length: {told}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def unseen(socks: Iterable[socket.socket], mark: bytes, *, timeout_s: float) -> int:
    """Read from all until each has seen `mark` or its connection ended; how many have not seen it."""
    ends_at, seen = time.monotonic() + timeout_s, dict.fromkeys(socks, b"")
    missing = 0
    with selectors.DefaultSelector() as selector:
        for sock in seen:
            selector.register(sock, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < ends_at:
            for key, _ in selector.select(0.5):
                ready: Any = key.fileobj
                data = _received(ready)
                seen[ready] = seen[ready][-len(mark) :] + data
                if mark in seen[ready] or not data:
                    missing += mark not in seen[ready]
                    selector.unregister(ready)
        return missing + len(selector.get_map())


def read_to_end(sock: socket.socket, *, timeout_s: float = 30.0) -> bytes:
    """What comes until the other side ends the connection, or says nothing for so long."""
    sock.settimeout(timeout_s)
    got = b""
    while data := _received(sock):
        got += data
    return got


def _peeked(sock: socket.socket) -> bytes:
    """What waits to be read, and still does."""
    # With a timeout of its own, Python would wait for it.
    sock.setblocking(False)
    try:
        return sock.recv(4096, socket.MSG_PEEK)
    except OSError:
        return b""
    finally:
        sock.settimeout(60)


def _is_busy(answer: bytes) -> bool:
    return b'"ledger_unavailable"' in answer


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(262_144)
    except OSError:
        return b""


def _told(answer: Answer, load_id: str, *, is_repeatable: bool) -> Told | None:
    """The promise in a successful answer: in its headers, or in the comment before a stream's last event."""
    call_id, cost = answer.headers.get("x-tollbook-call-id"), answer.headers.get("x-tollbook-cost-usd")
    if answer.status != 200 or call_id is None:
        return None
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        _, found, promise = answer.body.partition(b": tollbook call_id=")
        if not found:
            return None
        fields = dict(word.split("=", 1) for word in promise.split(b"\n", 1)[0].decode().split() if "=" in word)
        cost = fields.get("cost_usd")
    known = Decimal(cost) if cost is not None else None
    return Told(UUID(call_id), known, _answer_id(answer.body), load_id, is_repeatable, True)


def _answer_id(body: bytes) -> str:
    """The provider's id, which names the arrival; only answers of the chat wire carry it to the client."""
    found = body.partition(b'"id":"chatcmpl-req_fake_')[2].partition(b'"')[0]
    return f"chatcmpl-req_fake_{found.decode()}" if found else ""


def descriptors(cluster: Cluster) -> int:
    """The most that any worker has open, without the idle connections to providers that it keeps on purpose."""
    most = 0
    for pid in cluster.gateway.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            kept = [each for each in process.net_connections("tcp")
                    if each.raddr and each.raddr.port == cluster.ports.provider]
            most = max(most, process.num_fds() - len(kept))
    return most


def resident_bytes(cluster: Cluster) -> int:
    """Of all workers together."""
    return sum(int(psutil.Process(pid).memory_info().rss) for pid in cluster.gateway.pids())
