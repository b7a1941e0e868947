"""A chat request body -> the unified Request.

What the unified types cannot hold is kept under its path in `Request.extra` ("logit_bias", "tools[1]",
"messages[2].prefix"): this wire puts it back where it stood, any other refuses it by that name.
"""

from __future__ import annotations

from typing import Any

from providers.errors import InvalidRequest, Unsupported
from providers.unified import (
    FilePart,
    ImagePart,
    Json,
    Message,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    RefusalPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire import unread
from providers.wire.jsontext import dumps
from providers.wire.openai_chat.admit import admit
from providers.wire.openai_chat.parts import NAME, decode_content, decode_reasoning, string

# Fields that are read here one by one, or mean nothing to the provider.
_READ = frozenset(
    {"model", "messages", "tools", "stream", "drop_unsupported", "n", "max_tokens", "max_completion_tokens"}
)
_SAME_NAME = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "parallel_tool_calls",
    "user",
    "metadata",
    "service_tier",
)
# As Mistral's client calls them.
_OTHER_NAMES = {"random_seed": "seed"}
_REASONING = ("reasoning_details", "reasoning_content", "reasoning")
_SCHEMA_FIELDS = frozenset({"name", "schema", "strict", "description"})
_CALL_FIELDS = frozenset({"id", "type", "function", "index"})
_CHOICE_WORDS = {"auto": "auto", "none": "none", "required": "required", "any": "required"}


def decode_request(body: bytes) -> Request:
    """Raises InvalidRequest with the JSON path for a body that `admit` refuses, and for the retired function calls."""
    admitted = admit(body)
    value = unread.read(body)
    _refuse_retired(value)
    extra: Json = {}
    messages = tuple(_message(item, index, extra) for index, item in enumerate(value["messages"]))
    tools = _tools(value.get("tools") or (), extra)
    fields = {key: item for key, item in value.items() if item is not None and key not in _READ}
    for own, usual in _OTHER_NAMES.items():
        if own in fields and usual not in fields:
            fields[usual] = fields.pop(own)
    known: dict[str, Any] = {name: fields.pop(name) for name in _SAME_NAME if name in fields}
    stop = fields.pop("stop", ())
    request = Request(
        model=admitted.model,
        messages=messages,
        stream=admitted.stream,
        max_output_tokens=admitted.max_output_tokens,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        tools=tools,
        tool_choice=_tool_choice(fields),
        output_format=_output_format(fields),
        reasoning=_reasoning(fields),
        n=admitted.n,
        extra=extra,
        wire=NAME,
        **known,
    )
    _keep_stream_options(fields)
    extra.update(fields)
    return request


def _says_nothing(value: Any) -> bool:
    """Clients send answers back with marks of their own that are off: Mistral's `"prefix": false`, litellm's
    `"provider_specific_fields": {"refusal": null}`.
    """
    return value is False or (isinstance(value, dict) and all(item is None for item in value.values()))


def _refuse_retired(value: Json) -> None:
    for old, new in (("functions", "tools"), ("function_call", "tool_choice")):
        if value.get(old) is not None:
            raise Unsupported(f"{old!r} is retired and cannot be translated: use {new!r}.", param=f"$.{old}")
    for index, message in enumerate(value["messages"]):
        if message.get("role") == "function" or message.get("function_call") is not None:
            raise Unsupported(
                "Function messages are retired and cannot be translated: use 'tool_calls' and the role 'tool'.",
                param=f"$.messages[{index}]",
            )


def _message(value: Json, index: int, extra: Json) -> Message:
    held = {key: item for key, item in value.items() if item is not None}
    role, name = held.pop("role"), held.pop("name", "")
    content = decode_content(held.pop("content", None))
    parts: list[Part]
    if role == "tool":
        parts = [_tool_result(held.pop("tool_call_id", ""), content, index)]
    elif role == "assistant":
        parts = decode_assistant(held, content, f"$.messages[{index}]")
        calls = held.pop("tool_calls", ())
        for key in (*_REASONING, "refusal"):
            held.pop(key, None)
        for at, call in enumerate(calls):
            unknown = {key: item for key, item in call.items() if key not in _CALL_FIELDS and item}
            held.update({f"tool_calls[{at}].{key}": item for key, item in unknown.items() if call.get("function")})
    else:
        parts = content
    extra.update({f"messages[{index}].{key}": item for key, item in held.items() if not _says_nothing(item)})
    return Message(role=role, parts=tuple(parts), name=name)


