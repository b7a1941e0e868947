"""The unified Request -> a responses body, which always keeps no state (`store: false`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from providers.errors import Unsupported
from providers.unified import (
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
    named,
)
from providers.wire.openai_chat.request_out import effort_of_budget
from providers.wire.openai_responses.items import encode_call, encode_reasoning
from providers.wire.openai_responses.parts import NAME, encode_input, encode_output_text, unsupported
from providers.wire.openai_responses.request_in import LOGPROBS

_TOOL_AT = re.compile(r"tools\[(\d{1,5})\]")
_INSIDE = re.compile(r"(text|reasoning)\.(.+)")
# Words of other wires for the tier that everyone gets.
_TIERS = {"standard": "default", "standard_only": "default"}
_SAME_NAME = ("max_output_tokens", "temperature", "top_p", "top_logprobs", "parallel_tool_calls")
_ABSENT = ("seed", "top_k", "presence_penalty", "frequency_penalty")


class _Writer:
    """One request on its way out: whose words it is made of, and what may be dropped."""

    def __init__(self, request: Request, drop_unsupported: bool) -> None:
        self.request = request
        self.drop = drop_unsupported
        self.own = request.wire == NAME

    def refuse(self, error: Unsupported) -> None:
        if not self.drop:
            raise error

    def content(self, parts: list[Part], param: str) -> list[Json]:
        values = []
        for at, part in enumerate(parts):
            try:
                values.append(encode_input(part, own=self.own, param=f"{param}.content[{at}]"))
            except Unsupported as error:
                self.refuse(error)
        return values


def encode_request(request: Request, *, drop_unsupported: bool) -> bytes:
    """Raises Unsupported(param) for what this wire cannot say, unless `drop_unsupported`."""
    writer = _Writer(request, drop_unsupported)
    body: Json = {"model": request.model}
    messages = request.messages
    if len(messages) > 1 and _is_plain_system(messages[0]):
        body["instructions"] = messages[0].parts[0].text  # type: ignore[union-attr]  # _is_plain_system says so
        messages = messages[1:]
    at = len(request.messages) - len(messages)
    body["input"] = [item for index, message in enumerate(messages) for item in _items(writer, message, index + at)]
    body["store"] = False
    _add_options(body, writer)
    _add_tools(body, writer)
    _add_extra(body, writer)
    if request.stream:
        body["stream"] = True
    return msgspec.json.encode(body)


# --- items --------------------------------------------------------------------------------------------------


def _is_plain_system(message: Message) -> bool:
    if message.role != "system" or message.name or len(message.parts) != 1:
        return False
    part = message.parts[0]
    return isinstance(part, TextPart) and bool(part.text) and not part.cache_control


def _items(writer: _Writer, message: Message, index: int) -> Iterator[Json]:
    path = f"messages[{index}]"
    # A tool's name on its result only repeats what the call's id says.
    if message.name and message.role != "tool":
        writer.refuse(unsupported("the name of a message's author", f"{path}.name"))
    if message.role == "assistant":
        yield from _made(writer, message.parts, path)
        return
    said: list[Part] = []
    for at, part in enumerate(message.parts):
        if isinstance(part, ToolResultPart):
            yield _tool_output(writer, part, f"{path}.content[{at}]")
        elif _is_item(part, message.role):
            yield part.value  # type: ignore[union-attr]  # _is_item says so
        else:
            said.append(part)
    if said or not message.parts:
        content: str | list[Json] = writer.content(said, path)
        if len(content) == 1 and content[0].keys() == {"type", "text"}:  # type: ignore[union-attr]
            content = content[0]["text"]  # type: ignore[index]  # still the list of above
        yield {"role": "user" if message.role == "tool" else message.role, "content": content or ""}


def _is_item(part: Part, role: str) -> bool:
    """An opaque part may be one of a message's content, or a whole item."""
    if not isinstance(part, OpaquePart) or part.wire != NAME:
        return False
    kind = str(part.value.get("type"))
    if role == "assistant":
        return kind != "output_text" and not kind.startswith("input_")
    return role == "tool" or kind == "message"


def _made(writer: _Writer, parts: tuple[Part, ...], path: str) -> Iterator[Json]:
    """What the model made, as items: each text is a message of its own, as the models of this wire write them."""
    for at, part in enumerate(parts):
        item = _made_item(writer, part, f"{path}.content[{at}]")
        if item is not None:
            yield item


