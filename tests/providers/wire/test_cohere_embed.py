"""Cohere's embeddings as its clients ask for them: passed through, translated for others, and answered in its words."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from providers.embeddings import EmbedAnswer, EmbedInput, EmbedRequest
from providers.errors import InvalidRequest, MalformedAnswer, QuotaExhausted, RateLimited, Unsupported
from providers.unified import Answer, ImagePart, TextPart, Usage
from providers.wire import cohere_embed, cohere_rerank, gemini_embed, openai_embeddings
from tests.recordings import Exchange, cases, exchanges, request_bytes

WIRE = cohere_embed.WIRE
PICTURE = "data:image/png;base64,AAAABBBB"
IMAGE = {"type": "image_url", "image_url": {"url": PICTURE}}


def asked(**fields: Any) -> bytes:
    given = {"texts": ["a"]} if not fields.keys() & {"texts", "images", "inputs"} else {}
    return msgspec.json.encode({"model": "m", "input_type": "search_query", **given, **fields})


def request(**fields: Any) -> EmbedRequest:
    return WIRE.decode_request(asked(**fields))


def answered(*, types: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    usage = Usage(totals={"input": 7}, source="reported")
    answer = EmbedAnswer(**{"id": "e", "model": "m", "vectors": ((0.5, -0.25),), "usage": usage, **fields})
    admitted = WIRE.admit(asked(**({"embedding_types": types} if types else {})))
    value: dict[str, Any] = msgspec.json.decode(WIRE.encode_answer_as_asked(answer, admitted=admitted))
    return value


def test_texts_images_and_mixtures_are_inputs() -> None:
    assert request(texts=["a", "b"]).inputs == (
        EmbedInput(parts=(TextPart(text="a"),)), EmbedInput(parts=(TextPart(text="b"),)),
    )  # fmt: skip
    picture = ImagePart(data="AAAABBBB", media_type="image/png")
    assert request(images=[PICTURE], input_type="image").inputs == (EmbedInput(parts=(picture,)),)
    mixed = request(inputs=[{"content": [{"type": "text", "text": "a"}, IMAGE]}])
    assert mixed.inputs == (EmbedInput(parts=(TextPart(text="a"), picture)),)


def test_admission_counts_what_a_bound_needs() -> None:
    admitted = WIRE.admit(asked(images=[PICTURE], metadata={"team": "a"}))
    assert (admitted.operation, admitted.message_count, admitted.stream) == ("embeddings", 1, False)
    assert (admitted.media, admitted.media_bytes, admitted.fees) == ({"image": 1}, 8, {"images": 1})
    assert admitted.metadata == {"team": "a"}
    assert WIRE.admit(asked(texts=["a", "b"])).message_count == 2


def test_pass_through_changes_the_model_and_keeps_the_gateways_own_here() -> None:
    body = asked(embedding_types=["int8", "ubinary"], truncate="START", new={"deep": 1})
    admitted = WIRE.admit(body[:-1] + b', "metadata": {"team": "a"}, "drop_unsupported": false, "odd": 1.50}')
    rewritten = WIRE.rewrite(admitted, model="up")
    assert rewritten == body[:-1].replace(b'"model":"m"', b'"model":"up"') + b',"odd":1.50}'


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"texts": []}, "$.texts"),
        ({"texts": ["a"], "images": [PICTURE]}, "$.images"),
        ({"texts": [3]}, "$.texts[0]"),
        ({"texts": [""]}, "$.texts[0]"),
        ({"inputs": [{"content": []}]}, "$.inputs[0].content"),
        ({"inputs": [{"content": [{"type": "audio"}]}]}, "$.inputs[0].content"),
        ({"embedding_types": "float"}, "$.embedding_types"),
        ({"output_dimension": 0}, "$.output_dimension"),
        ({"model": ""}, "$.model"),
    ],
)
def test_a_wrong_body_is_refused_with_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRE.admit(asked(**fields))
    assert caught.value.param == param


def test_a_stream_is_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        WIRE.admit(asked(stream=True))
    assert caught.value.param == "stream"


@pytest.mark.parametrize(
    ("word", "task"),
    [
        ("search_document", "RETRIEVAL_DOCUMENT"),
        ("search_query", "RETRIEVAL_QUERY"),
        ("classification", "CLASSIFICATION"),
        ("clustering", "CLUSTERING"),
    ],
)
def test_what_the_vectors_are_for_is_told_to_a_provider_that_knows_it(word: str, task: str) -> None:
    sent = msgspec.json.decode(gemini_embed.BATCH.encode_request(request(input_type=word, output_dimension=8)))
    assert (sent["requests"][0]["taskType"], sent["requests"][0]["outputDimensionality"]) == (task, 8)


def test_openai_is_asked_in_its_words() -> None:
    sent = openai_embeddings.WIRE.encode_request(request(texts=["a", "b"], truncate="NONE", embedding_types=["base64"]))
    assert msgspec.json.decode(sent) == {"model": "m", "input": ["a", "b"], "encoding_format": "base64"}
    sent = openai_embeddings.WIRE.encode_request(request(embedding_types=["base64", "float"]))
    assert msgspec.json.decode(sent)["encoding_format"] == "float"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"embedding_types": ["float", "int8"]}, "embedding_types"),
        ({"embedding_types": ["invented"]}, "embedding_types"),
        ({"truncate": "START"}, "truncate"),
        ({"input_type": "invented"}, "input_type"),
        ({"max_tokens": 9}, "max_tokens"),
    ],
)
def test_what_another_provider_cannot_be_told_is_refused_by_name_or_dropped(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        openai_embeddings.WIRE.encode_request(request(**fields))
    assert caught.value.param == param
    sent = msgspec.json.decode(openai_embeddings.WIRE.encode_request(request(**fields), drop_unsupported=True))
    assert sent["input"] == ["a"]
    assert param not in sent


def test_a_chat_is_no_answer_here() -> None:
    with pytest.raises(MalformedAnswer):
        WIRE.encode_answer(Answer(id="", model="m", choices=()))


def test_vectors_come_in_each_type_that_was_asked_for() -> None:
    packed = base64.b64encode(b"\0\0\0\x3f\0\0\x80\xbe").decode()
    assert answered()["embeddings"] == {"float": [[0.5, -0.25]]}
    assert answered(types=["base64"])["embeddings"] == {"base64": [packed]}
    assert answered(types=["base64", "float"])["embeddings"] == {"float": [[0.5, -0.25]], "base64": [packed]}
    assert answered(types=["float"], vectors=(packed,))["embeddings"] == {"float": [[0.5, -0.25]]}
    # Asked for a rounding with drop_unsupported: what there is.
    assert answered(types=["int8"])["embeddings"] == {"float": [[0.5, -0.25]]}


def test_an_answer_repeats_the_texts_and_tells_what_is_known_to_be_billed() -> None:
    value = answered()
    assert (value["id"], value["texts"], value["response_type"]) == ("e", ["a"], "embeddings_by_type")
    assert value["meta"] == {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}}
    assert "billed_units" not in answered(usage=Usage())["meta"]
    assert answered(usage=Usage(totals={"images": Decimal(2)}))["meta"]["billed_units"] == {"images": 2}
    assert answered(id="")["id"]


def test_what_it_says_of_a_request_comes_back_as_it_was() -> None:
    for fields in ({}, {"input_type": "clustering", "output_dimension": 4}, {"inputs": [{"content": [IMAGE]}]}):
        before = request(**fields)
        assert WIRE.decode_request(WIRE.encode_request(before)) == before


@pytest.mark.parametrize("wire", [WIRE, cohere_rerank.V2], ids=["embed", "rerank"])
def test_errors_are_coheres_both_ways(wire: Any) -> None:
    body = wire.encode_error(status=400, code="c", message="m", param="f", request_id="r", call_id="k")
    assert msgspec.json.decode(body) == {
        "id": "k", "message": "m", "code": "c", "param": "f", "request_id": "r", "call_id": "k",
    }  # fmt: skip
    monthly = b'{"id": "x", "message": "You are limited to 1000 API calls / month."}'
    error = wire.decode_error(status=429, body=monthly, headers={}, provider="p")
    assert (type(error), error.upstream_request_id) == (QuotaExhausted, "x")
    busy = wire.decode_error(status=429, body=b'{"message": "slow down"}', headers={}, provider="p")
    assert isinstance(busy, RateLimited)


@pytest.mark.parametrize("exchange", cases(exchanges(status=200, where=lambda item: item["api"] == "cohere.embed")))
def test_recorded_requests_pass_and_are_translated(exchange: Exchange) -> None:
    body = request_bytes(exchange)
    sent = msgspec.json.decode(WIRE.rewrite(WIRE.admit(body), model="up"))
    assert sent == {**msgspec.json.decode(body), "model": "up"}
    request = WIRE.decode_request(body)
    inputs = msgspec.json.decode(openai_embeddings.WIRE.encode_request(request, drop_unsupported=True))["input"]
    assert len(inputs) == len(request.inputs)
