"""A body of this wire -> the unified request.

`systemInstruction` becomes a system message in front; each function response a message of role "tool". What the
unified request cannot hold is kept in `extra` under the field's path ("generationConfig.speechConfig",
"tools[1].googleSearch"), so that another wire refuses it by its name. What says only the default is not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from providers.unified import (
    Json,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningPart,
    Request,
    Role,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.gemini import signatures
from providers.wire.gemini.admission import OWN_FIELDS, checked_config, parsed
from providers.wire.gemini.names import NAME, obj, objects, string
from providers.wire.gemini.parts import Calls, decode_part
from providers.wire.gemini.schema import json_schema

_READ = frozenset(
    {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "serviceTier", "labels"} | OWN_FIELDS
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
# What a setting is where nobody sets it: said or not, it asks no more of another provider.
_DEFAULTS: Json = {"responseModalities": ["TEXT"], "responseMimeType": "text/plain"}


def decode_request(body: bytes) -> Request:
    """Raises InvalidRequest with the JSON path of what is wrong."""
    value = parsed(body)
    config = checked_config(value)
    known: dict[str, Any] = {ours: config.pop(name) for name, ours in _NUMBERS.items() if name in config}
    extra: Json = {name: item for name, item in value.items() if name not in _READ}
    metadata = _labels(value.get("labels"), extra)
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
        metadata=metadata,
        extra=extra,
        wire=NAME,
        **known,
    )
    extra |= {f"generationConfig.{name}": item for name, item in config.items() if item != _DEFAULTS.get(name)}
    return request


def _labels(value: Any, extra: Json) -> Json:
    """Labels are what other wires call metadata."""
    if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
        return value
    if value is not None:
        extra["labels"] = value
    return {}


# --- messages ---------------------------------------------------------------------------------------------


def _system(value: Any) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message("system", (TextPart(value),)),) if value else ()
    parts = [part for item in objects(obj(value).get("parts")) for part in decode_part(item, Calls("system"))]
    return (Message("system", tuple(parts)),) if parts else ()


def _messages(contents: list[Json]) -> list[Message]:
    calls = Calls("request")
    decoded: list[Message] = []
    for content in _turns(contents):
        role: Role = "assistant" if content.get("role") == "model" else "user"
        decoded += _split(role, _said(content.get("parts") or (), calls))
    return decoded


def _turns(contents: list[Json]) -> list[Json]:
    """Google's client keeps a streamed answer as a content for each chunk: what the model said in a row is one turn."""
    turns: list[Json] = []
    for content in contents:
        last = turns[-1] if turns else {}
        if content.get("role") != "model" or last.get("role") != "model":
            turns.append(content)
            continue
        before, after = list(last.get("parts") or ()), list(content.get("parts") or ())
        if before and after and before[-1].keys() == after[0].keys() == {"text"}:
            before[-1] = {"text": f"{before[-1]['text']}{after.pop(0)['text']}"}
        turns[-1] = {**content, "parts": before + after}
    return turns


def _said(values: Iterable[Json], calls: Calls) -> list[Part]:
    """The parts of one content. Thoughts that came in pieces are one again where a signature of another provider says
    that they were: it signs all of their text."""
    said: list[Part] = []
    for value in values:
        for part in decode_part(value, calls):
            if isinstance(part, ReasoningPart) and part.signature and signatures.is_carried(obj(value)):
                text = part.text
                while said and isinstance(said[-1], ReasoningPart) and not (said[-1].signature or said[-1].redacted):
                    text = said.pop().text + text  # type: ignore[union-attr]  # the condition says so
                part = ReasoningPart(text=text, signature=part.signature)
            said.append(part)
    return said


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
    """The functions. Google's own tools are kept in `extra`, and so is what else a function declares, with its name."""
    functions: list[Tool] = []
    for at, entry in enumerate(objects(value)):
        for place, declared in enumerate(objects(entry.pop("functionDeclarations", None))):
            functions.append(_tool(declared, strict=strict))
            for name in declared.keys() - _DECLARED:
                path = f"tools[{at}].functionDeclarations[{place}].{name}"
                extra[path] = {"name": declared.get("name"), name: declared[name]}
        for name, item in entry.items():
            extra[f"tools[{at}].{name}"] = {name: item}
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
    extra |= {f"toolConfig.{name}": item for name, item in config.items()}
    mode, names = string(calling.get("mode")).upper(), calling.get("allowedFunctionNames")
    if mode == "ANY" and isinstance(names, list) and len(names) == 1:
        return ToolChoice("named", string(names[0])), False
    if names or (mode and mode not in _MODES):
        # A choice among some of the functions is for this wire alone.
        extra["toolConfig.functionCallingConfig"] = calling
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
        schema, name = json_schema(config["responseSchema"], closed=True), "responseSchema"
    del config["responseMimeType"]
    if not isinstance(schema, dict):
        return OutputFormat("json_object")
    del config[name]
    return OutputFormat("json_schema", schema=schema)


def _reasoning(config: Json) -> Reasoning | None:
    """How much to think, and whether the thoughts are asked for, which they are not where nothing is said."""
    thinking = obj(config.pop("thinkingConfig", None))
    budget, level = thinking.pop("thinkingBudget", None), string(thinking.pop("thinkingLevel", None)).lower()
    hidden = thinking.pop("includeThoughts", False) is not True
    if thinking:
        config["thinkingConfig"] = thinking
    if level == "thinking_level_unspecified":
        level = ""
    if budget == 0 and not level:
        return Reasoning(enabled=False)
    if isinstance(budget, int) and budget > 0:
        return Reasoning(effort=level, budget_tokens=budget, hidden=hidden)
    if budget is None and not level and hidden:
        return None
    return Reasoning(effort=level, adaptive=not level, hidden=hidden)
