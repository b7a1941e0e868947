"""A chat body in Ollama's words -> the unified Request.

What the unified types cannot hold is kept by its name in `Request.extra` ("keep_alive", the options that only Ollama
has): this wire puts it back, any other refuses it by that name.
"""

from __future__ import annotations

from typing import Any

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
    ToolCallPart,
    ToolResultPart,
)
from providers.wire.base import json_object
from providers.wire.ollama.admission import admit
from providers.wire.ollama.parts import NAME, read_parts
from providers.wire.ollama.request_out import OPTIONS
from providers.wire.openai_chat.parts import string

_READ = frozenset({"model", "messages", "stream", "tools", "format", "think", "options", "drop_unsupported"})
_SAME_NAME = ("logprobs", "top_logprobs")
_PNG, _GIF, _WEBP = "iVBORw0KGgo", "R0lGOD", "UklGR"


def decode_request(body: bytes) -> Request:
    """Raises InvalidRequest with the JSON path for a body that `admit` refuses."""
    admitted = admit(body)
    value = {key: item for key, item in json_object(body).items() if item is not None}
    options = {key: item for key, item in (value.get("options") or {}).items() if item is not None}
    known: dict[str, Any] = {field: options.pop(name, None) for field, name in OPTIONS.items()}
    # What is below zero is this wire's way to say that there is no cap.
    known |= {name: value.get(name) for name in _SAME_NAME} | {"max_output_tokens": admitted.max_output_tokens}
    stop = options.pop("stop", None) or ()
    extra: Json = {key: item for key, item in value.items() if key not in _READ and key not in _SAME_NAME}
    if options:
        extra["options"] = options
    called: dict[str, str] = {}
    return Request(
        model=admitted.model,
        messages=tuple(_message(item, called) for item in value["messages"]),
        stream=admitted.stream,
        stop=tuple(stop),
        tools=tuple(_tool(item["function"]) for item in value.get("tools", ())),
        output_format=_output_format(value.get("format")),
        reasoning=_reasoning(value.get("think")),
        extra=extra,
        wire=NAME,
        **known,
    )


def _message(value: Json, called: dict[str, str]) -> Message:
    """`called`: name of a tool -> id of its last call, by which older clients answer it."""
    role = value["role"]
    images = [ImagePart(data=data, media_type=_media_type(data)) for data in value.get("images") or ()]
    if role == "tool":
        text = string(value.get("content"))
        name = string(value.get("tool_name"))
        said: list[TextPart | ImagePart | FilePart] = [*([TextPart(text=text)] if text else []), *images]
        call_id = string(value.get("tool_call_id")) or called.get(name, name)
        return Message(role="tool", parts=(ToolResultPart(id=call_id, parts=tuple(said)),))
    parts: list[Part] = list(read_parts(value))
    called.update({part.name: part.id for part in parts if isinstance(part, ToolCallPart)})
    return Message(role=role, parts=(*parts, *images))


def _media_type(data: str) -> str:
    """An image does not say its type here, but its first bytes do."""
    types = {_PNG: "image/png", _GIF: "image/gif", _WEBP: "image/webp"}
    return next((kind for start, kind in types.items() if data.startswith(start)), "image/jpeg")


def _tool(function: Json) -> Tool:
    return Tool(
        name=function["name"],
        description=string(function.get("description")),
        parameters=function.get("parameters") or {},
    )


def _output_format(stated: Any) -> OutputFormat | None:
    if isinstance(stated, dict):
        return OutputFormat(type="json_schema", schema=stated)
    return OutputFormat(type="json_object") if stated == "json" else None


def _reasoning(think: bool | str | None) -> Reasoning | None:
    if isinstance(think, str):
        return Reasoning(effort=think)
    return None if think is None else Reasoning(enabled=think)
