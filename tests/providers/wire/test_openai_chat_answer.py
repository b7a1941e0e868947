"""Whole answers of the chat wire, in and out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion

from providers import errors
from providers.unified import (
    Answer,
    Choice,
    ImagePart,
    TextPart,
    Usage,
)
from providers.wire.openai_chat import WIRE


def answered(message: Any, **choice: Any) -> Choice:
    value = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    return WIRE.decode_answer(json.dumps(value).encode()).choices[0]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("model_length", "length"),
        ("eos", "stop"),
        ("STOP", "stop"),
        ("", "unknown"),
        (None, "unknown"),
        (7, "unknown"),
        ("surprise", "unknown"),
    ],
)
def test_it_knows_the_words_for_why_an_answer_ended(word: Any, reason: str) -> None:
    assert answered({"content": "x"}, finish_reason=word).stop_reason == reason


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("stop", "stop"),
        ("stop_sequence", "stop"),
        ("pause", "stop"),
        ("unknown", "stop"),
        ("length", "length"),
        ("context_window", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("refusal", "content_filter"),
    ],
)
def test_every_stop_reason_has_a_word_that_the_official_client_knows(reason: Any, word: str) -> None:
    raw = WIRE.encode_answer(Answer("c", "m", (Choice((TextPart("x"),), stop_reason=reason),)))
    assert ChatCompletion.model_validate_json(raw).choices[0].finish_reason == word


def test_citations_are_kept_and_those_of_other_wires_are_translated() -> None:
    note = {
        "type": "url_citation",
        "url_citation": {"url": "https://a", "title": "A", "start_index": 0, "end_index": 1},
    }
    choice = answered({"content": "x", "annotations": [note]})
    assert choice.parts == (TextPart("x", citations=(note,)),)
    theirs = {"type": "web_search_result_location", "url": "https://b", "title": "B", "cited_text": "y"}
    unplaced = {"type": "page_location", "start_page_number": 1}
    parts = (TextPart("abc", citations=(note,)), TextPart("de", citations=(theirs, unplaced)))
    raw = WIRE.encode_answer(Answer("c", "m", (Choice(parts),)))
    written = ChatCompletion.model_validate_json(raw).choices[0].message.annotations or []
    places = [(item.url_citation.url, item.url_citation.start_index, item.url_citation.end_index) for item in written]
    assert places == [("https://a", 0, 1), ("https://b", 3, 5)]


def test_search_results_beside_the_choices_are_citations() -> None:
    value = {"model": "m", "choices": [{"message": {"content": "x"}}], "search_results": [{"url": "https://a"}, {}]}
    answer = WIRE.decode_answer(json.dumps(value).encode())
    (part,) = answer.choices[0].parts
    assert isinstance(part, TextPart)
    assert part.citations == ({"type": "url_citation", "url_citation": {"url": "https://a", "title": ""}},)


def test_drawn_images_and_spoken_audio_are_kept() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0}
    audio = {"id": "a1", "data": "BBBB", "transcript": "hello", "expires_at": 5}
    choice = answered({"content": None, "images": [image], "audio": audio})
    assert choice.parts[0] == ImagePart(data="AAAA", media_type="image/png")
    raw = WIRE.encode_answer(Answer("c", "m", (choice,)))
    message = json.loads(raw)["choices"][0]["message"]
    assert message["audio"] == audio
    assert message["images"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    ChatCompletion.model_validate_json(raw)


def test_zeros_that_stand_for_nothing_hold_nothing() -> None:
    """Snowflake fills every field of a message."""
    empty = {
        "content": "x",
        "refusal": "",
        "audio": {"id": "", "data": "", "transcript": ""},
        "function_call": {"name": "", "arguments": ""},
        "tool_calls": None,
        "annotations": None,
    }
    choice = answered(empty, logprobs={"content": None, "refusal": None})
    assert (choice.parts, choice.logprobs) == ((TextPart("x"),), None)


def test_an_unknown_usage_is_left_out_rather_than_zero() -> None:
    answer = Answer("c", "m", (Choice((TextPart("x"),)),))
    assert "usage" not in json.loads(WIRE.encode_answer(answer))
    known = msgspec.structs.replace(
        answer, usage=Usage({"input": 9, "cache_write_1h": 2, "cache_write_5m": 3}, "partial")
    )
    usage = json.loads(WIRE.encode_answer(known))["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cache_write_tokens"]) == (9, 5)


@pytest.mark.parametrize(
    "raw", [b"{}", b'{"choices": 5}', b'{"choices": [{"message": {"tool_calls": [{"function": 5}]}}]}']
)
def test_an_answer_without_what_the_wire_promises_is_malformed(raw: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        WIRE.decode_answer(raw)


@pytest.mark.parametrize(
    "message", [None, 5, {"content": 5}, {"content": [5, None]}, {"tool_calls": "x", "refusal": 5, "annotations": 5}]
)
def test_an_odd_message_never_crashes(message: Any) -> None:
    answered(message)
