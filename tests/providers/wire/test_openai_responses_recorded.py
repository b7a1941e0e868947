"""Every recorded responses exchange of every provider: usage, fidelity, pass-through, translation and errors."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import anthropic.types
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from providers import errors
from providers.sse import Decoder
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
    Usage,
)
from providers.wire import anthropic_messages, openai_chat
from providers.wire.base import Admitted, Wire
from providers.wire.openai_responses import WIRE
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes

pytestmark = pytest.mark.filterwarnings("error")

ANSWERS = cases(exchanges(api="responses", stream=False, status=200))
STREAMS = cases(exchanges(api="responses", stream=True, status=200))
ERRORS = cases(exchanges(api="responses", failed=True))
REQUESTS = cases(exchanges(api="responses", where=lambda item: "model" in (item["request_body"] or {})))

METERS = {"audio_in": "input_audio", "image_in": "input_image", "image_out": "output_image"}
COMPARED = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "web_searches")
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def assert_usage(usage: Usage, exchange: Exchange) -> None:
    expected = exchange["expected"]
    wanted = {METERS.get(name, name): number for name, number in expected["usage"].items()}
    got = {meter: usage.totals.get(meter, 0) for meter in {*COMPARED, *wanted}}
    assert got == {meter: wanted.get(meter, 0) for meter in got}
    assert usage.source == "reported"
    assert usage.raw == exchange["usage_raw"]
    stated = expected["stated_cost_usd"]
    assert usage.stated_cost_usd == (None if stated is None else Decimal(str(stated)))


def admitted(*, model: str = "m") -> Admitted:
    return Admitted(model=model, stream=True, fields={})


def read(pieces: list[bytes], *, wire: Wire = WIRE) -> list[Event]:
    decoder, reader = Decoder(), wire.stream_reader()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
    events = [event for frame in frames for event in reader.feed(frame)]
    return events + reader.end()


def written(events: list[Event], wire: Wire) -> bytes:
    writer = wire.stream_writer(admitted=admitted())
    return b"".join(writer.write(event) for event in events) + writer.finish()


def values(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in Decoder().feed(body) if frame.data and frame.data != b"[DONE]"]


def output_of(exchange: Exchange) -> list[dict[str, Any]]:
    if not exchange["stream"]:
        return list(exchange["response_body"]["output"])
    return list(values(answer_bytes(exchange))[-1]["response"]["output"])


def said(exchange: Exchange) -> str:
    return "".join(
        part.get("text", "")
        for item in output_of(exchange)
        if item["type"] == "message"
        for part in item["content"]
    )


def called(exchange: Exchange) -> list[tuple[str, str, str]]:
    return [
        (item["call_id"], item["name"], item["arguments"])
        for item in output_of(exchange)
        if item["type"] == "function_call"
    ]


# --- whole answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ANSWERS)
def test_it_reads_the_usage_of_an_answer_it_passes_through(exchange: Exchange) -> None:
    usage, model = WIRE.read_usage(answer_bytes(exchange))
    assert_usage(usage, exchange)
    assert model == exchange["response_body"]["model"]
    assert usage.service_tier == exchange["response_body"].get("service_tier", "")


@pytest.mark.parametrize("exchange", ANSWERS)
def test_it_decodes_what_the_model_made(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    assert_usage(answer.usage, exchange)
    (choice,) = answer.choices
    assert "".join(part.text for part in choice.parts if isinstance(part, TextPart)) == said(exchange)
    calls = [(part.id, part.name, part.arguments) for part in choice.parts if isinstance(part, ToolCallPart)]
    assert calls == called(exchange)
    assert choice.stop_reason == ("tool_calls" if calls else "stop")
    own = [item for item in output_of(exchange) if item["type"].endswith("_call") and item["type"] != "function_call"]
    assert [part.value for part in choice.parts if isinstance(part, OpaquePart)] == own
    secrets = [item.get("encrypted_content") or "" for item in output_of(exchange) if item["type"] == "reasoning"]
    assert [part.signature for part in choice.parts if isinstance(part, ReasoningPart)] == secrets


@pytest.mark.parametrize("exchange", ANSWERS)
def test_an_encoded_answer_is_what_the_official_client_reads(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    encoded = WIRE.encode_answer(answer)
    response = Response.model_validate_json(encoded)
    assert response.output_text == said(exchange)
    assert response.usage is not None
    assert response.usage.input_tokens == exchange["expected"]["usage"]["input"]
    assert WIRE.decode_answer(encoded).choices == answer.choices


@pytest.mark.parametrize("exchange", ANSWERS)
def test_an_answer_translates_to_the_other_clients(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    chat = ChatCompletion.model_validate_json(openai_chat.WIRE.encode_answer(answer))
    message = chat.choices[0].message
    assert (message.content or "") == said(exchange)
    functions = [call for call in message.tool_calls or () if call.type == "function"]
    assert [(call.id, call.function.name, call.function.arguments) for call in functions] == called(exchange)
    native = anthropic.types.Message.model_validate_json(anthropic_messages.WIRE.encode_answer(answer))
    assert "".join(block.text for block in native.content if block.type == "text") == said(exchange)
    assert native.stop_reason == ("tool_use" if called(exchange) else "end_turn")


# --- streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", STREAMS)
def test_it_meters_a_stream_it_passes_through(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    meter, decoder = WIRE.stream_meter(admitted=admitted()), Decoder()
    frames = decoder.feed(body) + decoder.end()
    verdicts = [meter.see(frame) for frame in frames]
    assert_usage(meter.usage, exchange)
    assert meter.complete
    assert meter.model == exchange["response_model"] or meter.model
    assert verdicts.count("last") == 1
    assert "drop" not in verdicts
    least = len(said(exchange).encode()) + sum(len(arguments) for _, _, arguments in called(exchange))
    assert meter.output_bytes >= least > 0


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_says_what_its_last_event_holds(exchange: Exchange) -> None:
    events = read([answer_bytes(exchange)])
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert_usage(events[-1].usage, exchange)
    kinds = {event.index: event.part for event in events if isinstance(event, PartStarted)}
    text: dict[int, str] = dict.fromkeys(kinds, "")
    for event in events:
        if isinstance(event, PartDelta):
            text[event.index] += event.text
    assert "".join(text[at] for at, part in kinds.items() if isinstance(part, TextPart)) == said(exchange)
    calls = [(part.id, part.name, text[at]) for at, part in kinds.items() if isinstance(part, ToolCallPart)]
    assert calls == called(exchange)
    (stopped,) = [event for event in events if isinstance(event, Stopped)]
    assert stopped.reason == ("tool_calls" if calls else "stop")
    done = [each["item"] for each in values(answer_bytes(exchange)) if each["type"] == "response.output_item.done"]
    secrets = [item["encrypted_content"] for item in done if item.get("encrypted_content")]
    signatures = [event.signature for event in events if isinstance(event, PartDelta) and event.signature]
    whole = [part.signature for part in kinds.values() if isinstance(part, ReasoningPart) and part.signature]
    assert sorted(signatures + whole) == sorted(secrets)


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_reads_the_same_however_it_is_split(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    whole = read([body])
    assert read([body.replace(b"\n", b"\r\n")]) == whole
    assert read([b": ping\n\n" + body.replace(b"\n\n", b"\n\n: ping\n\n")]) == whole
    for offset in random.Random(exchange["id"]).sample(range(1, len(body)), 25):
        assert read([body[:offset], body[offset:]]) == whole
    assert read([body[at : at + 1] for at in range(len(body))]) == whole


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_cut_anywhere_is_never_complete(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    last = max(body.rfind(b'"type":"response.completed"'), body.rfind(b'"type": "response.completed"'))
    end = body.rfind(b"\n\n", 0, last)
    for offset in random.Random(exchange["id"]).sample(range(end), 12):
        cut = body[: body.rfind(b"\n\n", 0, offset) + 2] if b"\n\n" in body[:offset] else b""
        with pytest.raises(errors.StreamInterrupted):
            read([cut])


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_rewritten_stream_is_what_the_official_client_reads(exchange: Exchange) -> None:
    events = read([answer_bytes(exchange)])
    body = written(events, WIRE)
    told = [EVENT.validate_python(without_sources(value)) for value in values(body)]
    assert [event.sequence_number for event in told] == list(range(len(told)))
    assert told[0].type == "response.created"
    assert told[-1].type == "response.completed"
    assert told[-1].response.output_text == said(exchange)
    assert told[-1].response.usage.output_tokens == exchange["expected"]["usage"]["output"]
    again = read([body])
    assert [event for event in again if isinstance(event, PartStarted)] == [
        event for event in events if isinstance(event, PartStarted)
    ]
    assert WIRE.decode_answer(json.dumps(values(body)[-1]["response"]).encode()).choices[0].stop_reason == (
        "tool_calls" if called(exchange) else "stop"
    )


def without_sources(value: Any) -> Any:
    """OpenAI lists sources of a kind ("api") that the strict types of its own client do not have."""
    if isinstance(value, dict):
        return {key: without_sources(item) for key, item in value.items() if key != "sources"}
    return [without_sources(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_translates_to_the_other_clients(exchange: Exchange) -> None:
    events = read([answer_bytes(exchange)])
    chunks = [ChatCompletionChunk.model_validate(value) for value in values(written(events, openai_chat.WIRE))]
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == said(exchange)
    frames: TypeAdapter[Any] = TypeAdapter(anthropic.types.RawMessageStreamEvent)
    messages = [frames.validate_python(value) for value in values(written(events, anthropic_messages.WIRE))]
    deltas = [event.delta for event in messages if event.type == "content_block_delta"]
    assert "".join(delta.text for delta in deltas if delta.type == "text_delta") == said(exchange)
    assert messages[-1].type == "message_stop"


# --- requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_is_admitted_and_passed_through_untouched(exchange: Exchange) -> None:
    known = WIRE.admit(request_bytes(exchange))
    assert (known.model, known.operation) == (exchange["request_body"]["model"], "responses")
    assert known.server_tools is any(tool["type"] != "function" for tool in exchange["request_body"].get("tools") or ())
    assert json.loads(WIRE.rewrite(known, model="upstream")) == {**exchange["request_body"], "model": "upstream"}


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_survives_decoding_and_encoding(exchange: Exchange) -> None:
    request = WIRE.decode_request(request_bytes(exchange))
    assert WIRE.decode_request(WIRE.encode_request(request)) == request
    body = exchange["request_body"]
    sent = json.loads(WIRE.encode_request(request))
    assert sent["store"] is False
    for name in ("instructions", "max_output_tokens", "temperature", "top_p", "service_tier", "tool_choice", "stream"):
        if body.get(name):
            assert sent[name] == body[name]
    assert len(sent.get("tools", ())) == len(body.get("tools") or ())
    given = body["input"]
    if isinstance(given, list):
        assert len(sent["input"]) == len(given)
        for before, after in zip(given, sent["input"], strict=True):
            assert after.get("type", "message") == before.get("type", "message")
            for name in ("call_id", "name", "arguments", "role", "encrypted_content"):
                assert after.get(name) == before.get(name)


# --- errors -------------------------------------------------------------------------------------------------

KINDS: dict[tuple[str, int], type[errors.ProviderError]] = {
    ("openai", 401): errors.InvalidCredential,
    ("xai", 400): errors.InvalidCredential,
}


@pytest.mark.parametrize("exchange", ERRORS)
def test_a_recorded_error_has_its_place_in_the_tree(exchange: Exchange) -> None:
    provider, status = exchange["provider"], exchange["status"]
    error = WIRE.decode_error(
        status=status, body=answer_bytes(exchange), headers=exchange["response_headers_subset"], provider=provider
    )
    kind = KINDS.get((provider, status), errors.InvalidRequest)
    if "model_not_found" in json.dumps(exchange["response_body"]):
        kind = errors.ModelNotFound
    assert type(error) is kind
    assert (error.provider, error.status) == (provider, status)
    assert "no message" not in error.message
