"""A client's body -> the unified request.

Where the two differ: `system` becomes a system message in front; each tool result becomes a message of role "tool",
because it stands in a user message only on this wire. Fields with no place in the unified request, also parts of
fields (`display` of `thinking`, a server tool among `tools`), are kept in `extra` under the field's name.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from providers.unified import (
    Json,
    Message,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    Role,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.anthropic_messages.admission import OWN_FIELDS, refuse
from providers.wire.anthropic_messages.blocks import NAME, read_block

_T = TypeVar("_T")

# This wire's word -> the word the unified request uses for it.
SERVICE_TIERS = {"standard_only": "default"}
_TOOL_FIELDS = frozenset({"type", "name", "description", "input_schema", "strict", "cache_control"})


class _Message(Struct):
    role: Role
    content: str | list[Json]


class _Tool(Struct):
    name: str
    input_schema: Json
    description: str = ""
    strict: bool | None = None
    cache_control: Json | None = None


class _Body(Struct):
    model: str
    messages: list[Json]
    max_tokens: int | None = None
    system: str | list[Json] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[Json] | None = None
    tool_choice: Json | None = None
    thinking: Json | None = None
    output_config: Json | None = None
    output_format: Json | None = None
    metadata: Json | None = None
    service_tier: str | None = None


def decode_request(body: bytes) -> Request:
    """The unified request of a body. Raises InvalidRequest with the JSON path of what is wrong."""
    try:
        raw = msgspec.json.decode(body, type=Json)
        known = msgspec.convert(raw, _Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse(error)
    extra = {
        key: value
        for key, value in raw.items()
        if value is not None and key not in _Body.__struct_fields__ and key not in OWN_FIELDS
    }
    tools, tool_extra = _tools(known.tools or [])
    choice, parallel, choice_extra = _tool_choice(known.tool_choice)
    reasoning, output_format, thought_extra = _thinking_and_output(known)
    metadata = {key: value for key, value in (known.metadata or {}).items() if value is not None}
    user = metadata.pop("user_id", "")
    tier = known.service_tier or ""
    return Request(
        model=known.model,
        messages=(*_system(known.system), *_messages(known.messages)),
        stream=bool(known.stream),
        max_output_tokens=known.max_tokens,
        temperature=known.temperature,
        top_p=known.top_p,
        top_k=known.top_k,
        stop=tuple(known.stop_sequences or ()),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        output_format=output_format,
        reasoning=reasoning,
        user=str(user),
        metadata=metadata,
        service_tier=SERVICE_TIERS.get(tier, tier),
        extra=extra | tool_extra | choice_extra | thought_extra,
        wire=NAME,
    )


# --- messages ---------------------------------------------------------------------------------------------


def _system(system: str | list[Json] | None) -> tuple[Message, ...]:
    if not system:
        return ()
    return (Message("system", _parts(system, "$.system")),)


def _messages(messages: list[Json]) -> list[Message]:
    decoded: list[Message] = []
    for index, message in enumerate(messages):
        path = f"$.messages[{index}]"
        known = _convert(message, _Message, path)
        if not message.keys() <= {"role", "content"}:
            # Settings on a message (a new effort from here on) belong to the whole message: it is kept as it is.
            decoded.append(Message(known.role, (OpaquePart(wire=NAME, value=message),)))
            continue
        decoded.extend(_split(known.role, _parts(known.content, f"{path}.content")))
    return decoded


def _split(role: Role, parts: tuple[Part, ...]) -> list[Message]:
    """One message, cut into runs so that each tool result is a message of its own, in the client's order."""
    runs: list[Message] = []
    for part in parts:
        if isinstance(part, ToolResultPart):
            runs.append(Message("tool", (part,)))
        elif runs and runs[-1].role == role:
            runs[-1] = Message(role, (*runs[-1].parts, part))
        else:
            runs.append(Message(role, (part,)))
    return runs or [Message(role, ())]


def _parts(content: str | list[Json], path: str) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(block, f"{path}[{index}]") for index, block in enumerate(content))


