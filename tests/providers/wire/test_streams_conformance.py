"""What holds for the streams of every wire, however their bytes arrive: nothing is lost, doubled or made up."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Struct

from providers.errors import MalformedAnswer, StreamInterrupted
from providers.sse import ServerEvent
from providers.unified import Event, Finished, Started, Usage
from providers.wire.base import FramesItself, StreamMeter
from providers.wire.unstreamed import ProviderSide
from tests.providers.wire import streamed
from tests.providers.wire.streamed import ADMITTED, Stream

RECORDED, WRITTEN = list(streamed.recorded()), list(streamed.written())
STREAMS = [*WRITTEN, *RECORDED]
EVENT_STREAMS = [stream for stream in STREAMS if not isinstance(stream.wire, FramesItself)]
# A cut at every offset of a stream costs its length squared: longer ones are cut around the ends of their frames,
# where alone a decoder decides anything.
EVERYWHERE_BYTES = 2_500
AROUND = 6



def named(stream: Stream) -> str:
    return stream.name


def is_array(stream: Stream) -> bool:
    """Google streams a JSON array where nobody asks for events: nothing else has a place in it."""
    return stream.body.startswith(b"[")


every_stream = pytest.mark.parametrize("stream", STREAMS, ids=named)
every_event_stream = pytest.mark.parametrize("stream", EVENT_STREAMS, ids=named)
every_binary_stream = pytest.mark.parametrize(
    "stream", [stream for stream in STREAMS if stream.wire.name == "bedrock_converse"], ids=named
)


class Read(Struct):
    """All that a client and the books get of a stream."""

    events: list[Event]
    forwarded: bytes
    usages: tuple[Usage, Usage]
    models: tuple[str, str]
    complete: tuple[bool, bool]
    output_bytes: tuple[int, int]


def meter_of(stream: Stream) -> StreamMeter | None:
    """None where no client speaks the wire: nothing passes through then."""
    if isinstance(stream.wire, ProviderSide):
        return None
    return stream.wire.stream_meter(admitted=ADMITTED)


def read(stream: Stream, frames: list[ServerEvent]) -> Read:
    """Translated and passed through. Raises what the reader raises at an end that came too early."""
    reader, meter = stream.wire.stream_reader(), meter_of(stream)
    events = [event for frame in frames for event in reader.feed(frame)] + reader.end()
    forwarded = b"".join(frame.raw for frame in frames if meter is None or meter.see(frame) != "drop")
    seen = meter or reader
    return Read(
        events=events,
        forwarded=forwarded,
        usages=(reader.usage, seen.usage),
        models=(reader.model, seen.model),
        complete=(reader.complete, seen.complete),
        output_bytes=(reader.output_bytes, seen.output_bytes),
    )


def cuts(stream: Stream, frames: list[ServerEvent]) -> list[int]:
    size = len(stream.body)
    if size <= EVERYWHERE_BYTES:
        return list(range(1, size))
    found: set[int] = set()
    end = 0
    for frame in frames:
        end += len(frame.raw)
        found.update(range(end - AROUND, end + AROUND + 1))
    return sorted(at for at in found if 0 < at < size)


def test_every_wire_of_the_registry_is_among_them() -> None:
    names = {wire.name for _, wire in streamed.wires()}
    assert names == set(streamed.UNKNOWN), "a new wire needs a frame of an event that nobody knows, in UNKNOWN"
    assert names == {stream.wire.name for stream in WRITTEN}


@every_stream
def test_a_whole_stream_is_complete_and_passes_byte_for_byte(stream: Stream) -> None:
    whole = read(stream, streamed.frames(stream.wire, [stream.body]))
    assert whole.forwarded == stream.body
    assert whole.complete == (True, True)
    assert whole.usages[0] == whole.usages[1]
    assert whole.usages[0].source == "reported"
    assert whole.models[0] == whole.models[1]
    assert whole.output_bytes[0] == whole.output_bytes[1]
    assert isinstance(whole.events[0], Started)
    assert whole.events[-1] == Finished(usage=whole.usages[0])
    assert sum(isinstance(event, Started | Finished) for event in whole.events) == 2


@every_stream
def test_bytes_that_come_one_by_one_say_the_same(stream: Stream) -> None:
    whole = streamed.frames(stream.wire, [stream.body])
    by_bytes = streamed.frames(stream.wire, [stream.body[at : at + 1] for at in range(len(stream.body))])
    assert by_bytes == whole
    assert read(stream, by_bytes) == read(stream, whole)


@every_stream
def test_a_cut_in_two_anywhere_says_the_same(stream: Stream) -> None:
    """What is read of a stream depends on its frames alone, so they are compared: that is quick enough for all."""
    whole = streamed.frames(stream.wire, [stream.body])
    for at in cuts(stream, whole):
        assert streamed.frames(stream.wire, [stream.body[:at], stream.body[at:]]) == whole, at


@every_event_stream
def test_lines_may_end_with_crlf(stream: Stream) -> None:
    body = stream.body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    other = msgspec.structs.replace(stream, body=body)
    whole, theirs = streamed.frames(stream.wire, [stream.body]), streamed.frames(stream.wire, [body])
    before, after = read(stream, whole), read(other, theirs)
    assert after.forwarded == body
    assert msgspec.structs.replace(after, forwarded=before.forwarded) == before
    for at in cuts(other, theirs):
        assert streamed.frames(stream.wire, [body[:at], body[at:]]) == theirs, at


@pytest.mark.parametrize("stream", [stream for stream in STREAMS if not is_array(stream)], ids=named)
def test_comments_pings_and_events_invented_tomorrow_change_nothing(stream: Stream) -> None:
    whole = streamed.frames(stream.wire, [stream.body])
    between = [streamed.UNKNOWN[stream.wire.name]]
    if not isinstance(stream.wire, FramesItself):
        between += streamed.COMMENTS
    noise = b"".join(between)
    body = noise + b"".join(frame.raw + noise for frame in whole)
    before, after = read(stream, whole), read(stream, streamed.frames(stream.wire, [body]))
    assert after.forwarded == body
    assert msgspec.structs.replace(after, forwarded=before.forwarded) == before


@every_stream
def test_a_stream_cut_at_a_frame_is_interrupted_or_lacks_nothing(stream: Stream) -> None:
    frames = streamed.frames(stream.wire, [stream.body])
    whole = read(stream, frames)
    reader, meter = stream.wire.stream_reader(), meter_of(stream)
    known: set[str] = set()
    for count, frame in enumerate(frames):
        assert (reader.complete, reader.usage) == ((meter or reader).complete, (meter or reader).usage)
        assert known <= reader.usage.totals.keys(), "what was reported is kept"
        known = set(reader.usage.totals)
        if reader.complete:
            # Only what says nothing was cut off: [DONE], or message_stop after the reason and the counts.
            part = read(stream, frames[:count])
            assert msgspec.structs.replace(part, forwarded=whole.forwarded) == whole
        else:
            assert reader.usage.source in ("none", "partial")
            with pytest.raises(StreamInterrupted):
                read(stream, frames[:count])
        reader.feed(frame)
        if meter is not None:
            meter.see(frame)


@every_stream
def test_a_stream_cut_within_a_frame_lacks_nothing_or_is_an_error(stream: Stream) -> None:
    frames = streamed.frames(stream.wire, [stream.body])
    whole = read(stream, frames)
    start = 0
    for frame in frames:
        for inside in {1, len(frame.raw) // 2, len(frame.raw) - 3}:
            cut = stream.body[: start + inside]
            try:
                part = read(stream, streamed.frames(stream.wire, [cut]))
            except (StreamInterrupted, MalformedAnswer):
                continue
            assert part.events == whole.events, cut[-60:]
        start += len(frame.raw)


@every_binary_stream
def test_a_flipped_bit_is_told_by_its_check_sum(stream: Stream) -> None:
    start = 0
    for frame in streamed.frames(stream.wire, [stream.body]):
        for at in (0, 5, 9, 13, len(frame.raw) // 2, len(frame.raw) - 1):
            body = bytearray(stream.body)
            body[start + at] ^= 1 << (at % 8)
            with pytest.raises(MalformedAnswer):
                streamed.frames(stream.wire, [bytes(body)])
        start += len(frame.raw)
