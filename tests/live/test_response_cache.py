"""The response cache: an equal request of the same team, answered without the provider, in the books all the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import requests

from ledger.keys import create_key
from ledger.models import Call
from tests import factories
from tests.live import books
from tests.live.gateway import Account, Gateway
from tests.live.streams import CHAT_FRAMES
from tests.live.test_pass_through import split_comment
from tests.upstream import answer, events

READ, WRITE, OFF = ({"X-Tollbook-Cache": mode} for mode in ("read", "write", "off"))


def teammate(gateway: Gateway, account: Account, **fields: Any) -> Account:
    """Another key that may call the same model; of the same user unless `fields` say otherwise."""
    made, text = create_key(**{"user": account.key.user, "team": account.key.team, **fields})
    gateway.sync()
    return Account(made, text, account.model)


def arrivals_during(gateway: Gateway, ask: Any) -> tuple[int, requests.Response]:
    before = len(gateway.upstream.arrivals)
    answered = ask()
    return len(gateway.upstream.arrivals) - before, answered


def test_an_equal_request_is_answered_from_the_cache_and_booked_as_such(gateway: Gateway) -> None:
    account = gateway.account()
    first = gateway.chat(account, headers=READ)
    asked, second = arrivals_during(gateway, lambda: gateway.chat(account, headers=READ))
    assert asked == 0
    assert second.content == first.content
    assert second.headers["X-Tollbook-Cache"] == "hit"
    assert second.headers["X-Tollbook-Cost-Usd"] == "0"
    paid, cached = books.calls(key_id=account.key.pk)
    assert second.headers["X-Request-Id"] == str(cached.request_id)
    assert first.headers["X-Tollbook-Call-Id"] == str(paid.id)
    assert second.headers["X-Tollbook-Call-Id"] == str(cached.id)
    assert (cached.outcome, cached.cost_usd, cached.cost_source) == ("cached", Decimal(0), "nothing_used")
    assert paid.cost_usd
    assert cached.raw_usage["cached_call"] == str(paid.id)
    assert Decimal(cached.raw_usage["saved_usd"]) == paid.cost_usd
    books.verify()


def test_a_stream_is_replayed_as_a_stream(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.upstream.script(events(CHAT_FRAMES.whole))
    first = gateway.chat(account, headers=READ, stream=True)
    asked, second = arrivals_during(gateway, lambda: gateway.chat(account, headers=READ, stream=True))
    assert asked == 0
    assert second.headers["Content-Type"] == first.headers["Content-Type"] == "text/event-stream"
    # What the first one cost is no news of the second: its cost is in a header.
    assert second.content == split_comment(first.content)[1]
    assert [call.outcome for call in books.calls(key_id=account.key.pk)] == ["ok", "cached"]


@pytest.mark.parametrize(
    "changed",
    [{"temperature": 0.5}, {"messages": [{"role": "user", "content": "And today?"}]}, {"stream": True}],
    ids=["a setting", "the words", "streamed"],
)
def test_another_request_is_asked(gateway: Gateway, changed: dict[str, Any]) -> None:
    account = gateway.account()
    gateway.chat(account, headers=READ)
    asked, _ = arrivals_during(gateway, lambda: gateway.chat(account, headers=READ, **changed))
    assert asked == 1


def test_what_says_nothing_about_the_answer_does_not_matter(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.chat(account, headers=READ, metadata={"run": "1"}, user="a")
    asked, _ = arrivals_during(gateway, lambda: gateway.chat(account, headers=READ, metadata={"run": "2"}, user="b"))
    assert asked == 0
    assert [call.tags for call in books.calls(key_id=account.key.pk)] == [{"run": "1"}, {"run": "2"}]


def test_another_team_never_sees_it(gateway: Gateway) -> None:
    account = gateway.account(key={"team": factories.make_team(name="cache-a")})
    gateway.chat(account, headers=READ)
    same = teammate(gateway, account, user=factories.make_user(username="cache-colleague"))
    other = teammate(gateway, account, team=factories.make_team(name="cache-b"))
    alone = teammate(gateway, account, team=None)
    asked = [arrivals_during(gateway, lambda who=who: gateway.chat(who, headers=READ)) for who in (same, other, alone)]
    assert [count for count, _ in asked] == [0, 1, 1]


def test_without_header_or_key_nothing_is_kept_or_read(gateway: Gateway) -> None:
    account = gateway.account()
    asked = [arrivals_during(gateway, lambda: gateway.chat(account))[0] for _ in range(2)]
    asked.append(arrivals_during(gateway, lambda: gateway.chat(account, headers=READ))[0])
    assert asked == [1, 1, 1]


def test_a_key_opts_in_and_a_header_has_the_last_word(gateway: Gateway) -> None:
    account = gateway.account(key={"reads_cache": True})
    first = gateway.chat(account)
    asked = [arrivals_during(gateway, lambda headers=headers: gateway.chat(account, headers=headers))
             for headers in ({}, OFF, WRITE)]
    assert [count for count, _ in asked] == [0, 1, 1]
    assert asked[0][1].content == first.content
    assert arrivals_during(gateway, lambda: gateway.chat(account))[1].content == asked[2][1].content


def test_an_error_is_not_kept(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.upstream.script(answer(status=400, body=b'{"error": {"message": "no", "type": "invalid_request_error"}}'))
    assert gateway.chat(account, headers=READ).status_code == 400
    asked, answered = arrivals_during(gateway, lambda: gateway.chat(account, headers=READ))
    assert (asked, answered.status_code) == (1, 200)


def test_an_unknown_mode_is_refused_before_anything_is_held(gateway: Gateway) -> None:
    account = gateway.account()
    answered = gateway.chat(account, headers={"X-Tollbook-Cache": "maybe"})
    assert answered.status_code == 400
    assert answered.json()["error"]["param"] == "X-Tollbook-Cache"
    assert books.calls(key_id=account.key.pk) == []


def test_a_limit_on_requests_counts_hits_and_one_on_money_does_not(gateway: Gateway) -> None:
    account = gateway.account(limits=(("requests", "day", "2"), ("usd", "day", "1")))
    first = gateway.chat(account, headers=READ, max_tokens=16)
    assert gateway.chat(account, headers=READ, max_tokens=16).headers["X-Tollbook-Cache"] == "hit"
    assert gateway.chat(account, headers=READ, max_tokens=16).status_code == 429
    assert first.status_code == 200
    used = books.rows(
        "SELECT l.metric, w.used FROM ledger_limitwindow w JOIN ledger_limit l ON l.id = w.limit_id WHERE l.key_id = %s"
        " ORDER BY 1", account.key.pk,
    )  # fmt: skip
    paid = Call.objects.get(key_id=account.key.pk, outcome="ok")
    assert used == [("requests", 2), ("usd", paid.cost_usd)]


def test_the_report_and_the_metrics_tell_the_hit_rate_by_provider_and_model(gateway: Gateway) -> None:
    account = gateway.account(key={"scopes": ["call", "read-spend"]})
    for _ in range(4):
        gateway.chat(account, headers=READ)
    address = f"{gateway.url}/api/spend/?group_by=provider,model&model={account.model.pk}"
    asked = requests.get(address, headers=account.headers, timeout=10)
    [row] = asked.json()["rows"]
    assert (row["calls"], row["cached_calls"], row["cache_hit_rate"]) == (4, 3, "0.7500")
    page = requests.get(f"{gateway.url}/metrics", timeout=10).text
    provider, model = account.model.provider.name, account.model.name
    for result, count in (("hit", 3), ("miss", 1)):
        line = f'tollbook_cache_look_ups_total{{model="{model}",provider="{provider}",result="{result}"}} {count}.0'
        assert line in page.splitlines()


