"""Speech: characters counted from the request, tokens where events tell them, and a file that is never interrupted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.errors import InvalidRequest, ProviderError
from providers.sse import Decoder, ServerEvent
from providers.wire.base import Admitted
from providers.wire.media import FileDecoder
from providers.wire.openai_speech import WIRE


def admit(**fields: Any) -> Admitted:
    return WIRE.admit(msgspec.json.encode({"model": "m", "input": "abc", "voice": "alloy", **fields}))


def test_characters_are_those_of_the_text_not_its_bytes() -> None:
    admitted = admit(input="Zwölf 帳簿 🧾", voice={"id": "v"})
    assert (admitted.fees, admitted.operation) == ({"characters": 10}, "speech")
    assert admitted.input_bound is not None
    assert admitted.input_bound >= 20


def test_audio_is_a_raw_stream_and_events_are_not() -> None:
    assert [(a.stream, a.raw_stream) for a in (admit(), admit(stream_format="audio"), admit(stream_format="sse"))] == [
        (True, True), (True, True), (True, False)
    ]  # fmt: skip


def test_slower_speech_takes_more_tokens() -> None:
    assert (admit().max_output_tokens, admit(speed=0.25).max_output_tokens) == (530, 620)


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"input": ""}, "$.input"), ({"input": None}, "$.input"), ({"model": 3}, "$.model"), ({"speed": 0}, "$.speed")],
)
def test_a_wrong_body_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        admit(**fields)
    assert caught.value.param == param


def test_the_last_byte_of_a_file_waits_for_its_end() -> None:
    decoder, meter = FileDecoder(), WIRE.stream_meter(admitted=admit())
    fed = [event for chunk in (b"\xff", b"", b"abc", b"de") for event in decoder.feed(chunk)]
    assert [(event.raw, meter.see(event)) for event in fed] == [(b"\xffab", "forward"), (b"cd", "forward")]
    assert not meter.complete
    assert [(event.raw, meter.see(event)) for event in decoder.end()] == [(b"e", "last")]
    assert meter.complete
    assert (meter.usage.counted, meter.usage.source) == ({"characters": 3}, "reported")


def test_no_event_of_a_file_is_read_as_one() -> None:
    meter = WIRE.stream_meter(admitted=admit())
    assert meter.see(ServerEvent(event="", data=b"", raw=b'data: {"error": {}}\n\n')) == "forward"


def test_events_tell_tokens_all_of_them_audio() -> None:
    done = {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}
    body = b'data: {"type": "speech.audio.delta", "audio": "AA=="}\n\ndata: ' + msgspec.json.encode(done) + b"\n\n"
    meter, decoder = WIRE.stream_meter(admitted=admit(stream_format="sse")), Decoder()
    assert [meter.see(event) for event in decoder.feed(body)] == ["forward", "hold"]
    assert (meter.usage.totals, meter.complete) == ({"input": 14, "output": 101, "output_audio": 101}, True)
    assert meter.usage.counted == {"characters": 3}


def test_what_was_asked_for_is_known_before_the_first_event() -> None:
    assert WIRE.stream_meter(admitted=admit(stream_format="sse")).usage.counted == {"characters": 3}


def test_an_error_in_a_200_is_raised() -> None:
    with pytest.raises(ProviderError):
        WIRE.read_usage_as_asked(b'{"error": {"message": "no"}}', admitted=admit())
