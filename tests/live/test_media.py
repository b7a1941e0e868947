"""Images, transcriptions and speech: OpenAI's own client against a running gateway, and each call in the books."""

from __future__ import annotations

import base64
import io
import uuid
import wave
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import requests
from openai import OpenAI

from ledger.models import Call, PriceSheet
from providers.models import Route, RouteTarget
from providers.wire import forms
from tests import factories
from tests.live import books
from tests.live.gateway import Account, Gateway, read_until
from tests.upstream import Pause, answer, events

PNG = b"\x89PNG\r\n\x1a\n\x00\xff--not-a-boundary\r\n"
IN, OUT = Decimal("0.000003"), Decimal("0.000015")
DAY = (("usd", "day", "50"),)


def wav(seconds: int = 2, *, hertz: int = 8_000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(1)
        recording.setframerate(hertz)
        recording.writeframes(bytes(range(256)) * (seconds * hertz // 256) + b"\0" * (seconds * hertz % 256))
    return out.getvalue()


def client(gateway: Gateway, made: Account) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=made.text, max_retries=0)


def price(gateway: Gateway, made: Account, *rates: dict[str, str | int]) -> None:
    """Publish a sheet of these rates for the model."""
    sheet = factories.make_sheet(model=made.model, rates={}, published=False)
    for rate in rates:
        sheet.rates.create(**rate)
    sheet.status, sheet.published_at = PriceSheet.Status.PUBLISHED, datetime.now(UTC)
    sheet.save(update_fields=["status", "published_at"])
    gateway.sync()


def sandbox(gateway: Gateway, upstream_name: str, **rates: str) -> Account:
    """A model of the sandbox, priced per million."""
    return gateway.account(wire="sandbox", upstream_name=upstream_name, rates=rates)


def post(gateway: Gateway, made: Account, path: str, **fields: Any) -> requests.Response:
    """JSON with the model's name."""
    return gateway.post(path, msgspec.json.encode({"model": made.model.name, **fields}), headers=made.headers)


def form(
    gateway: Gateway, made: Account, path: str, *, files: Any, headers: dict[str, str] | None = None, **fields: Any
) -> requests.Response:
    """A form of texts and files, with the model's name unless another is among the fields."""
    bearer = {"Authorization": f"Bearer {made.text}", **(headers or {})}
    data = {"model": made.model.name, **fields}
    return requests.post(f"{gateway.url}{path}", data=data, files=files, headers=bearer, timeout=30)


def call_of(made: Account) -> Call:
    return books.call_of(made.key.pk)


def no_call_of(made: Account) -> bool:
    return not books.rows("SELECT 1 FROM ledger_call WHERE key_id = %s", made.key.pk)


# --- images -----------------------------------------------------------------------------------------------


def test_a_generated_image_is_priced_by_its_tokens(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY)
    with client(gateway, made) as openai:
        image = openai.images.generate(model=made.model.name, prompt="a ledger", n=1, size="1024x1024")
    assert image.data is not None
    assert image.data[0].b64_json
    assert image.usage is not None
    call = call_of(made)
    assert (call.surface, call.outcome, call.usage_source) == ("images", "ok", "reported")
    assert (call.variant, call.output_tokens) == ("high-1024x1024", 8)
    assert call.cost_usd == call.input_tokens * IN + 8 * OUT
    assert gateway.upstream.arrivals[-1].path == "/v1/images/generations"
    assert msgspec.json.decode(gateway.upstream.arrivals[-1].body)["model"] == "fake-model"


def test_an_answer_without_usage_is_priced_by_its_images_and_what_was_asked_for(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY, priced=False)
    variants = {"standard-1024x1024": "0.04", "hd-1024x1792": "0.12"}
    price(gateway, made, *({"meter": "images", "amount_usd": n, "per": 1, "variant": v} for v, n in variants.items()))
    gateway.upstream.script(answer(body=b'{"created": 1, "data": [{"url": "https://x/1"}, {"url": "https://x/2"}]}'))
    answered = post(
        gateway, made, "/v1/images/generations", prompt="a ledger", n=2, quality="hd", size="1024x1792"
    )
    assert answered.status_code == 200, answered.text
    call = call_of(made)
    assert (call.meters, call.variant, call.cost_usd) == ({"images": 2}, "hd-1024x1792", Decimal("0.24"))
    assert call.usage_flags == ["counted:images"]
    assert Decimal(answered.headers["X-Tollbook-Cost-Usd"]) == Decimal("0.24")


def test_an_edit_passes_through_byte_for_byte_but_for_its_model(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY)
    with client(gateway, made) as openai:
        image = openai.images.edit(model=made.model.name, image=("a.png", PNG, "image/png"), prompt="turn it gréen")
    assert image.data is not None
    sent = gateway.upstream.arrivals[-1]
    assert sent.path == "/v1/images/edits"
    assert sent.headers["content-type"].startswith("multipart/form-data; boundary=")
    arrived = forms.parse(sent.body)
    assert arrived.texts() == {"model": ["fake-model"], "prompt": ["turn it gréen"]}
    assert arrived.file("image") == PNG
    call = call_of(made)
    assert (call.surface, call.outcome, call.cost_usd) == ("image_edits", "ok", call.input_tokens * IN + 8 * OUT)


def test_a_streamed_image_is_in_the_books_before_it_is_complete(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY)
    with client(gateway, made) as openai:
        seen = list(openai.images.generate(model=made.model.name, prompt="x", stream=True, partial_images=2))
    assert [event.type for event in seen][-1] == "image_generation.completed"
    assert len(seen) == 9
    call = call_of(made)
    assert (call.streamed, call.outcome, call.output_tokens, call.variant) == (True, "ok", 8, "high-1024x1024")


def test_a_form_becomes_json_where_a_provider_takes_no_forms(gateway: Gateway) -> None:
    made = gateway.account(wire="xai", priced=False)
    amounts = {"images": "0.05", "input_images": "0.01"}
    price(gateway, made, *({"meter": meter, "amount_usd": n, "per": 1} for meter, n in amounts.items()))
    stated = {"data": [{"url": "https://x/1"}], "usage": {"cost_in_usd_ticks": 600_000_000}}
    gateway.upstream.script(answer(body=msgspec.json.encode(stated)))
    with client(gateway, made) as openai:
        openai.images.edit(model=made.model.name, image=[("a.png", PNG, "image/png")], prompt="x", n=1)
    sent = gateway.upstream.arrivals[-1]
    assert sent.headers["content-type"] == "application/json"
    body = msgspec.json.decode(sent.body)
    assert body["images"] == [
        {"type": "image_url", "url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}
    ]
    assert (body["model"], body["n"]) == ("fake-model", 1)
    call = call_of(made)
    assert (call.meters, call.cost_usd) == ({"images": 1, "input_images": 1}, Decimal("0.06"))
    assert call.stated_cost_usd == Decimal("0.06")


# --- transcriptions ---------------------------------------------------------------------------------------


def test_a_transcription_by_tokens(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY)
    with client(gateway, made) as openai:
        heard = openai.audio.transcriptions.create(model=made.model.name, file=("a.wav", wav(), "audio/wav"))
    assert heard.text.startswith("The ledger balances")
    arrived = forms.parse(gateway.upstream.arrivals[-1].body)
    assert (arrived.file("file"), arrived.texts()["model"]) == (wav(), ["fake-model"])
    call = call_of(made)
    assert (call.surface, call.output_tokens, call.usage_source) == ("transcriptions", 8, "reported")
    assert call.cost_usd == call.input_tokens * IN + 8 * OUT


def test_a_transcription_by_seconds_has_its_minimum(gateway: Gateway) -> None:
    made = gateway.account(priced=False, limits=DAY)
    price(gateway, made, {"meter": "audio_seconds", "amount_usd": "111", "per": 1_000_000, "minimum": "10"})
    gateway.upstream.script(answer(body=b'{"text": "x", "usage": {"type": "duration", "seconds": 2.5}}'))
    assert form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav())}).status_code == 200
    call = call_of(made)
    assert (call.meters, call.cost_usd) == ({"audio_seconds": "2.5"}, Decimal("0.00111"))


