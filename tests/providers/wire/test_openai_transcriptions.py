"""Transcriptions: how long a recording may be, and what each way of answering says was used."""

from __future__ import annotations

import base64
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from providers.errors import InvalidRequest, ProviderError
from providers.sse import Decoder
from providers.unified import Usage
from providers.wire.base import Admitted
from providers.wire.openai_transcriptions import TRANSCRIPTIONS, TRANSLATIONS
from tests.providers.wire.test_audio_length import MP3_FRAME, wav
from tests.recordings import answer_bytes, cases, exchanges

TOKENS = {"type": "tokens", "input_tokens": 37, "output_tokens": 12, "total_tokens": 49}


def form(file: bytes | None = b"noise", **texts: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
        for name, text in {"model": "m", **texts}.items()
    ]
    if file is not None:
        parts.append(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + file + b"\r\n")
    return b"".join([*parts, b"--b--\r\n"])


def used(answer: Any, *, file: bytes = b"noise", **texts: str) -> Usage:
    body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
    usage, _ = TRANSCRIPTIONS.read_usage_as_asked(body, admitted=TRANSCRIPTIONS.admit(form(file, **texts)))
    return usage


def test_a_plain_recording_is_bound_by_its_own_seconds() -> None:
    admitted = TRANSCRIPTIONS.admit(form(wav(16_000), stream="true", user="u"))
    assert (admitted.operation, admitted.stream, admitted.user) == ("transcriptions", True, "u")
    assert admitted.fees == {"audio_seconds": 3}
    assert admitted.input_bound is not None
    assert 99 <= admitted.input_bound < 120
    assert admitted.max_output_tokens == 2_150
    assert TRANSLATIONS.admit(form(wav(16_000))).operation == "translations"


def test_a_compressed_recording_is_bound_by_the_lowest_bit_rate() -> None:
    assert TRANSCRIPTIONS.admit(form(MP3_FRAME + b"\0" * 19_996)).fees == {"audio_seconds": 20}


def test_a_recording_somewhere_else_may_be_as_long_as_any() -> None:
    assert TRANSCRIPTIONS.admit(form(None, url="https://x/a.mp3")).fees["audio_seconds"] > 100_000


def test_json_with_the_audio_inside_is_bound_as_well() -> None:
    audio = {"data": base64.b64encode(wav(16_000)).decode(), "format": "wav"}
    body = msgspec.json.encode({"model": "m", "input_audio": audio, "language": "en"})
    admitted = TRANSCRIPTIONS.admit(body)
    assert admitted.fees == {"audio_seconds": 3}
    sent = msgspec.json.decode(TRANSCRIPTIONS.rewrite(admitted, model="up"))
    assert sent == {"model": "up", "input_audio": audio, "language": "en"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (form(None), "file"),
        (form(b""), "file"),
        (form(model=""), "model"),
        (form(stream="2"), "stream"),
        (b"", "file"),
        (b'{"model": "m"}', "$.input_audio"),
        (b'{"model": "m", "input_audio": {"data": "!"}}', "$.input_audio.data"),
    ],
)
def test_a_request_without_audio_is_refused(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        TRANSCRIPTIONS.admit(body)
    assert caught.value.param in (param, "$")


def _admitted(exchange: dict[str, Any]) -> Admitted:
    texts = {name: text for name, text in exchange["request_body"]["_multipart"].items() if name != "file"}
    return TRANSCRIPTIONS.admit(form(wav(8_000 * 60), **texts))


@pytest.mark.parametrize("exchange", cases(exchanges(api="audio.transcriptions", status=200)))
def test_recorded_usage_is_exact(exchange: dict[str, Any]) -> None:
    admitted, body = _admitted(exchange), answer_bytes(exchange)
    if exchange["response_format"] == "sse":
        meter, decoder = TRANSCRIPTIONS.stream_meter(admitted=admitted), Decoder()
        verdicts = [meter.see(event) for event in (*decoder.feed(body), *decoder.end())]
        assert (verdicts[-2:], meter.complete) == (["hold", "last"], True)
        usage = meter.usage
    else:
        usage, _ = TRANSCRIPTIONS.read_usage_as_asked(body, admitted=admitted)
    names = {"input": "input", "output": "output", "input_audio": "audio_in"}
    assert {names[meter]: quantity for meter, quantity in usage.totals.items()} == exchange["expected"]["usage"]
    stated = exchange["expected"].get("stated_cost_usd")
    assert usage.stated_cost_usd == (Decimal(stated) if stated else None)
    assert usage.source == "reported"
    assert admitted.input_bound is not None
    assert admitted.input_bound >= usage.totals["input"]


def test_tokens_with_their_modality() -> None:
    told = {**TOKENS, "input_token_details": {"audio_tokens": 30, "text_tokens": 7}}
    usage = used({"text": "x", "usage": told})
    assert usage.totals == {"input": 37, "output": 12, "input_audio": 30}
    assert (usage.source, usage.counted) == ("reported", None)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({"usage": {"type": "duration", "seconds": 9}}, "9"),
        ({"usage": {"seconds": 9.2, "cost": 0.0001}}, "9.2"),
        ({"duration": 8.470000267028809}, "8.470000267"),
        ({"duration": "3.24"}, "3.24"),
        ({"duration": 5, "usage": {"type": "duration", "seconds": 6}}, "6"),
    ],
)
def test_seconds_are_a_meter_of_their_own(answer: dict[str, Any], seconds: str) -> None:
    usage = used({"text": "x", **answer})
    assert (usage.totals, usage.source) == ({"audio_seconds": Decimal(seconds)}, "reported")


def test_tokens_of_audio_that_stand_in_the_total_only_are_mistrals() -> None:
    told = {"prompt_audio_seconds": 5, "prompt_tokens": 6, "completion_tokens": 30, "total_tokens": 400}
    usage = used({"text": "x", "usage": told})
    assert usage.totals == {"input": 370, "output": 30, "input_audio": 364}
    assert usage.counted == {"audio_seconds": 5}
    meter = TRANSCRIPTIONS.stream_meter(admitted=TRANSCRIPTIONS.admit(form()))
    done = b"data: " + msgspec.json.encode({"type": "transcription.done", "text": "x", "usage": told}) + b"\n\n"
    assert [meter.see(event) for event in Decoder().feed(done)] == ["hold"]
    assert meter.usage == usage


def test_seconds_beside_tokens_are_there_for_a_sheet_that_prices_them() -> None:
    usage = used({"text": "x", "usage": {**TOKENS, "seconds": 4}})
    assert (usage.totals, usage.counted) == ({"input": 37, "output": 12}, {"audio_seconds": 4})


@pytest.mark.parametrize("answer", [b"plain words", b"{not json", b"", b"[]", b'{"text": "x"}', b'{"duration": -1}'])
def test_where_nothing_is_told_the_header_of_the_recording_is_the_estimate(answer: bytes) -> None:
    usage = used(answer, file=wav(16_000))
    assert (usage.totals, usage.counted, usage.source) == ({}, {"audio_seconds": 2}, "estimated")
    assert used(answer).source == "none"


@pytest.mark.parametrize("seconds", [0, -3, True, "NaN", 1e300, None, [], "soon"])
def test_a_length_that_is_none_counts_for_nothing(seconds: Any) -> None:
    usage = used({"text": "x", "usage": {"type": "duration", "seconds": seconds}})
    assert (usage.totals, usage.source) == ({}, "none")


def test_an_error_in_a_200_is_raised() -> None:
    with pytest.raises(ProviderError):
        used({"error": {"message": "no"}})
