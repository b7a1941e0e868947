"""AWS event streams: frames in any splitting, and nothing believed whose check sum is wrong."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import MalformedAnswer
from providers.eventstream import MAX_FRAME_BYTES, Decoder, encode, encode_event
from providers.sse import ServerEvent
from tests.recordings import Exchange, cases, exchanges
from tests.upstream.recorded import body_of

STREAMS = cases(exchanges(where=lambda item: item["response_format"] == "eventstream" and item["status"] == 200))


def frames(*pieces: bytes) -> list[ServerEvent]:
    decoder = Decoder()
    return [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()


def test_a_frame_has_its_type_its_payload_and_its_bytes() -> None:
    raw = encode_event(event="messageStop", data=b'{"stopReason":"end_turn"}')
    assert frames(raw) == [ServerEvent(event="messageStop", data=b'{"stopReason":"end_turn"}', raw=raw)]


def test_it_reads_the_frame_that_the_specification_gives() -> None:
    # An empty message: 16 bytes, https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html
    empty = bytes.fromhex("000000100000000005c248eb7d98c8ff")
    assert frames(empty) == [ServerEvent(event="", data=b"", raw=empty)]
    payload = bytes.fromhex("0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936")
    assert frames(payload) == [ServerEvent(event="", data=b"{'foo':'bar'}", raw=payload)]


def test_headers_of_every_type_are_stepped_over() -> None:
    held = b"\x04flag\x00" + b"\x04byte\x02\x01" + b"\x05short\x03\x00\x01" + b"\x03int\x04" + bytes(4)
    held += b"\x04long\x05" + bytes(8) + b"\x03buf\x06\x00\x02hi"
    held += b"\x04time\x08" + bytes(8) + b"\x04uuid\x09" + bytes(16)
    held += b"\x0b:event-type\x07\x00\x04ping"
    (frame,) = frames(framed(held, b"{}"))
    assert (frame.event, frame.data) == ("ping", b"{}")


def framed(headers: bytes, data: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + data
    return body + struct.pack(">I", crc32(body))


def test_an_exception_is_named_by_its_type() -> None:
    headers = {":exception-type": "throttlingException", ":message-type": "exception"}
    (frame,) = frames(encode(data=b'{"message":"slow"}', headers=headers))
    assert (frame.event, frame.data) == ("throttlingException", b'{"message":"slow"}')


def test_a_bare_error_has_its_code_and_message_as_data() -> None:
    headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "broken"}
    (frame,) = frames(encode(data=b"", headers=headers))
    assert (frame.event, frame.data) == ("error", b'{"code":"InternalError","message":"broken"}')


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_recorded_stream_is_the_same_however_it_is_split(exchange: Exchange) -> None:
    body = body_of(exchange)
    whole = frames(body)
    assert b"".join(frame.raw for frame in whole) == body
    assert len(whole) > 3
    assert frames(*(body[at : at + 1] for at in range(len(body)))) == whole
    for offset in range(1, len(body), 1 + len(body) // 200):
        assert frames(body[:offset], body[offset:]) == whole


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=60)), max_size=4), st.integers(0, 400))
def test_what_is_encoded_is_decoded_split_anywhere(told: list[tuple[str, bytes]], at: int) -> None:
    body = b"".join(encode_event(event=event, data=data) for event, data in told)
    assert [(frame.event, frame.data) for frame in frames(body[:at], body[at:])] == told


@pytest.mark.parametrize("at", range(len(encode_event(event="ping", data=b"{}"))))
def test_a_flipped_bit_anywhere_is_noticed(at: int) -> None:
    raw = bytearray(encode_event(event="ping", data=b"{}"))
    raw[at] ^= 1
    with pytest.raises(MalformedAnswer):
        frames(bytes(raw))


def test_a_frame_that_claims_too_much_is_refused_before_it_is_waited_for() -> None:
    prelude = struct.pack(">II", MAX_FRAME_BYTES + 1, 0)
    with pytest.raises(MalformedAnswer, match="bytes long"):
        frames(prelude + struct.pack(">I", crc32(prelude)))


@pytest.mark.parametrize(
    "held", [b"\x04flag", b"\x04flag\x0a", b"\xffx\x00", b"\x01a\x07\x00\x09bc", b"\x01\xff\x00\x00"]
)
def test_headers_that_cannot_be_read_are_an_error(held: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        frames(framed(held, b""))


def test_events_of_another_kind_of_stream_are_no_frames() -> None:
    with pytest.raises(MalformedAnswer):
        frames(b'data: {"type": "response.created"}\n\n')


def test_half_a_frame_at_the_end_is_no_frame() -> None:
    assert frames(encode_event(event="ping", data=b"{}")[:-1]) == []
