"""Chat streams: what ends them, what the client gets, how parts come together."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from providers import errors, sse
from providers.sse import Decoder, ServerEvent
from providers.unified import (
    NO_USAGE,
    Event,
    Finished,
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
from providers.wire.base import Admitted
from providers.wire.openai_chat import WIRE
from providers.wire.openai_chat.stream import Meter

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def frame(value: Any, event: str = "") -> ServerEvent:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    (decoded,) = Decoder().feed(sse.encode(data=data, event=event))
    return decoded


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, index: int = 0, **top: Any) -> ServerEvent:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return frame({"id": "c1", "model": "m1", "created": 5, "choices": [choice], **top})


def usage_chunk(usage: Any = USAGE) -> ServerEvent:
    return frame({"id": "c1", "model": "m1", "choices": [], "usage": usage})


DONE = frame(b"[DONE]")


def admitted(*, wants_usage: bool = True) -> Admitted:
    return Admitted(model="m", stream=True, fields={}, wants_usage=wants_usage)


def meter(*frames: ServerEvent, wants_usage: bool = True) -> tuple[Meter, list[str]]:
    watched = WIRE.stream_meter(admitted=admitted(wants_usage=wants_usage))
    return watched, [watched.see(one) for one in frames]


def read(*frames: ServerEvent) -> list[Event]:
    reader = WIRE.stream_reader()
    return [event for one in frames for event in reader.feed(one)] + reader.end()


def parts(events: list[Event]) -> list[Part]:
    """The parts of choice 0, put together again."""
    built: dict[int, dict[str, Any]] = {}
    kinds: dict[int, Part] = {}
    for event in events:
        if isinstance(event, PartStarted):
            kinds[event.index], built[event.index] = event.part, {"text": "", "signature": ""}
        elif isinstance(event, PartDelta):
            built[event.index]["text"] += event.text
            built[event.index]["signature"] += event.signature
    made: list[Part] = []
    for index, part in kinds.items():
        said = built[index]
        match part:
            case ToolCallPart():
                made.append(ToolCallPart(id=part.id, name=part.name, arguments=part.arguments + said["text"]))
            case ReasoningPart() if not part.redacted:
                made.append(ReasoningPart(text=said["text"], signature=said["signature"]))
            case TextPart():
                made.append(TextPart(text=said["text"]))
            case RefusalPart():
                made.append(RefusalPart(text=said["text"]))
            case _:
                made.append(part)
    return made


# --- what the client gets, and when it is over ------------------------------------------------------------


def test_the_usage_event_is_kept_from_a_client_that_did_not_ask() -> None:
    frames = [chunk({"content": "hi"}), chunk(finish="stop"), usage_chunk(), DONE]
    assert meter(*frames, wants_usage=False)[1] == ["forward", "forward", "drop", "last"]
    assert meter(*frames, wants_usage=True)[1] == ["forward", "forward", "forward", "last"]


def test_usage_beside_a_choice_is_forwarded_to_everyone() -> None:
    frames = [chunk({"content": "hi"}, finish="stop", usage=USAGE), DONE]
    watched, verdicts = meter(*frames, wants_usage=False)
    assert verdicts == ["forward", "last"]
    assert watched.usage.totals == {"input": 7, "output": 3}


def test_an_empty_chunk_without_usage_is_forwarded() -> None:
    """Azure begins with the filter results of the prompt."""
    assert meter(frame({"choices": [], "prompt_filter_results": []}), wants_usage=False)[1] == ["forward"]


def test_comments_and_pings_are_forwarded() -> None:
    comment = ServerEvent(event="", data=b"", raw=b": PROCESSING\n\n")
    watched, verdicts = meter(comment, ServerEvent(event="ping", data=b"", raw=b"event: ping\n\n"))
    assert verdicts == ["forward", "forward"]
    assert not watched.complete


@pytest.mark.parametrize(
    ("frames", "complete"),
    [
        ([chunk({"content": "hi"})], False),
        ([chunk({"content": "hi"}), chunk(finish="stop")], False),
        ([chunk({"content": "hi"}, usage=USAGE)], False),
        ([chunk({"content": "hi"}, usage=USAGE), chunk(finish="stop")], False),
        ([chunk(finish="stop"), usage_chunk()], True),
        ([chunk(finish="stop", usage=USAGE)], True),
        ([chunk(finish="stop"), DONE], True),
        ([chunk({"content": "hi"}), usage_chunk(), DONE], True),
    ],
)
def test_a_stream_is_complete_once_the_provider_said_so(frames: list[ServerEvent], complete: bool) -> None:
    watched, _ = meter(*frames)
    assert watched.complete is complete
    if complete:
        assert isinstance(read(*frames)[-1], Finished)
    else:
        with pytest.raises(errors.StreamInterrupted):
            read(*frames)


def test_the_last_running_total_counts_and_is_not_added() -> None:
    totals = [{"prompt_tokens": 8, "completion_tokens": n, "cost": {"total_cost": n}} for n in (1, 2, 5)]
    watched, verdicts = meter(
        *(chunk({"content": "x"}, usage=raw) for raw in totals[:-1]),
        chunk(finish="stop", usage=totals[-1], object="chat.completion.done"),
    )
    assert watched.usage.totals == {"input": 8, "output": 5}
    assert watched.usage.stated_cost_usd == Decimal(5)
    assert verdicts[-1] == "last"


@pytest.mark.parametrize("nothing", [{}, None])
def test_an_empty_usage_takes_back_nothing(nothing: Any) -> None:
    watched, _ = meter(chunk({"content": "hi"}, finish="stop", usage=USAGE), usage_chunk(nothing), DONE)
    assert (watched.usage.raw, watched.usage.source) == (USAGE, "reported")


def test_usage_before_the_end_is_partial() -> None:
    watched, _ = meter(chunk({"content": "x"}, usage=USAGE))
    assert (watched.usage.source, watched.usage.totals) == ("partial", {"input": 7, "output": 3})
    watched.see(chunk(finish="stop", usage={**USAGE, "completion_tokens": 4, "total_tokens": 11}))
    assert (watched.usage.source, watched.usage.totals) == ("reported", {"input": 7, "output": 4})


def test_a_stream_without_usage_has_none() -> None:
    watched, _ = meter(chunk({"content": "x"}), chunk(finish="stop"), DONE)
    assert watched.usage == NO_USAGE
    assert watched.output_bytes == 1


def test_the_tier_may_stand_on_another_chunk_than_the_usage() -> None:
    watched, _ = meter(chunk({"content": "x"}, service_tier="flex"), chunk(finish="stop"), usage_chunk(), DONE)
    assert watched.usage.service_tier == "flex"


def test_it_counts_the_bytes_of_all_that_the_model_wrote() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "go", "arguments": '{"a":1}'}}
    watched, _ = meter(
        chunk({"role": "assistant", "content": "é"}),
        chunk({"reasoning_content": "abc"}),
        chunk({"refusal": "no"}),
        chunk({"tool_calls": [call]}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]}]}),
    )
    assert watched.output_bytes == 2 + 3 + 2 + 2 + 7 + 3


@pytest.mark.parametrize(
    ("value", "event", "kind"),
    [
        ({"error": {"message": "busy", "code": 503}}, "", errors.Overloaded),
        ({"error": {"message": "busy", "type": "server_error"}}, "", errors.UpstreamError),
        ({"error": {"message": "slow", "type": "rate_limit_exceeded"}}, "error", errors.RateLimited),
        ({"error": {"message": "pay", "code": "insufficient_quota"}}, "", errors.QuotaExhausted),
        ({"error": "broken"}, "", errors.UpstreamError),
        ({"message": "broken", "code": 500}, "error", errors.UpstreamError),
        (
            {"error": {"code": 502, "message": "gone"}, "choices": [{"delta": {}, "finish_reason": "error"}]},
            "",
            errors.UpstreamError,
        ),
    ],
)
def test_an_error_inside_a_stream_is_raised(value: Any, event: str, kind: type[errors.ProviderError]) -> None:
    for watch in (WIRE.stream_meter(admitted=admitted()).see, WIRE.stream_reader().feed):
        watch(chunk({"content": "hi"}))
        with pytest.raises(errors.ProviderError) as raised:
            watch(frame(value, event))
        assert type(raised.value) is kind


@pytest.mark.parametrize("data", [b"{", b"[]", b"7", b"<html>"])
def test_an_event_that_is_no_object_is_malformed(data: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        WIRE.stream_reader().feed(frame(data))


@pytest.mark.parametrize(
    "value",
    [
        {"choices": None},
        {"choices": [None, 3]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": 5, "tool_calls": "x", "reasoning": [], "annotations": 3}}]},
        {"choices": [{"delta": {"tool_calls": [None, {"function": None}, {"function": {"arguments": {"a": 1}}}]}}]},
        {"id": 5, "model": 6, "created": "now", "choices": [{"index": "a", "delta": {"content": "x"}}]},
    ],
)
def test_odd_chunks_never_crash(value: Any) -> None:
    assert meter(frame(value), DONE)[1] == ["forward", "last"]
    assert isinstance(read(frame(value), DONE)[-1], Finished)


# --- parts ------------------------------------------------------------------------------------------------


def test_the_events_come_in_their_order() -> None:
    events = read(chunk({"role": "assistant", "content": ""}), chunk({"content": "hi"}), chunk(finish="length"), DONE)
    assert events == [
        Started(id="c1", model="m1", created=5),
        PartStarted(index=0, part=TextPart(text="")),
        PartDelta(index=0, text="hi"),
        PartStopped(index=0),
        Stopped(reason="length"),
        Finished(usage=NO_USAGE),
    ]


def call(at: int | None, call_id: str | None = None, name: str | None = None, arguments: str = "") -> ServerEvent:
    value: dict[str, Any] = {"function": {"arguments": arguments}}
    value.update({"index": at} if at is not None else {})
    value.update({"id": call_id, "type": "function"} if call_id else {})
    value["function"].update({"name": name} if name else {})
    return chunk({"tool_calls": [value]})


def test_parallel_tool_calls_come_apart_by_their_index() -> None:
    events = read(
        call(0, "a", "f", ""), call(0, None, None, '{"x"'), call(0, None, None, ":1}"), call(1, "b", "g", "{}"), DONE
    )
    assert parts(events) == [ToolCallPart(id="a", name="f", arguments='{"x":1}'), ToolCallPart("b", "g", "{}")]


def test_pieces_of_parallel_calls_may_come_in_turns() -> None:
    frames = (call(0, "a", "f", ""), call(1, "b", "g", ""), call(0, None, None, '{"x"'), call(1, None, None, "{}"))
    events = read(*frames, call(0, None, None, ":1}"), DONE)
    assert parts(events) == [ToolCallPart(id="a", name="f", arguments='{"x":1}'), ToolCallPart("b", "g", "{}")]
    open_parts: set[int] = set()
    for event in events:
        if isinstance(event, PartStarted):
            open_parts.add(event.index)
        elif isinstance(event, PartDelta):
            assert event.index in open_parts, "nothing is said of a part that has ended"
        elif isinstance(event, PartStopped):
            open_parts.remove(event.index)


def test_calls_without_an_index_come_apart_by_their_id() -> None:
    events = read(call(None, "a", "f", '{"x"'), call(None, None, None, ":1}"), call(None, "b", "g", "{}"), DONE)
    assert parts(events) == [ToolCallPart("a", "f", '{"x":1}'), ToolCallPart("b", "g", "{}")]


def test_calls_that_share_an_index_but_not_an_id_are_two() -> None:
    events = read(call(0, "a", "f", "{}"), call(0, "b", "g", "{}"), DONE)
    assert parts(events) == [ToolCallPart("a", "f", "{}"), ToolCallPart("b", "g", "{}")]


def test_an_id_repeated_on_every_piece_is_one_call() -> None:
    events = read(call(0, "a", "f", '{"x"'), call(0, "a", None, ":1}"), DONE)
    assert parts(events) == [ToolCallPart("a", "f", '{"x":1}')]


def test_reasoning_is_a_part_before_the_text() -> None:
    for field in ("reasoning_content", "reasoning"):
        events = read(chunk({field: "let me "}), chunk({field: "see"}), chunk({"content": "4"}), DONE)
        assert parts(events) == [ReasoningPart(text="let me see"), TextPart(text="4")]


def test_reasoning_details_keep_signatures_and_redacted_data() -> None:
    def details(**detail: Any) -> ServerEvent:
        return chunk({"content": "", "reasoning": detail.get("text"), "reasoning_details": [detail]})

    events = read(
        details(type="reasoning.text", text="one"),
        details(type="reasoning.text", signature="S1"),
        details(type="reasoning.text", text="two"),
        details(type="reasoning.encrypted", data="opaque"),
        chunk({"content": "4"}),
        DONE,
    )
    assert parts(events) == [
        ReasoningPart(text="one", signature="S1"),
        ReasoningPart(text="two"),
        ReasoningPart(redacted="opaque"),
        TextPart(text="4"),
    ]


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = read(chunk({"refusal": "I "}), chunk({"refusal": "cannot"}, finish="stop"), DONE)
    assert parts(events) == [RefusalPart(text="I cannot")]


def test_several_choices_are_kept_apart() -> None:
    events = read(
        chunk({"content": "a"}, index=0),
        chunk({"content": "b"}, index=1),
        chunk({"content": "c"}, index=0),
        chunk(finish="stop", index=1),
        chunk(finish="length", index=0),
        DONE,
    )
    text = {0: "", 1: ""}
    for event in events:
        if isinstance(event, PartDelta):
            text[event.choice] += event.text
    assert text == {0: "ac", 1: "b"}
    assert [event for event in events if isinstance(event, Stopped)] == [
        Stopped(reason="length", choice=0),
        Stopped(reason="stop", choice=1),
    ]


def test_logprobs_stay_with_their_text() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}], "refusal": None}
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": logprobs, "finish_reason": None}
    events = read(frame({"id": "c", "model": "m", "choices": [choice]}), DONE)
    assert PartDelta(index=0, text="a", logprobs=logprobs) in events
    written = [json.loads(one.data) for one in write(events)[:-1]]
    assert logprobs in [value["choices"][0]["logprobs"] for value in written]


# --- the writer -------------------------------------------------------------------------------------------


def write(events: list[Event], *, wants_usage: bool = False) -> list[ServerEvent]:
    writer = WIRE.stream_writer(admitted=admitted(wants_usage=wants_usage))
    return Decoder().feed(b"".join(writer.write(event) for event in events) + writer.finish())


FROM_ANOTHER_WIRE: list[Event] = [
    Started(id="msg_1", model="claude"),
    PartStarted(index=0, part=ReasoningPart()),
    PartDelta(index=0, text="hmm"),
    PartDelta(index=0, signature="SIG"),
    PartStopped(index=0),
    PartStarted(index=1, part=ReasoningPart(redacted="XX")),
    PartStopped(index=1),
    PartStarted(index=2, part=TextPart(text="Hel")),
    PartDelta(index=2, text="lo"),
    PartDelta(index=2, citation={"type": "web_search_result_location", "url": "https://a", "title": "A"}),
    PartDelta(index=2, citation={"type": "page_location", "start_page_number": 1}),
    PartStopped(index=2),
    PartStarted(index=3, part=ToolCallPart(id="t1", name="f", arguments="")),
    PartDelta(index=3, text='{"a":1}'),
    PartStopped(index=3),
    PartStarted(index=4, part=ToolCallPart(id="t2", name="g", arguments="{}")),
    PartStopped(index=4),
    Stopped(reason="tool_calls"),
    Finished(usage=Usage(totals={"input": 20, "cache_read": 5, "output": 9, "reasoning": 4}, source="reported")),
]


def test_events_of_another_wire_become_chunks_that_the_official_client_reads() -> None:
    frames = write(FROM_ANOTHER_WIRE, wants_usage=True)
    chunks = [ChatCompletionChunk.model_validate_json(one.data) for one in frames[:-1]]
    assert frames[-1].data == b"[DONE]"
    assert {one.id for one in chunks} == {"msg_1"}
    assert {one.object for one in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (20, 9, 29)
    assert last.usage.prompt_tokens_details
    assert last.usage.prompt_tokens_details.cached_tokens == 5
    assert [one.choices[0].finish_reason for one in chunks[:-1] if one.choices[0].finish_reason] == ["tool_calls"]
    events = read(*frames)
    assert parts(events) == [
        ReasoningPart(text="hmm", signature="SIG"),
        ReasoningPart(redacted="XX"),
        TextPart(text="Hello"),
        ToolCallPart(id="t1", name="f", arguments='{"a":1}'),
        ToolCallPart(id="t2", name="g", arguments="{}"),
    ]
    cited = [event.citation for event in events if isinstance(event, PartDelta) and event.citation]
    assert [one["url_citation"]["url"] for one in cited] == ["https://a"]


def test_the_usage_chunk_is_written_only_for_a_client_that_asked() -> None:
    values = [json.loads(one.data) for one in write(FROM_ANOTHER_WIRE)[:-1]]
    assert not any("usage" in value for value in values)


def test_an_error_within_a_stream_is_an_event_the_official_client_raises_on() -> None:
    raw = WIRE.encode_stream_error(status=502, code="provider_error", message="gone", request_id="r", call_id="c")
    (event,) = Decoder().feed(raw)
    error = json.loads(event.data)["error"]
    assert (error["code"], error["message"], error["request_id"], error["call_id"]) == (
        "provider_error",
        "gone",
        "r",
        "c",
    )
