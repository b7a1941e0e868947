"""A Converse body -> the unified request.

The API has the model in its URL; here, as with AWS's own clients, it may stand in the body as `modelId`. Fields without
a place in the unified types are kept under their name in `Request.extra`: this wire puts them back.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta, Raw, Struct

from providers.errors import InvalidRequest
from providers.unified import (
    Json,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Role,
    Tool,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.base import Admitted, json_object
from providers.wire.bedrock_converse import blocks
from providers.wire.bedrock_converse.blocks import NAME, string

_READ = frozenset({"modelId", "stream", "messages", "system", "inferenceConfig", "toolConfig", "drop_unsupported"})
_OWN = frozenset({"modelId", "stream", "drop_unsupported"})
_PATH = re.compile(r" - at `(\$[^`]*)`$")
_SPEC_FIELDS = frozenset({"name", "description", "inputSchema", "strict"})


class _Message(Struct, frozen=True, gc=False):
    role: Literal["user", "assistant", "system"]
    content: list[dict[str, Any]]


class _Inference(Struct, frozen=True, gc=False):
    maxTokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: float | None = None
    topP: float | None = None
    stopSequences: list[str] | None = None


class _ToolConfig(Struct, frozen=True, gc=False):
    tools: list[dict[str, Any]] = []
    toolChoice: dict[str, Any] | None = None


class _Tier(Struct, frozen=True, gc=False):
    type: str = ""


class _Body(Struct, frozen=True, gc=False):
    messages: Annotated[list[_Message], Meta(min_length=1)]
    modelId: str = ""
    stream: bool | None = None
    system: list[dict[str, Any]] | None = None
    inferenceConfig: _Inference | None = None
    toolConfig: _ToolConfig | None = None
    serviceTier: _Tier | None = None
    requestMetadata: dict[str, str] | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


def admit(body: bytes) -> Admitted:
    """Reads a body once by its known fields. Raises InvalidRequest, `param` the JSON path of what is wrong."""
    known = _known(body)
    media: dict[str, int] = {}
    inline = 0
    for message in known.messages:
        for kind, size in map(_media, message.content):
            if kind:
                media[kind] = media.get(kind, 0) + 1
                inline += size
    metadata = dict(known.requestMetadata or {})
    return Admitted(
        model=known.modelId,
        stream=bool(known.stream),
        fields=_FIELDS.decode(body),
        message_count=len(known.messages),
        max_output_tokens=known.inferenceConfig.maxTokens if known.inferenceConfig else None,
        media=media,
        media_bytes=inline,
        server_tools=any("systemTool" in tool for tool in (known.toolConfig or _ToolConfig()).tools),
        service_tier=known.serviceTier.type if known.serviceTier else "",
        user=metadata.pop("user", ""),
        metadata=metadata,
        drop_unsupported=bool(known.drop_unsupported),
    )


def rewrite(admitted: Admitted, *, max_output_tokens: int | None) -> bytes:
    """The client's body without what stands in the URL, its cap lowered to the one given."""
    fields: dict[str, Any] = {name: raw for name, raw in admitted.fields.items() if name not in _OWN}
    own = admitted.max_output_tokens
    if max_output_tokens is not None and (own is None or max_output_tokens < own):
        held = fields.get("inferenceConfig")
        inference = msgspec.json.decode(held) if held is not None else None
        fields["inferenceConfig"] = {**(inference or {}), "maxTokens": max_output_tokens}
    return msgspec.json.encode(fields)


def decode_request(body: bytes) -> Request:
    """Raises InvalidRequest with the JSON path for a body that cannot be read."""
    known = _known(body)
    value = json_object(body)
    extra: Json = {name: item for name, item in value.items() if name not in _READ and item is not None}
    inference = known.inferenceConfig or _Inference()
    config = known.toolConfig or _ToolConfig()
    metadata = dict(extra.pop("requestMetadata", {}))
    extra.pop("serviceTier", None)
    return Request(
        model=known.modelId,
        messages=tuple(_messages(known)),
        stream=bool(known.stream),
        max_output_tokens=inference.maxTokens,
        temperature=inference.temperature,
        top_p=inference.topP,
        stop=tuple(inference.stopSequences or ()),
        tools=_tools(config.tools, extra),
        tool_choice=_tool_choice(config.toolChoice),
        output_format=_output_format(extra),
        reasoning=_reasoning(extra),
        user=metadata.pop("user", ""),
        metadata=metadata,
        service_tier=known.serviceTier.type if known.serviceTier else "",
        extra=extra,
        wire=NAME,
    )