@pytest.mark.parametrize("kind", ["text", "srt", "vtt"])
def test_a_text_answer_is_estimated_by_the_recordings_own_header(gateway: Gateway, kind: str) -> None:
    made = gateway.account(rates={"audio_seconds": "100"}, limits=DAY)
    gateway.upstream.script(answer(body=b"{not json, said she", content_type="text/plain; charset=utf-8"))
    with client(gateway, made) as openai:
        text: Any = openai.audio.transcriptions.create(
            model=made.model.name, file=("a.wav", wav(3)), response_format=kind  # type: ignore[call-overload]
        )
    assert text == "{not json, said she"
    call = call_of(made)
    assert (call.meters, call.usage_source, call.usage_flags) == (
        {"audio_seconds": 3}, "estimated", ["counted:audio_seconds"]
    )
    assert call.cost_usd == Decimal("0.0003")


def test_what_nobody_can_tell_is_unknown_and_not_zero(gateway: Gateway) -> None:
    made = gateway.account(rates={"audio_seconds": "100"})
    gateway.upstream.script(answer(body=b"words", content_type="text/plain"))
    answered = form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.bin", b"\x00\x01\x02" * 99)})
    assert (answered.content, answered.headers["Content-Type"]) == (b"words", "text/plain")
    call = call_of(made)
    assert (call.cost_usd, call.unpriced_reason) == (None, "the provider reported no usage")
    assert "X-Tollbook-Cost-Usd" not in answered.headers


