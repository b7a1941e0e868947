"""Streams on the Anthropic messages wire: metered, read, and written for the official client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from providers.errors import MalformedAnswer, Overloaded, RateLimited, StreamInterrupted
from providers.sse import Decoder, ServerEvent
from providers.unified import (
    Event,
    Finished,
    OpaquePart,
    Part,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    RefusalPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.anthropic_messages import WIRE
from providers.wire.base import Admitted, StreamMeter

NAME = "anthropic_messages"
ADMITTED = Admitted(model="claude", stream=True, fields={})
_EVENTS: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)

START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "claude-sonnet-4-5", "usage": {"input_tokens": 2479, "output_tokens": 1}},
}
STOP = {"type": "message_stop"}


def delta(stop_reason: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def frames(data: bytes) -> list[ServerEvent]:
    decoder = Decoder()
    return decoder.feed(data) + decoder.end()


def meter(*events: dict[str, Any]) -> StreamMeter:
    watching = WIRE.stream_meter(admitted=ADMITTED)
    for frame in frames(sse(*events)):
        watching.see(frame)
    return watching


def read(data: bytes) -> list[Event]:
    reader = WIRE.stream_reader()
    return [event for frame in frames(data) for event in reader.feed(frame)] + reader.end()


def write(*events: Event) -> bytes:
    writer = WIRE.stream_writer(admitted=ADMITTED)
    return b"".join(writer.write(event) for event in events) + writer.finish()


def as_client(data: bytes) -> Any:
    """The message the official client builds from a stream, each event accepted by its strict types."""
    message: Any = None
    buffers: dict[int, bytes] = {}
    kinds = []
    for frame in frames(data):
        if frame.event == "ping":
            continue  # the client skips it before its types
        event = _EVENTS.validate_json(frame.data)
        assert frame.event == event.type
        kinds.append(event.type)
        message = accumulate_event(event=event, current_snapshot=cast(Any, message), json_bufs=buffers)
    assert (kinds[0], kinds[-2], kinds[-1]) == ("message_start", "message_delta", "message_stop")
    assert_one_block_at_a_time(kinds)
    return message


def assert_one_block_at_a_time(kinds: Iterable[str]) -> None:
    is_open = False
    for kind in kinds:
        if kind.startswith("content_block"):
            assert is_open is (kind != "content_block_start")
            is_open = kind != "content_block_stop"
    assert not is_open


# --- meter ------------------------------------------------------------------------------------------------


def test_the_last_counts_overwrite_the_first_field_by_field() -> None:
    start = {
        "type": "message_start",
        "message": {
            "model": "m",
            "usage": {
                "input_tokens": 2479,
                "cache_read_input_tokens": 7,
                "output_tokens": 1,
                "service_tier": "standard",
            },
        },
    }
    watching = meter(start, delta(input_tokens=404_500, cache_read_input_tokens=None, output_tokens=90), STOP)
    assert watching.usage.totals == {"input": 404_507, "cache_read": 7, "output": 90}
    assert watching.usage.source == "reported"
    assert watching.usage.service_tier == "standard"
    assert watching.model == "m"


def test_everything_is_forwarded_and_message_stop_is_last() -> None:
    watching = WIRE.stream_meter(admitted=ADMITTED)
    data = b": hello\n\n" + sse(START, {"type": "ping"}, {"type": "invented"}, delta(output_tokens=1)) + b"data: ?\n\n"
    assert {watching.see(frame) for frame in frames(data)} == {"forward"}
    assert [watching.see(frame) for frame in frames(sse(STOP))] == ["last"]


def test_a_stream_is_complete_once_it_said_why_it_stopped() -> None:
    assert not meter(START).complete
    assert not meter(START, delta(None, output_tokens=4)).complete
    assert meter(START, delta(output_tokens=4)).complete
    assert meter(START, STOP).complete


def test_counts_of_a_broken_stream_are_partial() -> None:
    assert meter().usage.source == "none"
    assert meter(START).usage.source == "partial"
    assert meter(START).usage.totals == {"input": 2479, "output": 1}
    # The count at the start is not the output: without the final one the sum is not known.
    assert meter(START, STOP).usage.source == "partial"


def test_it_counts_the_bytes_of_text_thinking_and_arguments() -> None:
    pieces = [
        ("text_delta", "text", "é"),
        ("thinking_delta", "thinking", "abc"),
        ("input_json_delta", "partial_json", "{}"),
    ]
    events = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: text}} for kind, name, text in pieces
    ]
    assert meter(START, *events).output_bytes == 2 + 3 + 2


@pytest.mark.parametrize(("kind", "error"), [("overloaded_error", Overloaded), ("rate_limit_error", RateLimited)])
def test_an_error_event_is_raised_by_meter_and_reader(kind: str, error: type[Exception]) -> None:
    event = {"type": "error", "error": {"type": kind, "message": "Try later"}}
    with pytest.raises(error, match="Try later"):
        meter(START, event)
    with pytest.raises(error, match="Try later"):
        read(sse(START, event))


# --- reader -----------------------------------------------------------------------------------------------


def block(index: int, value: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": value},
        *({"type": "content_block_delta", "index": index, "delta": delta_} for delta_ in deltas),
        {"type": "content_block_stop", "index": index},
    ]


CITATION = {"type": "char_location", "cited_text": "x", "document_index": 0, "start_char_index": 0, "end_char_index": 1}
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
STREAM = sse(
    START,
    {"type": "ping"},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Hm"},
        {"type": "signature_delta", "signature": "sig"},
    ),
    *block(1, {"type": "redacted_thinking", "data": "xyz"}),
    *block(
        2,
        {**SEARCH, "input": {}},
        *({"type": "input_json_delta", "partial_json": text} for text in ('{"que', 'ry": "x"}')),
    ),
    *block(3, RESULT),
    *block(
        4,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "So "},
        {"type": "citations_delta", "citation": CITATION},
        {"type": "text_delta", "text": "it is"},
    ),
    *block(
        5,
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}},
        {"type": "input_json_delta", "partial_json": '{"a":'},
        {"type": "input_json_delta", "partial_json": " 1}"},
    ),
    delta("tool_use", input_tokens=2479, output_tokens=90),
    STOP,
)
EVENTS: list[Event] = [
    PartStarted(0, ReasoningPart()),
    PartDelta(0, text="Hm"),
    PartDelta(0, signature="sig"),
    PartStopped(0),
    PartStarted(1, ReasoningPart(redacted="xyz")),
    PartStopped(1),
    PartStarted(2, OpaquePart(wire=NAME, value=SEARCH)),
    PartStopped(2),
    PartStarted(3, OpaquePart(wire=NAME, value=RESULT)),
    PartStopped(3),
    PartStarted(4, TextPart("")),
    PartDelta(4, text="So "),
    PartDelta(4, citation=CITATION),
    PartDelta(4, text="it is"),
    PartStopped(4),
    PartStarted(5, ToolCallPart(id="t", name="f", arguments="")),
    PartDelta(5, text='{"a":'),
    PartDelta(5, text=" 1}"),
    PartStopped(5),
    Stopped("tool_calls"),
]


def test_a_stream_becomes_events_and_goes_back_for_the_client() -> None:
    started, *middle, finished = read(STREAM)
    assert isinstance(started, Started)
    assert (started.id, started.model, started.usage.source) == ("msg_1", "claude-sonnet-4-5", "partial")
    assert middle == EVENTS
    assert isinstance(finished, Finished)
    assert finished.usage.totals == {"input": 2479, "output": 90}
    again = write(started, *middle, finished)
    assert read(again)[1:-1] == EVENTS
    message = as_client(again)
    assert [part.type for part in message.content] == [
        "thinking",
        "redacted_thinking",
        "server_tool_use",
        "web_search_tool_result",
        "text",
        "tool_use",
    ]
    assert (message.content[0].thinking, message.content[0].signature) == ("Hm", "sig")
    assert message.content[2].input == {"query": "x"}
    assert (message.content[4].text, len(message.content[4].citations)) == ("So it is", 1)
    assert message.content[5].input == {"a": 1}
    assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("tool_use", 2479, 90)


def test_a_held_block_grows_by_any_kind_of_delta() -> None:
    events = read(
        sse(
            START,
            *block(
                0,
                {"type": "compaction", "content": None},
                *({"type": "compaction_delta", "content": text} for text in ("Sum", "mary")),
            ),
            delta(output_tokens=1),
            STOP,
        )
    )
    assert events[1] == PartStarted(0, OpaquePart(wire=NAME, value={"type": "compaction", "content": "Summary"}))


def test_an_interrupted_stream_is_told_from_a_finished_one() -> None:
    with pytest.raises(StreamInterrupted):
        read(sse(START, *block(0, {"type": "text", "text": ""})))
    # What ended with a reason is whole, even when message_stop was lost.
    assert isinstance(read(sse(START, delta(output_tokens=1)))[-1], Finished)


@pytest.mark.parametrize(
    "data",
    [
        b"data: nonsense\n\n",
        b"data: [1]\n\n",
        sse({"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "x"}}),
        sse({"type": "content_block_start", "index": "0", "content_block": {"type": "text", "text": ""}}),
        sse({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": 5}}),
    ],
)
def test_a_stream_that_breaks_the_wire_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        read(data)


# --- writer -----------------------------------------------------------------------------------------------


def test_usage_that_comes_at_the_end_reaches_the_client() -> None:
    usage = Usage(
        totals={"input": 50, "cache_read": 20, "cache_write_5m": 10, "output": 9, "web_searches": 2}, source="reported"
    )
    data = write(
        Started(id="chatcmpl-1", model="gpt-5"),
        PartStarted(0, TextPart("Hi")),
        PartStopped(0),
        Stopped("stop"),
        Finished(usage),
    )
    assert json.loads(frames(data)[0].data)["message"]["usage"]["input_tokens"] == 0
    message = as_client(data)
    assert message.usage.input_tokens == 20
    assert message.usage.cache_read_input_tokens == 20
    assert message.usage.cache_creation_input_tokens == 10
    assert message.usage.output_tokens == 9
    assert message.usage.server_tool_use.web_search_requests == 2
    assert (message.id, message.model, message.stop_reason) == ("chatcmpl-1", "gpt-5", "end_turn")


def test_parts_that_overlap_are_written_one_after_the_other() -> None:
    data = write(
        Started(id="x", model="m"),
        PartStarted(0, TextPart("Loo")),
        PartStarted(1, ToolCallPart(id="a", name="f", arguments="")),
        PartStarted(2, ToolCallPart(id="b", name="g", arguments='{"y"')),
        PartDelta(1, text='{"x":1}'),
        PartDelta(0, text="king"),
        PartDelta(2, text=":2}"),
        PartStopped(2),
        PartStopped(0),
        PartStopped(1),
        Stopped("stop"),
        Finished(),
    )
    message = as_client(data)
    assert message.content[0].text == "Looking"
    assert [(part.id, part.input) for part in message.content[1:]] == [("a", {"x": 1}), ("b", {"y": 2})]
    assert message.stop_reason == "tool_use"


def test_parts_that_never_ended_are_closed_at_the_end() -> None:
    data = write(
        Started(id="x", model="m"),
        PartStarted(0, ReasoningPart(text="a")),
        PartDelta(0, signature="si"),
        PartStarted(1, TextPart("b")),
        PartDelta(0, signature="g"),
        Stopped("length"),
        Finished(),
    )
    message = as_client(data)
    assert (message.content[0].thinking, message.content[0].signature) == ("a", "sig")
    assert (message.content[1].text, message.stop_reason) == ("b", "max_tokens")


def test_what_the_wire_cannot_say_leaves_no_gap_in_the_indices() -> None:
    data = write(
        PartStarted(0, OpaquePart(wire="gemini", value={})),
        PartDelta(0, text="lost"),
        PartStopped(0),
        PartStarted(1, RefusalPart("N")),
        PartDelta(1, text="o."),
        PartStarted(0, TextPart("second choice"), choice=1),
        PartStopped(1),
        Stopped("stop", choice=1),
        Stopped("content_filter"),
        Finished(),
    )
    message = as_client(data)
    assert [part.text for part in message.content] == ["No."]
    assert (message.model, message.stop_reason) == ("claude", "refusal")


def test_an_empty_answer_is_still_a_whole_stream() -> None:
    assert as_client(write()).content == []
    assert (
        as_client(
            write(Started(id="x", model="m"), Stopped("stop_sequence", stop_sequence="END"), Finished())
        ).stop_sequence
        == "END"
    )


_PIECES = st.lists(st.text(st.characters(codec="utf-8"), max_size=4), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["text", "reasoning", "tool"]), _PIECES), max_size=4))
def test_every_text_arrives_at_the_client(parts: list[tuple[str, list[str]]]) -> None:
    starts: dict[str, Part] = {
        "text": TextPart(""),
        "reasoning": ReasoningPart(),
        "tool": ToolCallPart(id="t", name="f", arguments=""),
    }
    events: list[Event] = [Started(id="x", model="m")]
    for index, (kind, pieces) in enumerate(parts):
        said = [json.dumps({"x": "".join(pieces)})] if kind == "tool" else pieces
        events += [
            PartStarted(index, starts[kind]),
            *(PartDelta(index, text=piece) for piece in said),
            PartStopped(index),
        ]
    message = as_client(write(*events, Stopped("stop"), Finished()))
    got = [
        getattr(part, {"text": "text", "thinking": "thinking", "tool_use": "input"}[part.type])
        for part in message.content
    ]
    assert got == [{"x": "".join(pieces)} if kind == "tool" else "".join(pieces) for kind, pieces in parts]
