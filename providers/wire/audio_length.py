"""How long a recording is, from its bytes: what it may last at most, and what its own header says.

The bound holds whatever a header claims: no more than the bytes give at the lowest bit rate of the container. For plain
WAV that is the rate in its header, which a decoder goes by, too.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal

from msgspec import Struct

# Bytes a second at least. MP3's lowest rate is 8 kbit/s; Opus in Ogg, WebM and MP4 has 6, below which AAC never falls;
# FLAC writes a frame of 14 bytes for 4,096 samples of silence, which is 27 bytes a second at 8,000 Hz.
_MP3, _MP4, _OGG, _WEBM, _FLAC, _OTHER = 1_000, 750, 750, 750, 27, 750
MOST_S = Decimal(10**7)
# MPEG audio, layer III: kbit/s by version (1; 2 and 2.5) and index, samples a second by version and index.
_MP3_KBITS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class _Kind(Struct, frozen=True):
    least_bytes_a_second: int
    stated: Callable[[bytes], Decimal | None]


def bound_s(data: bytes) -> int:
    """Seconds that no recording in these bytes exceeds, rounded up."""
    header = _wave(data)
    if header is not None and header.getnframes():
        rate = header.getframerate() * header.getsampwidth() * header.getnchannels()
        return -(-len(data) // rate)
    return bytes_bound_s(len(data), rate=_kind(data).least_bytes_a_second)


def bytes_bound_s(size_bytes: int, *, rate: int = _OTHER) -> int:
    """Seconds at `rate` bytes each, rounded up."""
    return -(-size_bytes // rate)


def stated_s(data: bytes) -> Decimal | None:
    """Seconds by the header of the recording, to the millisecond upwards; None where it does not say."""
    try:
        found = _kind(data).stated(data)
    except (IndexError, ValueError, ArithmeticError):
        return None
    if found is None or not 0 < found <= MOST_S:
        return None
    return found.quantize(Decimal("0.001"), ROUND_CEILING).normalize()


def _kind(data: bytes) -> _Kind:
    if data[:4] in (b"RIFF", b"RF64"):
        return _Kind(_OTHER, _wav_s)
    if data[:4] == b"fLaC":
        return _Kind(_FLAC, _flac_s)
    if data[:4] == b"OggS":
        return _Kind(_FLAC if b"FLAC" in data[:64] else _OGG, _ogg_s)
    if data[4:8] == b"ftyp":
        return _Kind(_MP4, _mp4_s)
    if data[:4] == b"\x1aE\xdf\xa3":
        return _Kind(_WEBM, lambda _: None)
    if data[:3] == b"ID3" or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        return _Kind(_MP3, _mp3_s)
    return _Kind(_OTHER, lambda _: None)


def _wave(data: bytes) -> wave.Wave_read | None:
    """The header of a WAV of plain samples; None for another codec, and for what is none."""
    try:
        return wave.Wave_read(io.BytesIO(data))
    except (wave.Error, EOFError, ValueError, RuntimeError):
        return None


def _wav_s(data: bytes) -> Decimal | None:
    header = _wave(data)
    if header is None:
        return None
    frame = header.getsampwidth() * header.getnchannels()
    # A stream that did not know its length claims the greatest there is.
    frames = min(header.getnframes(), len(data) // frame)
    return Decimal(frames) / header.getframerate()


def _flac_s(data: bytes) -> Decimal | None:
    """STREAMINFO: 20 bits of samples a second, 8 of channels and depth, 36 of samples."""
    packed = int.from_bytes(data[18:26], "big")
    hertz, samples = packed >> 44, packed & (2**36 - 1)
    return Decimal(samples) / hertz if hertz and len(data) >= 26 else None


def _ogg_s(data: bytes) -> Decimal | None:
    """The position in the last page; Opus counts at 48,000 Hz whatever its input had, Vorbis at its own rate."""
    last = data.rfind(b"OggS")
    samples = int.from_bytes(data[last + 6 : last + 14], "little", signed=True)
    if b"OpusHead" in data[:64]:
        return Decimal(samples) / 48_000
    at = data[:64].find(b"\x01vorbis")
    hertz = int.from_bytes(data[at + 12 : at + 16], "little") if at >= 0 else 0
    return Decimal(samples) / hertz if hertz else None


def _mp4_s(data: bytes) -> Decimal | None:
    """The movie header: a time scale and a duration, of 32 or 64 bits."""
    at = data.find(b"mvhd")
    if at < 0:
        return None
    wide = data[at + 4] == 1
    scale_at, size = (at + 24, 8) if wide else (at + 16, 4)
    scale = int.from_bytes(data[scale_at : scale_at + 4], "big")
    units = int.from_bytes(data[scale_at + 4 : scale_at + 4 + size], "big")
    return Decimal(units) / scale if scale and units != 2 ** (8 * size) - 1 else None


def _mp3_s(data: bytes) -> Decimal | None:
    """Frames by the Xing or Info header, else the size at the first frame's bit rate."""
    start = 0
    if data[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    head = int.from_bytes(data[start : start + 4], "big")
    version, layer, kbits, hertz = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15, head >> 10 & 3
    if head >> 21 != 0x7FF or layer != 1 or version == 1 or hertz == 3 or kbits in (0, 15):
        return None
    for mark in (b"Xing", b"Info"):
        at = data.find(mark, start, start + 64)
        if at >= 0 and data[at + 7] & 1:
            samples = 1152 if version == 3 else 576
            frames = int.from_bytes(data[at + 8 : at + 12], "big")
            return Decimal(frames * samples) / _MP3_HZ[version][hertz]
    return Decimal(8 * (len(data) - start)) / (1000 * _MP3_KBITS[3 if version == 3 else 2][kbits])
