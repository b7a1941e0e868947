"""Every recorded Converse exchange: usage, fidelity, streams in any splitting, translation and errors."""

from __future__ import annotations

import json
import random
from typing import Any

import anthropic.types
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import TypeAdapter

from providers import errors
from providers.eventstream import Decoder
from providers.sse import Decoder as ServerEvents
from providers.unified import (
    Event,
    Finished,
    PartDelta,
    PartStarted,
    ReasoningPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire import anthropic_messages, openai_chat, openai_responses
from providers.wire.base import Admitted, Wire, stream_decoder
from providers.wire.bedrock_converse import WIRE
from tests.recordings import Exchange, cases, exchanges, request_bytes
from tests.upstream.recorded import body_of

pytestmark = pytest.mark.filterwarnings("error")

ANSWERS = cases(exchanges(api="bedrock.converse", stream=False, status=200))
STREAMS = cases(exchanges(api="bedrock.converse", stream=True, status=200))
ERRORS = cases(exchanges(api="bedrock.converse", failed=True))
REQUESTS = cases(exchanges(api="bedrock.converse", where=lambda item: bool(item["request_body"])))

COMPARED = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "web_searches")
STOPS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


def assert_usage(usage: Usage, exchange: Exchange) -> None:
    wanted = exchange["expected"]["usage"]
    got = {meter: usage.totals.get(meter, 0) for meter in {*COMPARED, *wanted}}
    assert got == {meter: wanted.get(meter, 0) for meter in got}
    assert usage.source == "reported"
    assert usage.raw == exchange["usage_raw"]


def admitted() -> Admitted:
    return Admitted(model="asked-for", stream=True, fields={})


def read(pieces: list[bytes]) -> list[Event]:
    decoder, reader = stream_decoder(WIRE), WIRE.stream_reader()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
    events = [event for frame in frames for event in reader.feed(frame)]
    return events + reader.end()


def written(events: list[Event], wire: Wire) -> bytes:
    writer = wire.stream_writer(admitted=admitted())
    return b"".join(writer.write(event) for event in events) + writer.finish()


def values(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in ServerEvents().feed(body) if frame.data and frame.data != b"[DONE]"]


def content_of(exchange: Exchange) -> list[dict[str, Any]]:
    return list(exchange["response_body"]["output"]["message"]["content"])


def said(exchange: Exchange) -> str:
    if exchange["stream"]:
        frames = Decoder().feed(body_of(exchange))
        return "".join(json.loads(frame.data).get("delta", {}).get("text", "") for frame in frames)
    return "".join(block.get("text", "") for block in content_of(exchange))


# --- whole answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ANSWERS)
def test_it_decodes_what_the_model_made_and_used(exchange: Exchange) -> None:
    body = body_of(exchange)
    answer = WIRE.decode_answer(body)
    assert_usage(answer.usage, exchange)
    assert WIRE.read_usage(body) == (answer.usage, "")
    (choice,) = answer.choices
    assert "".join(part.text for part in choice.parts if isinstance(part, TextPart)) == said(exchange)
    uses = [block["toolUse"] for block in content_of(exchange) if "toolUse" in block]
    calls = [part for part in choice.parts if isinstance(part, ToolCallPart)]
    assert [(part.id, part.name, json.loads(part.arguments)) for part in calls] == [
        (use["toolUseId"], use["name"], use["input"]) for use in uses
    ]
    held = [block["reasoningContent"] for block in content_of(exchange) if "reasoningContent" in block]
    thoughts = [block["reasoningText"] for block in held]
    assert [(part.text, part.signature) for part in choice.parts if isinstance(part, ReasoningPart)] == [
        (thought["text"], thought["signature"]) for thought in thoughts
    ]
    assert choice.stop_reason == STOPS[exchange["response_body"]["stopReason"]]


