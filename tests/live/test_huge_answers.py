"""Answers beyond all measure: what may pass passes, the rest is refused and booked, and no process grows with it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped]  # the package has no types
import pytest
import requests

from providers.http import MAX_ANSWER_BYTES
from providers.sse import MAX_FRAME_BYTES
from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.live.streams import CHAT_FRAMES, MESSAGES_FRAMES
from tests.upstream import Close, Reply, Send, Upstream, answer, chunked, events, head

MB = 1024 * 1024
HUGE_BYTES = 100 * MB
# Beside what a bound lets through: pieces on their way, and what the allocator keeps.
SLACK_BYTES = 40 * MB
# Wire of the provider -> (its surface, its body, the root at which the fake upstream speaks it).
ASKED: dict[str, tuple[str, dict[str, Any], str]] = {
    "openai": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "/v1"),
    "responses": ("/v1/responses", {"input": "a"}, "/v1"),
    "anthropic": ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}, "/v1"),
    "gemini": ("/v1beta/models/{model}:{method}", {"contents": [{"parts": [{"text": "a"}]}]}, "/v1beta"),
    "cohere": ("/v2/chat", {"messages": [{"role": "user", "content": "a"}]}, ""),
    "bedrock": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, "/v1"),
    "ollama_native": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}, ""),
}
NDJSON, EVENTSTREAM = "application/x-ndjson", "application/vnd.amazon.eventstream"
CONTENT_TYPES = {"ollama_native": NDJSON, "bedrock": EVENTSTREAM}


@pytest.fixture(scope="module")
def accounts(gateway: Gateway) -> dict[str, Account]:
    """A model at a provider of each wire."""
    made = {}
    for wire, (_, _, root) in ASKED.items():
        adapter = "openai" if wire == "responses" else wire
        made[wire] = gateway.account(wire=adapter, default_max_output_tokens=512, sync=False)
        provider = made[wire].model.provider
        provider.base_url = f"{gateway.upstream.url}{root}"
        provider.save()
    gateway.sync()
    return made


def ask(gateway: Gateway, account: Account, wire: str, *, stream: bool) -> requests.Response:
    path, body, _ = ASKED[wire]
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    path = path.format(model=account.model.name, method=method)
    said = body if wire == "gemini" else {"model": account.model.name, "stream": stream, **body}
    return requests.post(
        gateway.url + path, data=msgspec.json.encode(said), headers=account.headers, stream=True, timeout=120
    )


class Worker:
    """How large the only worker grows from here on: the kernel's own high-water mark, which misses no moment."""

    def __init__(self, gateway: Gateway) -> None:
        (self._pid,) = gateway.worker_pids()
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        self._before = int(psutil.Process(self._pid).memory_info().rss)

    def grown_bytes(self) -> int:
        status = Path(f"/proc/{self._pid}/status").read_text()
        (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(peak) * 1024 - self._before


def assert_refused(account: Account, *, seen: int) -> None:
    """One row more, which says why and does not say that it was free."""
    rows = books.calls(key_id=account.key.pk)
    assert len(rows) == seen + 1
    assert (rows[-1].outcome, rows[-1].error_code) == ("failed", "provider_malformed_answer")
    assert rows[-1].cost_usd != Decimal(0)


def endless(piece: bytes, *, headers: dict[str, str] | None = None, content_type: str = "text/event-stream") -> Reply:
    """HUGE_BYTES in chunks of `piece`; whoever has enough of it may leave."""
    first = head(headers={"Content-Type": content_type, "Transfer-Encoding": "chunked", **(headers or {})})
    return (Send(first), *[Send(chunked(piece))] * (HUGE_BYTES // len(piece)), Send(b"0\r\n\r\n"))


@pytest.mark.parametrize("wire", ASKED)
def test_a_whole_answer_of_100_mb_is_refused_at_its_bound(
    gateway: Gateway, accounts: dict[str, Account], wire: str
) -> None:
    account, seen = accounts[wire], len(books.calls(key_id=accounts[wire].key.pk))
    gateway.upstream.script(endless(b" " * MB, content_type="application/json"))
    worker = Worker(gateway)
    answered = ask(gateway, account, wire, stream=False)
    assert answered.status_code == 502
    assert b"larger than" in answered.content
    assert worker.grown_bytes() < MAX_ANSWER_BYTES + SLACK_BYTES
    assert_refused(account, seen=seen)


@pytest.mark.parametrize("wire", ASKED)
def test_an_endless_line_in_a_stream_is_refused_at_its_bound(
    gateway: Gateway, accounts: dict[str, Account], wire: str
) -> None:
    account, seen = accounts[wire], len(books.calls(key_id=accounts[wire].key.pk))
    gateway.upstream.script(endless(b"x" * MB, content_type=CONTENT_TYPES.get(wire, "text/event-stream")))
    worker = Worker(gateway)
    answered = ask(gateway, account, wire, stream=True)
    content = answered.content
    assert b"provider_malformed_answer" in content or answered.status_code == 502, content[:500]
    assert len(content) < 2_000
    assert worker.grown_bytes() < MAX_FRAME_BYTES + SLACK_BYTES
    assert_refused(account, seen=seen)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wire", ASKED)
def test_100_mb_in_100_kb_of_gzip_are_refused(
    gateway: Gateway, accounts: dict[str, Account], wire: str, stream: bool
) -> None:
    account, seen = accounts[wire], len(books.calls(key_id=accounts[wire].key.pk))
    content_type = CONTENT_TYPES.get(wire, "text/event-stream") if stream else "application/json"
    gateway.upstream.script(
        answer(body=bomb(), headers={"Content-Encoding": "gzip"}, content_type=content_type)
    )
    worker = Worker(gateway)
    answered = ask(gateway, account, wire, stream=stream)
    assert b"provider_malformed_answer" in answered.content or answered.status_code == 502, answered.content[:500]
    assert worker.grown_bytes() < (MAX_FRAME_BYTES if stream else MAX_ANSWER_BYTES) + SLACK_BYTES
    assert_refused(account, seen=seen)


def bomb() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(b"x" * MB) for _ in range(HUGE_BYTES // MB)), packer.flush()])


FRAMES = {"openai": CHAT_FRAMES, "anthropic": MESSAGES_FRAMES}


@pytest.mark.parametrize("wire", FRAMES)
def test_a_stream_of_100_mb_passes_through(gateway: Gateway, accounts: dict[str, Account], wire: str) -> None:
    account, frames, seen = accounts[wire], FRAMES[wire], len(books.calls(key_id=accounts[wire].key.pk))
    # As much text as a frame of a busy provider holds.
    text = frames.text.replace(b"The books balance today.", b"The books balance today. " * 40)
    many = [text * (64 * 1024 // len(text))] * (HUGE_BYTES // (64 * 1024))
    sent = [*frames.opening, *many, *frames.closing, frames.last]
    gateway.upstream.script(events(sent))
    worker = Worker(gateway)
    got, tail = 0, b""
    with ask(gateway, account, wire, stream=True) as answered:
        for piece in answered.iter_content(MB):
            got += len(piece)
            tail = (tail + piece)[-4_000:]
    # The usage event is the gateway's own affair, and the comment with the cost is its own word.
    assert sum(map(len, many)) < got < sum(map(len, sent)) + 1_000
    assert tail.endswith(frames.last)
    assert worker.grown_bytes() < SLACK_BYTES
    row = books.calls(key_id=account.key.pk)[seen:]
    assert [(call.outcome, call.usage_source) for call in row] == [("ok", "reported")]
    assert (row[0].input_tokens, row[0].output_tokens, row[0].cost_usd) == (20, 6, usd(20, 6))


@pytest.fixture
def elsewhere() -> Iterator[Upstream]:
    with Upstream() as made:
        yield made


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("wire", ASKED)
def test_a_redirect_to_another_host_is_not_followed(
    gateway: Gateway, accounts: dict[str, Account], elsewhere: Upstream, wire: str, status: int
) -> None:
    account, seen = accounts[wire], len(books.calls(key_id=accounts[wire].key.pk))
    moved = answer(status=status, headers={"Location": f"{elsewhere.url}/v1/x"}, body=b"")
    gateway.upstream.script((*moved, Close()))
    answered = ask(gateway, account, wire, stream=False)
    assert answered.status_code == 502
    assert (elsewhere.arrivals, elsewhere.connections) == ([], 0)
    rows = books.calls(key_id=account.key.pk)
    assert (len(rows), rows[-1].outcome, rows[-1].http_status) == (seen + 1, "failed", status)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wire", ASKED)
def test_a_page_instead_of_an_answer_is_refused(
    gateway: Gateway, accounts: dict[str, Account], wire: str, stream: bool
) -> None:
    account, seen = accounts[wire], len(books.calls(key_id=accounts[wire].key.pk))
    gateway.upstream.script(answer(body=b"<html>Sign in</html>", content_type="text/html"))
    answered = ask(gateway, account, wire, stream=stream)
    assert answered.status_code == 502
    assert b"Sign in" not in answered.content
    assert_refused(account, seen=seen)


# What each wire puts into an answer of status 200 to say that there is none.
ERRORS: dict[str, dict[str, Any]] = {
    "openai": {"error": {"message": "we are busy", "type": "overloaded_error", "code": 529}},
    "responses": {"error": {"message": "we are busy", "type": "server_error", "code": "server_error"}},
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "we are busy"}},
    "gemini": {"error": {"code": 503, "message": "we are busy", "status": "UNAVAILABLE"}},
    "cohere": {"message": "we are busy"},
    "bedrock": {"message": "we are busy"},
    "ollama_native": {"error": "we are busy"},
}


@pytest.mark.parametrize("wire", ERRORS)
def test_an_error_within_an_answer_of_200_is_an_error(
    gateway: Gateway, accounts: dict[str, Account], wire: str
) -> None:
    account, seen = accounts[wire], len(books.calls(key_id=accounts[wire].key.pk))
    gateway.upstream.script(answer(body=msgspec.json.encode(ERRORS[wire])))
    answered = ask(gateway, account, wire, stream=False)
    assert answered.status_code in (502, 503), answered.content
    rows = books.calls(key_id=account.key.pk)
    assert (len(rows), rows[-1].outcome) == (seen + 1, "failed")
    assert rows[-1].error_code in ("provider_overloaded", "provider_error", "provider_malformed_answer")
