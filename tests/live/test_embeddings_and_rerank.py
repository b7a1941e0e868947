"""Embeddings and rerank, which answer in one piece: passed through and translated, each a call in the books."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import requests
from openai import OpenAI

from tests.live import books
from tests.live.gateway import Account, Gateway
from tests.upstream import answer

# Where the fake upstream speaks a vendor's own way, from its root on.
ROOTS = {"cohere": "", "gemini": "/v1beta"}
PER_TOKEN = Decimal("0.000003")


def account(gateway: Gateway, adapter: str, **fields: Any) -> Account:
    """A model at a provider of this adapter."""
    made = gateway.account(wire=adapter, **fields)
    if adapter in ROOTS:
        made.model.provider.base_url = f"{gateway.upstream.url}{ROOTS[adapter]}"
        made.model.provider.save()
        gateway.sync()
    return made


def post(gateway: Gateway, made: Account, path: str, **fields: Any) -> requests.Response:
    body = msgspec.json.encode({"model": made.model.name, **fields})
    return gateway.post(path, body, headers=made.headers)


def embed(gateway: Gateway, made: Account, **fields: Any) -> requests.Response:
    return post(gateway, made, "/v1/embeddings", **{"input": "Does it balance?", **fields})


def rerank(gateway: Gateway, made: Account, **fields: Any) -> requests.Response:
    return post(gateway, made, "/v1/rerank", **{"query": "q", "documents": ["a", "b"], **fields})


@pytest.mark.parametrize("adapter", ["openai", "mistral", "together", "cohere", "gemini"])
def test_embeddings_of_any_provider_are_priced_by_what_was_read(gateway: Gateway, adapter: str) -> None:
    made = account(gateway, adapter, limits=(("usd", "day", "1"),), rates={"input": "3"})
    answered = embed(gateway, made)
    assert answered.status_code == 200, answered.text
    assert answered.json()["data"][0]["embedding"] == [0.5, -0.25, 0.125]
    call = books.call_of(made.key.pk)
    assert (call.surface, call.outcome, call.usage_source, call.output_tokens) == ("embeddings", "ok", "reported", 0)
    assert call.input_tokens == answered.json()["usage"]["prompt_tokens"] > 0
    assert call.cost_usd == call.input_tokens * PER_TOKEN
    assert Decimal(answered.headers["X-Tollbook-Cost-Usd"]) == call.cost_usd
    assert "X-Tollbook-Max-Output-Tokens" not in answered.headers


def test_an_embeddings_body_passes_through_as_it_came(gateway: Gateway) -> None:
    made = account(gateway, "openai")
    entry = b'{"object":"embedding","index":0,"embedding":[1.50]}'
    raw = b'{"object":"list","data":[%b],"model":"x", "usage":{"prompt_tokens":7,"total_tokens":7}}' % entry
    gateway.upstream.script(answer(body=raw))
    answered = embed(gateway, made, new={"deep": 1})
    assert answered.content == raw
    sent = msgspec.json.decode(gateway.upstream.arrivals[-1].body)
    assert sent == {"model": "fake-model", "input": "Does it balance?", "new": {"deep": 1}}
    assert gateway.upstream.arrivals[-1].path == "/v1/embeddings"


@pytest.mark.parametrize("adapter", ["openai", "cohere", "gemini"])
def test_the_official_client_reads_embeddings(gateway: Gateway, adapter: str) -> None:
    made = account(gateway, adapter)
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=made.text, max_retries=0) as client:
        # The client asks for base64 by itself.
        made_of_text = client.embeddings.create(model=made.model.name, input="x")
        as_numbers = client.embeddings.create(model=made.model.name, input="x", encoding_format="float")
    assert made_of_text.data[0].embedding == as_numbers.data[0].embedding == [0.5, -0.25, 0.125]


def test_a_translated_answer_is_base64_where_that_was_asked_for(gateway: Gateway) -> None:
    text = embed(gateway, account(gateway, "gemini"), encoding_format="base64").json()["data"][0]["embedding"]
    assert len(base64.b64decode(text)) == 12


@pytest.mark.parametrize(
    ("adapter", "rates", "cost"),
    [("cohere", {"search_units": "2000"}, "0.002"), ("together", {"search_units": "2000"}, "0.002")],
)
def test_a_rerank_is_priced_by_its_search_units(
    gateway: Gateway, adapter: str, rates: Mapping[str, str], cost: str
) -> None:
    made = account(gateway, adapter, limits=(("usd", "day", "1"),), rates=rates)
    answered = rerank(gateway, made, top_n=2)
    assert answered.status_code == 200, answered.text
    assert [item["index"] for item in answered.json()["results"]] == [1, 0]
    call = books.call_of(made.key.pk)
    assert (call.surface, call.meters, call.cost_usd) == ("rerank", {"search_units": 1}, Decimal(cost))
    assert msgspec.json.decode(gateway.upstream.arrivals[-1].body)["top_n"] == 2


def test_voyages_tokens_are_what_a_rerank_costs_there(gateway: Gateway) -> None:
    made = account(gateway, "voyage", rates={"input": "3"}, limits=(("usd", "day", "1"),))
    body = {"object": "list", "data": [{"index": 1, "relevance_score": 0.5}], "usage": {"total_tokens": 57}}
    gateway.upstream.script(answer(body=msgspec.json.encode(body)))
    answered = rerank(gateway, made, top_n=1)
    assert answered.json()["results"] == [{"index": 1, "relevance_score": 0.5}]
    assert msgspec.json.decode(gateway.upstream.arrivals[-1].body)["top_k"] == 1
    assert books.call_of(made.key.pk).cost_usd == 57 * PER_TOKEN


def test_a_limit_holds_for_search_units(gateway: Gateway) -> None:
    made = account(gateway, "cohere", limits=(("usd", "day", "0.003"),), rates={"search_units": "2000"})
    assert rerank(gateway, made).status_code == 200
    refused = rerank(gateway, made)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "limit_reached")


@pytest.mark.parametrize("asked", [embed, rerank])
def test_a_provider_without_the_operation_is_a_400_and_no_call(gateway: Gateway, asked: Any) -> None:
    made = account(gateway, "anthropic")
    before = len(gateway.upstream.arrivals)
    refused = asked(gateway, made)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert refused.json()["error"]["param"] == "model"
    assert len(gateway.upstream.arrivals) == before
    assert not books.rows("SELECT 1 FROM ledger_call WHERE key_id = %s", made.key.pk)


def test_what_a_provider_cannot_be_told_is_a_400_that_names_it(gateway: Gateway) -> None:
    made = account(gateway, "cohere")
    refused = embed(gateway, made, user="u-1")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "user")
    assert embed(gateway, made, user="u-1", drop_unsupported=True).status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/embeddings", {"input": []}, "$.input"),
        ("/v1/embeddings", {"input": "x", "stream": True}, "stream"),
        ("/v1/rerank", {"query": "q"}, "$.documents"),
    ],
)
def test_a_wrong_body_is_a_400_with_its_path(gateway: Gateway, path: str, fields: dict[str, Any], param: str) -> None:
    refused = post(gateway, account(gateway, "openai"), path, **fields)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_provider_that_tells_no_usage_is_estimated_from_the_input(gateway: Gateway) -> None:
    made = account(gateway, "openai", upstream_name="fake-nousage", rates={"input": "3"})
    assert embed(gateway, made).status_code == 200
    call = books.call_of(made.key.pk)
    assert (call.usage_source, call.output_tokens) == ("estimated", 0)
    assert call.input_tokens > 0


def test_a_failing_provider_is_a_row_that_costs_nothing(gateway: Gateway) -> None:
    made = account(gateway, "cohere", upstream_name="fake-429")
    refused = embed(gateway, made)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "provider_rate_limited")
    call = books.call_of(made.key.pk)
    assert (call.outcome, call.cost_usd) == ("refused", Decimal(0))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
def test_chats_reach_cohere_from_both_surfaces(gateway: Gateway, path: str, stream: bool) -> None:
    made = account(gateway, "cohere")
    said = {"messages": [{"role": "user", "content": "Does it balance?"}], "max_tokens": 50, "stream": stream}
    answered = post(gateway, made, path, **said)
    assert answered.status_code == 200, answered.text
    assert "balances" in answered.text
    call = books.call_of(made.key.pk)
    # What is billed, not the million tokens that the fake says were read.
    assert (call.outcome, call.output_tokens, call.usage_source) == ("ok", 8, "reported")
    assert call.cost_usd == call.input_tokens * PER_TOKEN + 8 * Decimal("0.000015")
