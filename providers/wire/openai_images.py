"""OpenAI's images: POST /v1/images/generations (JSON) and /v1/images/edits (a form, or JSON as xAI and OpenAI take it).

Usage comes in tokens (gpt-image), as a stated cost (xAI) or not at all (dall-e): then the images are counted in the
answer, and priced by what was made, the variant "quality-size".
https://platform.openai.com/docs/api-reference/images, https://docs.x.ai/developers/model-capabilities/images/generation
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from providers.errors import InvalidRequest
from providers.unified import Json, Usage
from providers.wire.base import Admitted, Verdict
from providers.wire.forms import is_form
from providers.wire.media import EventMeter, FormBody, MediaWire, exact_object, usage_of
from providers.wire.unstreamed import admitted_fields, answer_object

MAX_IMAGES, MAX_PARTIAL, MAX_FRAMES = 128, 10, 256
# What an API makes where neither the request nor the answer says: OpenAI's for the models whose answers are silent.
USUAL_QUALITY, USUAL_SIZE = "standard", "1024x1024"

# Output tokens of one image at most, by quality, up to 1536x1024; more pixels take more in proportion. gpt-image takes
# up to 400, 1,584 and 6,240 of image (https://platform.openai.com/docs/guides/image-generation), recorded ones up to
# 262 of text beside them. Above "high" nothing is published: four times as many.
_OUTPUT_TOKENS: Mapping[str, int] = {"low": 1_000, "medium": 3_000, "xhigh": 32_000, "max": 32_000}
_USUAL_OUTPUT_TOKENS = 8_000
_USUAL_PIXELS = 1536 * 1024
# A partial image is 100 tokens; an image that is read in full detail 6,240 and the tiles of its preview.
PARTIAL_TOKENS, INPUT_IMAGE_TOKENS = 200, 8_000

_WORD = re.compile(r"[a-z0-9][a-z0-9._:]{0,30}")
_PIXELS = re.compile(r"(\d{1,5})x(\d{1,5})")
_FORM_IMAGES = ("image", "image[]", "images", "images[]")
# Fields of a form that are numbers or flags in JSON.
_TYPED = ("n", "partial_images", "output_compression", "frame_count", "frame_duration_ms", "seed", "stream")


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    prompt: Annotated[str, Meta(min_length=1)]
    n: Annotated[int, Meta(ge=1, le=MAX_IMAGES)] | None = None
    size: str | None = None
    quality: str | None = None
    resolution: str | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Meta(ge=0, le=MAX_PARTIAL)] | None = None
    frame_count: Annotated[int, Meta(ge=1, le=MAX_FRAMES)] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    drop_unsupported: bool | None = None
    image: str | dict[str, Any] | list[str | dict[str, Any]] | None = None
    images: list[str | dict[str, Any]] | None = None


_BODY = msgspec.json.Decoder(_Body)


class OpenAIImages(MediaWire):
    """`edits`: the wire of edits, whose requests hold images. `json_edits`: a server that takes no forms."""

    def __init__(self, *, edits: bool = False, json_edits: bool = False) -> None:
        self.name = "openai_image_edits" if edits else "openai_images"
        self.edits = edits
        self.json_edits = json_edits

    def admit(self, body: bytes) -> Admitted:
        """Raises InvalidRequest, `param` the field or the JSON path of what is wrong."""
        if self.edits and is_form(body):
            return _admitted_form(body)
        known, fields = admitted_fields(body, _BODY)
        images = _input_images(known)
        if self.edits and not images:
            raise InvalidRequest("An edit needs an image, at '$.images'.", param="$.images")
        media_bytes = sum(len(bytes(fields[name])) for name in ("image", "images", "mask") if name in fields)
        return Admitted(
            model=known.model,
            stream=bool(known.stream),
            fields=fields,
            user=known.user or "",
            metadata=known.metadata or {},
            drop_unsupported=bool(known.drop_unsupported),
            **_bounds(known, input_images=images, text_bytes=len(body) - media_bytes, edits=self.edits),
        )

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        if self.json_edits and admitted.form is not None:
            return _as_json(admitted, model=model)
        return super().rewrite(admitted, model=model)

    def read_usage_as_asked(self, body: bytes, *, admitted: Admitted) -> tuple[Usage, str]:
        value = answer_object(body)
        entries = value.get("data")
        made = sum(isinstance(entry, dict) for entry in entries) if isinstance(entries, list) else 0
        usage = usage_of(
            (exact_object(body) or {}).get("usage"),
            counted=_counted(made, admitted),
            variant=_variant_made(value, admitted),
            flags=("unmetered:svg_usage",) if value.get("svg_usage") else (),
        )
        model = value.get("model")
        return usage, model if isinstance(model, str) else ""

    def stream_meter(self, *, admitted: Admitted) -> ImageMeter:
        return ImageMeter(admitted)


class ImageMeter(EventMeter):
    """Each image is completed by an event of its own, with the usage of that image; partial ones come before it."""

    def __init__(self, admitted: Admitted) -> None:
        super().__init__()
        self._admitted = admitted
        self._made = 0
        self._told: list[Any] = []

    def _read(self, kind: str, value: dict[str, Any]) -> Verdict:
        if not kind.endswith(".completed"):
            return "forward"
        self._made += 1
        self._told.append(value.get("usage"))
        self.usage = _as_images(
            usage_of(
                _sum(self._told),
                counted=_counted(self._made, self._admitted),
                variant=_variant_made(value, self._admitted),
            )
        )
        self.complete = True
        return "hold" if self._made >= self._admitted.n else "forward"


# --- requests ---------------------------------------------------------------------------------------------


def _admitted_form(body: bytes) -> Admitted:
    asked = FormBody(body)
    images = asked.files(*_FORM_IMAGES)
    if not images:
        raise InvalidRequest("The form needs a file 'image'.", param="image")
    asked.files("mask")
    if not asked.text("prompt"):
        raise InvalidRequest("The form needs a field 'prompt'.", param="prompt")
    known = _Body(
        model=asked.model,
        prompt=asked.text("prompt"),
        n=asked.number("n", least=1, most=MAX_IMAGES),
        size=asked.text("size"),
        quality=asked.text("quality"),
        resolution=asked.text("resolution"),
        partial_images=asked.number("partial_images", least=0, most=MAX_PARTIAL),
        frame_count=asked.number("frame_count", least=1, most=MAX_FRAMES),
    )
    return Admitted(
        model=asked.model,
        stream=asked.flag("stream"),
        fields=asked.fields(),
        form=asked.form,
        user=asked.text("user"),
        **_bounds(known, input_images=len(images), text_bytes=asked.text_bytes(), edits=True),
    )


def _bounds(known: _Body, *, input_images: int, text_bytes: int, edits: bool) -> dict[str, Any]:
    """What a request may use at most; a mask is read like one more image."""
    n = known.n or 1
    fees = {"images": n} | ({"input_images": input_images} if input_images else {})
    tokens = _output_tokens(_word(known.quality), _word(known.size)) * (known.frame_count or 1)
    return {
        "operation": "image_edits" if edits else "images",
        "n": n,
        "fees": fees,
        "variant": _variant_asked(known),
        "input_bound": text_bytes + INPUT_IMAGE_TOKENS * (input_images + 1 if input_images else 0),
        "max_output_tokens": tokens + PARTIAL_TOKENS * (known.partial_images or 0),
    }


def _output_tokens(quality: str, size: str) -> int:
    tokens = _OUTPUT_TOKENS.get(quality, _USUAL_OUTPUT_TOKENS)
    found = _PIXELS.fullmatch(size)
    pixels = int(found[1]) * int(found[2]) if found else 0
    return max(tokens, -(-tokens * pixels // _USUAL_PIXELS))


def _input_images(known: _Body) -> int:
    """How many images a request holds: one in `image`, or as many as the list has."""
    if known.images is not None:
        return len(known.images)
    if isinstance(known.image, list):
        return len(known.image)
    return int(bool(known.image))


def _as_json(admitted: Admitted, *, model: str) -> bytes:
    """A form as the JSON of a server that takes no forms; images become data URLs."""
    form = admitted.form
    assert form is not None
    body: Json = {name: _typed(name, json.loads(bytes(value))) for name, value in admitted.fields.items()}
    images = [part for part in form.files() if part.name in _FORM_IMAGES]
    for part in form.files():
        url = f"data:{part.content_type or 'image/png'};base64,{base64.b64encode(form.content(part)).decode()}"
        if part in images:
            body.setdefault("images", []).append({"type": "image_url", "url": url})
        else:
            body[part.name] = {"type": "image_url", "url": url}
    return msgspec.json.encode(body | {"model": model})


def _typed(name: str, value: Any) -> Any:
    """A field's text as the number or the flag that JSON has for it, where it is one."""
    if name not in _TYPED or not isinstance(value, str):
        return value
    try:
        return json.loads(value.strip().lower())
    except ValueError:
        return value