def _made_item(writer: _Writer, part: Part, where: str) -> Json | None:
    match part:
        case TextPart():
            return _assistant(_text(part))
        case RefusalPart():
            return _assistant({"type": "refusal", "refusal": part.text})
        case OpaquePart() if part.wire == NAME and not _is_item(part, "assistant"):
            return _assistant(part.value)
        case ToolCallPart():
            return encode_call(part)
        case OpaquePart() if part.wire == NAME:
            return part.value
        case ReasoningPart() if not part.redacted and (part.signature or writer.own):
            return encode_reasoning(part)
        case ReasoningPart():
            writer.refuse(unsupported("reasoning that it did not sign", where))
        case _:
            writer.refuse(unsupported(f"{named(part)} in an assistant's message", where))
    return None


def _text(part: TextPart) -> Json:
    said = encode_output_text(part)
    if not said["annotations"]:
        del said["annotations"]
    return said


def _assistant(content: Json) -> Json:
    if content.keys() == {"type", "text"}:
        return {"role": "assistant", "content": content["text"]}
    return {"type": "message", "role": "assistant", "content": [content]}


def _tool_output(writer: _Writer, result: ToolResultPart, param: str) -> Json:
    output: Any = writer.content(list(result.parts), param)
    if len(output) == 1 and output[0].keys() == {"type", "text"}:
        output = output[0]["text"]
    if result.is_error:
        # This wire has no mark for a failed tool: the model reads it.
        prefix = [{"type": "input_text", "text": "Error:"}]
        output = f"Error: {output}" if isinstance(output, str) else [*prefix, *output]
    return {"type": "function_call_output", "call_id": result.id, "output": output or ""}


# --- options ------------------------------------------------------------------------------------------------


def _add_options(body: Json, writer: _Writer) -> None:
    request = writer.request
    body.update({name: getattr(request, name) for name in _SAME_NAME if getattr(request, name) is not None})
    for name in _ABSENT:
        if getattr(request, name):
            writer.refuse(unsupported(f"{name!r}", name))
    if request.stop:
        writer.refuse(unsupported("stop sequences", "stop"))
    if request.n != 1:
        writer.refuse(unsupported("'n': it gives one answer a request", "n"))
    if request.output_format is not None:
        body["text"] = {"format": _output_format(request.output_format)}
    effort = _effort(request.reasoning)
    if effort:
        body["reasoning"] = {"effort": effort}
    if request.logprobs:
        body["include"] = [LOGPROBS]
    if request.user:
        body["user"] = request.user
    if request.metadata:
        body["metadata"] = request.metadata
    if request.service_tier:
        tier = request.service_tier
        body["service_tier"] = tier if writer.own else _TIERS.get(tier, tier)


def _output_format(value: OutputFormat) -> Json:
    if value.type == "json_object":
        return {"type": "json_object"}
    said: Json = {"type": "json_schema", "name": value.name or "output", "schema": value.schema}
    if value.strict is not None:
        said["strict"] = value.strict
    if value.description:
        said["description"] = value.description
    return said


def _effort(value: Reasoning | None) -> str:
    if value is None:
        return ""
    if not value.enabled:
        return "none"
    if value.effort or value.budget_tokens is None:
        return value.effort
    return effort_of_budget(value.budget_tokens)


# --- tools and the rest -------------------------------------------------------------------------------------


def _add_tools(body: Json, writer: _Writer) -> None:
    request = writer.request
    tools = [_tool(tool, own=writer.own) for tool in request.tools]
    if writer.own:
        for name, value in request.extra.items():
            match = _TOOL_AT.fullmatch(name)
            if match:
                tools.insert(int(match[1]), value)
    if tools:
        body["tools"] = tools
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)


def _tool(tool: Tool, *, own: bool) -> Json:
    said: Json = {"type": "function", "name": tool.name, "parameters": tool.parameters or None}
    if tool.description:
        said["description"] = tool.description
    # Unsaid means strict on this wire, and not strict on the others.
    if tool.strict is not None or not own:
        said["strict"] = bool(tool.strict)
    return said


def _tool_choice(choice: ToolChoice) -> Any:
    return {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode


def _add_extra(body: Json, writer: _Writer) -> None:
    """The client's other fields go back where they stood; fields of another wire are refused by name."""
    for name, value in writer.request.extra.items():
        if not writer.own:
            writer.refuse(unsupported(f"{name!r}", name))
            continue
        inside = _INSIDE.fullmatch(name)
        if inside:
            body.setdefault(inside[1], {})[inside[2]] = value
        elif name == "include":
            body["include"] = [*value, *body.get("include", [])]
        elif not _TOOL_AT.fullmatch(name):
            body[name] = value
