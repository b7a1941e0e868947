"""OpenAI's transcriptions and translations of audio: forms in, JSON, text, subtitles or events out.

Usage comes in tokens, in seconds (`usage.seconds`, or `duration` of verbose_json) or not at all: then the header of the
recording says how long it is, which is an estimate of what is billed. OpenRouter also takes JSON with the audio inside.
https://platform.openai.com/docs/api-reference/audio, https://openrouter.ai/docs/guides/overview/multimodal/stt
"""

from __future__ import annotations

import base64
import binascii
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from providers.errors import InvalidRequest
from providers.unified import Usage
from providers.wire import audio_length
from providers.wire.base import Admitted, Verdict
from providers.wire.forms import is_form
from providers.wire.media import EventMeter, FormBody, MediaWire, exact_object, usage_of
from providers.wire.openai_chat import errors
from providers.wire.unstreamed import admitted_fields

# Audio is 10 tokens a second at OpenAI and up to 32 elsewhere. What is written of it is a few words a second, and up to
# 45 tokens where each piece is labelled with its speaker.
INPUT_TOKENS_A_SECOND, OUTPUT_TOKENS_A_SECOND, LEAST_OUTPUT_TOKENS = 33, 50, 2_000
# Fields that name a recording which the provider has or fetches by itself: of unknown size, at Groq 100 MB at most.
_ELSEWHERE = ("url", "file_url", "file_id")
_REMOTE_BYTES = 100_000_000


class _InputAudio(Struct, frozen=True, gc=False):
    data: Annotated[str, Meta(min_length=1)]
    format: str | None = None


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    input_audio: _InputAudio
    stream: bool | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)


class OpenAITranscriptions(MediaWire):
    """`operation` says which of the two endpoints."""

    def __init__(self, *, operation: Literal["transcriptions", "translations"]) -> None:
        self.name = f"openai_{operation}"
        self.operation: Literal["transcriptions", "translations"] = operation

    def admit(self, body: bytes) -> Admitted:
        """Raises InvalidRequest, `param` the field or the JSON path of what is wrong."""
        return self._form(body) if is_form(body) else self._json(body)

    def read_usage_as_asked(self, body: bytes, *, admitted: Admitted) -> tuple[Usage, str]:
        """Never MalformedAnswer: an answer may be any text."""
        value = exact_object(body)
        if value is None:
            return _unreported(admitted), ""
        if value.get("error"):
            raise errors.error_from(value, status=None)
        model = value.get("model")
        return _usage(value, admitted), model if isinstance(model, str) else ""

    def stream_meter(self, *, admitted: Admitted) -> TranscriptMeter:
        return TranscriptMeter(admitted)

    def _form(self, body: bytes) -> Admitted:
        asked = FormBody(body)
        files = asked.files("file")
        elsewhere = any(asked.text(name) for name in _ELSEWHERE)
        if len(files) > 1 or (not files and not elsewhere):
            raise InvalidRequest(f"The form needs one file 'file', and has {len(files)}.", param="file")
        size_s = audio_length.bytes_bound_s(_REMOTE_BYTES)
        if files:
            size_s = audio_length.bound_s(asked.form.content(files[0]))
        return Admitted(
            model=asked.model,
            stream=asked.flag("stream"),
            fields=asked.fields(),
            form=asked.form,
            user=asked.text("user"),
            operation=self.operation,
            **_bounds(size_s, text_bytes=asked.text_bytes()),
        )

    def _json(self, body: bytes) -> Admitted:
        if not body.lstrip()[:1] == b"{":
            raise InvalidRequest("Send the audio as a form: Content-Type multipart/form-data.", param="file")
        known, fields = admitted_fields(body, _BODY)
        data = known.input_audio.data
        try:
            size_s = audio_length.bound_s(base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            path = "$.input_audio.data"
            raise InvalidRequest(f"The audio is not base64, at {path!r}.", param=path) from None
        return Admitted(
            model=known.model,
            stream=bool(known.stream),
            fields=fields,
            user=known.user or "",
            metadata=known.metadata or {},
            drop_unsupported=bool(known.drop_unsupported),
            operation=self.operation,
            **_bounds(size_s, text_bytes=len(body) - len(data)),
        )


class TranscriptMeter(EventMeter):
    """`transcript.text.done` (Mistral: `transcription.done`) has the usage; [DONE] may follow it."""

    def __init__(self, admitted: Admitted) -> None:
        super().__init__()
        self._admitted = admitted

    def _read(self, kind: str, value: dict[str, Any]) -> Verdict:
        if kind not in ("transcript.text.done", "transcription.done"):
            return "forward"
        self.usage = _usage(value, self._admitted)
        self.complete = True
        return "hold"


def _bounds(size_s: int, *, text_bytes: int) -> dict[str, Any]:
    return {
        "fees": {"audio_seconds": size_s},
        "input_bound": text_bytes + INPUT_TOKENS_A_SECOND * size_s,
        "max_output_tokens": LEAST_OUTPUT_TOKENS + OUTPUT_TOKENS_A_SECOND * size_s,
    }


def _usage(value: dict[str, Any], admitted: Admitted) -> Usage:
    """What an answer or its last event tells: tokens, seconds, or both; the seconds then stand beside the tokens."""
    told = value.get("usage")
    stated = told if isinstance(told, dict) else {}
    seconds = _seconds(stated.get("seconds")) or _seconds(stated.get("prompt_audio_seconds"))
    seconds = seconds or _seconds(value.get("duration"))
    usage = usage_of(told, counted={"audio_seconds": seconds} if seconds is not None else None)
    if usage.totals:
        return usage
    if seconds is None:
        unreported = _unreported(admitted)
        return msgspec.structs.replace(
            unreported, raw=usage.raw, flags=usage.flags, stated_cost_usd=usage.stated_cost_usd
        )
    return msgspec.structs.replace(usage, totals={"audio_seconds": seconds}, counted=None)


def _unreported(admitted: Admitted) -> Usage:
    """The length by the recording's own header; nothing where that does not say."""
    data = admitted.form.file("file") if admitted.form is not None else None
    seconds = audio_length.stated_s(data) if data else None
    return Usage(counted={"audio_seconds": seconds}, source="estimated") if seconds is not None else Usage()


def _seconds(value: Any) -> Decimal | None:
    """A length in seconds as JSON or, in some answers, a text has it; None for none, zero and what is no length."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        seconds = Decimal(value)
    except InvalidOperation:
        return None
    if not seconds.is_finite() or not 0 < seconds <= audio_length.MOST_S:
        return None
    exponent = seconds.as_tuple().exponent
    return round(seconds, 9) if isinstance(exponent, int) and exponent < -9 else seconds


TRANSCRIPTIONS = OpenAITranscriptions(operation="transcriptions")
TRANSLATIONS = OpenAITranscriptions(operation="translations")
