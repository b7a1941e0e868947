"""Batches end to end: the official client, a worker of its own process, and the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import openai
import pytest
import requests
from django.utils import timezone

from gateway import files
from gateway.models import BatchJob, StoredFile
from ledger import keys
from ledger.keys import create_key
from ledger.models import Limit
from tests import factories
from tests.live import books
from tests.live.gateway import QUICK, Account, Gateway, chat_body, messages_body, running, usd
from tests.live.workers import (
    Worker,
    arrived,
    chat_lines,
    client_of,
    counts,
    ended,
    jsonl,
    line,
    results,
    submit,
    working,
)

UPLOADED = {"TOLLBOOK_MAX_FILE_BYTES": "200000", "TOLLBOOK_MAX_BODY_BYTES": "20000"}


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running(
        database_url=own_database, var_dir=tmp_path_factory.mktemp("var"), environment={**QUICK, **UPLOADED}
    ) as made:
        yield made
        books.until(lambda: not books.rows("SELECT 1 FROM ledger_hold LIMIT 1"), what="no hold is left")
        books.verify()


@pytest.fixture(scope="module")
def worker(gateway: Gateway) -> Iterator[Worker]:
    """One that the tests of this module share; those that need none to run, or one of their own, do not ask for it."""
    with working(gateway) as made:
        yield made


# --- without a worker: what is only accepted ----------------------------------------------------------------


def test_a_file_is_uploaded_listed_read_and_deleted(gateway: Gateway) -> None:
    account = gateway.account()
    client = client_of(gateway, account)
    content = jsonl(chat_lines(account, 3))
    made = client.files.create(file=("in.jsonl", content), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.status) == (len(content), "in.jsonl", "batch", "processed")
    assert client.files.content(made.id).content == content
    assert client.files.retrieve(made.id) == made
    other = client.files.create(file=("other.jsonl", b"{}"), purpose="batch")
    assert [file.id for file in client.files.list(limit=1)] == [other.id, made.id]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)


def test_nobody_else_sees_a_file_or_a_batch(gateway: Gateway) -> None:
    account, stranger = gateway.account(sync=False), gateway.account()
    client, other = client_of(gateway, account), client_of(gateway, stranger)
    batch = submit(client, jsonl(chat_lines(account, 1)))
    assert list(other.files.list()) == []
    assert list(other.batches.list()) == []
    for attempt in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError):
            attempt(batch.input_file_id)
    for ask in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(batch.id)
    with pytest.raises(openai.BadRequestError):
        other.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    # The same user in another team is somebody else; with another key of the same team it is not.
    in_team, text = create_key(user=account.key.user, team=factories.make_team(name="elsewhere"))
    again, same = create_key(user=account.key.user)
    elsewhere = client_of(gateway, Account(in_team, text, account.model))
    successor = client_of(gateway, Account(again, same, account.model))
    with pytest.raises(openai.NotFoundError):
        elsewhere.batches.retrieve(batch.id)
    assert successor.batches.retrieve(batch.id).id == batch.id
    assert client.batches.cancel(batch.id).status == "cancelling"


@pytest.mark.parametrize(("fields", "param"), [
    ({"endpoint": "/v1/rerank"}, "endpoint"),
    ({"completion_window": "1h"}, "completion_window"),
    ({"input_file_id": "file-of-nobody"}, "input_file_id"),
    ({"metadata": {"a": "b" * 513}}, "metadata"),
    ({"extra_body": {"output_expires_after": {"anchor": "created_at", "seconds": 3600}}}, "output_expires_after"),
])  # fmt: skip
def test_a_batch_that_cannot_be_is_refused_at_once(
    gateway: Gateway, fields: dict[str, Any], param: str
) -> None:
    account = gateway.account()
    client = client_of(gateway, account)
    file = client.files.create(file=("in.jsonl", jsonl(chat_lines(account, 1))), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h", **fields}
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(**asked)
    assert caught.value.param == param
    assert not BatchJob.objects.filter(key=account.key).exists()


def test_an_upload_that_cannot_be_is_refused_and_leaves_no_bytes(gateway: Gateway) -> None:
    account = gateway.account()
    client = client_of(gateway, account)
    folder = gateway.var_dir / "files"
    before = {path for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("in.jsonl", b"{}"), purpose="fine-tune")
    assert caught.value.param == "purpose"
    with pytest.raises(openai.APIStatusError) as too_large:
        client.files.create(file=("in.jsonl", b"x" * 200_001), purpose="batch")
    assert too_large.value.status_code == 413
    url, headers = f"{gateway.url}/v1/files", {"Authorization": f"Bearer {account.text}"}
    assert requests.post(url, headers=headers, json={}, timeout=10).status_code == 400
    assert requests.post(url, headers=headers, files={"purpose": (None, "batch")}, timeout=10).status_code == 400
    assert requests.post(url, data=b"x", timeout=10).status_code == 401
    assert {path for path in folder.rglob("*") if path.is_file()} == before


def test_a_file_in_use_is_not_deleted(gateway: Gateway) -> None:
    account = gateway.account()
    client = client_of(gateway, account)
    batch = submit(client, jsonl(chat_lines(account, 1)))
    with pytest.raises(openai.BadRequestError):
        client.files.delete(batch.input_file_id)
    assert client.files.content(batch.input_file_id).content
    client.batches.cancel(batch.id)


# --- carried out --------------------------------------------------------------------------------------------


def test_every_line_is_answered_and_in_the_books(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account()
    client = client_of(gateway, account)
    lines = [*chat_lines(account, 20), line("unknown", chat_body("no-such-model"))]
    batch = submit(client, jsonl(lines), metadata={"run": "nightly"})
    assert batch.status == "validating"
    done = ended(client, batch)
    assert (done.status, counts(done), done.metadata) == ("completed", (21, 20, 1), {"run": "nightly"})
    answered = results(client, done.output_file_id)
    assert set(answered) == {f"r-{number}" for number in range(1, 21)}
    for record in answered.values():
        assert (record["response"]["status_code"], record["error"]) == (200, None)
        assert record["response"]["body"]["choices"][0]["message"]["content"].startswith("The ledger")
    ((custom_id, refused),) = results(client, done.error_file_id).items()
    assert (custom_id, refused["response"]["status_code"]) == ("unknown", 404)
    assert refused["response"]["body"]["error"]["code"] == "model_not_found"
    calls = books.calls(key_id=account.key.pk)
    assert len(calls) == 20
    assert {(call.surface, call.outcome, call.tags["batch"]) for call in calls} == {("chat", "ok", batch.id)}
    assert all(call.cost_usd == usd(call.input_tokens, call.output_tokens) for call in calls)
    kept = StoredFile.objects.get(pk=done.output_file_id)
    assert kept.size_bytes == len(client.files.content(kept.pk).content)
    assert [each.id for each in client.batches.list()] == [batch.id]


@pytest.mark.parametrize("endpoint", ["/v1/messages", "/v1/responses", "/v1/completions", "/v1/embeddings"])
def test_every_endpoint_can_be_asked(gateway: Gateway, worker: Worker, endpoint: str) -> None:
    account = gateway.account()
    client = client_of(gateway, account)
    name = account.model.name
    body = {
        "/v1/messages": messages_body(name),
        "/v1/responses": {"model": name, "input": "Do the books balance?", "store": False},
        "/v1/completions": {"model": name, "prompt": "Do the books balance?"},
        "/v1/embeddings": {"model": name, "input": "text"},
    }[endpoint]
    done = ended(client, submit(client, jsonl([line("one", body, url=endpoint)]), endpoint=endpoint))
    assert (done.status, counts(done)) == ("completed", (1, 1, 0)), results(client, done.error_file_id)
    assert books.call_of(account.key.pk).surface == endpoint.removeprefix("/v1/")


BAD = {
    "not JSON": (b"{\n", "invalid_json_line", 1),
    "empty": (b"\n\n", "empty_file", None),
    "no method": (b'{"custom_id": "a", "url": "/v1/chat/completions", "body": {}}', "missing_required_parameter", 1),
    "wrong method": (jsonl([line("a", {"model": "m"}, method="GET")]), "invalid_method", 1),
    "wrong url": (jsonl([line("a", {"model": "m"}, url="/v1/embeddings")]), "mismatched_url", 1),
    "same id": (jsonl([line("a", {"model": "m"})] * 2), "duplicate_custom_id", 2),
    "too long": (jsonl([line("a", {"model": "m", "x": "y" * 20_000})]), "request_too_large", 1),
    "no model": (jsonl([line("a", {})]), "invalid_request", 1),
    "stream": (jsonl([line("a", {"model": "m", "stream": True})]), "unsupported_parameter", 1),
}


def test_a_bad_file_fails_its_batch_and_nothing_is_asked(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account()
    client = client_of(gateway, account)
    batches = {what: submit(client, content) for what, (content, _, _) in BAD.items()}
    for what, batch in batches.items():
        _, code, number = BAD[what]
        failed = ended(client, batch)
        assert failed.status == "failed", what
        assert failed.errors is not None
        assert failed.errors.data is not None
        assert [(error.code, error.line) for error in failed.errors.data] == [(code, number)], what
        assert failed.output_file_id is None
    assert books.calls(key_id=account.key.pk) == []


def test_lines_that_a_limit_refuses_wait_until_there_is_room(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account(limits=(("requests", "day", "3"),))
    client = client_of(gateway, account)
    batch = submit(client, jsonl(chat_lines(account, 6)))
    job = BatchJob.objects.filter(pk=batch.id)
    books.until(lambda: job.get().completed == 3 and "limit" in job.get().waits_for, what="three lines wait")
    assert job.get().failed == 0
    Limit.objects.filter(key=account.key).update(amount=100)
    # It looks again after 30 seconds at the latest; here another request of the same key need not wait for that.
    assert client.batches.cancel(batch.id).status == "cancelling"
    stopped = ended(client, batch)
    assert (stopped.status, counts(stopped)) == ("cancelled", (6, 3, 0))
    assert len(results(client, stopped.output_file_id)) == len(books.calls(key_id=account.key.pk)) == 3


def test_a_limit_on_concurrent_calls_slows_a_batch_and_fails_none(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account(upstream_name="fake-slow-50ms", limits=(("concurrency", "total", "2"),))
    client = client_of(gateway, account)
    done = ended(client, submit(client, jsonl(chat_lines(account, 6))))
    assert (done.status, counts(done)) == ("completed", (6, 6, 0))


def test_a_line_whose_provider_has_no_room_is_asked_again(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account(upstream_name="fake-flaky-2")
    client = client_of(gateway, account)
    done = ended(client, submit(client, jsonl(chat_lines(account, 2))))
    assert (done.status, counts(done)) == ("completed", (2, 2, 0))
    # Each try is a row, and the tries of one line bear one claim: none of them was lost or made twice.
    assert Counter(call.outcome for call in books.calls(key_id=account.key.pk)) == {"failed": 4, "ok": 2}


def test_a_batch_that_is_cancelled_asks_no_more(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account(upstream_name="fake-slow-1s")
    client = client_of(gateway, account)
    since = len(gateway.upstream.arrivals)
    batch = submit(client, jsonl(chat_lines(account, 100)))
    gateway.upstream.wait_for_arrivals(since + 1)
    client.batches.cancel(batch.id)
    stopped = ended(client, batch)
    assert stopped.status == "cancelled"
    asked = arrived(gateway, account, since)
    # What was in flight is answered, at most one more round of it; the rest is never asked.
    assert 1 <= len(asked) <= 24
    assert set(asked.values()) == {1}
    assert counts(stopped) == (100, len(asked), 0)
    assert len(results(client, stopped.output_file_id)) == len(books.calls(key_id=account.key.pk)) == len(asked)


def test_what_is_left_when_a_batch_expires_is_told_in_the_error_file(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account(limits=(("requests", "day", "2"),))
    client = client_of(gateway, account)
    batch = submit(client, jsonl(chat_lines(account, 5)))
    job = BatchJob.objects.filter(pk=batch.id)
    books.until(lambda: job.get().completed == 2, what="two lines are answered")
    job.update(expires_at=timezone.now() - timedelta(seconds=1))
    expired = ended(client, batch)
    assert (expired.status, counts(expired)) == ("expired", (5, 2, 3))
    assert expired.expired_at is not None
    left = results(client, expired.error_file_id)
    assert [(record["response"], record["error"]["code"]) for record in left.values()] == [(None, "batch_expired")] * 3


def test_a_batch_whose_key_is_revoked_ends(gateway: Gateway, worker: Worker) -> None:
    account = gateway.account(limits=(("requests", "day", "2"),))
    _, successor = create_key(user=account.key.user)
    client = client_of(gateway, Account(account.key, successor, account.model))
    batch = submit(client_of(gateway, account), jsonl(chat_lines(account, 5)))
    books.until(lambda: BatchJob.objects.get(pk=batch.id).completed == 2, what="two lines are answered")
    keys.revoke(key=account.key)
    failed = ended(client, batch)
    assert (failed.status, counts(failed)) == ("failed", (5, 2, 0))
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert failed.errors.data[0].code == "invalid_key"
    assert len(results(client, failed.output_file_id)) == 2


def test_files_past_their_age_are_deleted(gateway: Gateway, settings: Any) -> None:
    settings.FILES_DIR = gateway.var_dir / "files"
    account = gateway.account()
    client = client_of(gateway, account)
    old = client.files.create(file=("old.jsonl", b"{}"), purpose="batch")
    young = client.files.create(file=("young.jsonl", b"{}"), purpose="batch")
    in_use = submit(client, jsonl(chat_lines(account, 1))).input_file_id
    BatchJob.objects.filter(input_file_id=in_use).update(state="in_progress")
    StoredFile.objects.filter(pk__in=[old.id, in_use]).update(created_at=timezone.now() - timedelta(days=31))
    assert files.prune() >= 1
    left = {file.id for file in client.files.list()}
    assert left == {young.id, in_use}
    assert not files.path_of(old.id).exists()
