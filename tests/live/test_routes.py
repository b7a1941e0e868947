"""Routes through HTTP: a row for each attempt, and headers that name who answered."""

from __future__ import annotations

import uuid
from decimal import Decimal

import msgspec
import pytest
import requests

from ledger.models import Call
from providers.models import Model, Route, RouteTarget
from tests import factories
from tests.live import books
from tests.live.gateway import Account, Gateway, chat_body
from tests.live.streams import CHAT_FRAMES
from tests.upstream import events

CHEAP, DEAR = {"input": "1", "output": "2"}, {"input": "10", "output": "20"}


def route(strategy: str, *targets: tuple[Account, int, int]) -> Route:
    made = Route.objects.create(name=f"r-{uuid.uuid4().hex[:10]}", strategy=strategy)
    for account, priority, weight in targets:
        RouteTarget.objects.create(route=made, model=account.model, priority=priority, weight=weight)
    return made


def ask(gateway: Gateway, made: Route, caller: Account, **fields: object) -> requests.Response:
    body = msgspec.json.encode(chat_body(made.name, **fields))
    return gateway.post("/v1/chat/completions", body, headers=caller.headers)


@pytest.fixture
def pair(gateway: Gateway) -> tuple[Account, Account]:
    """A target that fails with 503, and one that answers: at providers of their own."""
    return (
        gateway.account(upstream_name="fake-503", rates=DEAR, sync=False),
        gateway.account(rates=CHEAP, sync=False),
    )


def attempts(caller: Account) -> list[Call]:
    return books.calls(key_id=caller.key.pk)


def test_a_failed_target_is_a_row_of_its_own_and_the_next_one_answers(
    gateway: Gateway, pair: tuple[Account, Account]
) -> None:
    broken, good = pair
    made = route("priority", (broken, 1, 1), (good, 2, 1))
    gateway.sync()
    got = ask(gateway, made, good)
    assert got.status_code == 200, got.text
    first, second = attempts(good)
    assert (first.outcome, first.http_status, first.attempt, first.model_id) == ("failed", 503, 1, broken.model.pk)
    assert (second.outcome, second.http_status, second.attempt, second.model_id) == ("ok", 200, 2, good.model.pk)
    assert first.request_id == second.request_id
    assert [call.requested_name for call in (first, second)] == [made.name] * 2
    assert first.cost_usd == 0
    assert second.cost_usd is not None
    assert second.cost_usd > 0
    assert got.headers["X-Tollbook-Provider"] == good.model.provider.name
    assert got.headers["X-Tollbook-Model"] == good.model.name
    assert got.headers["X-Tollbook-Attempts"] == "2"
    assert got.headers["X-Tollbook-Call-Id"] == str(second.id)


def test_a_stream_falls_back_as_well(gateway: Gateway, pair: tuple[Account, Account]) -> None:
    broken, good = pair
    made = route("priority", (broken, 1, 1), (good, 2, 1))
    gateway.sync()
    got = ask(gateway, made, good, stream=True)
    assert got.text.rstrip().endswith("[DONE]")
    assert [(call.outcome, call.streamed) for call in attempts(good)] == [("failed", True), ("ok", True)]


def test_a_stream_that_broke_off_midway_is_not_begun_again(gateway: Gateway, pair: tuple[Account, Account]) -> None:
    first, second = gateway.account(sync=False), pair[1]
    made = route("priority", (first, 1, 1), (second, 2, 1))
    gateway.sync()
    gateway.upstream.script(events(CHAT_FRAMES.opening_and_text, ends=False))
    got = ask(gateway, made, second, stream=True)
    assert "provider_stream_interrupted" in got.text
    (call,) = attempts(second)
    assert (call.outcome, call.model_id) == ("failed", first.model.pk)