def test_a_streamed_transcription_has_its_last_event_after_the_row(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY)
    with client(gateway, made) as openai:
        seen = list(
            openai.audio.transcriptions.create(model=made.model.name, file=("a.wav", wav()), stream=True)
        )
    assert [event.type for event in seen] == ["transcript.text.delta"] * 8 + ["transcript.text.done"]
    call = call_of(made)
    assert (call.streamed, call.outcome, call.output_tokens) == (True, "ok", 8)
    assert call.cost_usd == call.input_tokens * IN + 8 * OUT


def test_a_stream_passes_through_to_its_last_byte(gateway: Gateway) -> None:
    made = gateway.account()
    frames = [
        b'data: {"type": "transcript.text.delta", "delta": "a"}\r\n\r\n',
        b'data: {"type": "transcript.text.done", "usage": {"input_tokens": 7, "output_tokens": 2}}\r\n\r\n',
        b"data: [DONE]\r\n\r\n",
    ]
    gateway.upstream.script(events(frames))
    answered = form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav())}, stream="true")
    ours = b": tollbook call_id=" + str(call_of(made).pk).encode()
    before, _, after = answered.content.partition(ours)
    assert before == frames[0]
    assert after.endswith(frames[1] + frames[2])
    assert call_of(made).cost_usd == 7 * IN + 2 * OUT


def test_a_model_that_cannot_stream_answers_whole(gateway: Gateway) -> None:
    made = gateway.account()
    whole = b'{"text": "x", "usage": {"type": "tokens", "input_tokens": 3, "output_tokens": 1}}'
    gateway.upstream.script(answer(body=whole))
    answered = form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav())}, stream="true")
    assert (answered.content, answered.headers["Content-Type"]) == (whole, "application/json")
    assert call_of(made).cost_usd == 3 * IN + 1 * OUT


def test_a_translation_has_an_endpoint_of_its_own(gateway: Gateway) -> None:
    made = gateway.account()
    with client(gateway, made) as openai, pytest.warns(DeprecationWarning, match="deprecated"):
        heard = openai.audio.translations.create(model=made.model.name, file=("a.wav", wav()))
    assert heard.text
    assert gateway.upstream.arrivals[-1].path == "/v1/audio/translations"
    assert call_of(made).surface == "translations"


# --- speech -----------------------------------------------------------------------------------------------


def test_speech_is_audio_priced_by_the_characters_of_its_input(gateway: Gateway) -> None:
    made = gateway.account(rates={"characters": "15"}, limits=DAY)
    with client(gateway, made) as openai:
        spoken = openai.audio.speech.create(model=made.model.name, voice="alloy", input="Zwölf Bücher")
    assert spoken.content == b"\xff\xf3\x00The ledger balances to the last digit today"
    assert spoken.response.headers["Content-Type"] == "audio/mpeg"
    call = call_of(made)
    assert (call.surface, call.meters, call.cost_usd) == ("speech", {"characters": 12}, Decimal("0.00018"))
    assert call.usage_flags == ["counted:characters"]


def test_speech_can_be_heard_while_it_is_made(gateway: Gateway) -> None:
    made = gateway.account(rates={"characters": "15"})
    with client(gateway, made) as openai, openai.audio.speech.with_streaming_response.create(
        model=made.model.name, voice="alloy", input="abc"
    ) as spoken:
        assert b"".join(spoken.iter_bytes(7)) == b"\xff\xf3\x00The ledger balances to the last digit today"
    assert call_of(made).cost_usd == Decimal("0.000045")


