"""What admission must know of a client's body, and the body that goes upstream when nothing is translated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Raw, Struct

from providers.errors import InvalidRequest
from providers.unified import Json
from providers.wire import unread
from providers.wire.base import Admitted
from providers.wire.gemini.names import camel, dumps, obj, objects, string

# Fields that a surface puts in from the path and the query, and the gateway's own: none of them goes upstream.
OWN_FIELDS = frozenset({"model", "stream", "drop_unsupported", "dropUnsupported"})

_BODY = msgspec.json.Decoder(Json)
_JSON = msgspec.json.Decoder()
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PATH = re.compile(r" - at `(\$[^`]*)`$")
# Google's own clients send what a function returned under "tool", too.
_ROLES = frozenset({"user", "model", "function", "tool"})
_CLIENT_TOOLS = frozenset({"functionDeclarations"})
_MAX_CAP, _MAX_CANDIDATES = 2**31 - 1, 128
_ABSENT = Raw()


class _Part(Struct, frozen=True, gc=False):
    """Where a part may hold media; its text is stepped over."""

    text: Raw = _ABSENT
    inline_data: Raw = _ABSENT
    file_data: Raw = _ABSENT
    function_response: Raw = _ABSENT
    inlineData: Raw = _ABSENT  # the wire's other spelling
    fileData: Raw = _ABSENT
    functionResponse: Raw = _ABSENT

    @property
    def holds_media(self) -> bool:
        """Whether any field but the text was given: all absent ones are one object."""
        return not (
            self.inline_data is self.inlineData is self.file_data is self.fileData
            is self.function_response is self.functionResponse
        )  # fmt: skip

    def media(self) -> Json:
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "text"}
        return {name: _JSON.decode(raw) for name, raw in given.items() if raw is not _ABSENT}


class _Content(Struct, frozen=True, gc=False):
    role: Literal["user", "model", "function", "tool"] = "user"
    parts: list[_Part] = []


class _Unread(Struct, frozen=True, gc=False):
    contents: Annotated[list[_Content], Meta(min_length=1)]


# What is wrong is told by `parsed`, which reads all; this one is several times as fast.
_UNREAD = msgspec.json.Decoder(_Unread)


def placed(body: bytes, *, model: str, stream: bool) -> bytes:
    """A client's body with what its path said: the model, and whether the answer streams. All else stays as it came.

    Raises InvalidRequest for a body that is no JSON object.
    """
    try:
        fields: dict[str, Any] = _FIELDS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(error)
    return dumps(fields | {"model": model, "stream": stream})


def object_of(body: bytes) -> Json:
    """The JSON object in a body, its top-level names in camelCase. Raises InvalidRequest."""
    try:
        return camel(_BODY.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse(error)


def parsed(body: bytes) -> Json:
    """The body as an object with its top-level names in camelCase. Raises InvalidRequest with the path of a fault."""
    value = object_of(body)
    contents = value.get("contents")
    if not isinstance(contents, list) or not contents:
        _wrong("$.contents", "a list of at least one content is needed")
    for index, content in enumerate(contents):
        path = f"$.contents[{index}]"
        if not isinstance(content, dict):
            _wrong(path, "an object is needed")
        role = content.get("role", "user")
        if not isinstance(role, str) or role not in _ROLES:
            _wrong(f"{path}.role", f"use 'user' or 'model', not {role!r}")
        parts = content.get("parts", [])
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            _wrong(f"{path}.parts", "a list of objects is needed")
    _check_settings(value)
    return value


def _check_settings(value: Json) -> None:
    """Raises InvalidRequest for a field beside `contents` that is of a wrong type."""
    for name in ("generationConfig", "toolConfig"):
        if not isinstance(value.get(name, {}), dict):
            _wrong(f"$.{name}", "an object is needed")
    if not isinstance(value.get("systemInstruction", {}), dict | str):
        _wrong("$.systemInstruction", "a content is needed: {\"parts\": [{\"text\": ...}]}")
    tools = value.get("tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        _wrong("$.tools", "a list of objects is needed")


class _Config(Struct, rename="camel", gc=False):
    """The settings that every provider has a word for. JSON of a proto may write numbers as text."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None
    candidate_count: int | None = None
    stop_sequences: list[str] | None = None


def checked_config(value: Json) -> Json:
    """`generationConfig` of a parsed body, its usual settings of the right type. Raises InvalidRequest."""
    config = obj(value.get("generationConfig"))
    try:
        known = msgspec.convert(config, _Config, strict=False)
    except msgspec.ValidationError as error:
        found = _PATH.search(str(error))
        path = f"$.generationConfig{found[1][1:] if found else ''}"
        raise InvalidRequest(f"{path}: {_PATH.sub('', str(error))}.", param=path) from error
    right = msgspec.to_builtins(known)
    return {name: right.get(name, item) for name, item in config.items()}


