"""What Google's own clients ask of embeddings, passed through to Google and read for everyone else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from providers import errors
from providers.embeddings import EmbedAnswer
from providers.unified import ImagePart, TextPart, Usage
from providers.wire import cohere_embed, gemini_embed, openai_embeddings
from tests.recordings import Exchange, cases, exchanges, request_bytes

PNG = {"inline_data": {"mime_type": "image/png", "data": "AAAA"}}


def one(text: str = "a", **fields: Any) -> dict[str, Any]:
    return {"content": {"parts": [{"text": text}]}, **fields}


def batch(*requests: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"model": "m", "stream": False, "requests": list(requests), **fields}).encode()


def single(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "stream": False, **one(), **fields}).encode()


def test_a_batch_goes_to_google_as_it_came_under_the_upstream_name() -> None:
    asked = b'{"model":"models/m", "content": {"parts":[ {"text":"x"} ]}, "outputDimensionality":3.0}'
    body = b'{"model":"m","stream":false,"new":1.50,"requests":[%b]}' % asked
    rewritten = gemini_embed.BATCH.rewrite(gemini_embed.BATCH.admit(body), model="up")
    fields = msgspec.json.decode(rewritten, type=dict[str, msgspec.Raw])
    assert fields.keys() == {"new", "requests"}
    assert bytes(fields["new"]) == b"1.50"
    (request,) = msgspec.json.decode(fields["requests"], type=list[dict[str, msgspec.Raw]])
    kept = msgspec.json.decode(asked, type=dict[str, msgspec.Raw]) | {"model": msgspec.Raw(b'"models/up"')}
    assert {name: bytes(raw) for name, raw in request.items()} == {name: bytes(raw) for name, raw in kept.items()}


def test_admission_counts_what_is_embedded() -> None:
    admitted = gemini_embed.BATCH.admit(batch(one(), {"content": {"parts": [{"text": "x"}, PNG]}}))
    assert (admitted.model, admitted.operation, admitted.message_count) == ("m", "embeddings", 2)
    assert (admitted.media, admitted.media_bytes, admitted.fees) == ({"image": 1}, 4, {"images": 1})
    assert gemini_embed.SINGLE.admit(single()).message_count == 1


def test_audio_passes_through_to_google_and_is_refused_elsewhere() -> None:
    body = single(content={"parts": [{"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}}]})
    assert b"audio/mp3" in gemini_embed.SINGLE.rewrite(gemini_embed.SINGLE.admit(body), model="up")
    with pytest.raises(errors.InvalidRequest) as caught:
        gemini_embed.SINGLE.decode_request(body)
    assert caught.value.param == "$.content.parts[0]"


def test_a_batch_is_read_with_its_purpose_and_length() -> None:
    task = {"task_type": "RETRIEVAL_QUERY", "output_dimensionality": 8}
    request = gemini_embed.BATCH.decode_request(batch(one("a", **task), {"content": {"parts": [PNG]}, **task}))
    assert [item.parts for item in request.inputs] == [
        (TextPart("a"),),
        (ImagePart(data="AAAA", media_type="image/png"),),
    ]
    assert (request.dimensions, request.purpose, request.extra) == (8, "query", {})
    plain = gemini_embed.BATCH.decode_request(batch(one("a"), one("b")))
    said = json.loads(openai_embeddings.WIRE.encode_request(plain))
    assert said == {"model": "m", "input": ["a", "b"]}


def test_what_only_google_knows_of_one_text_goes_to_google_and_nowhere_else() -> None:
    request = gemini_embed.SINGLE.decode_request(single(title="T", taskType="QUESTION_ANSWERING"))
    (asked,) = json.loads(gemini_embed.BATCH.encode_request(request))["requests"]
    assert asked == {"model": "models/m", **one(), "title": "T", "taskType": "QUESTION_ANSWERING"}
    with pytest.raises(errors.Unsupported) as caught:
        cohere_embed.WIRE.encode_request(request)
    assert caught.value.param in ("title", "taskType")
    assert cohere_embed.WIRE.encode_request(request, drop_unsupported=True)


def test_requests_of_a_batch_name_what_another_wire_cannot_say() -> None:
    request = gemini_embed.BATCH.decode_request(batch(one(), one("b", title="T")))
    with pytest.raises(errors.Unsupported) as caught:
        openai_embeddings.WIRE.encode_request(request)
    assert caught.value.param == "requests[1].title"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (batch(), "$.requests"),
        (json.dumps({"model": "m", "requests": [7]}).encode(), "$.requests[0]"),
        (batch(one(), {}), "$.requests[1].content.parts"),
        (json.dumps({"requests": [one()]}).encode(), "$.model"),
    ],
)
def test_a_wrong_batch_is_refused_with_its_path(body: bytes, param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        gemini_embed.BATCH.admit(body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (batch(one(), one(outputDimensionality=4)), "$.requests[1]"),
        (batch(one(outputDimensionality="many")), "$.requests[0].outputDimensionality"),
    ],
)
def test_vectors_of_two_kinds_are_for_google_alone(body: bytes, param: str) -> None:
    assert gemini_embed.BATCH.rewrite(gemini_embed.BATCH.admit(body), model="up")
    with pytest.raises(errors.InvalidRequest) as caught:
        gemini_embed.BATCH.decode_request(body)
    assert caught.value.param == param


def test_answers_have_googles_shape() -> None:
    usage = Usage(totals={"input": 5}, source="reported")
    answer = EmbedAnswer(id="", model="m", vectors=((0.5, 1.0), (0.25, 2.0)), usage=usage)
    assert json.loads(gemini_embed.BATCH.encode_answer(answer)) == {
        "embeddings": [{"values": [0.5, 1.0]}, {"values": [0.25, 2.0]}],
        "usageMetadata": {"promptTokenCount": 5},
    }
    first = msgspec.structs.replace(answer, vectors=answer.vectors[:1], usage=Usage())
    assert json.loads(gemini_embed.SINGLE.encode_answer(first)) == {"embedding": {"values": [0.5, 1.0]}}
    with pytest.raises(errors.MalformedAnswer, match="2 vectors"):
        gemini_embed.SINGLE.encode_answer(answer)


@pytest.mark.parametrize("exchange", cases(exchanges(api="gemini.batchEmbedContents")))
def test_recorded_batches_pass_through_untouched(exchange: Exchange) -> None:
    asked = {**exchange["request_body"], "model": exchange["model"], "stream": False}
    admitted = gemini_embed.BATCH.admit(json.dumps(asked).encode())
    rewritten = gemini_embed.BATCH.rewrite(admitted, model=exchange["model"])
    assert json.loads(rewritten) == json.loads(request_bytes(exchange))