def test_speech_as_events_tells_its_tokens(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY, rates={"input": "3", "output_audio": "15"})
    answered = post(gateway, made, "/v1/audio/speech", voice="alloy", input="abc", stream_format="sse")
    assert answered.headers["Content-Type"] == "text/event-stream"
    assert answered.text.rstrip().endswith("}")
    call = call_of(made)
    assert (call.meters["output_audio"], call.usage_source) == (8, "reported")
    assert call.cost_usd == call.input_tokens * IN + 8 * OUT


def test_speech_of_a_model_priced_by_tokens_that_tells_none_is_unknown(gateway: Gateway) -> None:
    made = gateway.account(rates={"input": "3", "output": "15"})
    post(gateway, made, "/v1/audio/speech", voice="alloy", input="abc")
    call = call_of(made)
    assert (call.cost_usd, call.unpriced_reason) == (None, "no rate for 'characters'")


def test_speech_that_breaks_off_has_no_proper_end(gateway: Gateway) -> None:
    made = gateway.account(rates={"characters": "15"}, upstream_name="fake-cut")
    with pytest.raises(requests.exceptions.RequestException):
        post(gateway, made, "/v1/audio/speech", voice="alloy", input="abc")
    call = call_of(made)
    assert (call.outcome, call.cost_usd) == ("failed", Decimal("0.000045"))


# --- as for chat ------------------------------------------------------------------------------------------


def test_the_same_idempotency_key_gives_the_same_answer_with_its_type(gateway: Gateway) -> None:
    made = gateway.account(rates={"characters": "15"})
    key = {"Idempotency-Key": uuid.uuid4().hex}
    body = msgspec.json.encode({"model": made.model.name, "input": "abc", "voice": "alloy"})
    first, second = (
        gateway.post("/v1/audio/speech", body, headers={**made.headers, **key}) for _ in range(2)
    )
    assert (second.content, second.headers["Content-Type"]) == (first.content, "audio/mpeg")
    assert second.headers["Idempotent-Replayed"] == "true"
    call_of(made)


def test_a_form_that_is_sent_again_is_the_same_whatever_its_boundary(gateway: Gateway) -> None:
    made = gateway.account()
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, second = (
        form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav())}, headers=key) for _ in range(2)
    )
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (first.content, second.headers["Content-Type"]) == (second.content, "application/json")
    other = form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav(1))}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("path", "rates"),
    [
        ("/v1/images/generations", {"images": "40000"}),
        ("/v1/audio/speech", {"characters": "40000"}),
    ],
)
def test_a_limit_refuses_what_may_not_fit(gateway: Gateway, path: str, rates: dict[str, str]) -> None:
    made = gateway.account(rates=rates, limits=(("usd", "day", "0.05"),))
    before = len(gateway.upstream.arrivals)
    refused = post(gateway, made, path, prompt="x", input="ab", n=2)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "limit_reached")
    assert len(gateway.upstream.arrivals) == before


def test_a_recording_that_may_last_too_long_is_refused(gateway: Gateway) -> None:
    made = gateway.account(rates={"audio_seconds": "10000"}, limits=(("usd", "day", "0.05"),))
    refused = form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav(6))})
    assert refused.json()["error"]["code"] == "limit_reached"
    gateway.upstream.script(answer(body=b'{"text": "x", "usage": {"type": "duration", "seconds": 4}}'))
    assert form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav(4))}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/images/edits"]
)
def test_a_price_that_does_not_cover_it_is_a_402(gateway: Gateway, path: str) -> None:
    made = gateway.account(rates={"search_units": "1"}, limits=DAY)
    if path.endswith(("edits", "transcriptions")):
        field = "image" if path.endswith("edits") else "file"
        refused = form(gateway, made, path, files={field: ("a", wav())}, prompt="x")
    else:
        refused = post(gateway, made, path, prompt="x", input="ab")
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "unpriced_model")
    assert no_call_of(made)


def test_a_failing_provider_is_a_row_that_costs_nothing(gateway: Gateway) -> None:
    made = gateway.account(upstream_name="fake-429")
    refused = form(gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav())})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "provider_rate_limited")
    assert (call_of(made).outcome, call_of(made).cost_usd) == ("refused", Decimal(0))


