"""The fake provider does what it says: the tests of everything else stand on it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from tests.upstream import Hang, Upstream, answer
from tests.upstream.invoice import Line, read
from tests.upstream.recorded import Player, body_of, load

ROOT = Path(__file__).resolve().parent.parent.parent
RECORDINGS = ROOT.parent / "shared" / "recordings" / "exchanges.jsonl"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(invoice=tmp_path / "invoice.jsonl") as running:
        yield running


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        yield made


def ask(model: str = "fake-model", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


def frames(response: requests.Response) -> list[Any]:
    lines = [line for line in response.content.split(b"\n") if line.startswith(b"data: {")]
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in lines]


def test_it_answers_chat_with_usage(upstream: Upstream, session: requests.Session) -> None:
    reply = session.post(upstream.url + CHAT, json=ask(max_tokens=3)).json()
    assert reply["choices"][0]["message"]["content"] == "The ledger balances"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 3


def test_it_streams_chat_with_usage_when_asked(upstream: Upstream, session: requests.Session) -> None:
    told = session.post(upstream.url + CHAT, json=ask(stream=True, stream_options={"include_usage": True}))
    assert frames(told)[-1]["usage"]["completion_tokens"] == 8
    assert told.content.endswith(b"data: [DONE]\n\n")
    untold = session.post(upstream.url + CHAT, json=ask(stream=True))
    assert all("usage" not in frame for frame in frames(untold))


def test_it_answers_messages_whole_and_streamed(upstream: Upstream, session: requests.Session) -> None:
    whole = session.post(upstream.url + MESSAGES, json=ask()).json()
    assert (whole["stop_reason"], whole["usage"]["output_tokens"]) == ("end_turn", 8)
    streamed = frames(session.post(upstream.url + MESSAGES, json=ask(stream=True)))
    assert streamed[0]["type"] == "message_start"
    text = "".join(frame["delta"]["text"] for frame in streamed if frame["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    assert [frame["type"] for frame in streamed[-2:]] == ["message_delta", "message_stop"]
    assert streamed[-2]["usage"]["output_tokens"] == 8


def test_scripted_replies_come_first_and_arrivals_are_kept(upstream: Upstream, session: requests.Session) -> None:
    upstream.script(answer(status=418, body=b"{}"))
    statuses = [session.post(upstream.url + CHAT, json=ask(), headers={"X-A": "1"}).status_code for _ in range(2)]
    assert statuses == [418, 200]
    assert [arrival.number for arrival in upstream.arrivals] == [1, 2]
    assert upstream.arrivals[0].headers["x-a"] == "1"
    assert upstream.connections == 1


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 529])
def test_a_model_named_after_a_status_fails_with_it(
    upstream: Upstream, session: requests.Session, path: str, status: int
) -> None:
    response = session.post(upstream.url + path, json=ask(f"fake-{status}"))
    assert response.status_code == status
    assert response.json()["error"]["message"]
    assert ("Retry-After" in response.headers) == (status in (429, 503))


def invoiced(upstream: Upstream, tmp_path: Path) -> list[Line]:
    lines = read(tmp_path / "invoice.jsonl")
    assert lines == upstream.invoice.lines
    return lines


def test_it_writes_down_what_it_bills(upstream: Upstream, session: requests.Session, tmp_path: Path) -> None:
    for model in ("fake-words-5", "fake-500", "fake-billed-500", "fake-nousage"):
        session.post(upstream.url + CHAT, json=ask(model), headers={"Idempotency-Key": f"k-{model}"})
    lines = invoiced(upstream, tmp_path)
    assert [(line.model, line.billed, line.output_tokens) for line in lines] == [
        ("fake-words-5", True, 5),
        ("fake-500", False, 0),
        ("fake-billed-500", True, 8),
        ("fake-nousage", True, 8),
    ]
    assert lines[0].input_tokens == -(-len(upstream.arrivals[0].body) // 4)
    assert [line.idempotency_key for line in lines][:2] == ["k-fake-words-5", "k-fake-500"]
    assert [line.arrival for line in lines] == [1, 2, 3, 4]


def kept(pieces: Iterator[bytes], received: bytearray) -> Iterator[bytes]:
    """Keep what comes before the error."""
    for piece in pieces:
        received += piece
        yield b""


@pytest.mark.parametrize("model", ["fake-cut", "fake-cut-line", "fake-cut-usage"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_cut_stream_ends_without_its_end(
    upstream: Upstream, session: requests.Session, model: str, path: str, tmp_path: Path
) -> None:
    received = bytearray()
    with session.post(upstream.url + path, json=ask(model, stream=True), stream=True) as response:
        pieces = response.iter_content(1)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            received.extend(b"".join(kept(pieces, received)))
    assert received.endswith(b"\n\n") == (model != "fake-cut-line")
    assert b"message_stop" not in received
    assert b"[DONE]" not in received
    (line,) = invoiced(upstream, tmp_path)
    assert (line.billed, line.output_tokens) == (True, 8 if model == "fake-cut-usage" else 4)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("fake-usage-null", b'"completion_tokens":null'),
        ("fake-usage-string", b'"completion_tokens":"12"'),
        ("fake-usage-float", b'"completion_tokens":12.5'),
        ("fake-usage-negative", b'"completion_tokens":-7'),
        ("fake-usage-nan", b'"completion_tokens":NaN'),
        ("fake-usage-absurd", b'"completion_tokens":1000000000000000000000000000000'),
        ("fake-malformed", b"}}!!"),
        ("fake-gzip", b'"completion_tokens":8'),
        ("fake-html", b"<html>"),
    ],
)
def test_a_model_named_after_a_fault_has_it(
    upstream: Upstream, session: requests.Session, model: str, found: bytes
) -> None:
    assert found in session.post(upstream.url + CHAT, json=ask(model)).content


def test_a_flaky_model_recovers(upstream: Upstream, session: requests.Session) -> None:
    body = ask("fake-flaky-2", user=str(upstream.port))
    assert [session.post(upstream.url + CHAT, json=body).status_code for _ in range(3)] == [503, 503, 200]


def test_a_hanging_model_and_a_reset_never_answer(upstream: Upstream, session: requests.Session) -> None:
    with pytest.raises(requests.exceptions.ReadTimeout):
        session.post(upstream.url + CHAT, json=ask("fake-hang"), timeout=0.1)
    with pytest.raises(requests.exceptions.ConnectionError):
        session.post(upstream.url + CHAT, json=ask("fake-reset"))


def test_it_lists_its_models(upstream: Upstream, session: requests.Session) -> None:
    listed = session.get(upstream.url + "/v1/models?limit=5").json()
    assert [entry["id"] for entry in listed["data"]] == ["fake-model", "fake-other"]
    assert session.get(upstream.url + "/v1/models/fake-other").json()["id"] == "fake-other"
    assert session.get(upstream.url + "/v1/models/nothing").status_code == 404


def test_closing_ends_what_hangs(upstream: Upstream, session: requests.Session) -> None:
    upstream.script((Hang(),))
    failed: list[Exception] = []

    def call() -> None:
        try:
            session.post(upstream.url + CHAT, json=ask(), timeout=10)
        except requests.exceptions.ConnectionError as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    upstream.wait_for_arrivals(1)
    upstream.close()
    thread.join(10)
    assert len(failed) == 1


def test_two_hundred_streams_at_once_are_all_whole(upstream: Upstream, tmp_path: Path) -> None:
    answers: list[bytes] = []

    def call() -> None:
        response = requests.post(upstream.url + CHAT, json=ask("fake-paced-5ms", stream=True), timeout=60)
        answers.append(response.content)

    threads = [threading.Thread(target=call) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 200
    assert all(content.endswith(b"data: [DONE]\n\n") and content.count(b"data: ") == 11 for content in answers)
    assert len(read(tmp_path / "invoice.jsonl")) == 200


def test_a_torn_last_line_of_the_invoice_is_left_out(tmp_path: Path, session: requests.Session) -> None:
    path = tmp_path / "torn.jsonl"
    with Upstream(invoice=path) as upstream:
        session.post(upstream.url + CHAT, json=ask())
    with path.open("ab") as file:
        file.write(b'{"arrival": 2, "at"')
    assert [line.arrival for line in read(path)] == [1]


def test_it_runs_as_a_process_of_its_own(tmp_path: Path, session: requests.Session) -> None:
    command = [sys.executable, "-m", "tests.upstream", "--invoice", str(tmp_path / "own.jsonl")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        ready = re.fullmatch(r"listening on (\S+)\n", process.stdout.readline())
        assert ready
        assert session.post(ready[1] + CHAT, json=ask()).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert len(read(tmp_path / "own.jsonl")) == 1


def test_recordings_are_played_byte_for_byte(session: requests.Session) -> None:
    if not RECORDINGS.exists():
        pytest.skip(f"no recordings at {RECORDINGS}")
    records = [record for record in load(RECORDINGS) if record["api"] == "chat" and record.get("stream")][:20]
    assert records
    with Upstream(handler=Player(records)) as upstream:
        for record in records:
            body = {"model": record["model"], "stream": True}
            response = session.post(upstream.url + record["endpoint"], json=body)
            asked = (record["endpoint"], record["model"])
            same_key = [other for other in records if (other["endpoint"], other["model"]) == asked]
            assert response.content in [body_of(other) for other in same_key]
            assert response.status_code in {other["status"] for other in same_key}