@pytest.mark.parametrize("exchange", ANSWERS)
def test_decoding_an_encoded_answer_gives_the_same_answer(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(body_of(exchange))
    again = WIRE.decode_answer(WIRE.encode_answer(answer))
    assert (again.choices, again.usage.totals, again.extra) == (answer.choices, answer.usage.totals, answer.extra)
    assert json.loads(WIRE.encode_answer(answer))["output"] == exchange["response_body"]["output"]


@pytest.mark.parametrize("exchange", ANSWERS)
def test_an_answer_translates_to_the_clients(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(body_of(exchange))
    counts = exchange["expected"]["usage"]
    chat = ChatCompletion.model_validate_json(openai_chat.WIRE.encode_answer(answer))
    assert (chat.choices[0].message.content or "") == said(exchange)
    assert chat.usage is not None
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (counts["input"], counts["output"])
    native = anthropic.types.Message.model_validate_json(anthropic_messages.WIRE.encode_answer(answer))
    assert "".join(block.text for block in native.content if block.type == "text") == said(exchange)
    assert native.usage.cache_read_input_tokens == counts.get("cache_read", 0)
    response = Response.model_validate_json(openai_responses.WIRE.encode_answer(answer))
    assert response.output_text == said(exchange)


# --- streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", STREAMS)
def test_it_reads_a_stream(exchange: Exchange) -> None:
    events = read([body_of(exchange)])
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert_usage(events[-1].usage, exchange)
    kinds = {event.index: event.part for event in events if isinstance(event, PartStarted)}
    deltas = [event for event in events if isinstance(event, PartDelta)]
    assert "".join(event.text for event in deltas if isinstance(kinds[event.index], TextPart)) == said(exchange)
    for part in kinds.values():
        assert not isinstance(part, ToolCallPart) or part.id.startswith("tooluse_")
    frames = [frame.data for frame in Decoder().feed(body_of(exchange))]
    cited = [json.loads(data)["delta"]["citation"] for data in frames if b'"citation"' in data]
    assert [event.citation for event in deltas if event.citation is not None] == cited
    (stopped,) = [event for event in events if isinstance(event, Stopped)]
    called = any(isinstance(part, ToolCallPart) for part in kinds.values())
    assert stopped.reason in (("tool_calls",) if called else ("stop", "length"))


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_reads_the_same_however_it_is_split(exchange: Exchange) -> None:
    body = body_of(exchange)
    whole = read([body])
    for offset in random.Random(exchange["id"]).sample(range(1, len(body)), 40):
        assert read([body[:offset], body[offset:]]) == whole
    assert read([body[at : at + 1] for at in range(len(body))]) == whole


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_cut_at_any_frame_is_never_complete(exchange: Exchange) -> None:
    frames = Decoder().feed(body_of(exchange))
    for count in range(len(frames)):
        with pytest.raises(errors.StreamInterrupted):
            read([frame.raw for frame in frames[:count]])


@pytest.mark.parametrize("exchange", STREAMS)
def test_it_meters_a_stream_it_passes_through(exchange: Exchange) -> None:
    meter = WIRE.stream_meter(admitted=admitted())
    verdicts = [meter.see(frame) for frame in Decoder().feed(body_of(exchange))]
    assert_usage(meter.usage, exchange)
    assert meter.complete
    assert verdicts.index("last") == len(verdicts) - 1
    assert meter.output_bytes >= len(said(exchange).encode())


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_translates_to_the_clients(exchange: Exchange) -> None:
    events = read([body_of(exchange)])
    chunks = [ChatCompletionChunk.model_validate(value) for value in values(written(events, openai_chat.WIRE))]
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == said(exchange)
    frames: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)
    messages = [frames.validate_python(value) for value in values(written(events, anthropic_messages.WIRE))]
    deltas = [event.delta for event in messages if event.type == "content_block_delta"]
    assert "".join(delta.text for delta in deltas if delta.type == "text_delta") == said(exchange)
    last = values(written(events, openai_responses.WIRE))[-1]["response"]
    assert Response.model_validate(last).output_text == said(exchange)


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_rewritten_stream_reads_the_same(exchange: Exchange) -> None:
    events = read([body_of(exchange)])
    again = read([written(events, WIRE)])
    assert again[:-1] == events[:-1]
    assert isinstance(again[-1], Finished)
    assert_usage_totals(again[-1].usage, exchange)


def assert_usage_totals(usage: Usage, exchange: Exchange) -> None:
    assert usage.totals == {meter: count for meter, count in exchange["expected"]["usage"].items() if count}


# --- requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_survives_decoding_and_encoding(exchange: Exchange) -> None:
    request = WIRE.decode_request(request_bytes(exchange))
    encoded = WIRE.encode_request(request)
    assert WIRE.decode_request(encoded) == request
    sent, body = json.loads(encoded), exchange["request_body"]
    assert [message["role"] for message in sent["messages"]] == [message["role"] for message in body["messages"]]
    for before, after in zip(body["messages"], sent["messages"], strict=True):
        assert [next(iter(block)) for block in after["content"]] == [next(iter(block)) for block in before["content"]]
    for name in ("system", "toolConfig", "additionalModelRequestFields"):
        if body.get(name):
            assert sent[name] == body[name]
    inference = {name: value for name, value in (body.get("inferenceConfig") or {}).items() if value not in (None, [])}
    assert sent.get("inferenceConfig", {}) == inference


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ERRORS)
def test_a_recorded_error_has_its_place_in_the_tree(exchange: Exchange) -> None:
    error = WIRE.decode_error(
        status=exchange["status"],
        body=body_of(exchange),
        headers=exchange["response_headers_subset"],
        provider="bedrock",
    )
    message = exchange["response_body"]["message"]
    kind: type[errors.ProviderError] = errors.InvalidRequest
    if "identifier is invalid" in message:
        kind = errors.ModelNotFound
    elif "security token" in message:
        kind = errors.InvalidCredential
    assert type(error) is kind
    assert (error.provider, error.status, error.message) == ("bedrock", exchange["status"], message)
    assert error.upstream_request_id == exchange["response_headers_subset"].get("x-amzn-requestid", "")
    if "messages.2" in message:
        assert isinstance(error, errors.InvalidRequest)
        assert error.param == "messages.2.content.2.document.source.type"
