"""Idempotency-Key: one request, however often it is sent, is one call upstream, one answer and one cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from ledger.keys import create_key
from ledger.models import Call, Hold, IdempotencyKey
from tests import factories
from tests.live import books
from tests.live.gateway import Account, Gateway, messages_body, running
from tests.live.streams import CHAT_FRAMES
from tests.live.test_pass_through import split_comment
from tests.upstream import Wait, answer, events

ONE = {"Idempotency-Key": "invoice-2026-11"}


def error_of(answered: requests.Response) -> tuple[int, str]:
    return answered.status_code, answered.json()["error"]["code"]


def test_the_same_request_is_answered_once_more_without_a_call(gateway: Gateway) -> None:
    account = gateway.account()
    first = gateway.chat(account, headers=ONE)
    before = len(gateway.upstream.arrivals)
    second = gateway.chat(account, headers=ONE)
    assert len(gateway.upstream.arrivals) == before
    assert (second.status_code, second.content) == (200, first.content)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["X-Tollbook-Call-Id"] == first.headers["X-Tollbook-Call-Id"]
    assert second.headers["X-Request-Id"] != first.headers["X-Request-Id"], "it is a request of its own"
    assert len(books.calls(key_id=account.key.pk)) == 1
    books.verify()


def test_a_stream_is_replayed_as_a_stream(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.upstream.script(events(CHAT_FRAMES.whole))
    first = gateway.chat(account, headers=ONE, stream=True)
    second = gateway.chat(account, headers=ONE, stream=True)
    assert second.headers["Content-Type"] == "text/event-stream"
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.content in (first.content, split_comment(first.content)[1])
    assert len(books.calls(key_id=account.key.pk)) == 1


def test_another_body_under_the_same_key_is_refused(gateway: Gateway) -> None:
    account = gateway.account()
    first = gateway.chat(account, headers=ONE)
    second = gateway.chat(account, headers=ONE, temperature=1)
    assert error_of(second) == (422, "idempotency_mismatch")
    assert first.headers["X-Tollbook-Call-Id"] in second.text
    assert len(books.calls(key_id=account.key.pk)) == 1


def test_the_same_body_on_another_surface_is_another_body(gateway: Gateway) -> None:
    account = gateway.account()
    body = messages_body(account.model.name)
    first = gateway.chat(account, headers=ONE, **{name: body[name] for name in ("max_tokens",)})
    second = requests.post(f"{gateway.url}/v1/messages", json=body, headers={**account.headers, **ONE}, timeout=10)
    assert first.status_code == 200
    assert second.status_code == 422


def test_it_is_a_conflict_while_the_first_is_at_work(gateway: Gateway) -> None:
    account = gateway.account()
    go_on = threading.Event()
    gateway.upstream.script(events([CHAT_FRAMES.opening[0], Wait(go_on), *CHAT_FRAMES.whole[1:]]))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.chat, account, headers=ONE, stream=True)
        books.until(lambda: Hold.objects.filter(key=account.key).exists(), what="the first is held")
        second = gateway.chat(account, headers=ONE, stream=True)
        go_on.set()
        assert first.result().status_code == 200
    assert error_of(second) == (409, "idempotency_conflict")
    assert int(second.headers["Retry-After"]) >= 1
    assert len(books.calls(key_id=account.key.pk)) == 1


def test_fifty_at_once_are_one_call(gateway: Gateway) -> None:
    account = gateway.account()
    before = len(gateway.upstream.arrivals)
    gate = threading.Barrier(50)

    def one() -> requests.Response:
        gate.wait()
        return gateway.chat(account, headers=ONE)

    with ThreadPoolExecutor(50) as pool:
        answers = [future.result() for future in [pool.submit(one) for _ in range(50)]]
    assert len(gateway.upstream.arrivals) - before == 1
    assert {answered.status_code for answered in answers} <= {200, 409}
    assert len({answered.content for answered in answers if answered.status_code == 200}) == 1
    assert len(books.calls(key_id=account.key.pk)) == 1
    books.verify()


def test_another_api_key_never_sees_the_answer_not_even_of_the_same_user(gateway: Gateway) -> None:
    account = gateway.account(key={"team": factories.make_team(name="idem-a")})
    _, text = create_key(user=account.key.user, team=account.key.team)
    other_user, other_team = factories.make_user(username="idem-stranger"), factories.make_team(name="idem-b")
    _, stranger = create_key(user=other_user, team=other_team)
    gateway.sync()
    first = gateway.chat(account, headers=ONE)
    for other in (Account(account.key, text, account.model), Account(account.key, stranger, account.model)):
        again = gateway.chat(other, headers=ONE)
        assert "Idempotent-Replayed" not in again.headers
        assert again.headers["X-Tollbook-Call-Id"] != first.headers["X-Tollbook-Call-Id"]


def test_a_failure_without_work_done_frees_the_key(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.upstream.script(answer(status=400, body=b'{"error": {"message": "no", "type": "invalid_request_error"}}'))
    assert gateway.chat(account, headers=ONE).status_code == 400
    assert gateway.chat(account, headers=ONE).status_code == 200
    assert [call.outcome for call in books.calls(key_id=account.key.pk)] == ["refused", "ok"]


def test_a_request_that_a_limit_refused_may_come_again(gateway: Gateway) -> None:
    account = gateway.account(limits=(("requests", "day", "1"),))
    assert gateway.chat(account).status_code == 200
    assert error_of(gateway.chat(account, headers=ONE)) == (429, "limit_reached")
    factories.Limit.objects.filter(key=account.key).update(amount=5)
    assert gateway.chat(account, headers=ONE).status_code == 200


def test_an_answer_that_nobody_could_read_leaves_the_key_indeterminate(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.upstream.script(answer(body=b'{"id": "chatcmpl-1", "choices": [{"mess'))
    assert gateway.chat(account, headers=ONE).status_code == 502
    again = gateway.chat(account, headers=ONE)
    assert error_of(again) == (409, "idempotency_indeterminate")
    [call] = books.calls(key_id=account.key.pk)
    assert call.cost_usd is None
    assert str(call.id) in again.text


def test_an_answer_above_a_mebibyte_is_given_and_not_kept(gateway: Gateway) -> None:
    account = gateway.account()
    body = (
        b'{"id":"c","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":'
        b'"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,'
        b'"total_tokens":3}}' % (b"x" * 1_100_000)
    )
    gateway.upstream.script(answer(body=body))
    first = gateway.chat(account, headers=ONE)
    assert first.content == body
    again = gateway.chat(account, headers=ONE)
    assert error_of(again) == (409, "idempotency_conflict")
    assert first.headers["X-Tollbook-Call-Id"] in again.json()["error"]["message"]
    assert len(books.calls(key_id=account.key.pk)) == 1


def test_the_kept_answer_is_encrypted_and_the_keys_text_is_not_kept(gateway: Gateway) -> None:
    account = gateway.account()
    first = gateway.chat(account, headers={"Idempotency-Key": "a-telling-name"})
    [kept] = IdempotencyKey.objects.filter(key=account.key)
    said = first.json()["choices"][0]["message"]["content"]
    stored = " ".join(str(value) for value in books.rows(
        "SELECT i::text FROM ledger_idempotencykey i WHERE key_id = %s", account.key.pk))
    assert kept.answer_encrypted
    assert said not in stored
    assert "a-telling-name" not in stored


@pytest.mark.parametrize("text", ["", "a b", "x" * 256, "a\u00e9"])
def test_an_odd_key_is_refused_before_anything_is_held(gateway: Gateway, text: str) -> None:
    account = gateway.account()
    headers = {**account.headers, "Idempotency-Key": text.encode()}
    answered = gateway.post(
        "/v1/chat/completions", b'{"model": "%s", "messages": [{"role": "user", "content": "?"}]}'
        % account.model.name.encode(), headers=headers,  # type: ignore[arg-type]  # bytes, as they go on the wire
    )
    assert answered.status_code == 400
    assert answered.json()["error"]["param"] == "Idempotency-Key"
    assert books.calls(key_id=account.key.pk) == []


def test_a_key_is_free_again_after_a_day(gateway: Gateway) -> None:
    account = gateway.account()
    first = gateway.chat(account, headers=ONE)
    books.rows("UPDATE ledger_idempotencykey SET expires_at = now() WHERE key_id = %s RETURNING id", account.key.pk)
    second = gateway.chat(account, headers=ONE)
    assert "Idempotent-Replayed" not in second.headers
    assert second.headers["X-Tollbook-Call-Id"] != first.headers["X-Tollbook-Call-Id"]


@pytest.fixture
def doomed(own_database: str, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose dead are found within a second."""
    environment = {
        "TOLLBOOK_WRITER_LEASE_S": "1", "TOLLBOOK_WRITER_GRACE_S": "0.2", "TOLLBOOK_SWEEP_INTERVAL_S": "0.2"
    }  # fmt: skip
    with running(database_url=own_database, var_dir=tmp_path, environment=environment) as started:
        yield started


def test_after_a_kill_in_mid_call_the_key_is_indeterminate_and_names_the_call(doomed: Gateway) -> None:
    account = doomed.account()
    go_on = threading.Event()
    doomed.upstream.script(events([CHAT_FRAMES.opening[0], Wait(go_on)]))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(doomed.chat, account, headers=ONE, stream=True)
        books.until(lambda: Hold.objects.filter(key=account.key).exists(), what="the first is held")
        books.until(lambda: doomed.upstream.arrivals, what="it reached the provider")
        doomed.kill()
        go_on.set()
        assert isinstance(first.exception(), requests.RequestException) or first.result().status_code == 200
    doomed.start()
    call = books.call_of(account.key.pk, timeout_s=20)
    again = doomed.chat(account, headers=ONE, stream=True)
    assert call.outcome == Call.Outcome.ABANDONED
    assert error_of(again) == (409, "idempotency_indeterminate")
    assert str(call.id) in again.text
    assert len(doomed.upstream.arrivals) == 1
