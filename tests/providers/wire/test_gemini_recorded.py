"""Every recorded exchange with Google's models: usage, fidelity, streams in any pieces, errors."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from anthropic.types import Message
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import errors
from providers.sse import Decoder
from providers.unified import Event, Finished, PartDelta, PartStarted, Started, ToolCallPart, Usage
from providers.wire import anthropic_messages, openai_chat
from providers.wire.base import Admitted
from providers.wire.gemini import WIRE
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes

pytestmark = pytest.mark.filterwarnings("error")

ANSWERS = cases(exchanges(api="gemini.generate", stream=False, status=200))
STREAMS = cases(exchanges(api="gemini.generate", stream=True, status=200))
EVENTS = cases(
    exchanges(api="gemini.generate", stream=True, where=lambda item: item["response_format"] == "sse")
)
ERRORS = cases(exchanges(api="gemini.generate", failed=True))
REQUESTS = cases(exchanges(api="gemini.generate", status=200))

METERS = {
    "audio_in": "input_audio",
    "image_in": "input_image",
    "video_in": "input_video",
    "audio_out": "output_audio",
    "image_out": "output_image",
}
COMPARED = ("input", "output", "cache_read", "reasoning", "input_audio", "input_image", "output_image")
# What tools read is in the input already.
NO_METER = "tool_in"


def assert_usage(usage: Usage, exchange: Exchange) -> None:
    expected = exchange["expected"]["usage"]
    wanted = {METERS.get(name, name): number for name, number in expected.items() if name != NO_METER}
    got = {meter: usage.totals.get(meter, 0) for meter in {*COMPARED, *wanted}}
    assert got == {meter: wanted.get(meter, 0) for meter in got}
    assert usage.source == "reported"
    assert usage.raw == exchange["usage_raw"]
    assert usage.flags == ()


def read(pieces: list[bytes]) -> list[Event]:
    decoder, reader = Decoder(), WIRE.stream_reader()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
    events = [event for frame in frames for event in reader.feed(frame)]
    return events + reader.end()


def said_parts(exchange: Exchange) -> list[dict[str, Any]]:
    """The content parts of a recorded answer, or of all chunks of a stream."""
    body = exchange["response_body"]
    if isinstance(body, str) and not body.startswith("["):
        body = [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:")]
    elif isinstance(body, str):
        body = json.loads(body)
    answers = body if isinstance(body, list) else [body]
    return [
        part
        for answer in answers
        for candidate in answer["candidates"]
        for part in (candidate.get("content") or {}).get("parts", [])
    ]


def said_text(exchange: Exchange) -> str:
    return "".join(part.get("text", "") for part in said_parts(exchange) if not part.get("thought"))


def called(exchange: Exchange) -> list[Any]:
    return [(part["functionCall"]["name"], part["functionCall"]["args"]) for part in said_parts(exchange)
            if "functionCall" in part]


# --- whole answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ANSWERS)
def test_it_reads_the_usage_of_an_answer(exchange: Exchange) -> None:
    usage, model = WIRE.read_usage(answer_bytes(exchange))
    assert_usage(usage, exchange)
    assert model == exchange["response_model"]
    assert_usage(WIRE.decode_answer(answer_bytes(exchange)).usage, exchange)


@pytest.mark.parametrize("exchange", ANSWERS)
def test_an_answer_is_readable_by_the_openai_client(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    encoded = ChatCompletion.model_validate_json(openai_chat.WIRE.encode_answer(answer))
    choice = encoded.choices[0]
    assert (choice.message.content or "") == said_text(exchange)
    calls = [call.function for call in choice.message.tool_calls or () if call.type == "function"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == called(exchange)
    assert choice.finish_reason == ("tool_calls" if calls else "stop")
    assert encoded.usage is not None
    assert encoded.usage.completion_tokens == exchange["expected"]["usage"]["output"]


@pytest.mark.parametrize("exchange", ANSWERS)
def test_an_answer_is_readable_by_the_anthropic_client(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    message = Message.model_validate_json(anthropic_messages.WIRE.encode_answer(answer))
    assert "".join(block.text for block in message.content if block.type == "text") == said_text(exchange)
    uses = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    assert uses == called(exchange)
    assert message.stop_reason == ("tool_use" if uses else "end_turn")
    assert message.usage.output_tokens == exchange["expected"]["usage"]["output"]
    signed = [part["thoughtSignature"] for part in said_parts(exchange) if part.get("thoughtSignature")]
    assert [block.signature for block in message.content if block.type == "thinking"] == signed


@pytest.mark.parametrize("exchange", ANSWERS)
def test_decoding_an_encoded_answer_gives_the_same_answer(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    assert WIRE.decode_answer(WIRE.encode_answer(answer)) == answer


# --- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_reads_the_same_however_it_is_split(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    whole = read([body])
    assert isinstance(whole[0], Started)
    assert whole[0].model == exchange["response_model"]
    assert isinstance(whole[-1], Finished)
    assert_usage(whole[-1].usage, exchange)
    assert "".join(event.text for event in whole if isinstance(event, PartDelta)).startswith(said_text(exchange))
    if b"\r" not in body:
        assert read([body.replace(b"\n", b"\r\n")]) == whole
    chance = random.Random(exchange["id"])
    offsets = range(1, len(body)) if len(body) < 1500 else chance.sample(range(1, len(body)), 25)
    for offset in offsets:
        assert read([body[:offset], body[offset:]]) == whole
    assert read([body[at : at + 1] for at in range(len(body))]) == whole


@pytest.mark.parametrize("exchange", EVENTS)
def test_pings_and_comments_change_nothing(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    assert read([b": ping\n\n" + body.replace(b"\n\n", b"\n\n: ping\n\n")]) == read([body])


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_cut_before_its_finish_reason_is_never_complete(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    end = body.rfind(b'"finishReason"')
    for offset in random.Random(exchange["id"]).sample(range(end), min(end, 12)):
        with pytest.raises((errors.StreamInterrupted, errors.MalformedAnswer)):
            read([body[:offset]])


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_is_readable_by_the_openai_client(exchange: Exchange) -> None:
    admitted = Admitted(model="m", stream=True, fields={}, wants_usage=True)
    writer = openai_chat.WIRE.stream_writer(admitted=admitted)
    written = b"".join(writer.write(event) for event in read([answer_bytes(exchange)])) + writer.finish()
    frames = Decoder().feed(written)
    chunks = [ChatCompletionChunk.model_validate_json(frame.data) for frame in frames if frame.data != b"[DONE]"]
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == said_text(exchange)
    pieces = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    names = [call.function.name for call in pieces if call.id and call.function]
    assert names == [name for name, _ in called(exchange)]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == exchange["expected"]["usage"]["output"]


@pytest.mark.parametrize("exchange", STREAMS)
def test_the_ids_of_calls_are_those_of_the_whole_answer(exchange: Exchange) -> None:
    events = read([answer_bytes(exchange)])
    ids = [event.part.id for event in events if isinstance(event, PartStarted) and isinstance(event.part, ToolCallPart)]
    whole = {
        "candidates": [{"content": {"parts": said_parts(exchange)}, "finishReason": "STOP"}],
        "responseId": events[0].id if isinstance(events[0], Started) else "",
    }
    (choice,) = WIRE.decode_answer(json.dumps(whole).encode()).choices
    assert [part.id for part in choice.parts if isinstance(part, ToolCallPart)] == ids


@pytest.mark.parametrize("exchange", EVENTS)
def test_it_meters_a_stream_it_passes_through(exchange: Exchange) -> None:
    meter, decoder = WIRE.stream_meter(admitted=Admitted(model="m", stream=True, fields={})), Decoder()
    frames = decoder.feed(answer_bytes(exchange)) + decoder.end()
    verdicts = [meter.see(frame) for frame in frames]
    assert_usage(meter.usage, exchange)
    assert meter.complete
    assert meter.model == exchange["response_model"]
    assert verdicts.count("last") == 1
    assert meter.output_bytes >= len(said_text(exchange).encode())


# --- requests and errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_survives_decoding_and_encoding(exchange: Exchange) -> None:
    request = WIRE.decode_request(request_bytes(exchange))
    sent = WIRE.encode_request(request)
    assert WIRE.decode_request(sent) == request
    body, again = exchange["request_body"], json.loads(sent)
    for name in ("cachedContent", "safetySettings"):
        assert again.get(name) == body.get(name)
    texts = [part["text"] for content in body["contents"] for part in content["parts"] if part.get("text")]
    assert [part["text"] for content in again["contents"] for part in content["parts"] if part.get("text")] == texts


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_is_admitted_and_passed_through_untouched(exchange: Exchange) -> None:
    body = {**exchange["request_body"], "model": "gemini-x", "stream": bool(exchange["stream"])}
    admitted = WIRE.admit(json.dumps(body).encode())
    assert (admitted.model, admitted.stream) == ("gemini-x", bool(exchange["stream"]))
    assert json.loads(WIRE.rewrite(admitted, model="upstream")) == exchange["request_body"]


KINDS: dict[str, type[errors.ProviderError]] = {"API key not valid": errors.InvalidCredential}
BY_STATUS: dict[int, type[errors.ProviderError]] = {
    400: errors.InvalidRequest,
    401: errors.InvalidCredential,
    403: errors.PermissionDenied,
    404: errors.ModelNotFound,
    429: errors.RateLimited,
}


@pytest.mark.parametrize("exchange", ERRORS)
def test_a_recorded_error_has_its_place_in_the_tree(exchange: Exchange) -> None:
    said = exchange["response_body"]["error"]
    headers, body = exchange["response_headers_subset"], answer_bytes(exchange)
    error = WIRE.decode_error(status=exchange["status"], body=body, headers=headers, provider="g")
    wanted = next((kind for words, kind in KINDS.items() if words in said["message"]), BY_STATUS[exchange["status"]])
    assert type(error) is wanted
    assert (error.provider, error.status, error.message) == ("g", exchange["status"], said["message"])
    if isinstance(error, errors.ModelNotFound):
        assert error.model == exchange["model"]