def _part(block: Json, path: str) -> Part:
    try:
        return read_block(block)
    except msgspec.ValidationError as error:
        refuse(_at(path, error))


# --- tools ------------------------------------------------------------------------------------------------


def _tools(tools: list[Json]) -> tuple[tuple[Tool, ...], Json]:
    """(functions, extra): what is no function, and options a function cannot hold, stay under extra["tools"]."""
    functions: list[Tool] = []
    rest: list[Json] = []
    for index, tool in enumerate(tools):
        if tool.get("type") not in (None, "custom"):
            rest.append(tool)
            continue
        given = {key: value for key, value in tool.items() if value is not None}
        known = _convert(given, _Tool, f"$.tools[{index}]")
        functions.append(
            Tool(
                name=known.name,
                description=known.description,
                parameters=known.input_schema,
                strict=known.strict,
                cache_control=known.cache_control,
            )
        )
        options = {key: value for key, value in given.items() if key not in _TOOL_FIELDS}
        if options:
            rest.append({"name": known.name, **options})
    return tuple(functions), {"tools": rest} if rest else {}


def _tool_choice(choice: Json | None) -> tuple[ToolChoice | None, bool | None, Json]:
    """(choice, parallel tool calls, extra)."""
    if choice is None:
        return None, None, {}
    disabled = choice.get("disable_parallel_tool_use")
    parallel = None if disabled is None else not disabled
    match choice.get("type"):
        case "auto":
            return ToolChoice("auto"), parallel, {}
        case "any":
            return ToolChoice("required"), parallel, {}
        case "none":
            return ToolChoice("none"), parallel, {}
        case "tool" if isinstance(choice.get("name"), str):
            return ToolChoice("named", choice["name"]), parallel, {}
    return None, None, {"tool_choice": choice}


# --- thinking and output ----------------------------------------------------------------------------------


def _thinking_and_output(body: _Body) -> tuple[Reasoning | None, OutputFormat | None, Json]:
    """(reasoning, output format, extra) of `thinking`, `output_config` and the older `output_format`."""
    extra: Json = {}
    config = {key: value for key, value in (body.output_config or {}).items() if value is not None}
    effort = config.pop("effort", "")
    format_, place = config.pop("format", None), "output_config"
    if format_ is None and body.output_format is not None:
        format_, place = body.output_format, "output_format"
    output_format = _output_format(format_)
    if config:
        extra["output_config"] = config
    if format_ is not None and output_format is None:
        extra[place] = {**config, "format": format_} if place == "output_config" else format_
    reasoning, rest = _reasoning(body.thinking, str(effort))
    if rest:
        extra["thinking"] = rest
    return reasoning, output_format, extra


def _output_format(value: Any) -> OutputFormat | None:
    match value:
        case {"type": "json_schema", "schema": dict(schema), **rest} if not rest:
            return OutputFormat("json_schema", schema=schema)
    return None


def _reasoning(thinking: Json | None, effort: str) -> tuple[Reasoning | None, Json]:
    """(reasoning, what of `thinking` it cannot hold)."""
    rest = {key: value for key, value in (thinking or {}).items() if value is not None}
    match rest.pop("type", None):
        case "enabled" if isinstance(rest.get("budget_tokens"), int):
            return Reasoning(effort=effort, budget_tokens=rest.pop("budget_tokens")), rest
        case "adaptive":
            return Reasoning(effort=effort, adaptive=True), rest
        case "disabled":
            return Reasoning(effort=effort, enabled=False), rest
        case None:
            return (Reasoning(effort=effort) if effort else None), rest
    return (Reasoning(effort=effort) if effort else None), thinking or {}


# --- errors -----------------------------------------------------------------------------------------------


def _convert(value: Any, kind: type[_T], path: str) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        refuse(_at(path, error))


def _at(path: str, error: msgspec.ValidationError) -> msgspec.ValidationError:
    """The same error with the path from the root of the body."""
    text, _, tail = str(error).partition(" - at `$")
    return msgspec.ValidationError(f"{text} - at `{path}{tail.rstrip('`')}`")