def decode_assistant(message: Json, content: list[Part], path: str) -> list[Part]:
    """The parts of an assistant's message in the order it made them: reasoning, what it said, refusal, tool calls."""
    refusal = message.get("refusal")
    said: list[Part] = [*content, RefusalPart(text=refusal)] if refusal and isinstance(refusal, str) else content
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    called = [decode_tool_call(call, f"{path}.tool_calls[{at}]") for at, call in enumerate(calls)]
    return [*decode_reasoning(message), *said, *called]


def decode_tool_call(call: Any, path: str) -> Part:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        if isinstance(call, dict) and call.get("type") == "custom":
            return OpaquePart(wire=NAME, value=call)
        raise InvalidRequest(f"A tool call needs a 'function' object, at {path!r}.", param=f"{path}.function")
    arguments = function.get("arguments")
    return ToolCallPart(
        id=string(call.get("id")),
        name=string(function.get("name")),
        arguments=arguments_text(arguments),
    )


def arguments_text(arguments: Any) -> str:
    """Some servers send the arguments as an object instead of its JSON text."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else dumps(arguments).decode()


def _tool_result(call_id: str, content: list[Part], index: int) -> ToolResultPart:
    parts: list[TextPart | ImagePart | FilePart] = []
    for at, part in enumerate(content):
        if not isinstance(part, TextPart | ImagePart | FilePart):
            path = f"$.messages[{index}].content[{at}]"
            raise Unsupported(f"A tool result holds text, images and files only, at {path!r}.", param=path)
        parts.append(part)
    return ToolResultPart(id=call_id, parts=tuple(parts))


def _tools(values: Any, extra: Json) -> tuple[Tool, ...]:
    tools = []
    for index, value in enumerate(values):
        tool = _tool(value)
        if tool is None:
            extra[f"tools[{index}]"] = value
        else:
            tools.append(tool)
    return tuple(tools)


def _tool(value: Json) -> Tool | None:
    """None for a tool that is not a plain function: the provider's own (web search) and what may come."""
    function = value.get("function")
    if not isinstance(function, dict) or value.keys() - {"type", "function", "cache_control"}:
        return None
    if function.keys() - {"name", "description", "parameters", "strict"} or not string(function.get("name")):
        return None
    if not isinstance(function.get("parameters") or {}, dict) or not isinstance(value.get("cache_control") or {}, dict):
        return None
    return Tool(
        name=function["name"],
        description=string(function.get("description")),
        parameters=function.get("parameters") or {},
        strict=function.get("strict"),
        cache_control=value.get("cache_control"),
    )


def _tool_choice(fields: Json) -> ToolChoice | None:
    choice = fields.get("tool_choice")
    if isinstance(choice, str) and choice in _CHOICE_WORDS:
        del fields["tool_choice"]
        return ToolChoice(mode=_CHOICE_WORDS[choice])  # type: ignore[arg-type]  # the table holds only modes
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("function"), dict):
        del fields["tool_choice"]
        return ToolChoice(mode="named", name=string(choice["function"].get("name")))
    return None


def _output_format(fields: Json) -> OutputFormat | None:
    value = fields.get("response_format")
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        del fields["response_format"]
        return None
    if kind == "json_object":
        del fields["response_format"]
        return OutputFormat(type="json_object")
    inner = value.get("json_schema") if isinstance(value, dict) else None
    if kind != "json_schema" or not isinstance(inner, dict) or inner.keys() - _SCHEMA_FIELDS:
        return None
    if not isinstance(inner.get("schema") or {}, dict):
        return None
    del fields["response_format"]
    return OutputFormat(
        type="json_schema",
        name=string(inner.get("name")),
        schema=inner.get("schema") or {},
        strict=inner.get("strict"),
        description=string(inner.get("description")),
    )


def _reasoning(fields: Json) -> Reasoning | None:
    """`reasoning_effort`, or the `reasoning` object of OpenRouter; "none" means not at all."""
    effort = fields.pop("reasoning_effort", None)
    if isinstance(effort, str):
        return Reasoning(effort="" if effort == "none" else effort, enabled=effort != "none")
    value = fields.get("reasoning")
    if not isinstance(value, dict) or value.keys() - {"effort", "max_tokens", "enabled"}:
        return None
    del fields["reasoning"]
    effort, budget = string(value.get("effort")), value.get("max_tokens")
    return Reasoning(
        effort="" if effort == "none" else effort,
        budget_tokens=budget if isinstance(budget, int) else None,
        enabled=value.get("enabled") is not False and effort != "none",
    )


def _keep_stream_options(fields: Json) -> None:
    """The usage event is always asked for; other options of the stream are the client's."""
    options = fields.pop("stream_options", None) or {}
    kept = {key: item for key, item in options.items() if key != "include_usage"}
    if kept:
        fields["stream_options"] = kept
