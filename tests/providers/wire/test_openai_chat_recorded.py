"""Every recorded chat exchange of every provider: usage, fidelity, pass-through and errors."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from providers import errors
from providers.sse import Decoder
from providers.unified import Choice, Event, Finished, Part, PartDelta, Started, Stopped, TextPart, Usage
from providers.wire.base import Admitted
from providers.wire.openai_chat import WIRE
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes

pytestmark = pytest.mark.filterwarnings("error")

ANSWERS = cases(exchanges(api="chat", stream=False, status=200))
STREAMS = cases(exchanges(api="chat", stream=True, status=200))
ERRORS = cases(exchanges(api="chat", failed=True))
REQUESTS = cases(
    exchanges(api="chat", where=lambda item: isinstance(item["request_body"], dict) and "model" in item["request_body"])
)

METERS = {
    "audio_in": "input_audio",
    "image_in": "input_image",
    "audio_out": "output_audio",
    "image_out": "output_image",
}
COMPARED = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning", "web_searches")


def assert_usage(usage: Usage, exchange: Exchange) -> None:
    expected = exchange["expected"]
    wanted = {METERS.get(name, name): number for name, number in expected["usage"].items()}
    got = {meter: usage.totals.get(meter, 0) for meter in {*COMPARED, *wanted}}
    assert got == {meter: wanted.get(meter, 0) for meter in got}
    assert usage.source == "reported"
    assert usage.raw == exchange["usage_raw"]
    stated = expected["stated_cost_usd"]
    assert usage.stated_cost_usd == (None if stated is None else Decimal(str(stated)))


def admitted(*, wants_usage: bool) -> Admitted:
    return Admitted(model="m", stream=True, fields={}, wants_usage=wants_usage)


def read(pieces: list[bytes]) -> list[Event]:
    decoder, reader = Decoder(), WIRE.stream_reader()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
    events = [event for frame in frames for event in reader.feed(frame)]
    return events + reader.end()


# --- whole answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", ANSWERS)
def test_it_reads_the_usage_of_an_answer_it_passes_through(exchange: Exchange) -> None:
    usage, model = WIRE.read_usage(answer_bytes(exchange))
    assert_usage(usage, exchange)
    assert model == exchange["response_body"]["model"]


@pytest.mark.parametrize("exchange", ANSWERS)
def test_it_reads_the_same_usage_when_it_decodes_the_answer(exchange: Exchange) -> None:
    assert_usage(WIRE.decode_answer(answer_bytes(exchange)).usage, exchange)


@pytest.mark.parametrize("exchange", ANSWERS)
def test_a_decoded_answer_is_encoded_to_what_the_official_client_reads(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    encoded = ChatCompletion.model_validate_json(WIRE.encode_answer(answer))
    said = exchange["response_body"]["choices"][0]["message"]
    message = encoded.choices[0].message
    if isinstance(said.get("content"), str):
        assert (message.content or "") == said["content"]
    wanted = [call["function"]["arguments"] for call in said.get("tool_calls") or ()]
    assert [call.function.arguments for call in message.tool_calls or () if call.type == "function"] == wanted
    reasoning = said.get("reasoning_content") or said.get("reasoning")
    if reasoning:
        assert getattr(message, "reasoning_content") == reasoning  # noqa: B009 - no field of the official type
    assert encoded.usage is not None
    assert encoded.usage.prompt_tokens == exchange["expected"]["usage"]["input"]


@pytest.mark.parametrize("exchange", ANSWERS)
def test_decoding_an_encoded_answer_gives_the_same_choices(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    again = WIRE.decode_answer(WIRE.encode_answer(answer))
    unknown = {choice.index for choice in answer.choices if choice.stop_reason == "unknown"}
    for before, after in zip(answer.choices, again.choices, strict=True):
        if before.index in unknown:
            after = msgspec.structs.replace(after, stop_reason="unknown")
        citations = [len(getattr(part, "citations", ())) for part in before.parts]
        assert citations == [len(getattr(part, "citations", ())) for part in after.parts]
        assert (uncited(before), before.stop_reason) == (uncited(after), after.stop_reason)


def uncited(choice: Choice) -> list[Part]:
    return [
        msgspec.structs.replace(part, citations=()) if isinstance(part, TextPart) else part for part in choice.parts
    ]


# --- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("exchange", STREAMS)
def test_it_meters_a_stream_it_passes_through(exchange: Exchange, wants_usage: bool) -> None:
    body = answer_bytes(exchange)
    meter, decoder = WIRE.stream_meter(admitted=admitted(wants_usage=wants_usage)), Decoder()
    frames = decoder.feed(body) + decoder.end()
    verdicts = [(meter.see(frame), frame) for frame in frames]
    assert_usage(meter.usage, exchange)
    assert meter.complete
    assert meter.model == exchange["response_model"] or meter.model
    assert b"".join(frame.raw for frame in frames) == body
    assert [verdict for verdict, _ in verdicts].count("last") == 1
    dropped = [frame for verdict, frame in verdicts if verdict == "drop"]
    assert all(json.loads(frame.data)["choices"] == [] for frame in dropped)
    if wants_usage:
        assert not dropped


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_client_that_did_not_ask_gets_no_event_with_usage_alone(exchange: Exchange) -> None:
    meter, decoder = WIRE.stream_meter(admitted=admitted(wants_usage=False)), Decoder()
    for frame in decoder.feed(answer_bytes(exchange)):
        verdict = meter.see(frame)
        if frame.data.startswith(b"{"):
            value = json.loads(frame.data)
            alone = bool(value.get("usage")) and not value["choices"]
            assert (verdict == "drop") is alone


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_reads_the_same_however_it_is_split(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    whole = read([body])
    assert isinstance(whole[0], Started)
    assert isinstance(whole[-1], Finished)
    assert_usage(whole[-1].usage, exchange)
    chance = random.Random(exchange["id"])
    if b"\r" not in body:
        assert read([body.replace(b"\n", b"\r\n")]) == whole
    offsets = range(1, len(body)) if len(body) < 1500 else chance.sample(range(1, len(body)), 25)
    for offset in offsets:
        assert read([body[:offset], body[offset:]]) == whole
    assert read([body[at : at + 1] for at in range(len(body))]) == whole


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_stream_cut_anywhere_is_never_complete(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    end = max(body.rfind(b'"finish_reason":"'), body.rfind(b'"finish_reason": "'), 0) or body.rfind(b"data: [DONE]")
    for offset in random.Random(exchange["id"]).sample(range(end), min(end, 12)):
        cut = body[: body.rfind(b"\n\n", 0, offset) + 2] if b"\n\n" in body[:offset] else b""
        with pytest.raises(errors.StreamInterrupted):
            read([cut])


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_rewritten_stream_adds_up_to_the_same_message(exchange: Exchange) -> None:
    events = read([answer_bytes(exchange)])
    writer = WIRE.stream_writer(admitted=admitted(wants_usage=True))
    written = b"".join(writer.write(event) for event in events) + writer.finish()
    decoder = Decoder()
    frames = decoder.feed(written)
    assert frames[-1].data == b"[DONE]"
    assert not decoder.end()
    chunks = [ChatCompletionChunk.model_validate_json(frame.data) for frame in frames[:-1]]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == recorded_text(exchange)
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert arguments == recorded_arguments(exchange)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == exchange["expected"]["usage"]["output"]
    assert sum(1 for chunk in chunks for choice in chunk.choices if choice.finish_reason) == sum(
        1 for event in events if isinstance(event, Stopped)
    )
    assert pieces(read([written])) == pieces(events)


def pieces(events: list[Event]) -> list[Any]:
    """What a stream says between its beginning and its end; of a citation, where it points."""
    said: list[Any] = []
    for event in events:
        if isinstance(event, PartDelta) and event.citation is not None:
            said.append((event.index, event.citation["url_citation"]["url"]))
        elif not isinstance(event, Finished | Started | Stopped):
            said.append(event)
    return said


def deltas(exchange: Exchange) -> list[dict[str, Any]]:
    lines = [line[5:].strip() for line in answer_bytes(exchange).decode().splitlines() if line.startswith("data:")]
    values = [json.loads(line) for line in lines if line != "[DONE]"]
    return [choice.get("delta") or {} for value in values for choice in value.get("choices") or ()]


def recorded_text(exchange: Exchange) -> str:
    pieces = []
    for delta in deltas(exchange):
        content = delta.get("content") or ""
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        pieces += [part["text"] for part in parts if part["type"] == "text"]
    return "".join(pieces)


def recorded_arguments(exchange: Exchange) -> str:
    calls = [call for delta in deltas(exchange) for call in delta.get("tool_calls") or ()]
    return "".join(call["function"].get("arguments") or "" for call in calls)


@pytest.mark.parametrize("exchange", STREAMS)
def test_what_the_model_wrote_is_counted_in_bytes(exchange: Exchange) -> None:
    meter, decoder = WIRE.stream_meter(admitted=admitted(wants_usage=True)), Decoder()
    for frame in decoder.feed(answer_bytes(exchange)) + decoder.end():
        meter.see(frame)
    least = len(recorded_text(exchange).encode()) + len(recorded_arguments(exchange).encode())
    assert meter.output_bytes >= least > 0


# --- requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_is_admitted_and_passed_through_untouched(exchange: Exchange) -> None:
    body = request_bytes(exchange)
    known = WIRE.admit(body)
    assert known.model == exchange["request_body"]["model"]
    sent = json.loads(WIRE.rewrite(known, model="upstream"))
    wanted = {**exchange["request_body"], "model": "upstream"}
    if wanted.get("stream"):
        wanted["stream_options"] = {**(wanted.get("stream_options") or {}), "include_usage": True}
    assert sent == wanted


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_survives_decoding_and_encoding(exchange: Exchange) -> None:
    request = WIRE.decode_request(request_bytes(exchange))
    assert WIRE.decode_request(WIRE.encode_request(request)) == request
    # Nothing of the client's is lost: each of its fields stands in the encoded body, or is said in another word.
    sent = json.loads(WIRE.encode_request(request))
    renamed = {"random_seed": "seed"}
    said_otherwise = {"max_tokens", "stop", "stream", "n", "stream_options", "reasoning", "response_format"}
    for name, value in exchange["request_body"].items():
        if value is not None and name not in said_otherwise and name not in ("messages", "tools"):
            assert sent[renamed.get(name, name)] == ("required" if value == "any" else value)
    assert len(sent["messages"]) == len(exchange["request_body"]["messages"])
    assert len(sent.get("tools", ())) == len(exchange["request_body"].get("tools") or ())


# --- errors -----------------------------------------------------------------------------------------------

KINDS: dict[tuple[str, int], type[errors.ProviderError]] = {
    ("deepseek", 400): errors.ContextTooLong,
    ("ollama", 400): errors.ContextTooLong,
    ("openrouter", 400): errors.ContextTooLong,
    ("perplexity", 400): errors.ContextTooLong,
    ("groq", 400): errors.InvalidRequest,
    ("openai", 400): errors.InvalidRequest,
}
BY_STATUS = {401: errors.InvalidCredential, 404: errors.ModelNotFound, 429: errors.RateLimited}


@pytest.mark.parametrize("exchange", ERRORS)
def test_a_recorded_error_has_its_place_in_the_tree(exchange: Exchange) -> None:
    provider, status = exchange["provider"], exchange["status"]
    error = WIRE.decode_error(
        status=status, body=answer_bytes(exchange), headers=exchange["response_headers_subset"], provider=provider
    )
    by_status: type[errors.ProviderError] = BY_STATUS.get(status, errors.InvalidRequest)
    assert type(error) is KINDS.get((provider, status), by_status)
    assert (error.provider, error.status) == (provider, status)
    assert error.message
    assert "no message" not in error.message
    assert "not-a-r" not in error.message
    assert "****" not in error.message
    assert "user_2wT5" not in error.message
    if isinstance(error, errors.InvalidRequest):
        assert error.param == ((exchange["response_body"].get("error") or {}).get("param") or "")
