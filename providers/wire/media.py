"""What the wires of images, transcriptions and speech have in common: they pass through, and answer in their own types.

Such a body is JSON or a form, such an answer JSON, text, events or the bytes of a file. There is one wire for each, so
nothing is translated. What was used is told by the answer and the request together: many answers say nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from providers import sse
from providers.counts import Counts, decode_exact
from providers.errors import InvalidRequest, Unsupported
from providers.sse import ServerEvent
from providers.unified import Answer, Request, Usage
from providers.wire import forms
from providers.wire.base import Admitted, Operation, StreamMeter, Verdict
from providers.wire.openai_chat import errors
from providers.wire.openai_chat.usage import stated_cost
from providers.wire.unstreamed import Unstreamed, raw

# The operations whose answers take their time, and whose bodies and answers need not be JSON.
MEDIA: frozenset[Operation] = frozenset({"images", "image_edits", "transcriptions", "translations", "speech"})
DONE = b"[DONE]"


class MediaWire(Unstreamed):
    """The codec of `providers.wire.base.Wire` for one operation; both its sides are OpenAI's.

    `content_type` is empty: an answer keeps that of the provider.
    """

    name: str
    content_type = ""

    def read_usage_as_asked(self, body: bytes, *, admitted: Admitted) -> tuple[Usage, str]:
        """Usage and served model of the answer to `admitted`. Raises the provider's error where a 200 holds one."""
        raise NotImplementedError

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return self.read_usage_as_asked(body, admitted=Admitted(model="", stream=False, fields={}))

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        """The client's body with the upstream model; every other part or field as it came."""
        if admitted.form is not None:
            return admitted.form.with_field("model", model)
        fields = dict(admitted.fields)
        fields.pop("drop_unsupported", None)
        fields["model"] = raw(model)
        return msgspec.json.encode(fields)

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        return sse.encode(
            data=self.encode_error(status=status, code=code, message=message, request_id=request_id, call_id=call_id)
        )

    def decode_request(self, body: bytes) -> Request:
        self._no_translation()

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        self._no_translation()

    def decode_answer(self, body: bytes) -> Answer:
        self._no_translation()

    def encode_answer(self, answer: Answer) -> bytes:
        self._no_translation()

    def _no_translation(self) -> NoReturn:
        raise Unsupported(f"{self.name!r} is not translated: use a model of a provider that has it.", param="model")


# --- requests ---------------------------------------------------------------------------------------------


class FormBody:
    """A form as admission reads it: its single texts by name, each checked, and its files."""

    def __init__(self, body: bytes) -> None:
        self.form = forms.parse(body)
        self.texts = self.form.texts()
        self.model = self.text("model")
        if not self.model or any(part.name == "model" for part in self.form.files()):
            raise InvalidRequest("The form needs one field 'model' with the name of a model.", param="model")

    def text(self, name: str) -> str:
        return forms.single(self.texts, name).strip()

    def flag(self, name: str) -> bool:
        word = self.text(name).lower()
        if word not in ("", "true", "false", "1", "0"):
            raise InvalidRequest(f"The field {name!r} is true or false, not {word[:40]!r}.", param=name)
        return word in ("true", "1")

    def number(self, name: str, *, least: int, most: int) -> int | None:
        word = self.text(name)
        if not word:
            return None
        if not (word.isascii() and word.isdigit() and len(word) < 10 and least <= int(word) <= most):
            raise InvalidRequest(
                f"The field {name!r} is a whole number from {least} to {most}, not {word[:40]!r}.", param=name
            )
        return int(word)

    def files(self, *names: str) -> list[forms.Part]:
        """The files in the fields of these names. Raises InvalidRequest for an empty one."""
        found = [part for part in self.form.files() if part.name in names]
        for part in found:
            if part.start == part.end:
                raise InvalidRequest(f"The file {part.name!r} is empty.", param=part.name)
        return found

    def fields(self) -> dict[str, msgspec.Raw]:
        return {name: raw(values[0] if len(values) == 1 else values) for name, values in self.texts.items()}

    def text_bytes(self) -> int:
        return sum(len(text.encode()) for texts in self.texts.values() for text in texts)


# --- usage ------------------------------------------------------------------------------------------------

