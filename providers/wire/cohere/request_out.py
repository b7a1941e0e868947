"""The unified Request -> a chat body for Cohere. https://docs.cohere.com/reference/chat"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from providers.errors import Unsupported
from providers.unified import (
    FilePart,
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
)
from providers.wire import tiers
from providers.wire.cohere.parts import NAME, encode_block, encode_citation, encode_document, encode_tool_call
from providers.wire.openai_chat.parts import plain_tool, unsupported

# An effort in tokens of thinking; more than the last has no bound of its own.
_BUDGETS = {"minimal": 1_024, "low": 4_096, "medium": 16_384}
_IN_MESSAGE = re.compile(r"messages\[(\d{1,5})\]\.(.+)")
_SAME_NAME = ("temperature", "seed", "frequency_penalty", "presence_penalty", "logprobs")


class _Writer:
    """One request on its way out, and whether what cannot be said may be dropped."""

    def __init__(self, request: Request, drop_unsupported: bool) -> None:
        self.request = request
        self.drop = drop_unsupported
        self.documents: list[Json] = []

    def cannot(self, what: str, param: str) -> None:
        self.refuse(unsupported(what, param))

    def refuse(self, error: Unsupported) -> None:
        if not self.drop:
            raise error

    def block(self, part: Part, path: str) -> Iterator[Json]:
        try:
            yield encode_block(part, path)
        except Unsupported as error:
            self.refuse(error)

    def document(self, part: FilePart, path: str) -> Iterator[Json]:
        try:
            yield encode_document(part, path)
        except Unsupported as error:
            self.refuse(error)


def encode_request(request: Request, *, drop_unsupported: bool) -> bytes:
    """Raises Unsupported(param) for what Cohere cannot be told, unless `drop_unsupported`."""
    writer = _Writer(request, drop_unsupported)
    body: Json = {"model": request.model, "messages": list(_messages(writer))}
    if writer.documents:
        body["documents"] = writer.documents
    _add_options(body, writer)
    _add_tools(body, writer)
    _add_extra(body, writer)
    if request.stream:
        body["stream"] = True
    return msgspec.json.encode(body)


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
        if message.role == "assistant":
            yield _assistant(writer, rest, path)
        elif rest or not results:
            yield _plain(writer, message, rest, path)


def _plain(writer: _Writer, message: Message, parts: list[Part], path: str) -> Json:
    """Text files of a user are documents, which stand beside the messages and can be cited."""
    role = "user" if message.role in ("user", "tool") else "system"
    said: list[Json] = []
    for at, part in enumerate(parts):
        if isinstance(part, FilePart) and role == "user":
            writer.documents += writer.document(part, f"{path}.content[{at}]")
        else:
            said += writer.block(part, f"{path}.content[{at}]")
    return {"role": role, "content": _content(said)}


def _content(said: list[Json]) -> str | list[Json]:
    """A lone text as a string, anything else as a list of blocks."""
    if len(said) == 1 and said[0].keys() == {"type", "text"}:
        return str(said[0]["text"])
    return said or ""


def _tool_message(writer: _Writer, result: ToolResultPart, path: str) -> Json:
    said: list[Json] = []
    for at, part in enumerate(result.parts):
        place = f"{path}.content[{at}]"
        if isinstance(part, FilePart):
            said += ({"type": "document", "document": value} for value in writer.document(part, place))
        elif isinstance(part, TextPart):
            said += writer.block(part, place)
        else:
            writer.cannot("an image in a tool result", place)
    if result.is_error:
        # Cohere has no mark for a failed tool: the model reads it.
        said = [{"type": "text", "text": "Error:"}, *said]
    return {"role": "tool", "tool_call_id": result.id, "content": _content(said)}


def _assistant(writer: _Writer, parts: list[Part], path: str) -> Json:
    """Beside calls of tools, text is the plan for them: Cohere keeps no other text in such a message."""
    calls = [encode_tool_call(part) for part in parts if isinstance(part, ToolCallPart)]
    plan = ""
    said: list[Json] = []
    citations: list[Json] = []
    for at, part in enumerate(parts):
        match part:
            case ToolCallPart():
                continue
            case ReasoningPart() if not part.text:
                continue  # sealed for the provider that thought it
            case TextPart() | RefusalPart() if calls:
                plan += part.text
            case _:
                said += writer.block(part, f"{path}.content[{at}]")
        if isinstance(part, TextPart):
            kept = (encode_citation(citation) for citation in part.citations)
            citations += [citation for citation in kept if citation is not None]
    value: Json = {"role": "assistant"}
    if said or not calls:
        value["content"] = _content(said)
    if plan:
        value["tool_plan"] = plan
    if calls:
        value["tool_calls"] = calls
    if citations:
        value["citations"] = citations
    return value


# --- options ----------------------------------------------------------------------------------------------


def _add_options(body: Json, writer: _Writer) -> None:
    request = writer.request
    stated = {name: getattr(request, name) for name in _SAME_NAME}
    stated |= {"max_tokens": request.max_output_tokens, "p": request.top_p, "k": request.top_k}
    body.update({name: value for name, value in stated.items() if value is not None})
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.output_format is not None:
        schema = request.output_format.schema if request.output_format.type == "json_schema" else None
        body["response_format"] = {"type": "json_object", **({"json_schema": schema} if schema is not None else {})}
    if request.reasoning is not None:
        body["thinking"] = _thinking(request.reasoning, cap=request.max_output_tokens)
    if request.n != 1:
        writer.cannot("'n' other than 1", "n")
    if request.top_logprobs:
        writer.cannot("'top_logprobs'", "top_logprobs")
    if request.user:
        writer.cannot("'user'", "user")
    if request.service_tier.lower() not in tiers.USUAL:
        writer.cannot(f"the service tier {request.service_tier!r}", "service_tier")
    # Another wire's `metadata` is the gateway's own: its tags are in the books.


def _thinking(value: Reasoning, *, cap: int | None) -> Json:
    """Efforts are budgets here, of which at least half of the whole output is left for the answer."""
    if not value.enabled:
        return {"type": "disabled"}
    budget = value.budget_tokens
    if budget is None and value.effort in _BUDGETS:
        budget = _BUDGETS[value.effort]
        budget = min(budget, max(1, cap // 2)) if cap else budget
    return {"type": "enabled", **({"token_budget": budget} if budget is not None else {})}


# --- tools and the rest -----------------------------------------------------------------------------------


def _add_tools(body: Json, writer: _Writer) -> None:
    """Cohere cannot be made to call one tool out of several: it is offered that one alone, and must call a tool."""
    request = writer.request
    choice, tools = request.tool_choice, request.tools
    if choice is not None and choice.mode == "named":
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        if not tools:
            raise Unsupported(f"'tool_choice' names {choice.name!r}, which is none of the tools.", param="tool_choice")
    if tools:
        body["tools"] = [plain_tool(tool) for tool in tools]
    strict = {bool(tool.strict) for tool in tools}
    if strict == {True}:
        body["strict_tools"] = True
    elif True in strict:
        writer.cannot("tools of which only some are strict", "tools")
    if choice is not None and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if request.wants_one_call and tools:
        writer.cannot("'parallel_tool_calls': false", "parallel_tool_calls")


def _add_extra(body: Json, writer: _Writer) -> None:
    """The client's other fields go back where they stood; fields of another wire are refused by name."""
    for name, value in writer.request.extra.items():
        inside = _IN_MESSAGE.fullmatch(name)
        if writer.request.wire != NAME:
            writer.cannot(f"{name!r}", name)
        elif inside:
            for message in body["messages"][int(inside[1]) :][:1]:
                message[inside[2]] = value
        elif name == "documents":
            body["documents"] = [*writer.documents, *value]
        else:
            body[name] = value
