"""Bodies that are none, on every surface, while good traffic runs: refused before anything is held."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from typing import Any, NamedTuple

import msgspec

from tests.faults.catalog import Account, Spec
from tests.faults.stage import CHAT, MAX_BODY_BYTES, Scenario, Stage, headers_of, read_to_end, request

_QUESTION = "Do the books balance?"
_TALK: dict[str, Any] = {"messages": [{"role": "user", "content": _QUESTION}], "max_tokens": 8}
# What a good request of each surface says beside the model, and where its text stands.
SURFACES: dict[str, dict[str, Any]] = {
    CHAT: _TALK,
    "/v1/messages": _TALK,
    "/v1/responses": {"input": _QUESTION, "max_output_tokens": 8},
    "/v1/embeddings": {"input": _QUESTION},
    "/v1/rerank": {"query": _QUESTION, "documents": ["a", "b"]},
}
DEPTH = 10_000
MANY = 100_000


class Bad(NamedTuple):
    """`length`: what the request says its body has; what it says must not be held, nor reach a provider."""

    body: bytes
    statuses: tuple[int, ...] = (400,)
    headers: dict[str, str] = {}
    length: int | None = None


def scenarios() -> list[Scenario]:
    accounts = {"bad": Spec(), "good": Spec(), "many": Spec()}
    return [
        Scenario("bad bodies", bad_bodies, accounts),
        Scenario("slow requests", slow_requests, {"slow": Spec(), "good": Spec()}),
    ]


def bad_bodies(stage: Stage) -> dict[str, int]:
    bad, rounds, sent = stage.accounts["bad"], stage.size(5, 1), 0
    with _GoodTraffic(stage) as good:
        for _ in range(rounds):
            for path, fields in SURFACES.items():
                for name, each in _bad(bad, fields).items():
                    sent += 1
                    status = _status_of(stage, bad, path, each)
                    stage.expect(status in each.statuses, f"{name} on {path}: {status}")
        many = _many_messages(stage)
    stage.settled(bad, 0)
    ((held,),) = stage.rows(
        "SELECT count(*) FROM faults.held h JOIN ledger_call c ON c.id = h.id WHERE c.key_id = %s", bad.key_id
    )
    stage.expect(held == 0, f"{held} bad requests were held")
    return {"refused": sent, "of 100,000 messages": many, "good meanwhile": good.answered}


def _bad(account: Account, fields: dict[str, Any]) -> dict[str, Bad]:
    whole = msgspec.json.encode({"model": account.name, **fields})
    text = _QUESTION.encode()
    deep = b"[" * DEPTH + b"]" * DEPTH
    return {
        "empty": Bad(b""),
        "no JSON": Bad(b"{model: x}"),
        "cut": Bad(whole[:-9]),
        "an array": Bad(b"[]"),
        "deep": Bad(deep),
        "deep within": Bad(whole[:-1] + b',"x":' + deep + b"}"),
        "a NUL": Bad(whole.replace(text, b"a\0b")),
        "an escaped NUL": Bad(whole.replace(text, rb"a\u0000b")),
        "no UTF-8": Bad(whole.replace(text, b"\xff\xfe")),
        "half a character": Bad(whole.replace(text, b"\xe2\x82")),
        "a surrogate's bytes": Bad(whole.replace(text, b"\xed\xa0\xbd")),
        "giant": Bad(b" " * 64, (413,), length=MAX_BODY_BYTES + 1),
        "giant in chunks": Bad(_chunked([b" " * 1_000_000] * (MAX_BODY_BYTES // 1_000_000 + 2)), (413,), _CHUNKED),
        "broken chunks": Bad(b"4\r\n{\"a\"\r\nzz\r\n", (400,), _CHUNKED),
        "half a chunk": Bad(b"400\r\n{\"a\"", (400,), _CHUNKED),
        "a bomb": Bad(gzip.compress(b" " * (MAX_BODY_BYTES + 1)), (413,), {"Content-Encoding": "gzip"}),
        "no gzip": Bad(whole, (400,), {"Content-Encoding": "gzip"}),
        "longer than it says": Bad(whole, (400,), length=len(whole) - 9),
        "shorter than it says": Bad(whole, (400,), length=len(whole) + 9),
        "a negative length": Bad(whole, (400,), length=-1),
    }


_CHUNKED = {"Transfer-Encoding": "chunked"}


def _chunked(parts: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _status_of(stage: Stage, account: Account, path: str, bad: Bad) -> int:
    """Send it as it is and say no more; the status of the first answer, 0 where there is none."""
    sent = request(path, bad.body, {**headers_of(account, "bad"), **bad.headers}, length=bad.length)
    if "Transfer-Encoding" in bad.headers:
        sent = sent.replace(f"Content-Length: {len(bad.body)}\r\n".encode(), b"", 1)
    with socket.create_connection(("127.0.0.1", stage.cluster.ports.gateway), timeout=30) as sock:
        try:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before it was sent whole: what was answered may still be read
        got = read_to_end(sock)
    return int(got.split(b" ", 2)[1]) if got.startswith(b"HTTP/1.1 ") else 0


def _many_messages(stage: Stage) -> int:
    """What is only long is taken, by every surface with messages; a lone surrogate breaks none."""
    many, asked = stage.accounts["many"], 0
    for path in (CHAT, "/v1/messages"):
        body = {"model": many.name, **_TALK, "messages": [{"role": "user", "content": "go on"}] * MANY}
        answer = stage.ask(many, path=path, body=msgspec.json.encode(body))
        stage.expect(answer.status == 200, f"{MANY} messages on {path}: {answer.status} {answer.body[:200]!r}")
        asked += answer.status == 200
    answered = asked
    for path, fields in SURFACES.items():
        body_of = msgspec.json.encode({"model": many.name, **fields}).replace(b"balance?", rb"balance \ud83d?")
        answer = stage.ask(many, path=path, body=body_of)
        stage.expect(answer.status in (200, 400), f"a lone surrogate on {path}: {answer.status} {answer.body[:200]!r}")
        answered += answer.status == 200
    stage.settled(many, answered)
    return asked


def slow_requests(stage: Stage) -> dict[str, int]:
    """Headers and bodies a byte at a time: cut, whatever they trickle, and they keep nobody from being served."""
    account, each = stage.accounts["slow"], stage.size(60, 4)
    whole = {path: msgspec.json.encode({"model": account.name, **fields}) for path, fields in SURFACES.items()}
    begun = [request(path, body[:10], headers_of(account, "slow"), length=100_000) for path, body in whole.items()]
    begun.append(request(CHAT, b"", headers_of(account, "slow"))[:-30])
    socks = []
    with _GoodTraffic(stage) as good:
        for start in begun * each:
            sock = socket.create_connection(("127.0.0.1", stage.cluster.ports.gateway), timeout=60)
            sock.sendall(start)
            socks.append(sock)
        began = time.monotonic()
        uncut = _trickle(socks, until_at=began + 30)
        took_s = time.monotonic() - began
    stage.expect(not uncut, f"{uncut} of {len(socks)} slow clients are still waited for after 30 s")
    stage.settled(account, 0)
    return {"slow": len(socks), "cut within s": round(took_s), "good meanwhile": good.answered}


def _trickle(socks: list[socket.socket], *, until_at: float) -> int:
    """A byte to each, again and again, until the gateway has ended all of them; how many it has not."""
    left = set(socks)
    while left and time.monotonic() < until_at:
        for sock in list(left):
            try:
                sock.send(b"x")
                sock.settimeout(0.001)
                ended = sock.recv(65536) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                left.discard(sock)
                sock.close()
        time.sleep(0.2)
    for sock in left:
        sock.close()
    return len(left)


class _GoodTraffic:
    """Plain calls meanwhile, each of which must be answered."""

    def __init__(self, stage: Stage) -> None:
        self.answered = 0
        self._stage, self._stopping = stage, threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(2)]
        self._lock = threading.Lock()

    def __enter__(self) -> _GoodTraffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        self._stage.expect(self.answered > 0, "no good call was made meanwhile")
        self._stage.settled(self._stage.accounts["good"], self.answered)

    def _ask(self) -> None:
        while not self._stopping.wait(0.02):
            answer = self._stage.ask(self._stage.accounts["good"])
            self._stage.expect(answer.status == 200, f"a good call meanwhile: {answer}")
            with self._lock:
                self.answered += answer.status == 200