# --- variants ---------------------------------------------------------------------------------------------


def variant_of(*, quality: str, size: str) -> str:
    """The one text for what is made: "hd-1024x1792", both words in lower case; unsaid ones as OpenAI means them."""
    return f"{quality or USUAL_QUALITY}-{size or USUAL_SIZE}"


def _variant_asked(known: _Body) -> str:
    """The variant where the request leaves no choice; '' where the provider chooses."""
    quality, size = _word(known.quality), _word(known.size) or _word(known.resolution)
    return variant_of(quality=quality, size=size) if quality and size else ""


def _variant_made(value: Json, admitted: Admitted) -> str:
    """What the answer says was made; where it is silent, what was asked for."""
    asked = {name: _asked_word(admitted, name) for name in ("quality", "size", "resolution")}
    return variant_of(
        quality=_word(value.get("quality")) or asked["quality"],
        size=_word(value.get("size")) or asked["size"] or asked["resolution"],
    )


def _asked_word(admitted: Admitted, name: str) -> str:
    stated = admitted.fields.get(name)
    return _word(msgspec.json.decode(stated)) if stated is not None else ""


def _word(value: Any) -> str:
    """A quality or a size; '' for none, for "auto" and for what no sheet would write."""
    word = value.strip().lower() if isinstance(value, str) else ""
    return word if word != "auto" and _WORD.fullmatch(word) else ""