def test_a_failing_attempt_is_tried_again_with_the_same_form(gateway: Gateway) -> None:
    made = gateway.account(upstream_name="fake-flaky-1", provider={"max_retries": 2})
    answered = form(gateway, made, "/v1/images/edits", files={"image": ("a.png", PNG)}, prompt=uuid.uuid4().hex)
    assert answered.status_code == 200, answered.text
    assert answered.headers["X-Tollbook-Attempts"] == "2"
    assert gateway.upstream.arrivals[-1].body == gateway.upstream.arrivals[-2].body


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/audio/speech"])
def test_a_provider_without_media_is_a_400_and_no_call(gateway: Gateway, path: str) -> None:
    made = gateway.account(wire="anthropic")
    refused = post(gateway, made, path, prompt="x", input="x")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    assert no_call_of(made)


def test_a_model_whose_catalog_says_it_has_none_is_a_400_and_no_call(gateway: Gateway) -> None:
    made = gateway.account(capabilities=["chat"])
    refused = post(gateway, made, "/v1/audio/speech", input="x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")
    assert no_call_of(made)
    able = gateway.account(capabilities=["speech"])
    assert post(gateway, able, "/v1/audio/speech", input="x").status_code == 200


def raw_form(gateway: Gateway, made: Account, body: bytes, *, boundary: str = "b0") -> requests.Response:
    headers = {**made.headers, "Content-Type": f"multipart/form-data; boundary={boundary}"}
    return gateway.post("/v1/audio/transcriptions", body, headers=headers)


def part(name: str, content: bytes = b"x", *, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    return f'--b0\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


FILE = part("file", b"RIFF", filename="a.wav")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (part("model", b"MODEL") + b"--b0--\r\n", "file"),
        (part("model", b"MODEL") + part("file", b"", filename="a.wav") + b"--b0--\r\n", "file"),
        (FILE + b"--b0--\r\n", "model"),
        (part("model", b"MODEL") * 2 + FILE + b"--b0--\r\n", "model"),
        (part("model", b"MODEL") + FILE + FILE + b"--b0--\r\n", "file"),
        (part("model", b"MODEL") + FILE, "body"),
        (part("model", b"MODEL") + FILE + b"--b0--\r\nmore", "body"),
        (part("mod\0el", b"MODEL") + FILE + b"--b0--\r\n", "body"),
        (part("model", b"MODEL") + part("prompt", b"a\0b") + FILE + b"--b0--\r\n", "prompt"),
        (part("model", b"MODEL") + part("prompt", b"\xff") + FILE + b"--b0--\r\n", "prompt"),
        (part("model", b"MODEL") + part("stream", b"perhaps") + FILE + b"--b0--\r\n", "stream"),
    ],
)
def test_a_bad_form_is_a_400_that_names_its_field(gateway: Gateway, body: bytes, param: str) -> None:
    made = gateway.account()
    refused = raw_form(gateway, made, body.replace(b"MODEL", made.model.name.encode()))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text
    assert no_call_of(made)


def test_a_form_with_another_boundary_than_its_header_is_a_400(gateway: Gateway) -> None:
    made = gateway.account()
    refused = raw_form(gateway, made, part("model") + FILE + b"--b0--\r\n", boundary="other")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "Content-Type")
    unsaid = gateway.post("/v1/audio/transcriptions", FILE + b"--b0--\r\n", headers=made.headers)
    assert unsaid.status_code == 400


def test_json_where_a_form_is_wanted_says_so(gateway: Gateway) -> None:
    refused = post(gateway, gateway.account(), "/v1/audio/transcriptions")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"]


# --- the sandbox ------------------------------------------------------------------------------------------


def test_the_sandbox_makes_images_of_all_kinds(gateway: Gateway) -> None:
    made = sandbox(gateway, "sandbox-image", input="1", input_image="2", output="4", output_image="8")
    with client(gateway, made) as openai:
        image = openai.images.generate(model=made.model.name, prompt="a ledger", n=2)
        edited = openai.images.edit(model=made.model.name, image=("a.png", PNG), prompt="green")
        seen = list(openai.images.generate(model=made.model.name, prompt="x", stream=True, partial_images=1))
    assert image.data is not None and edited.data is not None  # noqa: PT018  # for the type checker
    assert base64.b64decode(image.data[0].b64_json or "").startswith(b"\x89PNG")
    assert [event.type for event in seen] == ["image_generation.partial_image", "image_generation.completed"]
    first, second, third = (books.calls(key_id=made.key.pk))
    assert first.cost_usd == Decimal("0.000002") + 2 * 1056 * Decimal("0.000008")
    assert second.meters == {"input": 2, "input_image": 100, "output_image": 1056}
    assert third.cost_usd == Decimal("0.000001") + 1056 * Decimal("0.000008")