# meter -> where its count stands. Parts of the input and of the output; the first usable one counts.
Paths = tuple[tuple[str, ...], ...]
_DETAILS = ("input_tokens_details", "input_token_details", "prompt_tokens_details")
_PARTS: dict[str, Paths] = {
    "cache_read": (*((details, "cached_tokens") for details in _DETAILS), ("cached_tokens",)),
    "cache_read_image": (
        *((details, "cached_tokens_details", "image_tokens") for details in _DETAILS),
        ("cached_tokens_details", "cached_image_tokens"),
    ),
    "cache_read_audio": tuple((details, "cached_tokens_details", "audio_tokens") for details in _DETAILS),
    "input_image": tuple((details, "image_tokens") for details in _DETAILS),
    "input_audio": tuple((details, "audio_tokens") for details in _DETAILS),
    "output_image": (("output_tokens_details", "image_tokens"),),
    "output_audio": (("output_tokens_details", "audio_tokens"),),
}


def exact_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body with exact fractions; None for anything else."""
    try:
        value = decode_exact(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def usage_of(
    told: Any, *, counted: dict[str, int | Decimal] | None = None, variant: str = "", flags: tuple[str, ...] = ()
) -> Usage:
    """Usage from a usage object with token counts, or from what the gateway counted where it has none.

    One side alone is not enough: half a usage would be half a price.
    """
    counts = Counts(told)
    totals = _tokens(counts)
    return Usage(
        totals=totals,
        source="reported" if totals or counted else "none",
        raw=told if isinstance(told, dict) else None,
        flags=(*counts.flags, *flags),
        variant=variant,
        stated_cost_usd=stated_cost(counts.raw),
        counted=counted or None,
    )


def _tokens(counts: Counts) -> dict[str, int | Decimal]:
    read = counts.first(("input_tokens",), ("prompt_tokens",))
    written = counts.first(("output_tokens",), ("completion_tokens",))
    total = counts.get("total_tokens")
    if read is None and written is not None and total is not None and total >= written:
        read = total - written
    if written is None and read is not None and total is not None and total >= read:
        written = total - read
    if read is None or written is None or not (read or written):
        return {}
    totals: dict[str, int | Decimal] = {"input": read, "output": written}
    beyond = (total or 0) - read - written
    if beyond > 0 and counts.raw.get("prompt_audio_seconds") is not None:
        # Mistral's tokens of audio stand in the total only.
        totals |= {"input": read + beyond, "input_audio": beyond}
    for meter, paths in _PARTS.items():
        whole = written if meter.startswith("output") else read
        part = counts.within(counts.first(*paths) or 0, whole, meter)
        if part and meter not in totals:
            totals[meter] = part
    return totals


# --- streams ----------------------------------------------------------------------------------------------


class EventMeter:
    """Watches a stream of JSON events; a wire's own says in `_read` what an event tells. See StreamMeter."""

    def __init__(self) -> None:
        self.usage = Usage()
        self.complete = False
        self.output_bytes = 0
        self.model = ""

    def see(self, event: ServerEvent) -> Verdict:
        """Raises the provider's error where an event is one."""
        if not event.data:
            return "forward"
        if event.data == DONE:
            self.complete = True
            return "last"
        value = exact_object(event.data)
        if value is None:
            return "forward"
        kind = value.get("type") or event.event
        if kind == "error" or value.get("error"):
            raise errors.error_from(value, status=None)
        return self._read(str(kind), value)

    def _read(self, kind: str, value: dict[str, Any]) -> Verdict:
        raise NotImplementedError


class FileMeter:
    """Watches the bytes of a file, of which nothing but the end tells anything; the usage was known before."""

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self.complete = False
        self.output_bytes = 0
        self.model = ""

    def see(self, event: ServerEvent) -> Verdict:
        self.complete = event.event == "end"
        return "last" if self.complete else "forward"


class FileDecoder:
    """The bytes of a file as they come, but for the last one, which ends the answer: a StreamDecoder."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        if not chunk:
            return []
        data = self._kept + chunk[:-1]
        self._kept = chunk[-1:]
        return [ServerEvent(event="", data=b"", raw=data)] if data else []

    def end(self) -> list[ServerEvent]:
        kept, self._kept = self._kept, b""
        return [ServerEvent(event="end", data=b"", raw=kept)]


_METER: type[StreamMeter] = EventMeter  # the type checker looks whether both keep to the protocol
_FILE_METER: type[StreamMeter] = FileMeter