# --- usage ------------------------------------------------------------------------------------------------


def _counted(made: int, admitted: Admitted) -> dict[str, int | Decimal]:
    """Images in the answer, and those that it was made from; nothing where nothing was made."""
    if not made:
        return {}
    read = admitted.fees.get("input_images", 0)
    return {"images": made, "input_images": read} if read else {"images": made}


def _as_images(usage: Usage) -> Usage:
    """The events of a stream tell no text from images: what was written is images then, which cost more."""
    written = usage.totals.get("output")
    if not written or (usage.raw or {}).get("output_tokens_details"):
        return usage
    return msgspec.structs.replace(
        usage, totals={**usage.totals, "output_image": written}, flags=(*usage.flags, "derived:output_image")
    )


def _sum(told: list[Any]) -> Any:
    """The usage of several images as one object: numbers add up, whatever level they stand at."""
    if len(told) == 1:
        return told[0]
    if all(isinstance(each, dict) for each in told):
        names = dict.fromkeys(name for each in told for name in each)
        return {name: _sum([each[name] for each in told if name in each]) for name in names}
    if all(isinstance(each, int | Decimal) and not isinstance(each, bool) for each in told):
        return sum(told)
    return told[-1]


GENERATIONS = OpenAIImages()
EDITS = OpenAIImages(edits=True)