def test_the_client_is_told_of_the_last_failure_when_all_targets_fail(
    gateway: Gateway, pair: tuple[Account, Account]
) -> None:
    other = gateway.account(upstream_name="fake-502", sync=False)
    made = route("priority", (pair[0], 1, 1), (other, 2, 1))
    gateway.sync()
    got = ask(gateway, made, other)
    assert got.status_code == 502
    calls = attempts(other)
    assert [call.http_status for call in calls] == [503, 502]
    assert [call.cost_usd for call in calls] == [Decimal(0)] * 2
    assert str(calls[-1].id) == got.headers["X-Tollbook-Call-Id"]


def test_a_limit_that_stops_the_fallback_names_the_attempt_that_failed(
    gateway: Gateway, pair: tuple[Account, Account]
) -> None:
    caller = gateway.account(limits=(("requests", "day", "1"),), sync=False)
    made = route("priority", (pair[0], 1, 1), (pair[1], 2, 1))
    gateway.sync()
    got = ask(gateway, made, caller)
    assert (got.status_code, got.json()["error"]["code"]) == (429, "limit_reached")
    (failed,) = attempts(caller)
    assert (failed.outcome, got.headers["X-Tollbook-Call-Id"]) == ("failed", str(failed.id))


def test_a_request_that_is_wrong_everywhere_is_not_sent_twice(gateway: Gateway, pair: tuple[Account, Account]) -> None:
    refusing = gateway.account(upstream_name="fake-400", sync=False)
    made = route("priority", (refusing, 1, 1), (pair[1], 2, 1))
    gateway.sync()
    got = ask(gateway, made, pair[1])
    assert [(call.outcome, call.http_status, call.error_code) for call in attempts(pair[1])] == [
        ("refused", 400, "invalid_request")
    ]
    assert got.status_code == 400


def test_a_target_that_keeps_failing_is_skipped(gateway: Gateway, pair: tuple[Account, Account]) -> None:
    broken, good = pair
    made = route("priority", (broken, 1, 1), (good, 2, 1))
    gateway.sync()
    tried = [ask(gateway, made, good).headers["X-Tollbook-Attempts"] for _ in range(30)]
    assert tried[0] == "2"
    assert tried[-1] == "1"
    # Once it is open it stays so: attempts go down and never up again within this moment.
    assert tried == sorted(tried, reverse=True)
    assert len([call for call in attempts(good) if call.outcome == "failed"]) == tried.count("2")


def test_the_cheapest_by_the_live_sheets_is_asked(gateway: Gateway) -> None:
    dear, cheap = gateway.account(rates=DEAR, sync=False), gateway.account(rates=CHEAP, sync=False)
    made = route("cheapest", (dear, 1, 1), (cheap, 2, 1))
    gateway.sync()
    assert ask(gateway, made, cheap).headers["X-Tollbook-Model"] == cheap.model.name
    factories.make_sheet(model=cheap.model, book="override", rates={"input": "100", "output": "100"}, per=1_000_000)
    gateway.sync()
    assert ask(gateway, made, cheap).headers["X-Tollbook-Model"] == dear.model.name


def test_weights_share_out_the_requests(gateway: Gateway) -> None:
    often, seldom, never = (gateway.account(sync=False) for _ in range(3))
    made = route("weighted", (often, 1, 20), (seldom, 1, 10), (never, 1, 0))
    gateway.sync()
    served = [ask(gateway, made, often).headers["X-Tollbook-Model"] for _ in range(60)]
    # With these weights 60 draws leave one of the two out less than once in 10,000,000,000 times.
    assert set(served) == {often.model.name, seldom.model.name}


def test_a_route_that_was_switched_off_is_no_name(gateway: Gateway, pair: tuple[Account, Account]) -> None:
    made = route("priority", (pair[1], 1, 1))
    gateway.sync()
    assert ask(gateway, made, pair[1]).status_code == 200
    Route.objects.filter(pk=made.pk).update(enabled=False)
    gateway.sync()
    assert ask(gateway, made, pair[1]).status_code == 404
    assert Model.objects.filter(pk=pair[1].model.pk, enabled=True).exists()
