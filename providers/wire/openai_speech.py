"""OpenAI's speech: POST /v1/audio/speech, JSON in, the bytes of an audio file or events out.

Only events tell tokens. The characters of the input are counted here, which is how the other models are priced.
https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from providers.unified import Usage
from providers.wire.base import Admitted, StreamMeter, Verdict
from providers.wire.media import EventMeter, FileMeter, MediaWire, exact_object, usage_of
from providers.wire.openai_chat import errors
from providers.wire.unstreamed import admitted_fields

# A second of speech is 21 tokens and four characters at least, be it Chinese; slower speech takes longer.
TOKENS_A_CHARACTER, LEAST_OUTPUT_TOKENS = 10, 500


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    input: Annotated[str, Meta(min_length=1)]
    voice: str | dict[str, Any] | None = None
    response_format: str | None = None
    stream_format: str | None = None
    speed: Annotated[float, Meta(gt=0, le=100)] | None = None
    instructions: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)


class OpenAISpeech(MediaWire):
    name = "openai_speech"

    def admit(self, body: bytes) -> Admitted:
        """Raises InvalidRequest, `param` the JSON path of what is wrong."""
        known, fields = admitted_fields(body, _BODY)
        characters = len(known.input)
        slower = max(1.0, 1 / known.speed) if known.speed else 1.0
        return Admitted(
            model=known.model,
            # Audio is relayed as it comes, too: it can be heard before it is whole.
            stream=True,
            raw_stream=(known.stream_format or "audio") != "sse",
            fields=fields,
            user=known.user or "",
            metadata=known.metadata or {},
            drop_unsupported=bool(known.drop_unsupported),
            operation="speech",
            fees={"characters": characters},
            input_bound=len(body),
            max_output_tokens=LEAST_OUTPUT_TOKENS + int(TOKENS_A_CHARACTER * characters * min(slower, 100.0)),
        )

    def read_usage_as_asked(self, body: bytes, *, admitted: Admitted) -> tuple[Usage, str]:
        value = exact_object(body) or {}
        if value.get("error"):
            raise errors.error_from(value, status=None)
        return _usage(value, admitted), ""

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter:
        return FileMeter(_usage({}, admitted)) if admitted.raw_stream else SpeechMeter(admitted)


class SpeechMeter(EventMeter):
    """`speech.audio.done` has the usage and is the last event."""

    def __init__(self, admitted: Admitted) -> None:
        super().__init__()
        self._admitted = admitted
        self.usage = _usage({}, admitted)

    def _read(self, kind: str, value: dict[str, Any]) -> Verdict:
        if kind != "speech.audio.done":
            return "forward"
        self.usage = _usage(value, self._admitted)
        self.complete = True
        return "hold"


def _usage(value: dict[str, Any], admitted: Admitted) -> Usage:
    """The tokens that an answer tells, all written ones being audio, and the characters that the request had."""
    characters = admitted.fees.get("characters", 0)
    usage = usage_of(value.get("usage"), counted={"characters": characters} if characters else None)
    if usage.totals and "output_audio" not in usage.totals:
        usage = msgspec.structs.replace(usage, totals={**usage.totals, "output_audio": usage.totals["output"]})
    return usage


WIRE = OpenAISpeech()
