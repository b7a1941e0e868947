"""A chat body in Cohere's words -> the unified Request.

What the unified types cannot hold is kept by its name in `Request.extra` ("documents", "safety_mode"): this wire puts
it back, any other refuses it by that name.
"""

from __future__ import annotations

import base64

from providers.errors import Unsupported
from providers.unified import (
    FilePart,
    ImagePart,
    Json,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Request,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.base import json_object
from providers.wire.cohere.admission import admit
from providers.wire.cohere.parts import NAME, cited, decode_content, decode_tool_call
from providers.wire.openai_chat.parts import string

_READ = frozenset(
    {"model", "messages", "stream", "max_tokens", "p", "k", "stop_sequences", "tools", "strict_tools", "thinking"}
    | {"tool_choice", "response_format", "metadata", "drop_unsupported"}
    | {"temperature", "seed", "frequency_penalty", "presence_penalty", "logprobs"}
)


def decode_request(body: bytes) -> Request:
    """Raises InvalidRequest with the JSON path for a body that `admit` refuses."""
    admitted = admit(body)
    value = {key: item for key, item in json_object(body).items() if item is not None}
    extra: Json = {key: item for key, item in value.items() if key not in _READ}
    return Request(
        model=admitted.model,
        messages=tuple(_message(item, index, extra) for index, item in enumerate(value["messages"])),
        stream=admitted.stream,
        max_output_tokens=admitted.max_output_tokens,
        temperature=value.get("temperature"),
        seed=value.get("seed"),
        frequency_penalty=value.get("frequency_penalty"),
        presence_penalty=value.get("presence_penalty"),
        logprobs=value.get("logprobs"),
        top_p=value.get("p"),
        top_k=value.get("k"),
        stop=tuple(value.get("stop_sequences", ())),
        tools=tuple(_tool(item["function"], value.get("strict_tools")) for item in value.get("tools", ())),
        tool_choice=_tool_choice(value.get("tool_choice")),
        output_format=_output_format(value, extra),
        reasoning=_reasoning(value.get("thinking")),
        metadata=dict(admitted.metadata),
        extra=extra,
        wire=NAME,
    )


def _message(value: Json, index: int, extra: Json) -> Message:
    role, content = value["role"], decode_content(value.get("content"))
    known = {"role", "content"}
    if role == "tool":
        known.add("tool_call_id")
        result = ToolResultPart(id=string(value.get("tool_call_id")), parts=_result_parts(content, index))
        message = Message(role="tool", parts=(result,))
    elif role == "assistant":
        known |= {"tool_plan", "tool_calls", "citations"}
        message = Message(role="assistant", parts=assistant_parts(value, content, f"$.messages[{index}]"))
    else:
        message = Message(role=role, parts=tuple(content))
    unknown = {key: item for key, item in value.items() if key not in known and item is not None}
    extra.update({f"messages[{index}].{key}": item for key, item in unknown.items()})
    return message


def assistant_parts(value: Json, content: list[Part], path: str) -> tuple[Part, ...]:
    """What an assistant said in the order it did: thoughts and text, its plan for the tools, its calls of them."""
    plan = string(value.get("tool_plan"))
    said = cited([*content, *([TextPart(text=plan)] if plan else [])], value.get("citations"))
    calls = value.get("tool_calls")
    called = [
        decode_tool_call(call, f"{path}.tool_calls[{at}]")
        for at, call in enumerate(calls if isinstance(calls, list) else ())
    ]
    return (*said, *called)


def _result_parts(content: list[Part], index: int) -> tuple[TextPart | ImagePart | FilePart, ...]:
    """A document of a tool is its JSON object: as text, every provider's model can read it."""
    parts: list[TextPart | ImagePart | FilePart] = []
    for at, part in enumerate(content):
        if not isinstance(part, TextPart | FilePart):
            path = f"$.messages[{index}].content[{at}]"
            raise Unsupported(f"A tool result holds text and documents only, at {path!r}.", param=path)
        parts.append(TextPart(text=base64.b64decode(part.data).decode()) if isinstance(part, FilePart) else part)
    return tuple(parts)


def _tool(function: Json, strict: bool | None) -> Tool:
    return Tool(
        name=function["name"],
        description=string(function.get("description")),
        parameters=function.get("parameters") or {},
        strict=True if strict else None,
    )


def _tool_choice(word: str | None) -> ToolChoice | None:
    match word:
        case "REQUIRED":
            return ToolChoice(mode="required")
        case "NONE":
            return ToolChoice(mode="none")
    return None


def _output_format(value: Json, extra: Json) -> OutputFormat | None:
    stated = value.get("response_format")
    if not stated or stated.get("type") == "text":
        return None
    # `schema` is the name of the first release.
    schema = stated.get("json_schema") or stated.get("schema")
    if stated.get("type") != "json_object" or stated.keys() - {"type", "json_schema", "schema"}:
        extra["response_format"] = stated
        return None
    if isinstance(schema, dict):
        return OutputFormat(type="json_schema", schema=schema)
    return OutputFormat(type="json_object")


def _reasoning(stated: Json | None) -> Reasoning | None:
    if stated is None:
        return None
    return Reasoning(enabled=stated["type"] == "enabled", budget_tokens=stated.get("token_budget"))
