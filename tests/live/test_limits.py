"""Limits over HTTP: exactly what fits is admitted, whoever asks at once and through whichever process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
import requests

from ledger.models import Limit, LimitWindow
from tests import factories
from tests.live import books
from tests.live.gateway import Gateway, running, usd
from tests.live.streams import CHAT_FRAMES
from tests.upstream import Signal, Wait, events

CAP = 100


def refusal(answered: requests.Response) -> tuple[str, str]:
    """(code, message) of an error on the chat surface."""
    error = answered.json()["error"]
    return error["code"], error["message"]


@pytest.mark.parametrize(("metric", "period", "word"), [
    ("usd", "day", "USD a day"), ("tokens", "day", "tokens a day"), ("requests", "minute", "requests a minute"),
    ("requests", "hour", "requests a hour"), ("requests", "week", "requests a week"),
    ("tokens", "month", "tokens a month"), ("requests", "total", "requests in total"),
])  # fmt: skip
def test_a_limit_that_is_reached_says_which_and_until_when(
    gateway: Gateway, metric: str, period: str, word: str
) -> None:
    account = gateway.account(upstream_name="fake-words-3", limits=((metric, period, "0.01"),))
    before = len(gateway.upstream.arrivals)
    answered = gateway.chat(account, max_completion_tokens=3000)
    code, message = refusal(answered)
    assert (answered.status_code, code) == (429, "limit_reached")
    assert word in message
    assert answered.headers["X-Tollbook-Limit"] == str(Limit.objects.get(key=account.key).pk)
    assert ("Retry-After" in answered.headers) == (period != "total")
    assert ("X-Tollbook-Limit-Reset" in answered.headers) == (period != "total")
    assert len(gateway.upstream.arrivals) == before
    assert books.calls(key_id=account.key.pk) == []
    assert "X-Tollbook-Call-Id" not in answered.headers, "there is no call to look up"
    assert answered.json()["error"]["call_id"] is None


def test_the_third_request_of_two_a_minute_is_refused(gateway: Gateway) -> None:
    account = gateway.account(limits=(("requests", "day", "2"),))
    first, second, third = (gateway.chat(account) for _ in range(3))
    assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert int(third.headers["Retry-After"]) > 0
    assert third.headers["x-ratelimit-limit-requests"] == "2"
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert third.headers["x-ratelimit-reset-requests"].endswith("s")


def test_tokens_are_counted_as_they_were_used_not_as_they_were_held(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-words-3", limits=(("tokens", "day", "3000"),))
    for _ in range(3):
        assert gateway.chat(account, max_completion_tokens=2000).status_code == 200
    used = sum(call.input_tokens + call.output_tokens for call in books.calls(key_id=account.key.pk))
    assert LimitWindow.objects.get(limit__key=account.key).used == used < 1000


def test_a_place_is_free_again_when_its_call_has_ended(gateway: Gateway) -> None:
    account = gateway.account(limits=(("concurrency", "total", "1"),))
    go_on, arrived = threading.Event(), threading.Event()
    gateway.upstream.script(events([CHAT_FRAMES.opening[0], Signal(arrived), Wait(go_on), *CHAT_FRAMES.whole[1:]]))
    with ThreadPoolExecutor(1) as pool:
        running_call = pool.submit(gateway.chat, account, stream=True)
        assert arrived.wait(10)
        refused = gateway.chat(account)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert "concurrent" in refusal(refused)[1]
        go_on.set()
        assert running_call.result().status_code == 200
    assert gateway.chat(account).status_code == 200


@pytest.mark.parametrize("tight", ["usd", "tokens", "requests"])
def test_each_of_three_limits_is_kept(gateway: Gateway, tight: str) -> None:
    amounts = {"usd": "1000", "tokens": "10000000", "requests": "1000"} | {tight: "0"}
    account = gateway.account(limits=tuple((metric, "day", amount) for metric, amount in amounts.items()))
    answered = gateway.chat(account)
    assert answered.status_code == 429
    assert answered.headers["X-Tollbook-Limit"] == str(Limit.objects.get(key=account.key, metric=tight).pk)
    assert all(window.held == window.used == 0 for window in LimitWindow.objects.filter(limit__key=account.key))


@pytest.mark.parametrize("subject", ["key", "user", "team", "model"])
def test_a_limit_binds_its_subject_and_nobody_else(gateway: Gateway, subject: str) -> None:
    account = gateway.account(key={"team": factories.make_team()})
    other = gateway.account(key={"team": factories.make_team()})
    whom = {"key": account.key, "user": account.key.user, "team": account.key.team, "model": account.model}[subject]
    factories.make_limit(metric="requests", period="day", amount="0", **{subject: whom})
    gateway.sync()
    assert gateway.chat(account).status_code == 429
    assert gateway.chat(other).status_code == 200


def test_a_limit_that_only_alerts_counts_and_refuses_nothing(gateway: Gateway) -> None:
    account = gateway.account()
    factories.make_limit(metric="requests", period="day", amount="0", action="alert", key=account.key)
    gateway.sync()
    assert gateway.chat(account).status_code == 200
    assert LimitWindow.objects.get(limit__key=account.key).used == 1


def test_lowering_a_limit_in_flight_only_refuses_new_calls(gateway: Gateway) -> None:
    account = gateway.account(limits=(("usd", "day", "1000"),))
    go_on, arrived = threading.Event(), threading.Event()
    gateway.upstream.script(events([CHAT_FRAMES.opening[0], Signal(arrived), Wait(go_on), *CHAT_FRAMES.whole[1:]]))
    with ThreadPoolExecutor(1) as pool:
        running_call = pool.submit(gateway.chat, account, stream=True)
        assert arrived.wait(10)
        Limit.objects.filter(key=account.key).update(amount=Decimal("0.000001"))
        # The database decides, not the snapshot: the very next call is refused.
        assert gateway.chat(account).status_code == 429
        go_on.set()
        assert running_call.result().status_code == 200
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.cost_usd) == ("ok", usd(20, 6))
    window = LimitWindow.objects.get(limit__key=account.key)
    assert (window.used, window.held) == (usd(20, 6), Decimal(0))


# --- the race -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_workers(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    # A pool of threads for 200 calls that all wait for the provider at once.
    with running(database_url=own_database, var_dir=tmp_path_factory.mktemp("var"), workers=2) as made:
        yield made


def _bound_of_one_call(gateway: Gateway) -> Decimal:
    """What one call of the race holds: read from the books while it is in flight."""
    account = gateway.account(limits=(("usd", "day", "1000"),))
    go_on, arrived = threading.Event(), threading.Event()
    gateway.upstream.script(events([CHAT_FRAMES.opening[0], Signal(arrived), Wait(go_on), *CHAT_FRAMES.whole[1:]]))
    with ThreadPoolExecutor(1) as pool:
        running_call = pool.submit(gateway.chat, account, stream=True, max_completion_tokens=CAP)
        assert arrived.wait(10)
        held = LimitWindow.objects.get(limit__key=account.key).held
        go_on.set()
        assert running_call.result().status_code == 200
    return held


@pytest.mark.parametrize("more_limits", [False, True], ids=["one limit", "three limits"])
def test_two_hundred_at_once_with_room_for_fifty(two_workers: Gateway, more_limits: bool) -> None:
    gateway = two_workers
    bound = _bound_of_one_call(gateway)
    others = (("tokens", "day", "100000000"), ("requests", "day", "60")) if more_limits else ()
    # A call holds `bound` until all have been judged: the room is for fifty, and not for a fifty-first.
    account = gateway.account(limits=(("usd", "day", str(bound * 50)), *others))
    go_on = threading.Event()
    reply = events([CHAT_FRAMES.opening[0], Wait(go_on), *CHAT_FRAMES.whole[1:]])
    before = len(gateway.upstream.arrivals)
    gateway.upstream.script(*[reply] * 50)
    gate = threading.Barrier(200)

    def one() -> requests.Response:
        gate.wait()
        return gateway.chat(account, max_completion_tokens=CAP, stream=True, timeout_s=60)

    with ThreadPoolExecutor(200) as pool:
        asked = [pool.submit(one) for _ in range(200)]
        gateway.upstream.wait_for_arrivals(before + 50, timeout_s=60)
        window = LimitWindow.objects.get(limit__key=account.key, limit__metric="usd")
        assert window.used + window.held <= bound * 50
        # The admitted wait for the provider, so those that are done were refused.
        books.until(lambda: sum(each.done() for each in asked) >= 150, what="150 refusals", timeout_s=60)
        assert sum(each.done() for each in asked) == 150
        go_on.set()
        answers = [each.result() for each in asked]
    assert Counter(answer.status_code for answer in answers) == {200: 50, 429: 150}
    assert len(gateway.upstream.arrivals) == before + 50
    for answer in answers:
        if answer.status_code == 429:
            assert refusal(answer)[0] == "limit_reached"
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.headers["X-Tollbook-Limit"] == str(Limit.objects.get(key=account.key, metric="usd").pk)
    found = books.calls(key_id=account.key.pk)
    assert len(found) == 50
    window.refresh_from_db()
    assert (window.used, window.held) == (50 * usd(20, 6), Decimal(0))
    books.verify()
