"""Anthropic's messages through Bedrock's InvokeModel: nothing of them is lost, and every shape of counts is read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers import errors, eventstream, sse
from providers.sse import ServerEvent
from providers.unified import Event, Finished, Message, PartDelta, Request, Started, Stopped, TextPart, Usage
from providers.wire import anthropic_messages
from providers.wire.base import Admitted
from providers.wire.bedrock_invoke import WIRE, AnthropicOnBedrock, frames, usage
from tests.recordings import Exchange, answer_bytes, cases, exchanges

ADMITTED = Admitted(model="m", stream=True, fields={})
METRICS = {"inputTokenCount": 20, "outputTokenCount": 3, "cacheReadInputTokenCount": 5, "invocationLatency": 1}
BODY = {
    "model": "ours", "max_tokens": 64, "stream": True, "messages": [{"role": "user", "content": "hi"}],
    "thinking": {"type": "enabled", "budget_tokens": 1024}, "novel": {"a": 1},
}  # fmt: skip
CLAUDE = cases(exchanges(api="bedrock.invoke", status=200, where=lambda item: "anthropic" in item["model"]))
CLAUDE_STREAMS = cases(
    exchanges(api="bedrock.invoke", status=200, stream=True, where=lambda item: "anthropic" in item["model"])
)
REFUSED = cases(exchanges(api="bedrock.invoke", failed=True))


def events_of(**metrics: Any) -> list[dict[str, Any]]:
    message = {"id": "msg_bdrk_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    return [
        {"type": "message_start", "message": {**message, "usage": {"input_tokens": 20, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It balances\u2026"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop", **({usage.METRICS: metrics} if metrics else {})},
    ]


def packed(*values: dict[str, Any]) -> bytes:
    return b"".join(frames.encode(msgspec.json.encode(value)) for value in values)


def unpacked(stream: bytes, *, by: int = 0) -> list[ServerEvent]:
    decoder = WIRE.stream_decoder()
    step = by or len(stream)
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()


def passed(stream: bytes) -> tuple[bytes, Usage]:
    meter = WIRE.stream_meter(admitted=ADMITTED)
    return b"".join(event.raw for event in unpacked(stream) if meter.see(event) != "drop"), meter.usage


def read(stream: bytes) -> list[Event]:
    reader = WIRE.stream_reader()
    return [made for event in unpacked(stream) for made in reader.feed(event)] + reader.end()


# --- bodies -------------------------------------------------------------------------------------------------


def test_a_message_passes_through_but_for_what_stands_in_the_path() -> None:
    admitted = WIRE.admit(msgspec.json.encode({**BODY, "drop_unsupported": True}))
    sent = msgspec.json.decode(WIRE.rewrite(admitted, model="us.claude"))
    kept = {name: value for name, value in BODY.items() if name not in ("model", "stream")}
    assert sent == kept | {"anthropic_version": "bedrock-2023-05-31"}
    assert msgspec.json.decode(WIRE.rewrite(admitted, model="us.claude", max_output_tokens=9))["max_tokens"] == 9
    assert WIRE.name == anthropic_messages.WIRE.name, "or a client of /v1/messages would be translated"


def test_betas_of_the_row_are_asked_for_where_the_body_asks_for_none() -> None:
    wire = AnthropicOnBedrock(betas=("context-1m", "files"))
    plain = WIRE.admit(msgspec.json.encode(BODY))
    assert msgspec.json.decode(wire.rewrite(plain, model="m"))["anthropic_beta"] == ["context-1m", "files"]
    own = WIRE.admit(msgspec.json.encode({**BODY, "anthropic_beta": ["mine"], "anthropic_version": "later"}))
    sent = msgspec.json.decode(wire.rewrite(own, model="m"))
    assert (sent["anthropic_beta"], sent["anthropic_version"]) == (["mine"], "later")


def test_a_translated_request_is_a_message_too() -> None:
    said = Message("user", (TextPart("hi"),))
    request = Request(model="us.claude", messages=(said,), stream=True, wire="openai_chat")
    sent = msgspec.json.decode(WIRE.encode_request(request))
    assert sent["messages"] == [{"role": "user", "content": "hi"}]
    assert sent["anthropic_version"] == "bedrock-2023-05-31"
    assert not {"model", "stream"} & sent.keys()


# --- streams ------------------------------------------------------------------------------------------------


def test_a_stream_passes_as_anthropic_would_have_sent_it() -> None:
    values = events_of()
    body, told = passed(packed(*values))
    assert body == b"".join(sse.encode(data=msgspec.json.encode(value), event=value["type"]) for value in values)
    assert (told.totals, told.source) == ({"input": 20, "output": 7}, "reported")


@pytest.mark.parametrize("by", [1, 7, 100])
def test_a_stream_in_pieces_says_the_same(by: int) -> None:
    stream = packed(*events_of(**METRICS))
    assert unpacked(stream, by=by) == unpacked(stream)


def test_the_models_own_counts_are_the_bills_and_awss_stand_in_for_them() -> None:
    stream = packed(*events_of(**METRICS))
    assert passed(stream)[1].totals == {"input": 20, "output": 7}
    bare = [dict(value) for value in events_of(**METRICS)]
    del bare[0]["message"]["usage"], bare[4]["usage"]
    told = passed(packed(*bare))[1]
    assert (told.totals, told.source) == ({"input": 25, "cache_read": 5, "output": 3}, "reported")
    assert told.raw == METRICS
    assert read(packed(*bare))[-1] == Finished(usage=told)
    assert passed(packed(*bare[:-1]))[1].source == "none"


def test_a_stream_is_read_into_events() -> None:
    events = read(packed(*events_of()))
    assert isinstance(events[0], Started)
    assert (events[0].id, events[0].model) == ("msg_bdrk_1", "claude")
    assert Stopped(reason="stop") in events
    assert [event.text for event in events if isinstance(event, PartDelta)] == ["It balances\u2026"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [("throttlingException", errors.RateLimited), ("modelStreamErrorException", errors.UpstreamError)],
)
def test_an_exception_on_the_way_is_typed_and_never_shown_as_an_event(
    kind: str, error: type[errors.ProviderError]
) -> None:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    stream = packed(events_of()[0]) + eventstream.encode(data=b'{"message":"Too many requests"}', headers=headers)
    assert unpacked(stream)[-1].raw == b""
    with pytest.raises(error, match="Too many requests"):
        passed(stream)
    with pytest.raises(error):
        read(stream)


def test_an_event_named_like_an_exception_is_the_models_own() -> None:
    """Told apart by the frame, not by the name: a model's chunk has bytes to hand on."""
    stream = packed({"type": "tomorrowException", "novel": 1}) + packed(*events_of())
    assert passed(stream)[1].source == "reported"


