from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import sse
from providers.errors import MalformedAnswer
from providers.sse import Decoder, ServerEvent

STREAM = (
    b": waking up\n\n"
    b'event: first\ndata: {"a": 1}\n\n'
    b"data:no space\n\n"
    b"id: 7\nretry: 5\ndata: one\ndata: two\n\n"
    b"data\n\n"
    b"event: ping\n\n"
    b"data: \xe2\x80\xa8 is no line end\n\n"
    b"data: [DONE]\n\n"
)
MEANT = [
    ("", b""),
    ("first", b'{"a": 1}'),
    ("", b"no space"),
    ("", b"one\ntwo"),
    ("", b""),
    ("ping", b""),
    ("", b"\xe2\x80\xa8 is no line end"),
    ("", b"[DONE]"),
]


def decode(*chunks: bytes) -> list[ServerEvent]:
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.end()


def meant(events: list[ServerEvent]) -> list[tuple[str, bytes]]:
    return [(event.event, event.data) for event in events]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_it_reads_every_line_end_at_every_split(line_end: bytes) -> None:
    stream = STREAM.replace(b"\n", line_end)
    whole = decode(stream)
    assert meant(whole) == MEANT
    assert b"".join(event.raw for event in whole) == stream
    for offset in range(len(stream) + 1):
        assert decode(stream[:offset], stream[offset:]) == whole
    assert decode(*(stream[at : at + 1] for at in range(len(stream)))) == whole


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_it_gives_an_event_as_soon_as_its_blank_line_is_there(line_end: bytes) -> None:
    assert meant(Decoder().feed(b"data: x" + line_end * 2)) == [("", b"x")]


def test_it_reads_line_ends_that_change_within_a_stream() -> None:
    assert meant(decode(b"data: a\n\ndata: b\r\n\r\ndata: c\n\n", b"data: d\r\n\n")) == [
        ("", b"a"),
        ("", b"b"),
        ("", b"c"),
        ("", b"d"),
    ]
    assert meant(decode(b"data: a\n\rdata: b\r\r")) == [("", b"a"), ("", b"b")]


def test_it_gives_at_the_end_what_lacks_its_blank_line() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\n\ndata: [DONE]\n") == [ServerEvent(event="", data=b"a", raw=b"data: a\n\n")]
    assert decoder.end() == [ServerEvent(event="", data=b"[DONE]", raw=b"data: [DONE]\n")]
    assert decoder.end() == []


def test_it_skips_a_byte_order_mark() -> None:
    assert meant(decode(b"\xef\xbb\xbfdata: x\n\n")) == [("", b"x")]


def test_it_keeps_only_one_leading_space_out_of_the_data() -> None:
    assert meant(decode(b"data:  x \n\n")) == [("", b" x ")]


def test_it_refuses_a_frame_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 1000)
    decoder = Decoder()
    assert decoder.feed(b"data: " + b"x" * 900) == []
    with pytest.raises(MalformedAnswer, match="larger than 1000 bytes"):
        decoder.feed(b"x" * 200)


def test_it_refuses_a_large_frame_that_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 1000)
    with pytest.raises(MalformedAnswer):
        Decoder().feed(b"data: " + b"x" * 2000 + b"\n\n")


def test_many_small_frames_may_be_larger_together_than_one_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_FRAME_BYTES", 1000)
    assert len(Decoder().feed(b"data: x\n\n" * 1000)) == 1000


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_no_byte_is_ever_lost(chunks: list[bytes]) -> None:
    assert b"".join(event.raw for event in decode(*chunks)) == b"".join(chunks)


PIECES = st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: a", b"event: b", b":", b"x"]), max_size=12)


@given(PIECES, st.integers(min_value=0, max_value=60))
def test_a_split_changes_nothing(pieces: list[bytes], offset: int) -> None:
    stream = b"".join(pieces)
    whole = decode(stream)
    assert decode(stream[:offset], stream[offset:]) == whole
    assert b"".join(event.raw for event in whole) == stream


@given(
    st.binary(max_size=40).map(lambda data: data.replace(b"\r", b"")),
    st.sampled_from(["", "message_start", "ping"]),
)
def test_what_is_encoded_is_decoded(data: bytes, event: str) -> None:
    assert meant(decode(sse.encode(data=data, event=event))) == [(event, data)]