def admit(body: bytes) -> Admitted:
    """Reads a client's body. Raises InvalidRequest whose param is the JSON path of what is wrong."""
    try:
        contents = _UNREAD.decode(body).contents
        fields = unread.fields(body, "contents", first=_text(contents[0], 0), last=_text(contents[-1], -1))
        value = camel({name: _JSON.decode(raw) for name, raw in fields.items() if name != "contents"})
        media, media_bytes = _media(contents)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        parsed(body)
        refuse(error)
    _check_settings(value)
    model = value.get("model")
    if not isinstance(model, str) or not model:
        _wrong("$.model", "the name of a model is needed")
    config = obj(value.get("generationConfig"))
    return Admitted(
        model=model.removeprefix("models/"),
        stream=value.get("stream") is True,
        fields=fields,
        message_count=len(contents),
        max_output_tokens=_positive(config, "maxOutputTokens", most=_MAX_CAP),
        n=_positive(config, "candidateCount", most=_MAX_CANDIDATES) or 1,
        media=media,
        media_bytes=media_bytes,
        server_tools=any(tool.keys() - _CLIENT_TOOLS for tool in objects(value.get("tools"))),
        service_tier=string(value.get("serviceTier")).lower(),
        metadata={name: item for name, item in obj(value.get("labels")).items() if isinstance(item, str)},
        drop_unsupported=value.get("dropUnsupported") is True,
    )


def _text(content: _Content, index: int) -> Raw:
    return content.parts[index].text if content.parts else _ABSENT


def _media(contents: list[_Content]) -> tuple[dict[str, int], int]:
    """`media_of` contents whose texts were not read."""
    holding = [part for content in contents for part in content.parts if part.holds_media]
    return media_of([{"parts": [part.media() for part in holding]}]) if holding else ({}, 0)


def rewrite(admitted: Admitted, *, max_output_tokens: int | None = None) -> bytes:
    """The client's body without the fields that are not Google's, and with the cap where it is lower."""
    fields: dict[str, Any] = {name: raw for name, raw in admitted.fields.items() if name not in OWN_FIELDS}
    own = admitted.max_output_tokens
    if max_output_tokens is not None and (own is None or max_output_tokens < own):
        name = "generation_config" if "generation_config" in fields else "generationConfig"
        config = msgspec.json.decode(fields[name], type=dict[str, msgspec.Raw] | None) if name in fields else {}
        kept: dict[str, Any] = {key: raw for key, raw in (config or {}).items() if key != "max_output_tokens"}
        fields[name] = kept | {"maxOutputTokens": max_output_tokens}
    return dumps(fields)


def refuse(error: msgspec.DecodeError | UnicodeDecodeError | RecursionError) -> NoReturn:
    """Raises what msgspec found wrong with a body as InvalidRequest, with the path of the field as its param."""
    if isinstance(error, RecursionError):
        raise InvalidRequest("The request body is nested too deep.", param="$") from error
    found = _PATH.search(str(error))
    path = found[1] if found else "$"
    raise InvalidRequest(f"The request body cannot be read: {_PATH.sub('', str(error))}.", param=path) from error


def _wrong(path: str, why: str) -> NoReturn:
    raise InvalidRequest(f"{path}: {why}.", param=path)


def _positive(config: Json, name: str, *, most: int) -> int | None:
    value = config.get(name)
    if value is None:
        return None
    if isinstance(value, str) and value.isdecimal():
        value = int(value)  # JSON of a proto may write numbers as text
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        _wrong(f"$.generationConfig.{name}", f"a whole number from 1 to {most} is needed, not {value!r}")
    return value


def media_of(contents: list[Json]) -> tuple[dict[str, int], int]:
    """(kind -> how many, bytes of inline base64). Text that is sent as a file is text, not media."""
    media: dict[str, int] = {}
    inline = 0
    for part in _all_parts(contents):
        blob, file = obj(part.get("inlineData")), obj(part.get("fileData"))
        media_type = string((blob or file).get("mimeType"))
        if not (blob or file) or media_type.startswith("text/"):
            continue
        kind = media_type.partition("/")[0]
        kind = kind if kind in ("image", "audio") else "file"
        media[kind] = media.get(kind, 0) + 1
        inline += len(string(blob.get("data")))
    return media, inline


def _all_parts(contents: list[Json]) -> Iterator[Json]:
    """The parts of contents, and those within function responses."""
    for content in contents:
        for part in objects(content.get("parts")):
            yield part
            yield from objects(obj(part.get("functionResponse")).get("parts"))