def test_frames_of_a_kind_invented_tomorrow_are_left_out() -> None:
    stream = eventstream.encode_event(event="tomorrow", data=b'{"a":1}') + packed(*events_of())
    assert passed(stream) == passed(packed(*events_of()))


def test_a_chunk_without_bytes_and_a_stream_cut_short_are_errors() -> None:
    with pytest.raises(errors.MalformedAnswer):
        unpacked(eventstream.encode_event(event="chunk", data=b'{"p":"abc"}'))
    with pytest.raises(errors.StreamInterrupted):
        read(packed(*events_of()[:4]))


@pytest.mark.parametrize("exchange", CLAUDE)
def test_recorded_usage_is_read_exactly(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    told = passed(body)[1] if exchange["stream"] else WIRE.read_usage(body)[0]
    assert told.source == "reported"
    assert {meter: count for meter, count in told.totals.items() if count} == exchange["expected"]["usage"]


@pytest.mark.parametrize("exchange", CLAUDE_STREAMS)
def test_a_recorded_stream_reads_alike_in_both_ways(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    forwarded, told = passed(body)
    direct, plain = sse.Decoder(), anthropic_messages.WIRE.stream_reader()
    seen = [made for event in direct.feed(forwarded) for made in plain.feed(event)] + plain.end()
    assert seen == read(body)
    assert seen[-1] == Finished(usage=told)


@pytest.mark.parametrize("exchange", REFUSED)
def test_recorded_refusals_are_typed(exchange: Exchange) -> None:
    headers = exchange["response_headers_subset"]
    error = WIRE.decode_error(
        status=exchange["status"], body=answer_bytes(exchange), headers=headers, provider="aws"
    )
    assert type(error) is not errors.ProviderError
    assert error.upstream_request_id == headers["x-amzn-requestid"]


# --- counts of every shape ----------------------------------------------------------------------------------

HEADERS = {
    "X-Amzn-Bedrock-Input-Token-Count": "8", "X-Amzn-Bedrock-Output-Token-Count": "35",
    "X-Amzn-Bedrock-Cache-Read-Input-Token-Count": "2",
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "totals"),
    [
        ({"usage": {"input_tokens": 3, "cache_read_input_tokens": 9, "output_tokens": 4}},
         {"input": 12, "cache_read": 9, "output": 4}),
        ({"usage": {"inputTokens": 25, "outputTokens": 10, "cacheReadInputTokenCount": 5, "totalTokens": 40}},
         {"input": 30, "cache_read": 5, "output": 10}),
        ({"prompt_token_count": 8, "generation_token_count": 35}, {"input": 8, "output": 35}),
        ({"usage": {"prompt_tokens": 8, "completion_tokens": 35, "total_tokens": 43}}, {"input": 8, "output": 35}),
        ({"inputTextTokenCount": 8, "results": [{"tokenCount": 30}, {"tokenCount": 5}]}, {"input": 8, "output": 35}),
        ({"inputTextTokenCount": 8, "embedding": [0.5]}, {"input": 8}),
        ({"meta": {"billed_units": {"input_tokens": 8, "output_tokens": 35}}}, {"input": 8, "output": 35}),
    ],
    ids=["anthropic", "nova", "llama", "mistral", "titan text", "titan embed", "cohere"],
)  # fmt: skip
def test_each_makers_shape_is_read(body: dict[str, Any], totals: dict[str, int]) -> None:
    told = usage.of_answer(msgspec.json.encode(body), {"x-amzn-bedrock-input-token-count": "1000"})
    assert (told.totals, told.source, told.flags) == (totals, "reported", ())


@pytest.mark.parametrize("body", [b'{"outputs": [{"text": "hi"}]}', b'{"usage": {}}', b"[]", b"nope", b'{"meta": {}}'])
def test_what_a_body_does_not_tell_the_headers_do(body: bytes) -> None:
    assert usage.of_answer(body, HEADERS).totals == {"input": 10, "cache_read": 2, "output": 35}
    assert usage.of_answer(body).source == "none"


def test_odd_counts_never_crash() -> None:
    told = usage.of_headers({"x-amzn-bedrock-input-token-count": "-3", "x-amzn-bedrock-output-token-count": "9" * 40})
    assert (told.totals, told.source) == ({}, "none")
    assert told.flags
    assert usage.of_answer(b'{"prompt_token_count": "8", "generation_token_count": 3}').source == "partial"
    assert usage.of_answer(b'{"inputTextTokenCount": 8, "results": [{"tokenCount": null}]}').totals == {"input": 8}
    assert usage.of_metrics({"inputTokenCount": None}).source == "none"


def test_an_embedding_of_which_only_a_header_tells_is_reported() -> None:
    told = usage.of_answer(b'{"embeddings": [[0.5]]}', {"x-amzn-bedrock-input-token-count": "8"})
    assert (told.totals, told.source) == ({"input": 8}, "reported")


def test_a_stream_of_any_model_is_counted() -> None:
    assert usage.of_stream(unpacked(packed(*events_of(**METRICS)))).totals == {"input": 20, "output": 7}
    llama = {"generation": "Arr", "prompt_token_count": None, usage.METRICS: METRICS}
    assert usage.of_stream(unpacked(packed({"generation": "A"}, llama))).totals == {
        "input": 25, "cache_read": 5, "output": 3,
    }  # fmt: skip
    assert usage.of_stream(unpacked(packed({"generation": "A"}))).source == "none"
