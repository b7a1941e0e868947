"""Counting tokens: a chat's request in the words of each endpoint that counts, one number back, never a made-up one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from providers import errors
from providers.adapters import sandbox
from providers.counting import CountAnswer
from providers.unified import Answer, Request
from providers.wire import anthropic_messages, bedrock_converse, gemini, openai_chat, openai_responses
from providers.wire.base import Wire
from tests.recordings import Exchange, answer_bytes, cases, exchanges

WIRES: dict[str, tuple[Wire, str]] = {
    "anthropic": (anthropic_messages.COUNT, "input_tokens"),
    "openai": (openai_responses.COUNT, "input_tokens"),
    "gemini": (gemini.COUNT, "totalTokens"),
    "vertex": (gemini.VERTEX_COUNT, "totalTokens"),
    "bedrock": (bedrock_converse.COUNT, "inputTokens"),
    "sandbox": (sandbox.COUNT, "input_tokens"),
}
ASKED: dict[str, Any] = {
    "model": "m",
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Do the books balance?"}],
    "tools": [{"name": "look", "input_schema": {"type": "object"}}],
}


def request(**fields: Any) -> Request:
    return anthropic_messages.COUNT.decode_request(json.dumps({**ASKED, **fields}).encode())


def sent(wire: Wire, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(wire.encode_request(request(**fields)))
    return body


# --- what is asked ----------------------------------------------------------------------------------------


def test_each_endpoint_gets_the_request_in_its_own_words() -> None:
    user = {"role": "user", "parts": [{"text": "Do the books balance?"}]}
    google = {
        "contents": [user],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [{"functionDeclarations": [{"name": "look", "parametersJsonSchema": {"type": "object"}}]}],
    }
    assert sent(anthropic_messages.COUNT) == ASKED
    assert sent(gemini.VERTEX_COUNT) == google
    assert sent(gemini.COUNT) == {"generateContentRequest": {"model": "models/m", **google}}
    assert sent(bedrock_converse.COUNT) == {
        "input": {
            "converse": {
                "system": [{"text": "Be brief."}],
                "messages": [{"role": "user", "content": [{"text": "Do the books balance?"}]}],
                "toolConfig": {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}]},
            }
        }
    }
    asked = sent(openai_responses.COUNT)
    assert asked.keys() == {"model", "instructions", "input", "tools"}
    assert (asked["instructions"], asked["input"][0]["content"]) == ("Be brief.", "Do the books balance?")


@pytest.mark.parametrize("name", WIRES)
def test_what_says_only_how_to_answer_is_neither_sent_nor_refused(name: str) -> None:
    wire = WIRES[name][0]
    how = {"temperature": 0.5, "top_k": 3, "stop_sequences": ["END"], "max_tokens": 9, "metadata": {"user_id": "u"}}
    assert sent(wire, **how) == sent(wire)


def test_what_a_model_reads_and_the_wire_cannot_say_is_refused_by_name() -> None:
    audio = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]}
    asked = openai_chat.WIRE.decode_request(json.dumps({"model": "m", "messages": [audio]}).encode())
    with pytest.raises(errors.Unsupported) as caught:
        anthropic_messages.COUNT.encode_request(asked)
    assert caught.value.param == "messages[0].content[0]"


# --- what is answered -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wire", "field"), WIRES.values(), ids=WIRES)
def test_the_number_is_the_answer_and_no_usage(wire: Wire, field: str) -> None:
    body = json.dumps({field: 2095, "more": {"x": 1}}).encode()
    answer = wire.decode_answer(body)
    assert isinstance(answer, CountAnswer)
    assert answer.input_tokens == 2095
    usage, served = wire.read_usage(body)
    assert (usage.totals, usage.source, usage.raw, served) == ({}, "none", {field: 2095, "more": {"x": 1}}, "")
    assert answer.usage == usage


@pytest.mark.parametrize(("wire", "field"), WIRES.values(), ids=WIRES)
@pytest.mark.parametrize("number", [None, "12", -1, 1.5, 10**30, True, [7]], ids=str)
def test_an_odd_number_is_no_count(wire: Wire, field: str, number: Any) -> None:
    with pytest.raises(errors.MalformedAnswer):
        wire.decode_answer(json.dumps({field: number}).encode())
    with pytest.raises(errors.MalformedAnswer):
        wire.decode_answer(b"[]")


@pytest.mark.parametrize(("client", "field"), [WIRES["anthropic"], WIRES["gemini"]], ids=["anthropic", "gemini"])
def test_a_client_reads_one_number_under_its_name(client: Wire, field: str) -> None:
    answer = CountAnswer(id="", model="m", input_tokens=7)
    assert json.loads(client.encode_answer(answer)) == {field: 7}
    with pytest.raises(errors.MalformedAnswer):
        client.encode_answer(Answer(id="", model="m", choices=()))


RECORDED = {
    "anthropic.count_tokens": (anthropic_messages.COUNT, errors.ModelNotFound),
    "bedrock.count_tokens": (bedrock_converse.COUNT, errors.InvalidRequest),
    "gemini.countTokens": (gemini.COUNT, errors.ModelNotFound),
}


@pytest.mark.parametrize("exchange", cases(exchanges(where=lambda item: item["api"] in RECORDED)))
def test_recorded_refusals_are_told_as_what_they_are(exchange: Exchange) -> None:
    wire, kind = RECORDED[exchange["api"]]
    if exchange["status"] < 400:
        assert isinstance(wire.decode_answer(answer_bytes(exchange)), CountAnswer)
        return
    error = wire.decode_error(status=exchange["status"], body=answer_bytes(exchange), headers={}, provider="p")
    assert type(error) is kind


# --- Anthropic's clients ----------------------------------------------------------------------------------


def test_no_cap_is_needed_and_none_is_held() -> None:
    for fields in ({}, {"max_tokens": 50}):
        admitted = anthropic_messages.COUNT.admit(json.dumps({**ASKED, **fields}).encode())
        assert (admitted.operation, admitted.max_output_tokens, admitted.stream) == ("count_tokens", None, False)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"messages": "x"}, "$.messages"),
        ({"messages": []}, "$.messages"),
        ({"model": 4}, "$.model"),
        ({"max_tokens": -1}, "$.max_tokens"),
        ({"tools": {}}, "$.tools"),
        ({"stream": True}, "stream"),
    ],
)
def test_bad_input_is_named_as_in_a_message(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.ProviderError) as caught:
        anthropic_messages.COUNT.admit(json.dumps({**ASKED, **wrong}).encode())
    assert caught.value.client_status == 400
    assert getattr(caught.value, "param", "") == param


def test_to_anthropic_the_body_goes_as_it_came() -> None:
    body = b'{"model": "m", "new": 1.50, "messages": [{"role":"user", "content":"x"}], "drop_unsupported": true}'
    rewritten = anthropic_messages.COUNT.rewrite(anthropic_messages.COUNT.admit(body), model="up")
    fields = {name: bytes(raw) for name, raw in msgspec.json.decode(rewritten, type=dict[str, msgspec.Raw]).items()}
    assert fields == {"model": b'"up"', "new": b"1.50", "messages": b'[{"role":"user", "content":"x"}]'}


# --- Google's clients -------------------------------------------------------------------------------------

CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]


@pytest.mark.parametrize("inner", ["generateContentRequest", "generate_content_request"])
def test_a_whole_request_is_counted_under_the_upstream_name(inner: str) -> None:
    body = json.dumps({"model": "m", "stream": False, inner: {"model": "models/m", "contents": CONTENTS, "new": 1}})
    admitted = gemini.COUNT.admit(body.encode())
    assert (admitted.model, admitted.message_count, admitted.operation) == ("m", 1, "count_tokens")
    said = json.loads(gemini.COUNT.rewrite(admitted, model="up"))
    assert said == {inner: {"model": "models/up", "contents": CONTENTS, "new": 1}}


def test_contents_alone_pass_through_and_are_read_alike() -> None:
    flat = json.dumps({"model": "m", "stream": False, "contents": CONTENTS}).encode()
    within = json.dumps({"model": "m", "generateContentRequest": {"contents": CONTENTS}}).encode()
    assert json.loads(gemini.COUNT.rewrite(gemini.COUNT.admit(flat), model="up")) == {"contents": CONTENTS}
    assert gemini.COUNT.decode_request(flat) == gemini.COUNT.decode_request(within)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"contents": CONTENTS, "generateContentRequest": {"contents": CONTENTS}}, "$.contents"),
        ({"generateContentRequest": 3}, "$.generateContentRequest"),
        ({"generateContentRequest": {}}, "$.contents"),
        ({}, "$.contents"),
    ],
    ids=str,
)
def test_a_wrong_count_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        gemini.COUNT.admit(json.dumps({"model": "m", **body}).encode())
    assert caught.value.param == param


def test_the_errors_of_each_client_are_its_own() -> None:
    told = {"status": 404, "code": "model_not_found", "message": "none", "request_id": "r"}
    assert json.loads(anthropic_messages.COUNT.encode_error(**told))["type"] == "error"  # type: ignore[arg-type]
    assert json.loads(gemini.COUNT.encode_error(**told))["error"]["status"] == "NOT_FOUND"  # type: ignore[arg-type]