def test_the_sandbox_hears_recordings(gateway: Gateway) -> None:
    made = sandbox(gateway, "sandbox-transcribe", audio_seconds="100")
    with client(gateway, made) as openai:
        create = openai.audio.transcriptions.create
        file = ("a.wav", wav(3))
        assert create(model=made.model.name, file=file).text == "The recording is 3 seconds long."
        assert create(model=made.model.name, file=file, response_format="verbose_json").duration == 3
        assert "-->" in str(create(model=made.model.name, file=file, response_format="srt"))
        assert list(create(model=made.model.name, file=file, stream=True))[-1].type == "transcript.text.done"
    assert [call.cost_usd for call in books.calls(key_id=made.key.pk)] == [Decimal("0.0003")] * 4


def test_the_sandbox_speaks(gateway: Gateway) -> None:
    made = sandbox(gateway, "sandbox-speech", characters="15")
    with client(gateway, made) as openai:
        spoken = openai.audio.speech.create(model=made.model.name, voice="alloy", input="Does it balance?")
    assert spoken.content[:4] == b"RIFF"
    assert call_of(made).cost_usd == Decimal("0.00024")


# --- routes, and clients who leave ------------------------------------------------------------------------


def test_a_form_falls_back_to_the_next_target_of_its_route(gateway: Gateway) -> None:
    broken = gateway.account(upstream_name="fake-503", sync=False)
    unable, made = gateway.account(capabilities=["chat"], sync=False), gateway.account(sync=False)
    route = Route.objects.create(name=f"r-{uuid.uuid4().hex[:10]}", strategy="priority")
    for priority, target in enumerate((unable, broken, made), start=1):
        RouteTarget.objects.create(route=route, model=target.model, priority=priority)
    gateway.sync()
    answered = form(
        gateway, made, "/v1/audio/transcriptions", files={"file": ("a.wav", wav())}, model=route.name,
        headers={"X-Tollbook-Tags": "team=books"},
    )  # fmt: skip
    assert answered.status_code == 200, answered.text
    first, second = books.calls(key_id=made.key.pk)
    assert (first.outcome, first.model_id, second.model_id) == ("failed", broken.model.pk, made.model.pk)
    assert second.tags == {"team": "books"}


def leave_after(gateway: Gateway, made: Account, body: bytes, path: str, *, pieces: list[bytes], kind: str) -> Call:
    """Leave once the first piece has arrived; the provider goes on slowly to its end."""
    slow = [step for piece in pieces[1:] for step in (Pause(0.02), piece)]
    gateway.upstream.script(events([pieces[0], *slow], content_type=kind))
    sock = gateway.open_raw(path, body, headers=made.headers)
    read_until(sock, pieces[0][:-1])
    sock.close()
    return call_of(made)


def test_who_leaves_in_the_middle_of_speech_pays_for_its_characters(gateway: Gateway) -> None:
    made = gateway.account(rates={"characters": "15"}, limits=DAY)
    body = msgspec.json.encode({"model": made.model.name, "input": "abc", "voice": "alloy"})
    call = leave_after(gateway, made, body, "/v1/audio/speech", pieces=[b"sound " * 9] * 60, kind="audio/mpeg")
    assert (call.outcome, call.error_code, call.cost_usd) == ("cancelled", "client_gone", Decimal("0.000045"))


def test_who_leaves_before_an_image_is_complete_leaves_an_unknown_cost(gateway: Gateway) -> None:
    made = gateway.account(limits=DAY)
    body = msgspec.json.encode({"model": made.model.name, "prompt": "x", "stream": True})
    partial = b'data: {"type": "image_generation.partial_image", "b64_json": "AAAA"}\n\n'
    call = leave_after(
        gateway, made, body, "/v1/images/generations", pieces=[partial] * 60, kind="text/event-stream"
    )
    assert (call.outcome, call.error_code, call.cost_usd) == ("cancelled", "client_gone", None)
    assert call.unpriced_reason
    assert call.counted_usd > 0  # its bound, until somebody knows
