"""Rerank in Cohere's words and in Voyage's, and what is billed for it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import errors
from providers.rerank import Ranked, RerankAnswer, RerankRequest
from providers.unified import Message, Request, TextPart, Usage
from providers.wire.cohere_rerank import VOYAGE, WIRE
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes

NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "query": "q", "documents": ["a", "b"]} | fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "$.query"),
        ({"query": None}, "$.query"),
        ({"documents": []}, "$.documents"),
        ({"documents": [1]}, "$.documents[0]"),
        ({"top_n": 0}, "$.top_n"),
        ({"model": 3}, "$.model"),
        ({"stream": True}, "stream"),
    ],
)
def test_a_wrong_body_is_refused_with_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        WIRE.admit(body(**fields))
    assert caught.value.param == param


def test_a_document_without_text_is_refused_where_it_must_be_translated() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        WIRE.decode_request(body(documents=["a", {"title": "b"}]))
    assert caught.value.param == "$.documents[1].text"
    assert WIRE.decode_request(body(documents=[{"text": "a"}])).documents == ("a",)


@pytest.mark.parametrize(
    ("documents", "units"),
    [(["a"], 1), (["a"] * 100, 1), (["a"] * 101, 2), (["a" * 5000], 1), (["a" * 1500] * 60, 2)],
)
def test_the_search_units_it_may_take_at_most(documents: list[str], units: int) -> None:
    admitted = WIRE.admit(body(documents=documents, metadata={"k": "v"}))
    assert admitted.fees == {"search_units": units}
    assert (admitted.operation, admitted.metadata) == ("rerank", {"k": "v"})


def test_pass_through_changes_the_model_and_keeps_the_gateways_own_here() -> None:
    admitted = WIRE.admit(body(new=[1], metadata={"k": "v"}, drop_unsupported=True, documents=[{"title": "t"}]))
    assert msgspec.json.decode(WIRE.rewrite(admitted, model="up")) == {
        "model": "up", "query": "q", "documents": [{"title": "t"}], "new": [1],
    }  # fmt: skip


@given(
    st.builds(
        RerankRequest,
        model=NAMES,
        query=TEXTS,
        documents=st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
        top_n=st.none() | st.integers(1, 9),
        return_documents=st.sampled_from([None, True, False]),
        extra=st.dictionaries(NAMES.map(lambda name: f"new_{name}"), st.integers(), max_size=2),
        wire=st.just("cohere_rerank"),
    )
)
def test_a_request_survives_the_way_out_and_back(request: RerankRequest) -> None:
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


@given(
    st.lists(st.builds(Ranked, st.integers(0, 9), st.floats(0, 1), st.just("") | TEXTS), max_size=3).map(tuple),
    st.sampled_from([{"search_units": 2}, {"input": 9}]),
)
def test_an_answer_survives_the_way_out_and_back(results: tuple[Ranked, ...], totals: dict[str, int | Decimal]) -> None:
    answer = RerankAnswer(
        id="r1", model="m", results=results, usage=Usage(totals=totals), extra={"new": 1}, wire="cohere_rerank"
    )
    again = WIRE.decode_answer(WIRE.encode_answer(answer))
    assert again.usage.totals == totals
    assert msgspec.structs.replace(again, usage=answer.usage) == answer


def test_voyage_is_asked_and_answers_in_its_own_words() -> None:
    request = WIRE.decode_request(body(top_n=2, return_documents=True))
    assert msgspec.json.decode(VOYAGE.encode_request(request)) == {
        "model": "m", "query": "q", "documents": ["a", "b"], "top_k": 2, "return_documents": True,
    }  # fmt: skip
    ranked = {"index": 1, "relevance_score": 0.5, "document": "b"}
    value = {"data": [ranked], "model": "v", "usage": {"total_tokens": 7}}
    answer = VOYAGE.decode_answer(msgspec.json.encode(value))
    assert (answer.results, answer.usage.totals) == ((Ranked(1, 0.5, "b"),), {"input": 7})
    assert VOYAGE.read_usage(msgspec.json.encode(value)) == (answer.usage, "v")
    assert msgspec.json.decode(WIRE.encode_answer(answer))["results"] == [
        {"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}
    ]


def test_what_voyage_cannot_be_told_is_refused_by_name() -> None:
    request = WIRE.decode_request(body(max_tokens_per_doc=9))
    with pytest.raises(errors.Unsupported) as caught:
        VOYAGE.encode_request(request)
    assert caught.value.param == "max_tokens_per_doc"
    assert "max_tokens_per_doc" not in msgspec.json.decode(VOYAGE.encode_request(request, drop_unsupported=True))


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"results": 1}', b'{"results": [1]}', b'{"results": [{"index": 0}]}',
     b'{"results": [{"index": true, "relevance_score": 1}]}'],
)  # fmt: skip
def test_what_is_no_answer_is_malformed(answer: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        WIRE.decode_answer(answer)


@pytest.mark.parametrize(
    ("fields", "totals", "source"),
    [
        ({"meta": {"billed_units": {"search_units": 2}}}, {"search_units": 2}, "reported"),
        ({"meta": {"billed_units": {"search_units": -2}}}, {}, "none"),
        ({"meta": {}}, {}, "none"),
        ({"usage": {"prompt_tokens": 3, "total_tokens": 3}}, {"input": 3}, "reported"),
        ({"meta": {"api_version": {}}, "usage": {"total_tokens": 3}}, {"input": 3}, "reported"),
        ({"usage": {"search_units": 1, "total_tokens": 150, "cost": 0.001}}, {"search_units": 1}, "reported"),
        ({"usage": {"search_units": 0, "total_tokens": 150}}, {"input": 150}, "reported"),
        ({}, {}, "none"),
    ],
)
def test_usage(fields: dict[str, Any], totals: dict[str, int], source: str) -> None:
    usage, _ = WIRE.read_usage(msgspec.json.encode({"results": []} | fields))
    assert (usage.totals, usage.source) == (totals, source)


def test_a_chat_cannot_be_asked_of_a_ranking_model() -> None:
    chat = Request(model="m", messages=(Message(role="user", parts=(TextPart(text="x"),)),))
    for wire in (WIRE, VOYAGE):
        with pytest.raises(errors.Unsupported):
            wire.encode_request(chat)


@pytest.mark.parametrize("exchange", cases(exchanges(api="rerank", status=200)))
def test_recorded_answers(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    expected = {name: number for name, number in exchange["expected"]["usage"].items() if number}
    assert (answer.usage.totals, answer.usage.source) == (expected, "reported")
    assert answer.usage.raw == exchange["usage_raw"]
    stated = exchange["expected"]["stated_cost_usd"]
    assert answer.usage.stated_cost_usd == (None if stated is None else Decimal(stated))
    said = exchange["response_body"]
    scores = [item["relevance_score"] for item in said.get("results", said.get("data"))]
    assert [item.score for item in answer.results] == scores


@pytest.mark.parametrize("exchange", cases(exchanges(api="rerank", status=200)))
def test_recorded_requests_survive(exchange: Exchange) -> None:
    again = msgspec.json.decode(WIRE.encode_request(WIRE.decode_request(request_bytes(exchange))))
    assert again == exchange["request_body"]
