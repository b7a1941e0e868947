"""The unified Request -> a body of /api/chat. https://docs.ollama.com/api/chat"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from providers.errors import InvalidRequest
from providers.unified import (
    ImagePart,
    Json,
    Message,
    Part,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    Request,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    named,
)
from providers.wire import tiers
from providers.wire.jsontext import dumps
from providers.wire.ollama.parts import NAME, encode_call
from providers.wire.openai_chat.parts import plain_tool, unsupported
from providers.wire.openai_chat.request_out import effort_of_budget

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium"}
# Unified field -> the option that Ollama calls it.
OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "max_output_tokens": "num_predict",
}
# Fields that only Ollama has: the clients of other wires can send them beside their own (`extra_body`).
OWN_FIELDS = frozenset({"keep_alive", "options", "truncate", "shift"})


class _Writer:
    """One request on its way out: whether what cannot be said may be dropped, and the tools called so far."""

    def __init__(self, request: Request, drop_unsupported: bool) -> None:
        self.request = request
        self.drop = drop_unsupported
        self.called: dict[str, str] = {}

    def cannot(self, what: str, param: str) -> None:
        if not self.drop:
            raise unsupported(what, param)


def encode_request(request: Request, *, defaults: Json, drop_unsupported: bool) -> bytes:
    """Raises Unsupported(param) for what Ollama cannot be told, unless `drop_unsupported`."""
    writer = _Writer(request, drop_unsupported)
    # Streaming is what this server does unless it is told not to.
    body: Json = {"model": request.model, "messages": list(_messages(writer)), "stream": request.stream}
    _add_tools(body, writer)
    _add_options(body, writer)
    _add_extra(body, writer, defaults)
    return dumps(body)


# --- messages ---------------------------------------------------------------------------------------------


def _messages(writer: _Writer) -> Iterator[Json]:
    """Tool results become messages of their own, before what else their message says."""
    for index, message in enumerate(writer.request.messages):
        path = f"messages[{index}]"
        if message.name and message.role != "tool":
            writer.cannot("the name of a message's author", f"{path}.name")
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        rest: list[Part] = [part for part in message.parts if not isinstance(part, ToolResultPart)]
        for result in results:
            yield _tool_message(writer, result, path)
        if rest or not results:
            yield _plain(writer, message, rest, path)


def _tool_message(writer: _Writer, result: ToolResultPart, path: str) -> Json:
    """A result names its tool: models are told of tools by their names, and ids are newer."""
    said = _said(writer, list(result.parts), path)
    if result.is_error:
        # Ollama has no mark for a failed tool: the model reads it.
        said["content"] = f"Error: {said['content']}"
    named = {"tool_name": writer.called[result.id]} if result.id in writer.called else {}
    return {"role": "tool", **said, **named, "tool_call_id": result.id}


def _plain(writer: _Writer, message: Message, parts: list[Part], path: str) -> Json:
    role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
    if role != "assistant":
        return {"role": role, **_said(writer, parts, path)}
    calls = [part for part in parts if isinstance(part, ToolCallPart)]
    thoughts = [part for part in parts if isinstance(part, ReasoningPart)]
    rest: list[Part] = [part for part in parts if not isinstance(part, ToolCallPart | ReasoningPart)]
    value = {"role": role, **_said(writer, rest, path)}
    # What is sealed for the provider that thought it has no text.
    thinking = "".join(part.text for part in thoughts)
    if thinking:
        value["thinking"] = thinking
    if calls:
        value["tool_calls"] = [encode_call(part) for part in calls]
        writer.called.update({part.id: part.name for part in calls})
    return value


def _said(writer: _Writer, parts: list[Part], path: str) -> Json:
    """Content is one text on this wire, and images are a list of base64 beside it."""
    texts: list[str] = []
    images: list[str] = []
    for at, part in enumerate(parts):
        place = f"{path}.content[{at}]"
        match part:
            case TextPart() | RefusalPart():
                texts.append(part.text)
            case ImagePart() if part.data:
                images.append(part.data)
            case ImagePart():
                writer.cannot("an image by its URL", place)
            case _:
                writer.cannot(f"{named(part)} here", place)
    return {"content": "\n".join(texts), **({"images": images} if images else {})}


# --- tools and options ------------------------------------------------------------------------------------


def _add_tools(body: Json, writer: _Writer) -> None:
    """A model is never made to call a tool here; it can be kept from it by being told of none."""
    request = writer.request
    choice, tools = request.tool_choice, request.tools
    if choice is not None and choice.mode in ("required", "named"):
        writer.cannot(f"the tool choice {choice.mode!r}", "tool_choice")
    if choice is not None and choice.mode == "none":
        tools = ()
    if request.parallel_tool_calls is False and tools:
        writer.cannot("'parallel_tool_calls': false", "parallel_tool_calls")
    if any(tool.strict for tool in tools):
        writer.cannot("strict tools", "tools")
    if tools:
        body["tools"] = [plain_tool(tool) for tool in tools]


def _add_options(body: Json, writer: _Writer) -> None:
    request = writer.request
    stated: Json = {name: getattr(request, field) for field, name in OPTIONS.items()}
    options = {name: value for name, value in stated.items() if value is not None}
    if request.stop:
        options["stop"] = list(request.stop)
    if options:
        body["options"] = options
    if request.output_format is not None:
        body["format"] = request.output_format.schema if request.output_format.type == "json_schema" else "json"
    body.update(_thinking(request.reasoning))
    if request.logprobs is not None:
        body["logprobs"] = request.logprobs
    if request.top_logprobs is not None:
        body["top_logprobs"] = request.top_logprobs
    if request.n != 1:
        writer.cannot("'n' other than 1", "n")
    if request.user:
        writer.cannot("'user'", "user")
    if request.service_tier.lower() not in tiers.USUAL:
        writer.cannot(f"the service tier {request.service_tier!r}", "service_tier")
    # Another wire's `metadata` is the gateway's own: its tags are in the books.


def _thinking(value: Reasoning | None) -> Json:
    """Levels are for the models that know them; others take any level as yes. Saying nothing leaves it to the model."""
    if value is None:
        return {}
    if not value.enabled:
        return {"think": False}
    if value.effort:
        return {"think": _EFFORTS.get(value.effort, "high")}
    if value.budget_tokens is not None:
        return {"think": effort_of_budget(value.budget_tokens)}
    return {} if value.adaptive else {"think": True}


def _add_extra(body: Json, writer: _Writer, defaults: Json) -> None:
    """Ollama's own fields, the client's before the provider row's; any other field is refused by name."""
    own: Json = {}
    for name, value in writer.request.extra.items():
        if name in OWN_FIELDS or writer.request.wire == NAME:
            own[name] = value
        else:
            writer.cannot(f"{name!r}", name)
    given = own.pop("options", None)
    if given is not None and not isinstance(given, dict):
        raise InvalidRequest("'options' must be an object.", param="$.options")
    options: dict[str, Any] = {**defaults.get("options", {}), **(given or {}), **body.get("options", {})}
    if options:
        body["options"] = options
    body.update({name: value for name, value in defaults.items() if name != "options"} | own)
