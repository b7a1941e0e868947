"""The embeddings wire: what is admitted, rewritten and translated, and what the official client accepts."""

from __future__ import annotations

import base64
import struct
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse

from providers import errors
from providers.embeddings import EmbedAnswer, EmbedInput, EmbedRequest, base64_text, floats
from providers.unified import ImagePart, Message, Request, TextPart, Usage
from providers.wire.openai_embeddings import WIRE, OpenAIEmbeddings
from providers.wire.openai_embeddings.dialect import MISTRAL, VOYAGE
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes

NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAABBBB"}}


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "input": "hi"} | fields)


@pytest.mark.parametrize(
    ("stated", "inputs"),
    [
        ("hi", (EmbedInput(parts=(TextPart(text="hi"),)),)),
        (["a", "b"], (EmbedInput(parts=(TextPart(text="a"),)), EmbedInput(parts=(TextPart(text="b"),)))),
        ([1, 2, 3], (EmbedInput(tokens=(1, 2, 3)),)),
        ([[1], [2, 3]], (EmbedInput(tokens=(1,)), EmbedInput(tokens=(2, 3)))),
        (
            [{"content": [{"type": "text", "text": "a"}, IMAGE]}],
            (EmbedInput(parts=(TextPart(text="a"), ImagePart(data="AAAABBBB", media_type="image/png"))),),
        ),
    ],
)
def test_inputs_of_every_form(stated: Any, inputs: tuple[EmbedInput, ...]) -> None:
    assert WIRE.decode_request(body(input=stated)).inputs == inputs


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "$.input"),
        ({"input": []}, "$.input"),
        ({"input": [""]}, "$.input[0]"),
        ({"input": [1, "a"]}, "$.input"),
        ({"input": [[]]}, "$.input[0]"),
        ({"input": [-1]}, "$.input[0]"),
        ({"input": {"a": 1}}, "$.input"),
        ({"input": ["x"] * 2049}, "$.input"),
        ({"input": [{"content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]}]},
         "$.input[0].content"),
        ({"dimensions": 0}, "$.dimensions"),
        ({"model": ""}, "$.model"),
        ({"stream": True}, "stream"),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_with_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        WIRE.admit(body(**fields))
    assert caught.value.param == param


def test_admission_tells_the_operation_and_the_images() -> None:
    admitted = WIRE.admit(body(input=["a", {"content": [IMAGE]}], user="u", metadata={"k": "v"}))
    assert (admitted.operation, admitted.message_count, admitted.user) == ("embeddings", 2, "u")
    assert (admitted.media, admitted.media_bytes, admitted.fees) == ({"image": 1}, 8, {"images": 1})
    assert admitted.metadata == {"k": "v"}


def test_pass_through_changes_the_model_alone() -> None:
    stated = b'{"model": "m", "input": ["\\u00e9", 1.50], "new": {"x": 1e400}}'.replace(b", 1.50", b"")
    rewritten = msgspec.json.decode(WIRE.rewrite(WIRE.admit(stated), model="up"), type=dict[str, msgspec.Raw])
    assert bytes(rewritten["model"]) == b'"up"'
    assert (bytes(rewritten["input"]), bytes(rewritten["new"])) == (b'["\\u00e9"]', b'{"x": 1e400}')


def rewritten(wire: OpenAIEmbeddings, **fields: Any) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.json.decode(wire.rewrite(wire.admit(body(**fields)), model="up"))
    return value


def test_pass_through_loses_no_field_that_the_wire_knows() -> None:
    fields = {
        "dimensions": 8, "output_dimension": 9, "encoding_format": "float", "input_type": "query", "user": "u",
        "metadata": {"k": "v"}, "stream": False,
    }  # fmt: skip
    assert rewritten(WIRE, **fields) == {"model": "up", "input": "hi", **fields}
    assert rewritten(OpenAIEmbeddings(dialect=MISTRAL), dimensions=8)["output_dimension"] == 8
    assert rewritten(OpenAIEmbeddings(dialect=MISTRAL), dimensions=8, output_dimension=9) == {
        "model": "up", "input": "hi", "output_dimension": 9,
    }  # fmt: skip


def test_pass_through_speaks_the_servers_dialect() -> None:
    voyage = OpenAIEmbeddings(dialect=VOYAGE)
    assert rewritten(voyage, dimensions=8, encoding_format="float", input_type="query") == {
        "model": "up", "input": "hi", "output_dimension": 8, "input_type": "query",
    }  # fmt: skip
    assert rewritten(voyage, encoding_format="base64")["encoding_format"] == "base64"
    assert rewritten(WIRE, encoding_format="base64_int8")["encoding_format"] == "base64_int8"
    with pytest.raises(errors.Unsupported) as caught:
        rewritten(OpenAIEmbeddings(dialect=MISTRAL), user="u")
    assert caught.value.param == "user"
    assert "user" not in rewritten(OpenAIEmbeddings(dialect=MISTRAL), user="u", drop_unsupported=True)


INPUTS = st.builds(EmbedInput, parts=st.tuples(st.builds(TextPart, text=WORDS))) | st.builds(
    EmbedInput,
    parts=st.lists(
        st.builds(TextPart, text=WORDS) | st.builds(ImagePart, url=NAMES.map(lambda name: f"https://h/{name}")),
        min_size=2, max_size=3,
    ).map(tuple),
)  # fmt: skip
TOKENS = st.builds(EmbedInput, tokens=st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple))


@given(
    st.builds(
        EmbedRequest,
        model=NAMES,
        inputs=(st.lists(INPUTS, min_size=1, max_size=3) | st.lists(TOKENS, min_size=1, max_size=2)).map(tuple),
        dimensions=st.none() | st.integers(1, 9),
        encoding=st.sampled_from(["", "float", "base64"]),
        purpose=st.sampled_from(["", "query", "document", "similarity"]),
        user=st.just("") | NAMES,
        metadata=st.dictionaries(NAMES, NAMES, max_size=2),
        extra=st.dictionaries(NAMES.map(lambda name: f"new_{name}"), st.integers(), max_size=2),
        wire=st.just("openai_embeddings"),
    )
)
def test_a_request_survives_the_way_out_and_back(request: EmbedRequest) -> None:
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


NUMBERS = st.floats(-1, 1, width=32)
VECTORS = st.lists(NUMBERS, min_size=1, max_size=4).map(tuple)


@given(st.lists(VECTORS, max_size=3).map(tuple), st.integers(0, 99))
def test_an_answer_survives_the_way_out_and_back(vectors: tuple[tuple[float, ...], ...], tokens: int) -> None:
    answer = EmbedAnswer(
        id="e1", model="m", vectors=vectors, usage=Usage(totals={"input": tokens}), extra={"new": 1},
        wire="openai_embeddings",
    )  # fmt: skip
    raw = WIRE.encode_answer(answer)
    again = WIRE.decode_answer(raw)
    assert again.usage.totals == {"input": tokens}
    assert msgspec.structs.replace(again, usage=answer.usage) == answer
    CreateEmbeddingResponse.model_validate_json(raw)


@given(VECTORS)
def test_base64_is_of_32_bit_floats(vector: tuple[float, ...]) -> None:
    text = base64_text(vector)
    assert base64.b64decode(text) == struct.pack(f"<{len(vector)}f", *vector)
    assert floats(text) == vector


def test_an_answer_takes_the_form_that_was_asked_for() -> None:
    answer = EmbedAnswer(id="", model="m", vectors=((0.5, -0.25),))
    numbers = msgspec.json.decode(WIRE.encode_answer_as_asked(answer, admitted=WIRE.admit(body())))
    assert numbers["data"][0]["embedding"] == [0.5, -0.25]
    asked = WIRE.admit(body(encoding_format="base64"))
    text = msgspec.json.decode(WIRE.encode_answer_as_asked(answer, admitted=asked))["data"][0]["embedding"]
    assert floats(text) == (0.5, -0.25)


def test_mistrals_word_for_the_length_is_understood() -> None:
    request = WIRE.decode_request(body(output_dimension=8))
    assert (request.dimensions, request.extra) == (8, {})
    assert WIRE.decode_request(body(output_dimension=8, dimensions=9)).dimensions == 9


def test_every_answer_has_an_id() -> None:
    """OpenAI's have none, but Mistral's client reads no answer without."""
    nameless = EmbedAnswer(id="", model="m", vectors=((0.5,),))
    one, other = (msgspec.json.decode(WIRE.encode_answer(nameless))["id"] for _ in range(2))
    assert one.startswith("embd-")
    assert one != other
    named = WIRE.encode_answer(msgspec.structs.replace(nameless, id="e1"))
    assert msgspec.json.decode(named)["id"] == "e1"


def test_vectors_come_in_the_order_of_their_inputs() -> None:
    entries = [{"index": 1, "embedding": [1]}, {"index": 0, "embedding": [0.5]}]
    assert WIRE.decode_answer(msgspec.json.encode({"data": entries})).vectors == ((0.5,), (1.0,))


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"data": [1]}', b'{"data": [{"embedding": []}]}', b'{"data": [{"embedding": ["a"]}]}',
     b'{"data": [{"embedding": null}]}'],
)  # fmt: skip
def test_what_is_no_answer_is_malformed(answer: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        WIRE.decode_answer(answer)


def test_base64_that_holds_no_floats_is_malformed() -> None:
    for text in ("%%", "AAA=", "QUI="):
        with pytest.raises(errors.MalformedAnswer):
            floats(text)
    with pytest.raises(errors.MalformedAnswer):
        base64_text((1e300,))


def test_an_error_inside_a_200_is_an_error() -> None:
    with pytest.raises(errors.QuotaExhausted):
        WIRE.read_usage(b'{"error": {"message": "no", "code": "insufficient_quota"}}')


@pytest.mark.parametrize(
    ("usage", "totals", "source"),
    [
        ({"prompt_tokens": 5, "total_tokens": 9}, {"input": 5}, "reported"),
        ({"total_tokens": 9}, {"input": 9}, "reported"),
        (
            {"prompt_tokens": 5, "prompt_tokens_details": {"image_tokens": 3}},
            {"input": 5, "input_image": 3},
            "reported",
        ),
        ({"prompt_tokens": -5}, {}, "none"),
        ({"prompt_tokens": "5"}, {}, "none"),
        (None, {}, "none"),
        ([], {}, "none"),
    ],
)
def test_usage(usage: Any, totals: dict[str, int], source: str) -> None:
    got, _ = WIRE.read_usage(msgspec.json.encode({"data": [], "usage": usage}))
    assert (got.totals, got.source) == (totals, source)


def test_pixels_that_are_billed_apart_are_told_by_a_flag() -> None:
    counts = {"text_tokens": 5, "image_pixels": 2_000_000, "total_tokens": 3576}
    usage, _ = WIRE.read_usage(msgspec.json.encode({"data": [], "usage": counts}))
    assert (usage.totals, usage.flags) == ({"input": 3576}, ("unmetered:pixels",))


def test_a_chat_cannot_be_asked_of_an_embeddings_model() -> None:
    chat = Request(model="m", messages=(Message(role="user", parts=(TextPart(text="x"),)),))
    with pytest.raises(errors.Unsupported):
        WIRE.encode_request(chat)


def test_streams_are_refused() -> None:
    for ask in (WIRE.stream_reader, lambda: WIRE.stream_meter(admitted=WIRE.admit(body()))):
        with pytest.raises(errors.Unsupported):
            ask()


# --- recordings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", cases(exchanges(api="embeddings", status=200)))
def test_recorded_answers(exchange: Exchange) -> None:
    usage, model = WIRE.read_usage(answer_bytes(exchange))
    assert usage.totals == {"input": exchange["expected"]["usage"]["input"]}
    assert (usage.source, usage.raw, model) == ("reported", exchange["usage_raw"], exchange["response_body"]["model"])
    stated = exchange["expected"]["stated_cost_usd"]
    assert usage.stated_cost_usd == (None if stated is None else Decimal(stated))
    answer = WIRE.decode_answer(answer_bytes(exchange))
    said = [entry["embedding"] for entry in exchange["response_body"]["data"]]
    assert list(answer.vectors) == [tuple(item) if isinstance(item, list) else item for item in said]


@pytest.mark.parametrize(
    "exchange",
    cases(exchanges(api="embeddings", where=lambda item: item["provider"] in ("openai", "azure", "mistral"))),
)
def test_recorded_requests_are_admitted_and_survive(exchange: Exchange) -> None:
    if (exchange["request_body"].get("dimensions") or 1) < 1:
        with pytest.raises(errors.InvalidRequest):
            WIRE.admit(request_bytes(exchange))
        return
    sent = {key: item for key, item in exchange["request_body"].items() if item is not None}
    again = msgspec.json.decode(WIRE.encode_request(WIRE.decode_request(request_bytes(exchange))))
    if isinstance(sent["input"], str):
        sent["input"] = [sent["input"]]
    assert again == sent


@pytest.mark.parametrize("exchange", cases(exchanges(api="embeddings", failed=True)))
def test_recorded_errors_are_typed(exchange: Exchange) -> None:
    error = WIRE.decode_error(
        status=exchange["status"], body=answer_bytes(exchange), headers={}, provider=exchange["provider"]
    )
    assert error.message
    kinds = {400: errors.InvalidRequest, 401: errors.InvalidCredential, 404: errors.ModelNotFound}
    assert isinstance(error, (kinds[exchange["status"]], errors.ModelNotFound))
