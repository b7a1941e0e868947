"""Whole answers and streams that no recording has: blocks, sources, code, several candidates, broken ones."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.errors import ContentRefused, MalformedAnswer, Overloaded, StreamInterrupted
from providers.sse import Decoder
from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    Event,
    Finished,
    ImagePart,
    OpaquePart,
    PartDelta,
    PartStarted,
    ReasoningPart,
    Started,
    Stopped,
    StopReason,
    TextPart,
    ToolCallPart,
)
from providers.wire import openai_chat
from providers.wire.base import Admitted
from providers.wire.gemini import WIRE

USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}


def decoded(*parts: dict[str, Any], **candidate: Any) -> Answer:
    said = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", **candidate}
    return WIRE.decode_answer(json.dumps({"candidates": [said], "usageMetadata": USAGE, "responseId": "r"}).encode())


def read(*chunks: Any, end: bool = True) -> list[Event]:
    reader, decoder = WIRE.stream_reader(), Decoder()
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    events = [event for frame in decoder.feed(data) for event in reader.feed(frame)]
    return events + (reader.end() if end else [])


def chunk(*parts: dict[str, Any], usage: Any = None, **candidate: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"candidates": [{"content": {"parts": list(parts)}, **candidate}], "responseId": "r"}
    return said | ({"usageMetadata": usage} if usage else {})


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        (1, "stop"),
        ("MAX_TOKENS", "length"),
        (2, "length"),
        ("SAFETY", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "unknown"),
        ("NEW_WORD", "unknown"),
        (99, "unknown"),
        (None, "unknown"),
    ],
)
def test_each_finish_reason_has_its_word(word: Any, reason: StopReason) -> None:
    assert decoded({"text": "a"}, finishReason=word).choices[0].stop_reason == reason


def test_a_turn_with_calls_ends_in_tool_calls_unless_it_was_cut() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}
    assert decoded(call).choices[0].stop_reason == "tool_calls"
    assert decoded(call, finishReason="MAX_TOKENS").choices[0].stop_reason == "length"


def test_parts_become_what_they_are() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1+1"}}
    choice = decoded(
        {"text": "hm", "thought": True},
        {"text": "so", "thoughtSignature": "s"},
        {"text": ""},
        {"inlineData": {"mimeType": "image/png", "data": "AA"}},
        {"inlineData": {"mimeType": "audio/wav", "data": "BB"}},
        code,
        {"functionCall": {"id": "x", "name": "f", "args": {"a": 1}}},
    ).choices[0]
    assert choice.parts == (
        ReasoningPart("hm"),
        ReasoningPart(signature="s"),
        TextPart("so"),
        ImagePart(data="AA", media_type="image/png"),
        AudioPart(data="BB", format="wav"),
        OpaquePart("gemini", code),
        ToolCallPart("x", "f", '{"a":1}'),
    )


def test_made_up_ids_differ_between_calls_and_answers() -> None:
    call = {"functionCall": {"name": "f", "args": {}}}
    ids = [part.id for part in decoded(call, call).choices[0].parts if isinstance(part, ToolCallPart)]
    other = json.dumps({"candidates": [{"content": {"parts": [call]}}], "responseId": "other"}).encode()
    ids += [part.id for part in WIRE.decode_answer(other).choices[0].parts if isinstance(part, ToolCallPart)]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("candidates", [{}, {"candidates": []}])
def test_a_blocked_prompt_is_a_refusal(candidates: dict[str, Any]) -> None:
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": USAGE, **candidates}
    with pytest.raises(ContentRefused, match="PROHIBITED_CONTENT"):
        WIRE.decode_answer(json.dumps(body).encode())
    with pytest.raises(ContentRefused):
        read(body)
    assert WIRE.read_usage(json.dumps(body).encode())[0].totals == {"input": 3, "output": 2}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"candidates": 7}', b"\xff", b'{"usageMetadata": {}}'])
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        WIRE.decode_answer(body)


def test_an_error_within_a_success_is_raised() -> None:
    body = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}
    with pytest.raises(Overloaded, match="busy"):
        WIRE.decode_answer(json.dumps(body).encode())
    with pytest.raises(Overloaded, match="busy"):
        read(chunk({"text": "a"}), body)
    with pytest.raises(Overloaded, match="busy"):
        read([body])


SOURCES = {
    "groundingChunks": [{"web": {"uri": "https://a.example", "title": "A"}}, {"web": {"uri": "https://b.example"}}],
    "groundingSupports": [
        {"segment": {"startIndex": 4, "endIndex": 9, "text": "blått"}, "groundingChunkIndices": [0, 1, 7]},
        {"segment": {"endIndex": 999}, "groundingChunkIndices": [0]},
    ],
}


def test_sources_are_citations_of_characters_not_bytes() -> None:
    (part,) = decoded({"text": "Så blått"}, groundingMetadata=SOURCES).choices[0].parts
    assert isinstance(part, TextPart)
    assert part.citations == (
        {
            "type": "url_citation",
            "url": "https://a.example",
            "title": "A",
            "start_index": 3,
            "end_index": 7,
            "cited_text": "blått",
        },
        {
            "type": "url_citation",
            "url": "https://b.example",
            "title": "",
            "start_index": 3,
            "end_index": 7,
            "cited_text": "blått",
        },
        {"type": "url_citation", "url": "https://a.example", "title": "A"},
    )
    encoded = json.loads(openai_chat.WIRE.encode_answer(decoded({"text": "Så blått"}, groundingMetadata=SOURCES)))
    assert [note["url_citation"]["url"] for note in encoded["choices"][0]["message"]["annotations"]] == [
        "https://a.example",
        "https://b.example",
        "https://a.example",
    ]


def test_a_stream_cites_each_source_once_and_bills_each_search_once() -> None:
    searched = {**SOURCES, "webSearchQueries": ["q"]}
    events = read(
        chunk({"text": "Så "}, groundingMetadata={"webSearchQueries": ["q", "r"]}),
        chunk({"text": "blått"}, groundingMetadata=searched),
        chunk(groundingMetadata=searched, finishReason="STOP", usage=USAGE),
    )
    cited = [event.citation["url"] for event in events if isinstance(event, PartDelta) and event.citation]
    assert cited == ["https://a.example", "https://b.example", "https://a.example"]
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.totals["web_searches"] == 2


def test_logprobs_are_said_as_clients_know_them() -> None:
    result = {
        "chosenCandidates": [{"token": "hø", "logProbability": -0.5}],
        "topCandidates": [{"candidates": [{"token": "hø", "logProbability": -0.5}, {"token": "x"}]}],
    }
    logprobs = decoded({"text": "hø"}, logprobsResult=result).choices[0].logprobs
    assert logprobs is not None
    (token,) = logprobs["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("hø", -0.5, [104, 195, 184])
    assert [other["token"] for other in token["top_logprobs"]] == ["hø", "x"]


def test_candidates_of_a_stream_are_told_apart() -> None:
    first, second = ({"index": at, "content": {"parts": [{"text": text}]}} for at, text in enumerate("ab"))
    ends = [{"index": 1, "finishReason": "STOP"}, {"index": 0, "finishReason": "MAX_TOKENS"}]
    events = read({"candidates": [first, second]}, {"candidates": ends, "usageMetadata": USAGE})
    assert [(event.choice, event.text) for event in events if isinstance(event, PartDelta)] == [(0, "a"), (1, "b")]
    assert [(event.choice, event.reason) for event in events if isinstance(event, Stopped)] == [
        (0, "length"),
        (1, "stop"),
    ]


def test_a_stream_is_not_whole_while_a_candidate_goes_on() -> None:
    ends = {"candidates": [{"index": 0, "finishReason": "STOP"}, {"index": 1}], "usageMetadata": USAGE}
    with pytest.raises(StreamInterrupted):
        read(ends)


def test_counts_after_the_finish_reason_are_the_streams() -> None:
    events = read(
        chunk({"text": "a"}, usage={"promptTokenCount": 3}),
        chunk({"text": "b"}, finishReason="STOP"),
        {"usageMetadata": USAGE},
    )
    assert isinstance(events[-1], Finished)
    assert (events[-1].usage.totals, events[-1].usage.source) == ({"input": 3, "output": 2}, "reported")


def test_counts_from_before_the_end_are_partial() -> None:
    events = read(chunk({"text": "a"}, usage=USAGE), chunk(finishReason="STOP"))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.source == "partial"


def test_a_call_comes_whole_and_a_thought_in_pieces() -> None:
    events = read(
        chunk({"text": "h", "thought": True}),
        chunk({"text": "m", "thought": True}),
        chunk({"functionCall": {"id": "x", "name": "f", "args": {"a": 1}}, "thoughtSignature": "s"}),
        chunk({"text": ""}, finishReason="STOP", usage=USAGE),
    )
    started = [event.part for event in events if isinstance(event, PartStarted)]
    assert started == [ReasoningPart(), ReasoningPart(), ToolCallPart("x", "f", "")]
    deltas = [(event.index, event.text, event.signature) for event in events if isinstance(event, PartDelta)]
    assert deltas == [(0, "h", ""), (0, "m", ""), (1, "", "s"), (2, '{"a":1}', "")]


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: 7\n\n", b"data: \xff\n\n"])
def test_a_broken_event_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        WIRE.stream_reader().feed(Decoder().feed(data)[0])


def test_an_array_that_breaks_off_is_interrupted() -> None:
    reader, decoder = WIRE.stream_reader(), Decoder()
    data = b'[{"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]},\n{"cand'
    frames = decoder.feed(data) + decoder.end()
    assert [type(event).__name__ for frame in frames for event in reader.feed(frame)] == [
        "Started",
        "PartStarted",
        "PartDelta",
    ]
    with pytest.raises(StreamInterrupted):
        reader.end()


def test_a_meter_waits_for_the_counts_of_all_candidates() -> None:
    meter = WIRE.stream_meter(admitted=Admitted(model="m", stream=True, fields={}, n=2))
    chunks = [
        {"candidates": [{"index": 0, "finishReason": "STOP"}]},
        {"candidates": [{"index": 1, "finishReason": "STOP"}]},
        {"usageMetadata": USAGE},
        {"usageMetadata": USAGE},
    ]
    data = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in chunks)
    assert [meter.see(frame) for frame in Decoder().feed(data)] == ["forward", "forward", "last", "forward"]


# --- answers of other providers -----------------------------------------------------------------------------

LIKELY = {
    "content": [
        {"token": "So", "logprob": -0.5, "bytes": [83, 111], "top_logprobs": [{"token": "No", "logprob": -2.0}]},
        {"token": ".", "logprob": -0.25, "bytes": [46], "top_logprobs": []},
    ]
}
RESULT = {
    "chosenCandidates": [{"token": "So", "logProbability": -0.5}, {"token": ".", "logProbability": -0.25}],
    "topCandidates": [{"candidates": [{"token": "No", "logProbability": -2.0}]}, {"candidates": []}],
}


def test_log_probabilities_are_told_in_googles_words() -> None:
    answer = Answer(id="a", model="m", choices=(Choice((TextPart("So."),), "stop", logprobs=LIKELY),))
    (candidate,) = json.loads(WIRE.encode_answer(answer))["candidates"]
    assert candidate["logprobsResult"] == RESULT


@pytest.mark.parametrize("text", ["So.", ""])
def test_log_probabilities_of_a_stream_stand_beside_their_text(text: str) -> None:
    writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    writer.write(Started(id="a", model="m"))
    writer.write(PartStarted(0, TextPart("")))
    (frame,) = Decoder().feed(writer.write(PartDelta(0, text=text, logprobs=LIKELY)))
    (candidate,) = json.loads(frame.data)["candidates"]
    assert candidate["logprobsResult"] == RESULT
    assert candidate["content"]["parts"] == ([{"text": text}] if text else [])