def _known(body: bytes) -> _Body:
    try:
        return _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _refuse(error)


def _refuse(error: Exception) -> NoReturn:
    if not isinstance(error, msgspec.ValidationError):
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param="$") from error
    found = _PATH.search(str(error))
    path = found[1] if found else "$"
    raise InvalidRequest(f"{_PATH.sub('', str(error))}, at {path!r}.", param=path) from error


def _media(block: Json) -> tuple[str, int]:
    """(kind, bytes of base64) of a block of media; ("", 0) for any other."""
    for name, kind in (("image", "image"), ("document", "file"), ("video", "file"), ("audio", "audio")):
        held = block.get(name)
        if isinstance(held, dict):
            source = held.get("source")
            data = source.get("bytes") if isinstance(source, dict) else None
            return kind, len(data) if isinstance(data, str) else 0
    return "", 0


def _messages(known: _Body) -> list[Message]:
    messages = [Message(role="system", parts=tuple(blocks.read_parts(known.system)))] if known.system else []
    for message in known.messages:
        parts = blocks.read_parts(message.content)
        role: Role = message.role
        if parts and all(isinstance(part, ToolResultPart) for part in parts):
            role = "tool"
        messages.append(Message(role=role, parts=tuple[Part, ...](parts)))
    return messages


def _tools(values: list[Json], extra: Json) -> tuple[Tool, ...]:
    """Plain functions; every other tool is kept in `extra`, behind them."""
    tools: list[Tool] = []
    others: list[Json] = []
    for value in values:
        mark = blocks.read_mark(value)
        tool = _tool(value.get("toolSpec")) if len(value) == 1 else None
        if tool is not None:
            tools.append(tool)
        elif mark is not None and tools and not others:
            tools[-1] = msgspec.structs.replace(tools[-1], cache_control=mark)
        else:
            others.append(value)
    if others:
        extra["toolConfig.tools"] = others
    return tuple(tools)


def _tool(spec: Any) -> Tool | None:
    if not isinstance(spec, dict) or spec.keys() - _SPEC_FIELDS or not string(spec.get("name")):
        return None
    schema = spec.get("inputSchema")
    parameters = schema.get("json") if isinstance(schema, dict) else None
    return Tool(
        name=spec["name"],
        description=string(spec.get("description")),
        parameters=parameters if isinstance(parameters, dict) else {},
        strict=spec.get("strict"),
    )


def _tool_choice(choice: Json | None) -> ToolChoice | None:
    match choice:
        case {"auto": _}:
            return ToolChoice(mode="auto")
        case {"any": _}:
            return ToolChoice(mode="required")
        case {"tool": {"name": str(name)}}:
            return ToolChoice(mode="named", name=name)
    return None


def _output_format(extra: Json) -> OutputFormat | None:
    config: Json = extra.get("outputConfig") or {}
    match config:
        case {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": str(text), **named}}}}:
            try:
                schema = json_object(text.encode())
            except ValueError:
                return None
            extra["outputConfig"] = {key: item for key, item in config.items() if key != "textFormat"}
            if not extra["outputConfig"]:
                del extra["outputConfig"]
            return OutputFormat(
                type="json_schema",
                name=string(named.get("name")),
                schema=schema,
                description=string(named.get("description")),
            )
    return None


def _reasoning(extra: Json) -> Reasoning | None:
    config = extra.get("outputConfig")
    effort = config.get("effort") if isinstance(config, dict) else None
    if not isinstance(config, dict) or not string(effort):
        return None
    extra["outputConfig"] = {key: item for key, item in config.items() if key != "effort"}
    if not extra["outputConfig"]:
        del extra["outputConfig"]
    return Reasoning(effort=string(effort))
