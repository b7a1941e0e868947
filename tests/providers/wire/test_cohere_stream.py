"""Cohere's streams, whole and in pieces of any size."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletionChunk

from providers import errors
from providers.sse import Decoder, encode
from providers.unified import (
    Event,
    Finished,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
)
from providers.wire import anthropic_messages, openai_chat
from providers.wire.base import Admitted
from providers.wire.cohere import WIRE

BILLED = {"input_tokens": 17, "output_tokens": 12}
USAGE = {"billed_units": BILLED, "tokens": {"input_tokens": 900, "output_tokens": 33}}
CITATION = {"start": 0, "end": 2, "text": "It", "sources": [{"type": "document", "document": {"url": "https://h/d"}}]}
ADMITTED = Admitted(model="m", stream=True, fields={})


def event(kind: str, message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    value = {"type": kind, **fields, **({"delta": {"message": message}} if message is not None else {})}
    return encode(data=msgspec.json.encode(value), event=kind)


def end(reason: str = "COMPLETE", **delta: Any) -> bytes:
    return event("message-end", delta={"finish_reason": reason, "usage": USAGE, **delta}, id="s1")


START = event("message-start", {"role": "assistant", "content": []}, id="s1")
TALK = (
    START
    + event("content-start", {"content": {"type": "thinking", "thinking": ""}}, index=0)
    + event("content-delta", {"content": {"thinking": "hm…"}}, index=0)
    + event("content-end", index=0)
    + event("content-start", {"content": {"type": "text", "text": ""}}, index=1)
    + event("content-delta", {"content": {"text": "It bal"}}, index=1)
    + event("content-delta", {"content": {"text": "ances"}}, index=1, logprobs={"text": "ances", "logprobs": [-0.5]})
    + event("content-end", index=1)
    + event("citation-start", {"citations": CITATION}, index=0)
    + event("citation-end", index=0)
    + end()
)
CALLS = (
    START
    + event("tool-plan-delta", {"tool_plan": "I will "})
    + event("tool-plan-delta", {"tool_plan": "add."})
    + event("tool-call-start", {"tool_calls": {"id": "c1", "function": {"name": "add", "arguments": ""}}}, index=0)
    + event("tool-call-delta", {"tool_calls": {"function": {"arguments": '{"a"'}}}, index=0)
    + event("tool-call-delta", {"tool_calls": {"function": {"arguments": ":1}"}}}, index=0)
    + event("tool-call-end", index=0)
    + event("tool-call-start", {"tool_calls": [{"id": "c2", "function": {"name": "mul", "arguments": "{}"}}]}, index=1)
    + event("tool-call-end", index=1)
    + end("TOOL_CALL")
)  # fmt: skip


def read(*pieces: bytes) -> list[Event]:
    decoder, reader = Decoder(), WIRE.stream_reader()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
    return [made for frame in frames for made in reader.feed(frame)] + reader.end()


def test_thoughts_text_and_citations_are_parts_in_their_order() -> None:
    events = read(TALK)
    assert events[0] == Started(id="s1", model="")
    assert [item.part for item in events if isinstance(item, PartStarted)] == [ReasoningPart(), TextPart(text="")]
    texts = [(item.index, item.text) for item in events if isinstance(item, PartDelta) and item.text]
    assert texts == [(0, "hm…"), (1, "It bal"), (1, "ances")]
    (citation,) = [item.citation for item in events if isinstance(item, PartDelta) and item.citation]
    assert (citation["url"], citation["end_index"]) == ("https://h/d", 2)
    (logprobs,) = [item.logprobs for item in events if isinstance(item, PartDelta) and item.logprobs]
    assert logprobs["content"][0]["logprob"] == -0.5
    assert [item.index for item in events if isinstance(item, PartStopped)] == [0, 1]
    assert events[-2] == Stopped(reason="stop")
    assert isinstance(events[-1], Finished)
    assert (events[-1].usage.totals, events[-1].usage.source) == ({"input": 17, "output": 12}, "reported")


def test_a_plan_and_its_calls() -> None:
    events = read(CALLS)
    assert [item.part for item in events if isinstance(item, PartStarted)] == [
        TextPart(text=""),
        ToolCallPart(id="c1", name="add", arguments=""),
        ToolCallPart(id="c2", name="mul", arguments=""),
    ]
    by_part: dict[int, str] = {}
    for item in events:
        if isinstance(item, PartDelta):
            by_part[item.index] = by_part.get(item.index, "") + item.text
    assert by_part == {0: "I will add.", 1: '{"a":1}', 2: "{}"}
    assert Stopped(reason="tool_calls") in events


@pytest.mark.parametrize("stream", [TALK, CALLS], ids=["talk", "calls"])
def test_a_stream_split_at_any_byte_reads_the_same(stream: bytes) -> None:
    whole = read(stream)
    for at in range(1, len(stream)):
        assert read(stream[:at], stream[at:]) == whole, at
    assert read(*(bytes([byte]) for byte in stream)) == whole
    assert read(stream.replace(b"\n", b"\r\n")) == whole
    assert read(b": ping\n\n", stream, b"data: [DONE]\n\n") == whole


def test_the_meter_forwards_all_and_knows_the_last() -> None:
    meter, decoder = WIRE.stream_meter(admitted=ADMITTED), Decoder()
    verdicts = [meter.see(frame) for frame in decoder.feed(TALK)]
    assert set(verdicts[:-1]) == {"forward"}
    assert verdicts[-1] == "last"
    assert (meter.complete, meter.usage.totals) == (True, {"input": 17, "output": 12})
    assert meter.output_bytes == len("hm…It balances".encode())


def test_unknown_events_are_passed_over() -> None:
    stream = START + event("tomorrow", index=3) + event("debug", prompt="x") + end()
    assert [type(item) for item in read(stream)] == [Started, Stopped, Finished]


@pytest.mark.parametrize("cut", [len(START), len(TALK) - len(end()), len(TALK) - 4])
def test_a_stream_that_breaks_off_is_interrupted(cut: int) -> None:
    with pytest.raises((errors.StreamInterrupted, errors.MalformedAnswer)):
        read(TALK[:cut])


@pytest.mark.parametrize("data", [b'{"type": "content', b"[1]", b"nonsense"])
def test_half_an_event_is_malformed(data: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        read(START, encode(data=data))


def test_a_generation_that_fails_on_the_way_is_an_error_with_its_usage() -> None:
    decoder, reader = Decoder(), WIRE.stream_reader()
    frames = decoder.feed(START + end("ERROR", error="the model fell over"))
    reader.feed(frames[0])
    with pytest.raises(errors.UpstreamError, match="fell over"):
        reader.feed(frames[1])
    assert (reader.usage.totals, reader.usage.source) == ({"input": 17, "output": 12}, "reported")
    assert not reader.complete


def test_an_error_instead_of_an_event_is_typed() -> None:
    with pytest.raises(errors.ContextTooLong):
        read(START, encode(data=b'{"message": "too many tokens"}'))


@pytest.mark.parametrize(
    "delta", [{}, {"message": None}, {"message": {"content": None}}, {"message": {"tool_calls": []}}]
)
def test_events_with_nothing_in_them_are_harmless(delta: dict[str, Any]) -> None:
    kinds = ("content-start", "content-delta", "tool-call-start", "tool-call-delta", "tool-plan-delta")
    stream = START + b"".join(event(kind, delta=delta) for kind in (*kinds, "citation-start")) + end()
    assert isinstance(read(stream)[-1], Finished)


@pytest.mark.parametrize("stream", [TALK, CALLS], ids=["talk", "calls"])
def test_translated_streams_are_what_the_official_clients_read(stream: bytes) -> None:
    writer = openai_chat.WIRE.stream_writer(admitted=ADMITTED)
    data = b"".join(writer.write(item) for item in read(stream)) + writer.finish()
    chunks = [
        ChatCompletionChunk.model_validate_json(frame.data) for frame in Decoder().feed(data) if frame.data != b"[DONE]"
    ]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == ("It balances" if stream is TALK else "I will add.")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 17
    messages = anthropic_messages.WIRE.stream_writer(admitted=ADMITTED)
    written = b"".join(messages.write(item) for item in read(stream)) + messages.finish()
    kinds = [msgspec.json.decode(frame.data)["type"] for frame in Decoder().feed(written)]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


@pytest.mark.parametrize("stream", [TALK, CALLS], ids=["talk", "calls"])
def test_a_stream_written_again_says_the_same(stream: bytes) -> None:
    writer = WIRE.stream_writer(admitted=ADMITTED)
    before = read(stream)
    after = read(b"".join(writer.write(item) for item in before) + writer.finish())
    assert said(after) == said(before)


def written(*events: Event) -> list[dict[str, Any]]:
    writer = WIRE.stream_writer(admitted=ADMITTED)
    raw = b"".join(writer.write(item) for item in events) + writer.finish()
    return [msgspec.json.decode(item.data) for item in Decoder().feed(raw)]


def test_calls_are_counted_apart_from_what_is_said() -> None:
    parts = [ReasoningPart(text="hm"), TextPart(text="So"), ToolCallPart("c1", "a", ""), ToolCallPart("c2", "b", "")]
    told = written(*(PartStarted(index=at, part=part) for at, part in enumerate(parts)))
    told += written(
        *(PartStarted(index=at, part=part) for at, part in enumerate(parts)),
        PartDelta(index=3, text="{}"),
        PartStopped(index=3),
        PartStopped(index=1),
    )[4:]
    assert [(item["type"], item["index"]) for item in told] == [
        ("content-start", 0),
        ("content-start", 1),
        ("tool-call-start", 0),
        ("tool-call-start", 1),
        ("tool-call-delta", 1),
        ("tool-call-end", 1),
        ("content-end", 1),
    ]


def test_a_written_stream_begins_with_an_empty_message() -> None:
    (start,) = written(Started(id="s1", model="m"))
    message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    assert start == {"type": "message-start", "id": "s1", "delta": {"message": message}}


def test_an_error_ends_a_stream_as_its_clients_read_it_and_names_the_call() -> None:
    raw = WIRE.encode_stream_error(status=502, code="provider_error", message="gone", request_id="r", call_id="c")
    (frame,) = Decoder().feed(raw)
    assert (frame.event, msgspec.json.decode(frame.data)) == (
        "message-end",
        {
            "type": "message-end", "id": "c", "delta": {"error": "gone", "finish_reason": "ERROR"},
            "code": "provider_error", "request_id": "r", "call_id": "c",
        },
    )  # fmt: skip
    with pytest.raises(errors.UpstreamError, match="gone"):
        WIRE.stream_reader().feed(frame)


def said(events: list[Event]) -> list[Any]:
    texts: dict[int, str] = {}
    parts = [type(item.part) for item in events if isinstance(item, PartStarted)]
    for item in events:
        if isinstance(item, PartDelta):
            texts[item.index] = texts.get(item.index, "") + item.text
    return [parts, texts, *(item.reason for item in events if isinstance(item, Stopped))]
