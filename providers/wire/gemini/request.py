"""A body of this wire -> the unified request.

`systemInstruction` becomes a system message in front; each function response a message of role "tool". What the
unified request cannot hold is kept in `extra` under the field's name, also the rest of `generationConfig` and `tools`.
"""

from __future__ import annotations

from typing import Any

from providers.unified import (
    Json,
    Message,
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
from providers.wire.gemini.admission import OWN_FIELDS, parsed
from providers.wire.gemini.names import NAME, obj, objects, string
from providers.wire.gemini.parts import Calls, decode_part
from providers.wire.gemini.schema import json_schema

_READ = frozenset(
    {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "serviceTier"} | OWN_FIELDS
)
_NUMBERS = {
    "maxOutputTokens": "max_output_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}
_MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required", "VALIDATED": "auto"}
_DECLARED = frozenset({"name", "description", "parameters", "parametersJsonSchema"})


def decode_request(body: bytes) -> Request:
    """Raises InvalidRequest with the JSON path of what is wrong."""
    value = parsed(body)
    config = obj(value.get("generationConfig"))
    known: dict[str, Any] = {ours: config.pop(name) for name, ours in _NUMBERS.items() if name in config}
    extra: Json = {name: item for name, item in value.items() if name not in _READ}
    choice, validated = _tool_choice(obj(value.get("toolConfig")), extra)
    request = Request(
        model=string(value.get("model")).removeprefix("models/"),
        messages=(*_system(value.get("systemInstruction")), *_messages(value["contents"])),
        stream=value.get("stream") is True,
        top_k=_top_k(config),
        stop=tuple(config.pop("stopSequences", ())),
        n=config.pop("candidateCount", 1),
        tools=_tools(value.get("tools"), strict=True if validated else None, extra=extra),
        tool_choice=choice,
        output_format=_output_format(config),
        reasoning=_reasoning(config),
        service_tier=string(value.get("serviceTier")).lower(),
        extra=extra,
        wire=NAME,
        **known,
    )
    if config:
        extra["generationConfig"] = config
    return request


# --- messages ---------------------------------------------------------------------------------------------


def _system(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message("system", (TextPart(value),)),) if value else ()
    parts = [part for item in objects(obj(value).get("parts")) for part in decode_part(item, Calls("system"))]
    return (Message("system", tuple(parts)),) if parts else ()


def _messages(contents: list[Json]) -> list[Message]:
    calls = Calls("request")
    decoded: list[Message] = []
    for content in contents:
        role: Role = "assistant" if content.get("role") == "model" else "user"
        parts = [part for item in content.get("parts") or () for part in decode_part(item, calls)]
        decoded += _split(role, parts)
    return decoded


def _split(role: Role, parts: list[Part]) -> list[Message]:
    """One content, cut into runs so that each function response is a message of its own."""
    runs: list[Message] = []
    for part in parts:
        if isinstance(part, ToolResultPart):
            runs.append(Message("tool", (part,)))
        elif runs and runs[-1].role == role:
            runs[-1] = Message(role, (*runs[-1].parts, part))
        else:
            runs.append(Message(role, (part,)))
    return runs or [Message(role, ())]


# --- tools ------------------------------------------------------------------------------------------------


def _tools(value: Any, *, strict: bool | None, extra: Json) -> tuple[Tool, ...]:
    """The functions. Google's own tools stay under extra["tools"], options of a function under its name there."""
    functions: list[Tool] = []
    others: list[Json] = []
    for entry in objects(value):
        for declared in objects(entry.pop("functionDeclarations", None)):
            functions.append(_tool(declared, strict=strict))
            options = {name: item for name, item in declared.items() if name not in _DECLARED}
            if options:
                others.append({"functionDeclarations": [{"name": declared.get("name"), **options}]})
        if entry:
            others.append(entry)
    if others:
        extra["tools"] = others
    return tuple(functions)


def _tool(declared: Json, *, strict: bool | None) -> Tool:
    parameters = declared.get("parametersJsonSchema")
    if not isinstance(parameters, dict):
        parameters = json_schema(obj(declared.get("parameters")))
    return Tool(
        name=string(declared.get("name")),
        description=string(declared.get("description")),
        parameters=parameters,
        strict=strict,
    )


def _tool_choice(config: Json, extra: Json) -> tuple[ToolChoice | None, bool]:
    """(choice, whether calls are checked against their schema)."""
    calling = obj(config.pop("functionCallingConfig", None))
    if config:
        extra["toolConfig"] = config
    mode, names = string(calling.get("mode")).upper(), calling.get("allowedFunctionNames")
    if mode == "ANY" and isinstance(names, list) and len(names) == 1:
        return ToolChoice("named", string(names[0])), False
    if names or (mode and mode not in _MODES):
        # A choice among some of the functions is for this wire alone.
        extra["toolConfig"] = {**config, "functionCallingConfig": calling}
        return None, False
    if mode == "VALIDATED":
        return None, True
    word = _MODES.get(mode)
    return (ToolChoice(word) if word else None), False  # type: ignore[arg-type]  # the table holds only modes


# --- generationConfig: what is read is taken out, the rest is kept ------------------------------------------


def _top_k(config: Json) -> int | None:
    """Google's clients write this whole number as a fraction, 40.0."""
    value = config.pop("topK", None)
    return int(value) if isinstance(value, int | float) else None


def _output_format(config: Json) -> OutputFormat | None:
    if config.get("responseMimeType") != "application/json":
        return None
    schema, name = config.get("responseJsonSchema"), "responseJsonSchema"
    if not isinstance(schema, dict) and isinstance(config.get("responseSchema"), dict):
        schema, name = json_schema(config["responseSchema"]), "responseSchema"
    del config["responseMimeType"]
    if not isinstance(schema, dict):
        return OutputFormat("json_object")
    del config[name]
    return OutputFormat("json_schema", schema=schema)


def _reasoning(config: Json) -> Reasoning | None:
    """How much to think. The encoder asks to see the thoughts, too: a request that did not is kept as it was."""
    if not isinstance(config.get("thinkingConfig"), dict):
        return None
    thinking = obj(config.pop("thinkingConfig"))
    budget, level = thinking.pop("thinkingBudget", None), string(thinking.pop("thinkingLevel", None)).lower()
    shown = thinking.pop("includeThoughts", False) is True
    disabled = budget == 0 and not level
    if shown is disabled:
        thinking["includeThoughts"] = shown
    if thinking:
        config["thinkingConfig"] = thinking
    if disabled:
        return Reasoning(enabled=False)
    if isinstance(budget, int) and budget > 0:
        return Reasoning(effort=level, budget_tokens=budget)
    return Reasoning(effort=level, adaptive=not level)
