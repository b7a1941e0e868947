"""Embeddings on the wires of Cohere, Google and Titan: asked by a client of OpenAI's, answered to it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types import CreateEmbeddingResponse

from ledger.meters import METERS
from providers import errors
from providers.embeddings import EmbedAnswer
from providers.unified import Usage
from providers.wire import cohere_embed, gemini_embed, openai_embeddings, titan_embed
from providers.wire.unstreamed import ProviderSide
from tests.recordings import Exchange, answer_bytes, cases, exchanges

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
LINKED = {"type": "image_url", "image_url": {"url": "https://h/i.png"}}
ALL = (cohere_embed.WIRE, gemini_embed.BATCH, gemini_embed.SINGLE, gemini_embed.PREDICT, titan_embed.WIRE)


def translated(wire: Any, *, drop: bool = False, **fields: Any) -> dict[str, Any]:
    body = msgspec.json.encode({"model": "m", "input": "hi"} | fields)
    request = openai_embeddings.WIRE.decode_request(body)
    value: dict[str, Any] = msgspec.json.decode(wire.encode_request(request, drop_unsupported=drop))
    return value


def decoded(wire: Any, **value: Any) -> EmbedAnswer:
    body = msgspec.json.encode(value)
    answer: EmbedAnswer = wire.decode_answer(body)
    assert wire.read_usage(body) == (answer.usage, "")
    CreateEmbeddingResponse.model_validate_json(openai_embeddings.WIRE.encode_answer(answer))
    assert answer.usage.totals.keys() <= METERS.keys()
    return answer


def test_cohere_is_asked_in_its_words() -> None:
    assert translated(cohere_embed.WIRE, input=["a", "b"], dimensions=256) == {
        "model": "m", "input_type": "search_document", "embedding_types": ["float"], "texts": ["a", "b"],
        "output_dimension": 256,
    }  # fmt: skip
    asked = translated(cohere_embed.WIRE, input_type="query", encoding_format="base64")
    assert (asked["input_type"], asked["embedding_types"]) == ("search_query", ["base64"])
    mixed = translated(cohere_embed.WIRE, input=["a", {"content": [IMAGE]}])
    assert mixed["inputs"] == [{"content": [{"type": "text", "text": "a"}]}, {"content": [IMAGE]}]


def test_coheres_vectors_of_either_type() -> None:
    meta = {"billed_units": {"input_tokens": 4}}
    assert decoded(cohere_embed.WIRE, embeddings={"float": [[0.5]]}, meta=meta).vectors == ((0.5,),)
    assert decoded(cohere_embed.WIRE, embeddings={"float": None, "base64": ["AAAAPw=="]}).vectors == ("AAAAPw==",)
    assert decoded(cohere_embed.WIRE, embeddings=[[0.5]]).vectors == ((0.5,),)


@pytest.mark.parametrize(
    ("units", "totals"),
    [
        ({"input_tokens": 4}, {"input": 4}),
        ({"images": 2}, {"images": 2}),
        ({"image_tokens": 30}, {"input": 30, "input_image": 30}),
        ({"text_tokens": 4, "image_tokens": 30}, {"input": 34, "input_image": 30}),
        ({"input_tokens": 34, "text_tokens": 4, "image_tokens": 30}, {"input": 34, "input_image": 30}),
        ({"input_tokens": 4, "image_tokens": 30}, {"input": 34, "input_image": 30}),
        ({"input_tokens": -4}, {}),
        ({}, {}),
    ],
)
def test_what_cohere_bills(units: dict[str, int], totals: dict[str, int]) -> None:
    usage = decoded(cohere_embed.WIRE, embeddings=[[0.5]], meta={"billed_units": units}).usage
    assert (usage.totals, usage.source) == (totals, "reported" if totals else "none")


def test_gemini_is_asked_once_for_each_input() -> None:
    asked = translated(gemini_embed.BATCH, input=["a", {"content": [IMAGE]}], dimensions=8, input_type="query")
    more = {"model": "models/m", "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}
    assert asked["requests"] == [
        {"content": {"parts": [{"text": "a"}]}, **more},
        {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}, **more},
    ]
    assert translated(gemini_embed.SINGLE) == {"content": {"parts": [{"text": "hi"}]}}
    assert translated(gemini_embed.PREDICT, input=["a", "b"], input_type="document", dimensions=8) == {
        "instances": [
            {"content": "a", "task_type": "RETRIEVAL_DOCUMENT"}, {"content": "b", "task_type": "RETRIEVAL_DOCUMENT"},
        ],
        "parameters": {"outputDimensionality": 8},
    }  # fmt: skip


def test_geminis_usage_with_its_modalities() -> None:
    details = [{"modality": "TEXT", "tokenCount": 3}, {"modality": "IMAGE", "tokenCount": 258}]
    metadata: dict[str, Any] = {"promptTokenCount": 261, "promptTokensDetails": details}
    usage = decoded(gemini_embed.SINGLE, embedding={"values": [0.5]}, usageMetadata=metadata).usage
    assert usage == Usage(totals={"input": 261, "input_image": 258}, source="reported", raw=metadata)
    odd = [{"modality": "IMAGE", "tokenCount": 9}, {"modality": "AUDIO", "tokenCount": 9}, "x", {"modality": 3}]
    metadata = {"promptTokenCount": 10, "promptTokensDetails": odd}
    usage = decoded(gemini_embed.SINGLE, embedding={"values": [0.5]}, usageMetadata=metadata).usage
    assert usage.totals == {"input": 10, "input_image": 9, "input_audio": 1}
    metadata = {"promptTokenCount": 261, "promptTokenDetails": details}
    usage = decoded(gemini_embed.BATCH, embeddings=[{"values": [0.5]}], usageMetadata=metadata).usage
    assert (usage.totals, usage.flags) == ({"input": 261}, ("unmetered:promptTokenDetails",))
    assert decoded(gemini_embed.SINGLE, embedding={"values": [0.5]}).usage.source == "none"


def test_predictions_count_each_input() -> None:
    def entry(tokens: Any) -> dict[str, Any]:
        return {"embeddings": {"values": [0.5], "statistics": {"token_count": tokens, "truncated": False}}}

    usage = decoded(gemini_embed.PREDICT, predictions=[entry(3), entry(4.0)]).usage
    assert (usage.totals, usage.source) == ({"input": 7}, "reported")
    usage = decoded(gemini_embed.PREDICT, predictions=[entry(3), entry(None)]).usage
    assert (usage.totals, usage.source) == ({"input": 3}, "partial")
    assert decoded(gemini_embed.PREDICT, predictions=[entry("x")]).usage.source == "none"


def test_titan_takes_one_text() -> None:
    assert translated(titan_embed.WIRE, dimensions=256) == {"inputText": "hi", "dimensions": 256}
    answer = decoded(titan_embed.WIRE, embedding=[0.5], inputTextTokenCount=3)
    assert (answer.vectors, answer.usage.totals) == (((0.5,),), {"input": 3})
    assert decoded(titan_embed.WIRE, embeddingsByType={"float": [0.5]}).usage.source == "none"


@pytest.mark.parametrize(
    ("wire", "fields", "param"),
    [
        (cohere_embed.WIRE, {"input": [1, 2]}, "input[0]"),
        (cohere_embed.WIRE, {"input": [{"content": [LINKED]}]}, "input[0]"),
        (cohere_embed.WIRE, {"user": "u"}, "user"),
        (cohere_embed.WIRE, {"new": 1}, "new"),
        (gemini_embed.BATCH, {"input": [1, 2]}, "input[0]"),
        (gemini_embed.BATCH, {"input": [{"content": [LINKED]}]}, "input[0]"),
        (gemini_embed.BATCH, {"encoding_format": "new"}, "encoding_format"),
        (gemini_embed.SINGLE, {"input": ["a", "b"]}, "input"),
        (gemini_embed.PREDICT, {"input": [{"content": [IMAGE]}]}, "input[0]"),
        (gemini_embed.PREDICT, {"user": "u"}, "user"),
        (titan_embed.WIRE, {"input": ["a", "b"]}, "input"),
        (titan_embed.WIRE, {"input_type": "query"}, "input_type"),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(wire: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.Unsupported) as caught:
        translated(wire, **fields)
    assert caught.value.param == param
    if not param.startswith("input[") and param != "input":
        assert translated(wire, drop=True, **fields)


@pytest.mark.parametrize("wire", ALL, ids=lambda wire: wire.name)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"embeddings": 3, "predictions": [{}], "embedding": {}}'])
def test_what_is_no_answer_is_malformed(wire: Any, body: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        wire.decode_answer(body)


@pytest.mark.parametrize("wire", [gemini_embed.PREDICT, titan_embed.WIRE], ids=lambda wire: wire.name)
def test_they_have_no_client_side_and_no_streams(wire: ProviderSide) -> None:
    for ask in (lambda: wire.admit(b"{}"), lambda: wire.decode_request(b"{}"), wire.stream_reader):
        with pytest.raises(errors.Unsupported):
            ask()


@pytest.mark.parametrize(
    "exchange", cases(exchanges(status=200, where=lambda item: "mbed" in item["api"] and item["api"] != "embeddings"))
)
def test_recorded_answers(exchange: Exchange) -> None:
    wires: dict[str, Any] = {
        "cohere.embed": cohere_embed.WIRE,
        "gemini.batchEmbedContents": gemini_embed.BATCH,
        "gemini.embedContent": gemini_embed.SINGLE,
    }
    answer = wires[exchange["api"]].decode_answer(answer_bytes(exchange))
    names = {"image_in": "input_image", "audio_in": "input_audio"}
    expected = {names.get(name, name): number for name, number in exchange["expected"]["usage"].items() if number}
    assert (answer.usage.totals, answer.usage.source) == (expected, "reported")
    assert answer.usage.raw == exchange["usage_raw"]
    assert answer.vectors
