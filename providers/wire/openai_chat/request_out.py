"""The unified Request -> a chat request body in a server's dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from providers.errors import Unsupported
from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    Json,
    Message,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.openai_chat.blocks import in_dialect, thinking
from providers.wire.openai_chat.dialect import Dialect
from providers.wire.openai_chat.parts import NAME, encode_details, encode_part, unsupported

_TOOL_AT = re.compile(r"tools\[(\d{1,5})\]")
_IN_MESSAGE = re.compile(r"messages\[(\d{1,5})\]\.(?:tool_calls\[(\d{1,5})\]\.)?(.+)")
# Up to so many thinking tokens, this effort.
_EFFORTS = ((4_096, "low"), (16_384, "medium"))
# Words of other wires for the tier that everyone gets.
_TIERS = {"standard": "default", "standard_only": "default"}
_NUMBERS = ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")


class _Writer:
    """One request on its way out: what this server understands, and what may be dropped."""

    def __init__(self, request: Request, dialect: Dialect, drop_unsupported: bool) -> None:
        self.request = request
        self.dialect = dialect
        self.drop = drop_unsupported
        self.same_wire = request.wire == NAME
        self.keep_cache_control = self.same_wire or dialect.cache_control

    def refuse(self, error: Unsupported) -> None:
        if not self.drop:
            raise error

    def part(self, part: Part, param: str) -> list[Json]:
        try:
            block = encode_part(part, keep_cache_control=self.keep_cache_control, param=param)
            return [in_dialect(block, self.dialect)]
        except Unsupported as error:
            self.refuse(error)
            return []

    def content(self, parts: list[Part], param: str) -> str | list[Json]:
        """A lone plain text as a string, which every server takes; anything else as a list of parts."""
        values = [value for at, part in enumerate(parts) for value in self.part(part, f"{param}.content[{at}]")]
        if len(values) == 1 and values[0].keys() == {"type", "text"}:
            return str(values[0]["text"])
        return values or ""


def encode_request(request: Request, *, dialect: Dialect, drop_unsupported: bool) -> bytes:
    """Raises Unsupported(param) for what a server of this `dialect` cannot be told, unless `drop_unsupported`."""
    writer = _Writer(request, dialect, drop_unsupported)
    body: Json = {"model": request.model, "messages": list(_messages(writer))}
    _add_options(body, writer)
    _add_tools(body, writer)
    _add_extra(body, writer)
    _adapt(body, writer)
    if request.stream:
        options = body.get("stream_options") or {}
        body["stream"] = True
        if dialect.stream_usage:
            body["stream_options"] = {**options, "include_usage": True}
    return msgspec.json.encode(body)


# --- messages ---------------------------------------------------------------------------------------------


def _messages(writer: _Writer) -> Iterator[Json]:
    """Tool results become messages of their own, before what else their message says; their media follow the run."""
    media: list[Part] = []
    for index, message in enumerate(writer.request.messages):
        path = f"messages[{index}]"
        if message.name and message.role != "tool" and not writer.dialect.message_names:
            writer.refuse(unsupported("the name of a message's author", f"{path}.name"))
            message = msgspec.structs.replace(message, name="")
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        rest: list[Part] = [part for part in message.parts if not isinstance(part, ToolResultPart)]
        if media and not results:
            yield {"role": "user", "content": writer.content(media, path)}
            media = []
        for result in results:
            yield _tool_message(writer, result, message, path, media)
        if rest or not results:
            if media:
                yield {"role": "user", "content": writer.content(media, path)}
                media = []
            yield _plain_message(writer, message, rest, path)
    if media:
        yield {"role": "user", "content": writer.content(media, "messages")}


def _tool_message(writer: _Writer, result: ToolResultPart, message: Message, path: str, media: list[Part]) -> Json:
    said: list[Part] = list(result.parts)
    if not writer.dialect.media_in_tool_results and not writer.same_wire:
        said = [part for part in result.parts if isinstance(part, TextPart)]
        shown = [part for part in result.parts if isinstance(part, ImagePart | FilePart)]
        if shown:
            media += [TextPart(text=f"What the tool call {result.id} returned besides text:"), *shown]
    content = writer.content(said, path)
    if result.is_error:
        # This wire has no mark for a failed tool: the model reads it.
        content = f"Error: {content}" if isinstance(content, str) else [{"type": "text", "text": "Error:"}, *content]
    named = {"name": message.name} if message.name else {}
    return {"role": "tool", "tool_call_id": result.id, **named, "content": content}


def _plain_message(writer: _Writer, message: Message, parts: list[Part], path: str) -> Json:
    named = {"name": message.name} if message.name else {}
    if message.role == "assistant":
        return {"role": "assistant", **named, **_assistant(writer, parts, path)}
    role = message.role
    if role == "developer" and not writer.dialect.developer_role:
        role = "system"
    return {"role": role, **named, "content": writer.content(parts, path)}


def _assistant(writer: _Writer, parts: list[Part], path: str) -> Json:
    said: list[Part] = []
    calls: list[Json] = []
    reasoning: list[ReasoningPart] = []
    refusal = ""
    for part in parts:
        match part:
            case ReasoningPart():
                reasoning.append(part)
            case RefusalPart():
                refusal += part.text
            case ToolCallPart():
                function = {"name": part.name, "arguments": part.arguments}
                calls.append({"id": part.id, "type": "function", "function": function})
            case OpaquePart() if part.wire == NAME and part.value.get("type") == "custom":
                calls.append(part.value)
            case AudioPart():
                writer.refuse(unsupported("audio in an assistant's message", path))
            case _:
                said.append(part)
    value: Json = {"content": writer.content(said, path) if said else None}
    if writer.dialect.reasoning_field == "thinking":
        value["content"] = _after_thinking(thinking(reasoning), value["content"])
    else:
        value.update(_reasoning_fields(writer, reasoning))
    if refusal:
        value["refusal"] = refusal
    if calls:
        value["tool_calls"] = calls
    elif value["content"] is None and not refusal:
        value["content"] = ""
    return value


def _after_thinking(thoughts: list[Json], content: str | list[Json] | None) -> str | list[Json] | None:
    if not thoughts:
        return content
    said = [{"type": "text", "text": content}] if isinstance(content, str) and content else content
    return [*thoughts, *(said or ())]


def _reasoning_fields(writer: _Writer, parts: list[ReasoningPart]) -> Json:
    """Signed and redacted reasoning only means something to a server that takes details; others get the text."""
    field = writer.dialect.reasoning_field or ("reasoning_content" if writer.same_wire else "")
    if not parts or not field:
        return {}
    if field == "reasoning_details" or (writer.same_wire and any(part.signature or part.redacted for part in parts)):
        return {"reasoning_details": encode_details(parts)}
    text = "".join(part.text for part in parts)
    return {field: text} if text else {}


# --- options ----------------------------------------------------------------------------------------------


def _add_options(body: Json, writer: _Writer) -> None:
    request, dialect = writer.request, writer.dialect
    for name in _NUMBERS:
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.max_output_tokens is not None:
        body[dialect.cap_field] = request.max_output_tokens
    if request.top_k is not None:
        if writer.same_wire or dialect.top_k:
            body["top_k"] = request.top_k
        else:
            writer.refuse(unsupported("'top_k'", "top_k"))
    if request.stop:
        body["stop"] = list(request.stop)
    if request.n != 1:
        body["n"] = request.n
    if request.output_format is not None:
        body["response_format"] = _output_format(request.output_format)
    body.update(_reasoning(request.reasoning, dialect))
    if request.user:
        body["user"] = request.user
    if request.metadata:
        body["metadata"] = request.metadata
    if request.service_tier:
        tier = request.service_tier
        body["service_tier"] = tier if writer.same_wire else _TIERS.get(tier, tier)


def _output_format(value: OutputFormat) -> Json:
    if value.type == "json_object":
        return {"type": "json_object"}
    inner: Json = {"name": value.name or "output", "schema": value.schema}
    if value.strict is not None:
        inner["strict"] = value.strict
    if value.description:
        inner["description"] = value.description
    return {"type": "json_schema", "json_schema": inner}


def _reasoning(value: Reasoning | None, dialect: Dialect) -> Json:
    """An adaptive request without an effort leaves the choice to the model, as saying nothing does."""
    if value is None:
        return {}
    if dialect.reasoning_object:
        inner: Json = {"effort": value.effort} if value.effort else {}
        if value.budget_tokens is not None:
            inner = {"max_tokens": value.budget_tokens}
        return {"reasoning": inner or {"enabled": value.enabled}}
    if not value.enabled:
        return {"reasoning_effort": "none"}
    effort = value.effort
    if not effort and value.budget_tokens is not None:
        effort = effort_of_budget(value.budget_tokens)
    return {"reasoning_effort": effort} if effort else {}


def effort_of_budget(budget_tokens: int) -> str:
    """A budget of thinking tokens in the words of the wires that know three efforts: "low", "medium" or "high"."""
    return next((word for most, word in _EFFORTS if budget_tokens <= most), "high")


# --- tools and the rest -----------------------------------------------------------------------------------


def _add_tools(body: Json, writer: _Writer) -> None:
    request = writer.request
    tools = [_tool(tool, writer.keep_cache_control) for tool in request.tools]
    if writer.same_wire:
        for name, value in request.extra.items():
            match = _TOOL_AT.fullmatch(name)
            if match:
                tools.insert(int(match[1]), value)
    if tools:
        body["tools"] = tools
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, writer.dialect)
    # Without tools OpenAI refuses this field.
    if request.parallel_tool_calls is not None and (tools or writer.same_wire):
        body["parallel_tool_calls"] = request.parallel_tool_calls


def _tool(tool: Tool, keep_cache_control: bool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    mark = {"cache_control": tool.cache_control} if tool.cache_control and keep_cache_control else {}
    return {"type": "function", "function": function, **mark}


def _tool_choice(choice: ToolChoice, dialect: Dialect) -> Any:
    if choice.mode == "required":
        return dialect.required_word
    return {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode


def _add_extra(body: Json, writer: _Writer) -> None:
    """The client's other fields go back where they stood; fields of another wire are refused by name."""
    for name, value in writer.request.extra.items():
        if not writer.same_wire:
            writer.refuse(unsupported(f"{name!r}", name))
            continue
        inside = _IN_MESSAGE.fullmatch(name)
        if inside:
            _put_back(body["messages"], inside, value)
        elif not _TOOL_AT.fullmatch(name):
            body[name] = value


def _put_back(messages: list[Json], inside: re.Match[str], value: Any) -> None:
    """A client may itself name a field "messages[9].x": where no such place is, there is nothing to put back."""
    places = messages[int(inside[1]) :][:1]
    if places and inside[2] is not None:
        places = places[0].get("tool_calls", [])[int(inside[2]) :][:1]
    for place in places:
        place[inside[3]] = value


def _adapt(body: Json, writer: _Writer) -> None:
    """The server's own names, and none of the fields that it refuses."""
    for name in writer.dialect.refused:
        if body.pop(name, None) is not None:
            writer.refuse(unsupported(f"{name!r}", name))
    for name, other in writer.dialect.renamed.items():
        if name in body:
            body[other] = body.pop(name)
