"""A responses body -> the unified Request.

What the unified types cannot hold is kept under its path in `Request.extra` ("prompt_cache_key", "tools[1]",
"text.verbosity"): this wire puts it back where it stood, any other refuses it by that name.

What refers to state is refused here: OpenAI alone keeps it, and a request for OpenAI passes through and is not decoded.
"""

from __future__ import annotations

from typing import Any

from providers.errors import InvalidRequest, Unsupported
from providers.unified import Json, Message, OutputFormat, Reasoning, Request, TextPart, Tool, ToolChoice
from providers.wire import unread
from providers.wire.openai_responses.admission import admit
from providers.wire.openai_responses.items import decode_items
from providers.wire.openai_responses.parts import NAME, string

# Fields that are read here one by one, or mean nothing to the provider.
_READ = frozenset(
    {"model", "input", "instructions", "tools", "stream", "stream_options", "drop_unsupported", "max_output_tokens"}
)
_SAME_NAME = ("temperature", "top_p", "top_logprobs", "parallel_tool_calls", "user", "metadata", "service_tier")
# Values that say what holds without them.
_DEFAULTS: tuple[tuple[str, Any], ...] = (("store", False), ("background", False), ("truncation", "disabled"))
_STATE = ("store", "previous_response_id", "conversation", "background", "prompt")
_TOOL_FIELDS = frozenset({"type", "name", "description", "parameters", "strict"})
_FORMAT_FIELDS = frozenset({"type", "name", "schema", "strict", "description"})
# Reasoning comes back encrypted or in the open, whichever the provider gives, without being asked.
_GIVEN_ANYWAY = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"


def decode_request(body: bytes) -> Request:
    """Raises InvalidRequest with the JSON path for a body that cannot be read, Unsupported for one that needs state."""
    admitted = admit(body)
    value = {key: item for key, item in unread.read(body).items() if item is not None}
    for name, default in _DEFAULTS:
        if name in value and value[name] == default:
            del value[name]
    _refuse_state(value, drop=admitted.drop_unsupported)
    extra: Json = {}
    fields = {key: item for key, item in value.items() if key not in _READ}
    known: dict[str, Any] = {name: fields.pop(name) for name in _SAME_NAME if name in fields}
    request = Request(
        model=admitted.model,
        messages=_messages(value),
        stream=admitted.stream,
        max_output_tokens=admitted.max_output_tokens,
        tools=_tools(value.get("tools") or (), extra),
        tool_choice=_tool_choice(fields),
        output_format=_output_format(fields, extra),
        reasoning=_reasoning(fields, extra),
        logprobs=_logprobs(fields),
        extra=extra,
        wire=NAME,
        **known,
    )
    extra.update(fields)
    return request


def _refuse_state(value: Json, *, drop: bool) -> None:
    """`value` without what refers to an earlier response, where the client allowed that; else Unsupported."""
    items = value.get("input")
    held = [name for name in _STATE if name in value]
    if isinstance(items, list):
        held += [f"input[{at}]" for at, item in enumerate(items) if _is_reference(item)]
    if held and not drop:
        raise Unsupported(
            f"{held[0]!r} needs state that only OpenAI keeps, and this model's provider keeps none. Send the whole "
            'conversation in "input", with "store": false.',
            param=f"$.{held[0]}",
        )
    for name in _STATE:
        value.pop(name, None)
    if held and isinstance(items, list):
        value["input"] = [item for item in items if not _is_reference(item)]


def _is_reference(item: Any) -> bool:
    if not isinstance(item, dict):
        return False
    # Without a type, an id alone is a reference too.
    return item.get("type") == "item_reference" or (item.keys() <= {"id", "type"} and not item.get("type"))


def _messages(value: Json) -> tuple[Message, ...]:
    told = value.get("instructions")
    given = value.get("input")
    messages: list[Message] = []
    if isinstance(told, str) and told:
        messages.append(Message(role="system", parts=(TextPart(text=told),)))
    elif isinstance(told, list):
        messages += decode_items(told)
    if isinstance(given, str):
        messages.append(Message(role="user", parts=(TextPart(text=given),)))
    elif isinstance(given, list):
        messages += decode_items(given)
    if not messages:
        raise InvalidRequest("There is nothing to respond to: 'input' is missing.", param="$.input")
    return tuple(messages)


def _tools(values: Any, extra: Json) -> tuple[Tool, ...]:
    tools = []
    for index, value in enumerate(values):
        tool = _tool({key: item for key, item in value.items() if item is not None})
        if tool is None:
            extra[f"tools[{index}]"] = value
        else:
            tools.append(tool)
    return tuple(tools)


def _tool(value: Json) -> Tool | None:
    """None for a tool that is not a plain function: the provider's own (web search) and what may come."""
    if value.get("type", "function") != "function" or value.keys() - _TOOL_FIELDS or not string(value.get("name")):
        return None
    if not isinstance(value.get("parameters", {}), dict):
        return None
    return Tool(
        name=value["name"],
        description=string(value.get("description")),
        parameters=value.get("parameters", {}),
        strict=value.get("strict"),
    )


def _tool_choice(fields: Json) -> ToolChoice | None:
    choice = fields.get("tool_choice")
    if choice in ("auto", "none", "required"):
        return ToolChoice(mode=fields.pop("tool_choice"))
    if isinstance(choice, dict) and choice.get("type") == "function" and string(choice.get("name")):
        return ToolChoice(mode="named", name=string(fields.pop("tool_choice")["name"]))
    return None


def _output_format(fields: Json, extra: Json) -> OutputFormat | None:
    text = fields.pop("text", None)
    if not isinstance(text, dict):
        return None
    given = {key: item for key, item in text.items() if item is not None}
    wanted = given.pop("format", None)
    extra.update({f"text.{key}": item for key, item in given.items()})
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "text" or wanted is None:
        return None
    if kind == "json_object":
        return OutputFormat(type="json_object")
    if kind != "json_schema" or wanted.keys() - _FORMAT_FIELDS or not isinstance(wanted.get("schema") or {}, dict):
        extra["text.format"] = wanted
        return None
    return OutputFormat(
        type="json_schema",
        name=string(wanted.get("name")),
        schema=wanted.get("schema") or {},
        strict=wanted.get("strict"),
        description=string(wanted.get("description")),
    )


def _reasoning(fields: Json, extra: Json) -> Reasoning | None:
    """`summary: "auto"` is what every answer gives that shows its reasoning; any other wish is kept."""
    value = fields.pop("reasoning", None)
    if not isinstance(value, dict):
        return None
    given = {key: item for key, item in value.items() if item is not None}
    effort = string(given.pop("effort", None))
    if given.get("summary") == "auto":
        del given["summary"]
    extra.update({f"reasoning.{key}": item for key, item in given.items()})
    return Reasoning(effort="" if effort == "none" else effort, enabled=effort != "none") if effort else None


def _logprobs(fields: Json) -> bool | None:
    wanted = fields.pop("include", None) or []
    rest = [name for name in wanted if name not in (_GIVEN_ANYWAY, LOGPROBS)]
    if rest:
        fields["include"] = rest
    return True if LOGPROBS in wanted else None
