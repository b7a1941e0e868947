"""How long a recording is: what its header says, and what it cannot exceed whatever the header says."""

from __future__ import annotations

import io
import wave
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.wire.audio_length import bound_s, stated_s


def wav(frames: int, *, hertz: int = 8_000, width: int = 2, channels: int = 2) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(width)
        recording.setframerate(hertz)
        recording.writeframes(b"\0" * frames * width * channels)
    return out.getvalue()


FLAC = b"fLaC\0\0\0\x22" + b"\0" * 10 + ((44_100 << 44) | 441_000).to_bytes(8, "big") + b"\0" * 16
OPUS = b"OggS" + b"\0" * 24 + b"OpusHead" + b"\0" * 40 + b"OggS\0\4" + (48_000 * 7).to_bytes(8, "little") + b"\0" * 20
VORBIS = b"OggS" + b"\0" * 24 + b"\x01vorbis\0\0\0\0\2" + (22_050).to_bytes(4, "little")
VORBIS += b"\0" * 40 + b"OggS\0\4" + (22_050 * 3).to_bytes(8, "little") + b"\0" * 20
MP4 = b"\0\0\0\x18ftypM4A " + b"\0" * 12 + b"mvhd" + b"\0" * 12 + (600).to_bytes(4, "big") + (900).to_bytes(4, "big")
MP3_FRAME = bytes.fromhex("fffb9064")  # MPEG 1, layer III, 128 kbit/s, 44,100 Hz
XING = MP3_FRAME + b"\0" * 32 + b"Xing\0\0\0\1" + (100).to_bytes(4, "big") + b"\0" * 5_000


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (wav(8_000), "1"),
        (wav(12_345), "1.544"),  # 1.543125, upwards
        (FLAC, "10"),
        (OPUS, "7"),
        (VORBIS, "3"),
        (MP4, "1.5"),
        (MP3_FRAME + b"\0" * 15_996, "1"),
        (b"ID3\4\0\0\0\0\0\x0a" + b"\0" * 10 + MP3_FRAME + b"\0" * 15_996, "1"),
        (XING, "2.613"),  # 100 frames of 1,152 samples
    ],
)
def test_the_header_says_how_long_it_is(data: bytes, seconds: str) -> None:
    assert stated_s(data) == Decimal(seconds)
    assert bound_s(data) >= Decimal(seconds) or len(data) < 200  # the small ones are headers without a recording


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"OggS", b"fLaC", b"\x1aE\xdf\xa3" + b"\0" * 99, b"\xff\xfb", b"ID3", b"noise" * 9, MP4[:30]]
)
def test_what_does_not_say_is_unknown(data: bytes) -> None:
    assert stated_s(data) is None


def test_a_plain_recording_lasts_no_longer_than_its_bytes() -> None:
    data = wav(80_000)
    assert bound_s(data) == 11  # 10 s and a header
    lying = data[:40] + (4).to_bytes(4, "little") + data[44:]
    assert (stated_s(lying), bound_s(lying)) == (Decimal("0.001"), 11)


def test_a_stream_of_unknown_length_lasts_as_long_as_what_is_there() -> None:
    data = wav(80_000)
    endless = data[:40] + b"\xff\xff\xff\xff" + data[44:]
    assert stated_s(endless) in (None, Decimal("10.002"))
    assert bound_s(endless) >= 10


@pytest.mark.parametrize(("data", "least"), [(MP3_FRAME, 1_000), (OPUS, 750), (FLAC, 27), (b"what is it", 750)])
def test_anything_else_lasts_as_long_as_the_lowest_bit_rate_allows(data: bytes, least: int) -> None:
    whole = data + b"\0" * 100_000
    assert bound_s(whole) == -(-len(whole) // least)


@given(st.binary(max_size=400), st.sampled_from([b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\0\0\0\0ftyp", b""]))
def test_no_bytes_crash_it(data: bytes, magic: bytes) -> None:
    seconds = stated_s(magic + data)
    assert seconds is None or seconds > 0
    assert bound_s(magic + data) >= 0
