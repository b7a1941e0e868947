"""Lines of JSON, however the network cuts them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import ndjson
from providers.errors import MalformedAnswer
from providers.sse import ServerEvent

STREAM = b'{"a":1}\n\r\n{"b":"\xc3\xa9"}\r\n{"c":3}'


def fed(*pieces: bytes) -> list[ServerEvent]:
    decoder = ndjson.Decoder()
    return [line for piece in pieces for line in decoder.feed(piece)] + decoder.end()


def test_a_line_is_a_frame_without_its_end() -> None:
    assert [line.data for line in fed(STREAM)] == [b'{"a":1}', b"", b'{"b":"\xc3\xa9"}', b'{"c":3}']
    assert {line.event for line in fed(STREAM)} == {""}


def test_a_line_is_given_out_when_it_ends_and_no_sooner() -> None:
    decoder = ndjson.Decoder()
    assert decoder.feed(b'{"a":1}') == []
    assert [line.data for line in decoder.feed(b"\n{")] == [b'{"a":1}']
    assert [line.raw for line in decoder.end()] == [b"{"]
    assert decoder.end() == []


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=5))
def test_no_byte_is_ever_lost_and_no_cut_changes_a_line(stream: bytes, cuts: list[int]) -> None:
    stream = stream + STREAM
    places = sorted({0, len(stream), *(cut for cut in cuts if cut <= len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    lines = fed(*pieces)
    assert b"".join(line.raw for line in lines) == stream
    assert lines == fed(stream)


def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MAX_LINE_BYTES", 10)
    decoder = ndjson.Decoder()
    assert len(decoder.feed(b"123456789\n123456789\n")) == 2
    decoder.feed(b"1234567")
    with pytest.raises(MalformedAnswer, match="larger than 10 bytes"):
        decoder.feed(b"890\n")
