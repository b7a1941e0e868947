from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from providers.errors import StreamInterrupted, Timeout
from providers.http import Client, Deadlines
from providers.line import Line
from providers.pool import NotSent
from tests.upstream import Pause, Reply, Send, Signal, Upstream, Wait, answer, chunked, events, head

DEADLINES = Deadlines(connect_s=2, idle_s=10, total_s=20)
STREAM = head(headers={"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def client(upstream: Upstream) -> Iterator[Client]:
    made = Client(
        provider="acme", base_url=upstream.url, headers={}, allow_plain_http=True, allow_private_address=True
    )
    yield made
    made.close()


def post(client: Client, *, line: Line | None = None, deadlines: Deadlines = DEADLINES) -> Iterator[bytes]:
    return client.post(path="/x", body=b"{}", deadlines=deadlines, stream=True, line=line).chunks(tick_s=0.05)


def silent_after(sent: bytes, go_on: threading.Event, *then: bytes) -> tuple[Reply, threading.Event]:
    waiting = threading.Event()
    return (Send(sent), Signal(waiting), Wait(go_on), *(Send(data) for data in then)), waiting


def test_a_call_that_waits_for_its_headers_is_ended_by_another_thread(client: Client, upstream: Upstream) -> None:
    reply, waiting = silent_after(b"", threading.Event())
    upstream.script(reply)
    line = Line()

    def cut() -> None:
        waiting.wait(10)
        line.cut()

    other = threading.Thread(target=cut)
    other.start()
    with pytest.raises(StreamInterrupted, match="cut off by the gateway"):
        post(client, line=line)
    other.join()
    assert client.idle_connections == 0


def test_a_call_that_was_ended_before_it_began_is_never_sent(client: Client, upstream: Upstream) -> None:
    line = Line()
    line.cut()
    with pytest.raises(NotSent):
        post(client, line=line)
    assert upstream.arrivals == []


def test_the_end_of_a_call_leaves_the_next_one_on_its_connection_alone(client: Client, upstream: Upstream) -> None:
    line = Line()
    upstream.script(answer(body=b"1"))
    assert client.post(path="/x", body=b"{}", deadlines=DEADLINES, line=line).body() == b"1"
    go_on = threading.Event()
    reply, waiting = silent_after(b"", go_on)
    upstream.script((*reply, *answer(body=b"2")))
    got: list[bytes] = []
    other = threading.Thread(
        target=lambda: got.append(client.post(path="/x", body=b"{}", deadlines=DEADLINES).body())
    )
    other.start()
    assert waiting.wait(10)
    line.cut()
    go_on.set()
    other.join(10)
    assert got == [b"2"]
    assert upstream.connections == 1


def test_a_line_that_is_cut_before_it_has_a_socket_cuts_the_one_it_gets() -> None:
    ours, theirs = socket.socketpair()
    line = Line()
    line.cut()
    line.connected(ours)
    with ours, theirs:
        assert theirs.recv(1) == b""


@pytest.mark.parametrize("ending", [b"\r\n", b""], ids=["with its line end", "without"])
def test_silence_after_a_chunk_is_told_and_nothing_is_lost(client: Client, upstream: Upstream, ending: bytes) -> None:
    go_on = threading.Event()
    first = chunked(b"data: 1\n\n").removesuffix(b"\r\n")
    rest = (b"\r\n" if not ending else b"") + chunked(b"data: 2\n\n") + b"0\r\n\r\n"
    reply, waiting = silent_after(STREAM + first + ending, go_on, rest)
    upstream.script(reply)
    chunks = post(client)
    assert next(chunks) == b"data: 1\n\n"
    assert waiting.wait(10)
    assert [next(chunks), next(chunks)] == [b"", b""]
    go_on.set()
    assert b"".join(chunks) == b"data: 2\n\n"
    assert client.idle_connections == 1


def test_a_burst_is_given_out_without_waiting_for_the_socket(client: Client, upstream: Upstream) -> None:
    go_on = threading.Event()
    burst = b"".join(chunked(b"data: %d\n\n" % number) for number in range(50))
    upstream.script((Send(STREAM + burst), Wait(go_on), Send(b"0\r\n\r\n")))
    chunks = post(client)
    got = [next(chunks) for _ in range(50)]
    go_on.set()
    assert got == [b"data: %d\n\n" % number for number in range(50)]
    assert [chunk for chunk in chunks if chunk] == []


def test_bytes_that_trickle_between_ticks_arrive_as_they_are(client: Client, upstream: Upstream) -> None:
    frames = [step for byte in b"data: 1\n\n" for step in (bytes([byte]), Pause(0.07))]
    upstream.script(events(frames))
    assert b"".join(post(client)) == b"data: 1\n\n"


def test_silences_add_up_to_the_idle_deadline(client: Client, upstream: Upstream) -> None:
    reply, _ = silent_after(STREAM + chunked(b"data: 1\n\n"), threading.Event())
    upstream.script(reply)
    chunks = post(client, deadlines=Deadlines(idle_s=0.22, total_s=20))
    assert next(chunks) == b"data: 1\n\n"
    seen: list[bytes] = []
    with pytest.raises(Timeout) as stalled:
        seen.extend(chunks)
    assert (stalled.value.phase, stalled.value.provider, stalled.value.status) == ("idle", "acme", 200)
    assert set(seen) <= {b""}


def test_a_silent_stream_is_ended_by_another_thread(client: Client, upstream: Upstream) -> None:
    reply, _ = silent_after(STREAM + chunked(b"data: 1\n\n"), threading.Event())
    upstream.script(reply)
    line = Line()
    chunks = post(client, line=line)
    assert [next(chunks), next(chunks)] == [b"data: 1\n\n", b""]
    line.cut()
    with pytest.raises(StreamInterrupted, match=r"broke off|cut off"):
        list(chunks)
