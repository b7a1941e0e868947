"""Answers and requests that break the wire: whatever comes, a codec reads it or raises an error of the tree.

What a record says is replaced piece by piece by what it should not be; the dice are seeded by the record.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.transit import output_bytes
from providers import eventstream
from providers.errors import (
    InvalidCredential,
    InvalidRequest,
    MalformedAnswer,
    Overloaded,
    ProviderError,
    RateLimited,
    StreamInterrupted,
    UpstreamError,
)
from providers.sse import ServerEvent, encode
from providers.unified import Event, Message, PartDelta, Request, TextPart
from providers.wire.base import Wire
from providers.wire.unstreamed import ProviderSide
from tests.providers.wire import streamed
from tests.providers.wire.streamed import APIS, Stream
from tests.providers.wire.test_cross_wire import with_model
from tests.providers.wire.test_odd_counts import WIRES, every_wire
from tests.recordings import Exchange, cases, exchanges

JUNK: list[Any] = [
    None, True, 0, -1, 1.5, 10**18, 10**400, float("nan"), "", "x", "\ud83d", "a\x00b", [], {}, [None], [[]], [{}],
    {"a": 1}, ["x"], [1], "NaN", {"text": 1}, {"type": 7},
]  # fmt: skip
ROUNDS = 30
DEEP = b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
# No JSON object of any wire.
BROKEN = {
    "nothing": b"", "half": b'{"id": "x", "choi', "a page": b"<html>busy</html>", "a list": b"[1]", "a text": b'"busy"',
    "null": b"null", "no UTF-8": b'{"id": "\xff\xfe"}', "deep": DEEP, "a NUL": b'{"id": "a\x00"}',
}  # fmt: skip
CLIENTS = [wire for wire in WIRES.values() if not isinstance(wire, ProviderSide)]


def spoilt(value: Any, dice: random.Random) -> Any:
    """A copy of `value` with one to three of its places filled with junk."""
    value = copy.deepcopy(value)
    for _ in range(dice.choice((1, 1, 2, 3))):
        *way, last = dice.choice([path for path in _paths(value) if path] or [("",)])
        held = value
        for step in way:
            held = held[step]
        held[last] = copy.deepcopy(dice.choice(JUNK))
    return value


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inner:
        yield from _paths(item, (*path, step))


def wire_of(exchange: Exchange) -> Wire:
    name, operation = APIS[exchange["api"]]
    return streamed.wire_of(exchange["provider"], name=name, operation=operation)


ANSWERS = exchanges(
    failed=False, where=lambda item: item["api"] in APIS and isinstance(item["response_body"], dict)
)  # fmt: skip


@pytest.mark.parametrize("exchange", cases(ANSWERS))
def test_a_spoilt_answer_is_read_and_told_or_is_an_error(exchange: Exchange) -> None:
    wire, dice = wire_of(exchange), random.Random(exchange["id"])
    for _ in range(ROUNDS):
        body = json.dumps(spoilt(exchange["response_body"], dice)).encode()
        try:
            usage, _ = wire.read_usage(body)
            assert all(number >= 0 for number in usage.totals.values())
            answer = wire.decode_answer(body)
        except ProviderError:
            continue
        assert output_bytes(answer) >= 0
        for client in CLIENTS:
            json.loads(client.encode_answer(answer))


@pytest.mark.parametrize("stream", [*streamed.written(), *streamed.recorded()], ids=lambda stream: stream.name)
def test_a_spoilt_stream_is_read_and_told_or_is_an_error(stream: Stream) -> None:
    frames, dice = streamed.frames(stream.wire, [stream.body]), random.Random(stream.name)
    for _ in range(ROUNDS // 3):
        bad = spoilt_frames(frames, dice)
        events: list[Event] = []
        reader = stream.wire.stream_reader()
        try:
            for frame in bad:
                events += reader.feed(frame)
            events += reader.end()
        except ProviderError:
            pass  # told in our words: what came before it must hold all the same
        assert all(number >= 0 for number in reader.usage.totals.values())
        watch(stream.wire, bad)
        for client in CLIENTS:
            writer = client.stream_writer(admitted=streamed.ADMITTED)
            assert b"".join(map(writer.write, events)) + writer.finish() is not None


def spoilt_frames(frames: list[ServerEvent], dice: random.Random) -> list[ServerEvent]:
    """One frame spoilt, some of the others said twice, and now and then all of them out of order."""
    bad: list[ServerEvent] = []
    target = dice.randrange(len(frames))
    for number, frame in enumerate(frames):
        if number == target and frame.data.lstrip().startswith(b"{"):
            data = json.dumps(spoilt(json.loads(frame.data), dice)).encode()
            frame = ServerEvent(event=frame.event, data=data, raw=encode(data=data))
        bad += [frame] * (2 if dice.random() < 0.05 else 1)
    if dice.random() < 0.2:
        dice.shuffle(bad)
    return bad


def watch(wire: Wire, frames: list[ServerEvent]) -> None:
    if isinstance(wire, ProviderSide):
        return
    meter = wire.stream_meter(admitted=streamed.ADMITTED)
    try:
        for frame in frames:
            assert meter.see(frame) in ("forward", "drop", "last")
    except ProviderError:
        pass  # told in our words: what was counted before it must hold all the same
    assert all(number >= 0 for number in meter.usage.totals.values())


ASKED = exchanges(where=lambda item: item["api"] in APIS and isinstance(item["request_body"], dict))


@pytest.mark.parametrize("exchange", cases([item for item in ASKED if not isinstance(wire_of(item), ProviderSide)]))
def test_a_spoilt_request_is_said_on_every_wire_or_refused(exchange: Exchange) -> None:
    wire, dice = wire_of(exchange), random.Random(exchange["id"])
    for _ in range(ROUNDS // 2):
        body = json.dumps(spoilt({"model": "m", **exchange["request_body"]}, dice)).encode()
        try:
            admitted = wire.admit(body)
            wire.rewrite(admitted, model="upstream", max_output_tokens=dice.choice((None, 5)))
            request = wire.decode_request(body)
        except InvalidRequest:
            continue
        for other in WIRES.values():
            with contextlib.suppress(InvalidRequest):
                json.loads(other.encode_request(request, drop_unsupported=dice.random() < 0.5))


@pytest.mark.parametrize("wire", CLIENTS, ids=lambda wire: wire.name)
def test_text_that_is_no_utf8_is_refused_also_where_admission_does_not_read_it(wire: Wire) -> None:
    request = Request(model="m", messages=(Message("user", (TextPart("MARK"),)),), max_output_tokens=9)
    body = with_model(wire.encode_request(request), wire.name).replace(b"MARK", b"a\xffb")
    with pytest.raises(InvalidRequest):
        wire.decode_request(body)


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@every_wire
def test_what_is_no_answer_is_malformed(name: str, body: bytes) -> None:
    wire = WIRES[name]
    with pytest.raises(MalformedAnswer):
        wire.decode_answer(body)
    if not body.startswith(b'{"a":') and not body.startswith(b'{"id": "\xff'):
        with pytest.raises(MalformedAnswer):
            wire.read_usage(body)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@every_wire
def test_a_refusal_in_no_shape_is_still_typed_by_its_status(name: str, body: bytes, status: int) -> None:
    error = WIRES[name].decode_error(status=status, body=body, headers={}, provider="p")
    wanted = {400: InvalidRequest, 401: InvalidCredential, 429: RateLimited, 500: UpstreamError, 503: Overloaded}
    assert isinstance(error, wanted[status])
    assert (error.status, error.provider, bool(error.message)) == (status, "p", True)
    assert error.retryable == (status >= 429)


def frame_of(name: str, data: bytes) -> bytes:
    if name == "bedrock_converse":
        return eventstream.encode_event(event="contentBlockDelta", data=data)
    return data + b"\n" if name == "ollama_chat" else encode(data=data)


@pytest.mark.parametrize("data", [data for key, data in BROKEN.items() if key != "nothing"])
@every_wire
def test_what_is_no_event_ends_a_translated_stream(name: str, data: bytes) -> None:
    with pytest.raises((MalformedAnswer, StreamInterrupted)):
        read_whole(WIRES[name], frame_of(name, data))


def read_whole(wire: Wire, body: bytes) -> list[Event]:
    reader = wire.stream_reader()
    return [event for frame in streamed.frames(wire, [body]) for event in reader.feed(frame)] + reader.end()


# A 200 that holds an error after all: the body, and the same as an event of a stream (for Bedrock, its type).
ERRORS: dict[str, tuple[bytes, tuple[str, bytes]]] = {
    "openai_chat": (
        b'{"error": {"message": "Overloaded", "type": "overloaded_error", "code": 529}}',
        ("", b'{"error": {"message": "Overloaded", "type": "overloaded_error", "code": 529}}'),
    ),
    "anthropic_messages": (
        b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}',
        ("error", b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'),
    ),
    "openai_responses": (
        b'{"id": "r", "status": "failed", "error": {"code": "server_is_overloaded", "message": "Overloaded"}}',
        ("error", b'{"type": "error", "code": "server_is_overloaded", "message": "Overloaded"}'),
    ),
    "gemini": (
        b'{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}',
        ("", b'{"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}'),
    ),
    "cohere_chat": (
        b'{"id": "c", "finish_reason": "ERROR", "message": {"role": "assistant", "content": []}}',
        ("", b'{"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "the model fell over"}}'),
    ),
    "bedrock_converse": (
        b'{"message": "Too busy", "__type": "ServiceUnavailableException"}',
        ("serviceUnavailableException", b'{"message": "Too busy"}'),
    ),
    "ollama_chat": (b'{"error": "the runner has died"}', ("", b'{"error": "the runner has died"}')),
}
KINDS = {"cohere_chat": UpstreamError, "ollama_chat": UpstreamError}


@every_wire
def test_an_error_inside_a_200_is_the_error(name: str) -> None:
    with pytest.raises(KINDS.get(name, Overloaded)) as caught:
        WIRES[name].decode_answer(ERRORS[name][0])
    assert caught.value.message
    assert caught.value.retryable


@every_wire
def test_an_error_inside_a_stream_is_the_error_for_reader_and_meter(name: str) -> None:
    wire, (event, data) = WIRES[name], ERRORS[name][1]
    frame = ServerEvent(event=event, data=data, raw=b"")
    whole = streamed.frames(wire, [next(each.body for each in streams_of(name))])
    reader = wire.stream_reader()
    for each in whole[: len(whole) // 2]:
        reader.feed(each)
    with pytest.raises(KINDS.get(name, Overloaded)):
        reader.feed(frame)
    assert not reader.complete
    if not isinstance(wire, ProviderSide):
        meter = wire.stream_meter(admitted=streamed.ADMITTED)
        with pytest.raises(KINDS.get(name, Overloaded)):
            meter.see(frame)
        assert not meter.complete


def streams_of(name: str) -> list[Stream]:
    return [stream for stream in streamed.written() if stream.wire.name == name]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_character_cut_in_two_reaches_the_client_in_two_halves(client: Wire) -> None:
    """Some servers cut between the halves of a surrogate pair; UTF-8 can hold neither."""
    halves = [PartDelta(1, text="\ud83d"), PartDelta(1, text="\ude00")]
    events = [*streamed.EVENTS[:5], *halves, *streamed.EVENTS[7:]]
    writer, reader = client.stream_writer(admitted=streamed.ADMITTED), client.stream_reader()
    body = b"".join(map(writer.write, events)) + writer.finish()
    for frame in streamed.frames(client, [body]):
        frame.data.decode()
    again = [event for frame in streamed.frames(client, [body]) for event in reader.feed(frame)]
    assert "".join(event.text for event in again if isinstance(event, PartDelta)).count("\ud83d\ude00") == 1


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_half_a_character_in_an_error_reaches_the_client(client: Wire) -> None:
    told: dict[str, Any] = {"status": 502, "code": "provider_error", "message": "bad \ud83d", "request_id": "r"}
    json.loads(client.encode_error(**told))
    (frame,) = streamed.frames(client, [client.encode_stream_error(**told, call_id="c")])
    frame.data.decode()
