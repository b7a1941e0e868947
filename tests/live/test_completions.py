"""Legacy completions: OpenAI's own client, a call in the books, and a refusal where no provider has them."""

from __future__ import annotations

import msgspec
import pytest
from openai import BadRequestError, OpenAI

from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.live.test_pass_through import split_comment

SENTENCE = "The ledger balances to the last digit today"


@pytest.fixture(scope="module")
def account(gateway: Gateway) -> Account:
    return gateway.account()


def client_of(gateway: Gateway, account: Account) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=account.text, max_retries=0)


def assert_booked(gateway: Gateway, account: Account) -> None:
    call, line = books.calls(key_id=account.key.pk)[-1], gateway.upstream.invoice.lines[-1]
    assert (call.surface, call.outcome, call.usage_source) == ("completions", "ok", "reported")
    assert (call.input_tokens, call.output_tokens) == (line.input_tokens, line.output_tokens)
    assert call.cost_usd == usd(line.input_tokens, line.output_tokens)


def test_a_prompt_is_completed_and_booked(gateway: Gateway, account: Account) -> None:
    made = client_of(gateway, account).completions.create(model=account.model.name, prompt="Do the books balance?")
    assert (made.object, made.choices[0].text) == ("text_completion", SENTENCE)
    assert_booked(gateway, account)
    assert gateway.upstream.arrivals[-1].path == "/v1/completions"


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_stream_is_completed_and_booked(gateway: Gateway, account: Account, wants_usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    chunks = list(
        client_of(gateway, account).completions.create(  # type: ignore[call-overload]  # options told by a dict
            model=account.model.name, prompt=["a"], stream=True, **options
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == SENTENCE
    assert any(chunk.usage for chunk in chunks) == wants_usage
    assert_booked(gateway, account)


def test_a_stream_comes_back_byte_for_byte_but_for_the_cost_comment(gateway: Gateway, account: Account) -> None:
    body = {"model": account.model.name, "prompt": "a", "stream": True, "novel": {"a": 1}}
    got = gateway.post("/v1/completions", msgspec.json.encode(body), headers=account.headers)
    comment, rest = split_comment(got.content)
    assert b"cost_usd=" in comment
    assert rest.endswith(b"data: [DONE]\n\n")
    assert msgspec.json.decode(gateway.upstream.arrivals[-1].body)["novel"] == {"a": 1}


def test_every_answer_that_may_be_written_is_held_for(gateway: Gateway) -> None:
    made = gateway.account(limits=(("usd", "day", "0.01"),), default_max_output_tokens=100)
    body = {"model": made.model.name, "prompt": ["a", "b"], "max_tokens": 100}
    held = gateway.post("/v1/completions", msgspec.json.encode({**body, "best_of": 3}), headers=made.headers)
    assert held.status_code == 200
    refused = gateway.post("/v1/completions", msgspec.json.encode({**body, "best_of": 10}), headers=made.headers)
    assert refused.status_code == 429, refused.text


def test_a_provider_without_them_is_refused_by_name(gateway: Gateway) -> None:
    made = gateway.account(wire="anthropic")
    with pytest.raises(BadRequestError, match="has no completions"):
        client_of(gateway, made).completions.create(model=made.model.name, prompt="a")
    assert books.calls(key_id=made.key.pk) == []
