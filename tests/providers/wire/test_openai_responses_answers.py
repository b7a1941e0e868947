"""What a responses provider answers: counts, failures, and streams that are odd or end badly."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from openai.types.responses import ResponseErrorEvent

from providers import errors
from providers.sse import Decoder, encode
from providers.unified import (
    Event,
    Finished,
    OpaquePart,
    PartDelta,
    PartStarted,
    ReasoningPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
)
from providers.wire.base import Admitted
from providers.wire.openai_responses import WIRE, Dialect, OpenAIResponses

# --- usage --------------------------------------------------------------------------------------------------


def answer(**fields: Any) -> bytes:
    return json.dumps({"id": "r", "model": "m", "status": "completed", "output": [], **fields}).encode()


def counts(**fields: Any) -> dict[str, Any]:
    return {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, **fields}


SEARCHES = [
    {"type": "web_search_call", "id": "1", "action": {"type": "search", "query": "q"}},
    {"type": "web_search_call", "id": "2", "action": {"type": "open_page", "url": "u"}},
    {"type": "file_search_call", "id": "3", "queries": ["q"]},
]


def test_uses_of_the_providers_tools_are_told_by_a_flag() -> None:
    usage, _ = WIRE.read_usage(answer(output=SEARCHES, usage=counts()))
    assert usage.totals == {"input": 10, "output": 5}
    assert usage.flags == ("unmetered:web_searches=1", "unmetered:file_searches=1")


def test_uses_of_the_providers_tools_are_metered_where_the_settings_say_so() -> None:
    wire = OpenAIResponses(dialect=Dialect(meter_tool_calls=True))
    usage, _ = wire.read_usage(answer(output=SEARCHES, usage=counts()))
    assert usage.totals == {"input": 10, "output": 5, "web_searches": 1, "file_searches": 1}
    stated = answer(output=SEARCHES, usage=counts(), tool_usage={"web_search": {"num_requests": 4}})
    assert wire.read_usage(stated)[0].totals["web_searches"] == 4


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({"output": [{"type": "image_generation_call"}]}, ("unmetered:image_gen",)),
        ({"tool_usage": {"image_gen": {"total_tokens": 7}}}, ("unmetered:image_gen",)),
        ({"output": [{"type": "image_generation_call"}], "tool_usage": {"image_gen": {"total_tokens": 7}}},
         ("unmetered:image_gen",)),
        ({"tool_usage": {"image_gen": {"total_tokens": 0}}}, ()),
        ({"output": [{"type": "code_interpreter_call", "container_id": name} for name in ("a", "b", "a")]},
         ("unmetered:code_sessions=2",)),
    ],
    ids=str,
)  # fmt: skip
def test_images_and_containers_of_the_providers_tools_are_told(fields: dict[str, Any], flags: tuple[str, ...]) -> None:
    usage, _ = WIRE.read_usage(answer(usage=counts(), **fields))
    assert (usage.totals, usage.flags) == ({"input": 10, "output": 5}, flags)


XAI_TOOLS = {
    "web_search_calls": 0, "x_search_calls": 3, "code_interpreter_calls": 1, "file_search_calls": 2, "mcp_calls": 4,
}  # fmt: skip


def test_each_of_xais_tools_is_told_but_the_customers_own_servers() -> None:
    usage, _ = WIRE.read_usage(answer(usage=counts(server_side_tool_usage_details=XAI_TOOLS)))
    assert usage.totals == {"input": 10, "output": 5}
    assert usage.flags == (
        "unmetered:file_searches=2", "unmetered:code_interpreter_calls=1", "unmetered:x_search_calls=3",
    )  # fmt: skip


def test_a_page_that_perplexity_fetched_is_told() -> None:
    tools = {"search_web": {"invocation": 2}, "fetch_url": {"invocation": 3}, "finance_search": {}}
    usage, _ = WIRE.read_usage(answer(usage=counts(tool_calls_details=tools)))
    assert (usage.totals["web_searches"], usage.flags) == (2, ("unmetered:fetch_url=3",))


@pytest.mark.parametrize(
    "stated",
    [
        {"server_tool_use_details": {"web_search_requests": 2}},
        {"server_tool_use": {"web_search_requests": 2}},
        {"tool_calls_details": {"search_web": {"invocation": 2}}},
    ],
    ids=lambda stated: next(iter(stated)),
)
def test_searches_that_the_usage_states_are_metered_once(stated: dict[str, Any]) -> None:
    usage, _ = WIRE.read_usage(answer(output=SEARCHES[:2], usage=counts(**stated)))
    assert usage.totals == {"input": 10, "output": 5, "web_searches": 2}
    assert usage.flags == ()


def test_the_cache_goes_by_the_names_of_anthropics_hosts_too() -> None:
    details = {"cache_read_input_tokens": 6, "cache_creation_input_tokens": 3}
    usage, _ = WIRE.read_usage(answer(usage=counts(input_tokens_details=details)))
    assert usage.totals == {"input": 10, "cache_read": 6, "cache_write_5m": 3, "output": 5}


def test_cache_writes_are_split_by_their_lifetime() -> None:
    details = {"cached_tokens": 1, "cache_write_tokens": 9, "cache_write_tokens_details": {"ttl_30m_tokens": 4}}
    usage, _ = WIRE.read_usage(answer(usage=counts(input_tokens_details=details)))
    assert usage.totals == {"input": 10, "cache_read": 1, "cache_write_30m": 4, "cache_write_5m": 5, "output": 5}


def test_a_stated_cost_is_read_to_its_last_digit() -> None:
    ticks = WIRE.read_usage(answer(usage=counts(cost_in_usd_ticks=52410500)))[0]
    assert ticks.stated_cost_usd == Decimal("0.00524105")
    cost = WIRE.read_usage(b'{"status": "completed", "usage": {"input_tokens": 1, "cost": 1.13e-05}}')
    assert cost[0].stated_cost_usd == Decimal("0.0000113")
    byok = counts(cost=0.1, is_byok=True, cost_details={"upstream_inference_cost": 2})
    assert WIRE.read_usage(answer(usage=byok))[0].stated_cost_usd == 2
    cost = WIRE.read_usage(b'{"usage": {"input_tokens": 1, "cost": {"currency": "USD", "total_cost": 0.0051}}}')
    assert cost[0].stated_cost_usd == Decimal("0.0051")


@pytest.mark.parametrize(
    ("usage", "totals", "source", "flag"),
    [
        (None, {}, "none", ""),
        (7, {}, "none", "not_an_object:usage"),
        ({"input_tokens": "12", "output_tokens": 5}, {}, "none", "not_a_number:input_tokens"),
        ({"input_tokens": -1, "output_tokens": 5}, {}, "none", "negative:input_tokens"),
        ({"input_tokens": 10**30, "output_tokens": 5}, {}, "none", "too_large:input_tokens"),
        ({"input_tokens": 3}, {"input": 3}, "partial", ""),
        (
            {"input_tokens": 3, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 9}},
            {"input": 3, "cache_read": 3, "output": 1},
            "reported",
            "clamped:cached_tokens",
        ),
    ],
)
def test_odd_counts_never_crash(usage: Any, totals: dict[str, int], source: str, flag: str) -> None:
    read, _ = WIRE.read_usage(answer(usage=usage))
    assert (read.totals, read.source) == (totals, source)
    assert flag in read.flags or not flag


# --- answers and streams that end badly ---------------------------------------------------------------------


def test_an_answer_that_was_cut_short_says_why() -> None:
    cut = answer(status="incomplete", incomplete_details={"reason": "max_output_tokens"}, usage=counts())
    assert WIRE.decode_answer(cut).choices[0].stop_reason == "length"
    filtered = answer(status="incomplete", incomplete_details={"reason": "content_filter"})
    assert WIRE.decode_answer(filtered).choices[0].stop_reason == "content_filter"


def test_a_failed_response_is_an_error_and_its_usage_is_kept() -> None:
    failed = answer(status="failed", error={"code": "rate_limit_exceeded", "message": "slow down"}, usage=counts())
    with pytest.raises(errors.RateLimited, match="slow down"):
        WIRE.decode_answer(failed)
    assert WIRE.read_usage(failed)[0].totals == {"input": 10, "output": 5}


@pytest.mark.parametrize("broken", [b"", b"[]", b"{", b'{"id": "r"}', b'{"output": 3}'])
def test_what_is_no_response_is_malformed(broken: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        WIRE.decode_answer(broken)


def told(kind: str, **fields: Any) -> bytes:
    return encode(event=kind, data=json.dumps({"type": kind, **fields}).encode())


def read(data: bytes) -> tuple[list[Event], Any]:
    reader = WIRE.stream_reader()
    events = [event for frame in Decoder().feed(data) for event in reader.feed(frame)]
    return events + reader.end(), reader


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"code": "server_error", "message": "broken"}, errors.UpstreamError),
        ({"code": "rate_limit_exceeded", "message": "too fast"}, errors.RateLimited),
        ({"error": {"code": "context_length_exceeded", "message": "too long"}}, errors.ContextTooLong),
        ({"error": {"type": "overloaded_error", "message": "busy"}}, errors.Overloaded),
        ({"code": "invalid_prompt", "message": "no"}, errors.ContentRefused),
    ],
)
def test_an_error_event_is_a_typed_error(said: dict[str, Any], kind: type[errors.ProviderError]) -> None:
    with pytest.raises(kind):
        read(told("response.created", response={"id": "r", "model": "m"}) + told("error", **said))
    meter = WIRE.stream_meter(admitted=Admitted(model="m", stream=True, fields={}))
    (frame,) = Decoder().feed(told("error", **said))
    with pytest.raises(kind):
        meter.see(frame)


def test_a_stream_that_fails_keeps_the_usage_of_its_last_event() -> None:
    response = {"id": "r", "model": "m", "status": "failed", "error": {"code": "server_error", "message": "x"}}
    meter = WIRE.stream_meter(admitted=Admitted(model="m", stream=True, fields={}))
    (frame,) = Decoder().feed(told("response.failed", response={**response, "usage": counts()}))
    with pytest.raises(errors.UpstreamError):
        meter.see(frame)
    assert (meter.usage.totals, meter.complete) == ({"input": 10, "output": 5}, False)


def test_a_stream_that_was_cut_short_is_complete() -> None:
    response = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "usage": counts()}
    events, reader = read(told("response.incomplete", response=response))
    assert [event for event in events if isinstance(event, Stopped)] == [Stopped(reason="length")]
    assert reader.complete


def test_openrouters_word_for_the_end_is_understood() -> None:
    _, reader = read(told("response.done", response={"status": "completed", "output": [], "usage": counts()}))
    assert (reader.complete, reader.usage.totals) == (True, {"input": 10, "output": 5})


def test_event_types_of_tomorrow_are_passed_over() -> None:
    content = [{"type": "output_text", "text": "Hi", "annotations": []}]
    items = [{"type": "message", "role": "assistant", "content": content}]
    done = told("response.completed", response={"status": "completed", "output": items, "usage": counts()})
    events, _ = read(told("response.invented", sequence_number=0, thing={}) + b": ping\n\n" + done)
    assert isinstance(events[0], Started)
    # A server that sends nothing but the end has said it all there.
    assert [event.part for event in events if isinstance(event, PartStarted)] == [TextPart("Hi")]
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("broken", [b"data: {\n\n", b"data: 7\n\n", b'data: {"type":"response.completed"}\n\n'])
def test_events_that_cannot_be_read_are_malformed(broken: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        read(broken)


def test_items_in_one_piece_and_thoughts_in_several_parts_are_read() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    search = {"type": "web_search_call", "id": "ws", "status": "completed"}
    thought = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "s"}
    ended = {"status": "completed", "output": [thought, call, search], "usage": counts()}
    stream = [
        told("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="a"),
        told("response.reasoning_summary_part.added", output_index=0, summary_index=1),
        told("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="b"),
        told("response.output_item.done", output_index=0, item=thought),
        told("response.output_item.added", output_index=1, item={**call, "arguments": ""}),
        told("response.output_item.done", output_index=1, item=call),
        told("response.output_item.done", output_index=2, item=search),
        told("response.completed", response=ended),
    ]
    events, _ = read(b"".join(stream))
    assert [event.part for event in events if isinstance(event, PartStarted)] == [
        ReasoningPart(),
        ToolCallPart("c", "look", ""),
        OpaquePart("openai_responses", search),
    ]
    deltas = [(event.index, event.text, event.signature) for event in events if isinstance(event, PartDelta)]
    assert deltas == [(0, "a", ""), (0, "\n\n", ""), (0, "b", ""), (0, "", "s"), (1, "{}", "")]
    assert [event.reason for event in events if isinstance(event, Stopped)] == ["tool_calls"]


# --- errors to the client -----------------------------------------------------------------------------------


def test_an_error_in_a_stream_is_an_event_that_the_official_client_reads() -> None:
    raw = WIRE.encode_stream_error(status=502, code="provider_error", message="gone", request_id="r", call_id="c")
    (frame,) = Decoder().feed(raw)
    event = ResponseErrorEvent.model_validate_json(frame.data)
    assert (frame.event, event.code, event.message) == ("error", "provider_error", "gone")
    # Its stream raises on this object, and its user sees the error as one.
    assert json.loads(frame.data)["error"]["call_id"] == "c"


def test_an_error_body_names_the_call() -> None:
    raw = WIRE.encode_error(
        status=400, code="invalid_request", message="no", param="$.input", request_id="r", call_id="c"
    )
    said = json.loads(raw)["error"]
    assert (said["code"], said["param"]) == ("invalid_request", "$.input")
    assert (said["request_id"], said["call_id"]) == ("r", "c")
