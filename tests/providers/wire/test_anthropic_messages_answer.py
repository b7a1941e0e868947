"""Whole answers on the Anthropic messages wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage

from providers.errors import MalformedAnswer, Overloaded
from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    StopReason,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.anthropic_messages import WIRE

NAME = "anthropic_messages"
USAGE = {"input_tokens": 3, "output_tokens": 5}


def decode(*content: Any, **fields: Any) -> Answer:
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "usage": USAGE}
    return WIRE.decode_answer(json.dumps({**body, "content": list(content), **fields}).encode())


def make_answer(*parts: Part, reason: StopReason = "stop", **fields: Any) -> Answer:
    """An answer of another provider, on its way to a client of this wire."""
    usage = Usage(totals={"input": 10, "cache_read": 4, "output": 7}, source="reported")
    choice = Choice(parts, stop_reason=reason)
    return Answer(id="chatcmpl-1", model="gpt-5", choices=(choice,), usage=usage, wire="openai_chat", **fields)


def encode(answer: Answer) -> dict[str, Any]:
    """The body, after the official client's types accepted it."""
    body: dict[str, Any] = json.loads(WIRE.encode_answer(answer))
    AnthropicMessage.model_validate(body)
    return body


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "context_window"),
    ],
)
def test_each_stop_reason_is_read_and_written_back(word: str, reason: str) -> None:
    answer = decode({"type": "text", "text": "x"}, stop_reason=word, stop_sequence="END")
    assert (answer.choices[0].stop_reason, answer.choices[0].stop_sequence) == (reason, "END")
    assert encode(answer)["stop_reason"] == word


def test_a_stop_reason_invented_tomorrow_is_kept() -> None:
    answer = decode(stop_reason="invented")
    assert answer.choices[0].stop_reason == "unknown"
    assert json.loads(WIRE.encode_answer(answer))["stop_reason"] == "invented"


def test_an_answer_of_this_wire_comes_back_the_same() -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
    citation = {
        "type": "web_search_result_location",
        "cited_text": "a",
        "url": "https://x",
        "title": "t",
        "encrypted_index": "e",
    }
    answer = decode(
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        search,
        {"type": "text", "text": "So", "citations": [citation]},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1.5}},
        stop_reason="tool_use",
        stop_details=None,
        container={"id": "c", "expires_at": "2026-01-01T00:00:00Z"},
    )
    assert answer.choices[0].parts == (
        ReasoningPart(text="Hm", signature="sig"),
        ReasoningPart(redacted="xyz"),
        OpaquePart(wire=NAME, value=search),
        TextPart("So", citations=(citation,)),
        ToolCallPart(id="t", name="f", arguments='{"a":1.5}'),
    )
    assert set(answer.extra) == {"container"}
    encode(answer)
    assert WIRE.decode_answer(WIRE.encode_answer(answer)) == answer


def test_an_answer_of_another_wire_gets_what_the_client_expects() -> None:
    body = encode(
        make_answer(
            ReasoningPart(text="Hm"),
            TextPart("Hi"),
            ToolCallPart(id="call_1", name="f", arguments='{"a": 1.50}'),
            extra={"system_fingerprint": "fp"},
        )
    )
    assert body["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1.5}},
    ]
    # Some providers say "stop" to tool calls too; clients of this wire look for "tool_use".
    assert body["stop_reason"] == "tool_use"
    assert body["usage"]["input_tokens"] == 6
    assert body["usage"]["cache_read_input_tokens"] == 4
    assert body["usage"]["output_tokens"] == 7
    assert (body["id"], body["model"]) == ("chatcmpl-1", "gpt-5")
    assert "system_fingerprint" not in body


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (make_answer(RefusalPart("No.")), "refusal"),
        (make_answer(TextPart("x"), reason="content_filter"), "refusal"),
        (make_answer(TextPart("x"), reason="length"), "max_tokens"),
        (make_answer(TextPart("x"), reason="unknown"), "end_turn"),
        (make_answer(ToolCallPart(id="t", name="f", arguments="{}"), reason="length"), "max_tokens"),
    ],
)
def test_other_wires_stop_reasons_find_their_word(answer: Answer, word: str) -> None:
    assert encode(answer)["stop_reason"] == word


def test_arguments_that_are_no_object_are_shown_to_the_client() -> None:
    body = encode(make_answer(ToolCallPart(id="t", name="f", arguments='{"a": ')))
    assert body["content"][0]["input"] == {"INVALID_JSON": '{"a": '}


def test_a_link_cited_by_another_provider_becomes_a_search_result() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://x", "title": "t", "start_index": 0}}
    body = encode(make_answer(TextPart("x", citations=(cited, {"type": "odd"}))))
    (citation,) = body["content"][0]["citations"]
    assert (citation["type"], citation["url"], citation["title"]) == ("web_search_result_location", "https://x", "t")


def test_parts_without_a_block_are_kept_as_markdown_or_left_out() -> None:
    body = encode(
        make_answer(
            ImagePart(data="QUJD", media_type="image/png"),
            AudioPart(data="QUJD", format="wav"),
            OpaquePart(wire="openai_chat", value={"type": "custom"}),
        )
    )
    assert body["content"] == [{"type": "text", "text": "![image](data:image/png;base64,QUJD)"}]


def test_an_answer_without_choices_is_an_empty_message() -> None:
    assert encode(Answer(id="x", model="m", choices=()))["content"] == []


def test_half_a_surrogate_pair_passes_both_ways() -> None:
    body = b'{"id":"x","model":"m","content":[{"type":"text","text":"\\ud83d"}],"usage":{"input_tokens":NaN}}'
    answer = WIRE.decode_answer(body)
    assert answer.choices[0].parts == (TextPart("\ud83d"),)
    assert b"\\ud83d" in WIRE.encode_answer(answer)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"content": "x"}', b'{"content": [1]}', b'{"content": [{"type": "text", "text": 5}]}'],
)
def test_an_answer_that_breaks_the_wire_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        WIRE.decode_answer(body)


def test_an_error_body_under_a_good_status_is_raised_as_that_error() -> None:
    with pytest.raises(Overloaded):
        WIRE.decode_answer(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
