"""Workers that die or stop in the middle of a batch: another one goes on, and no line is asked twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from gateway.models import BatchJob
from ledger.models import Call, LimitWindow
from tests.live import books
from tests.live.gateway import QUICK, Gateway, running
from tests.live.workers import arrived, chat_lines, client_of, counts, ended, jsonl, results, submit, working

FOUR_AT_ONCE = {**QUICK, "TOLLBOOK_BATCH_CONCURRENCY": "4"}

# Those of its queue, of its batches' locks and of its pages; the ledger's own writer is another test's.
CUT_WORKERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND application_name IN ('tollbook', 'tollbook batch')
"""


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Without a worker: each test starts its own."""
    folder = tmp_path_factory.mktemp("var")
    with running(database_url=own_database, var_dir=folder, environment=FOUR_AT_ONCE) as made:
        yield made


def test_kill_9_of_a_worker_asks_no_line_twice(gateway: Gateway) -> None:
    since = len(gateway.upstream.arrivals)
    account = gateway.account(upstream_name="fake-slow-250ms")
    client = client_of(gateway, account)
    batch = submit(client, jsonl(chat_lines(account, 40)))
    with working(gateway) as first:
        gateway.upstream.wait_for_arrivals(since + 14)
        first.kill()
    before = BatchJob.objects.get(pk=batch.id)
    assert before.state == "in_progress"
    with working(gateway):
        done = ended(client, batch, timeout_s=40)
    answered, lost = results(client, done.output_file_id), results(client, done.error_file_id)
    assert (done.status, len(answered) + len(lost)) == ("completed", 40)
    # No line reached the provider twice; one that never did was held and about to be sent at the kill.
    asked = arrived(gateway, account, since)
    assert set(asked.values()) == {1}
    assert {f"r-{number}" for number in range(1, 41)} - {f"r-{number}" for number in asked} <= set(lost)
    # Of those in flight nobody knows the answer: they say so, with the call that is in the books.
    assert 1 <= len(lost) <= 4
    for record in lost.values():
        error = record["response"]["body"]["error"]
        assert error["code"] == "idempotency_indeterminate"
        assert Call.objects.get(pk=error["call_id"]).outcome == "abandoned"
    assert len(books.calls(key_id=account.key.pk)) == 40
    books.verify()


def test_limits_and_the_cap_on_concurrent_calls_hold_across_a_kill(gateway: Gateway) -> None:
    since = len(gateway.upstream.arrivals)
    limits = (("requests", "day", "20"), ("concurrency", "total", "3"), ("usd", "day", "1000"))
    account = gateway.account(upstream_name="fake-slow-250ms", limits=limits)
    sizes = LimitWindow.objects.filter(limit__key=account.key, limit__metric="concurrency")
    client = client_of(gateway, account)
    most = 0

    def look(done: int) -> bool:
        nonlocal most
        found = sizes.first()
        most = max(most, int(found.held) if found else 0)
        return len(gateway.upstream.arrivals) - since >= done

    batch = submit(client, jsonl(chat_lines(account, 30)))
    with working(gateway) as first:
        books.until(lambda: look(8), what="eight lines are asked", timeout_s=25)
        first.kill()
    with working(gateway):
        # Those that died with the worker count as requests, too: nobody knows that they were not answered.
        books.until(lambda: look(0) and len(books.calls(key_id=account.key.pk)) >= 20, what="20 calls", timeout_s=40)
        job = BatchJob.objects.filter(pk=batch.id)
        books.until(lambda: "limit" in job.get().waits_for, what="the rest waits for room", timeout_s=25)
        assert client.batches.cancel(batch.id).status == "cancelling"
        stopped = ended(client, batch)
    assert most == 3
    found = books.calls(key_id=account.key.pk)
    assert len(found) == 20
    assert LimitWindow.objects.get(limit__key=account.key, limit__metric="requests").used == 20
    assert [window.held for window in LimitWindow.objects.filter(limit__key=account.key)] == [0] * len(limits)
    # No line reached the provider twice, and none that has its result was asked for again.
    asked = arrived(gateway, account, since)
    assert set(asked.values()) == {1}
    answered, lost = results(client, stopped.output_file_id), results(client, stopped.error_file_id)
    assert len(answered) == sum(call.outcome == "ok" for call in found)
    assert not set(answered) & set(lost)
    books.verify()


def test_a_worker_that_is_told_to_stop_leaves_the_rest_to_another(gateway: Gateway) -> None:
    since = len(gateway.upstream.arrivals)
    account = gateway.account(upstream_name="fake-slow-250ms")
    client = client_of(gateway, account)
    batch = submit(client, jsonl(chat_lines(account, 30)))
    with working(gateway) as first:
        gateway.upstream.wait_for_arrivals(since + 6)
        assert first.terminate() == 0, first.log()[-2000:]
    half = BatchJob.objects.get(pk=batch.id)
    assert half.state == "in_progress"
    # What was in flight was waited for and written down.
    assert half.completed == len(gateway.upstream.arrivals) - since < 30
    with working(gateway):
        done = ended(client, batch, timeout_s=40)
    assert (done.status, counts(done)) == ("completed", (30, 30, 0))
    assert arrived(gateway, account, since) == Counter(str(number) for number in range(1, 31))
    books.verify()


def test_a_worker_goes_on_after_it_lost_its_connections(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-slow-50ms")
    client = client_of(gateway, account)
    with working(gateway) as worker:
        ended(client, submit(client, jsonl(chat_lines(account, 1))))
        batch = submit(client, jsonl(chat_lines(account, 60)))
        gateway.upstream.wait_for_arrivals(len(gateway.upstream.arrivals) + 5)
        assert books.rows(CUT_WORKERS)
        done = ended(client, batch, timeout_s=40)
        assert (done.status, counts(done)) == ("completed", (60, 60, 0)), worker.log()[-3000:]
        assert worker.process.poll() is None
    assert len(books.calls(key_id=account.key.pk)) == 61


def test_an_answer_that_was_settled_but_not_written_is_not_asked_for_again(gateway: Gateway) -> None:
    since = len(gateway.upstream.arrivals)
    account = gateway.account()
    client = client_of(gateway, account)
    batch = submit(client, jsonl(chat_lines(account, 5)))
    with working(gateway):
        done = ended(client, batch)
    # As if it had died between the last settle and the last write: a torn line, and a row that knows nothing.
    path = gateway.var_dir / "files" / str(done.output_file_id)[5:7] / str(done.output_file_id)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n") + 30])
    BatchJob.objects.filter(pk=batch.id).update(
        state="in_progress", completed=0, completed_at=None, output_file_id=""
    )
    with working(gateway):
        again = ended(client, batch)
    assert (again.status, counts(again)) == ("completed", (5, 5, 0))
    assert arrived(gateway, account, since) == Counter(str(number) for number in range(1, 6))
    assert len(results(client, again.output_file_id)) == 5
