"""The unified request -> a body for Anthropic.

What the wire cannot say is refused by name, or left out where the client asked for that. Two translations are
choices of ours:

- System and developer messages become the top-level `system`, also those in the middle of a conversation: every model
  takes them there, while `role: "system"` inside `messages` is refused by the older models and is bound to places
  that other wires do not keep. A request that came from this wire keeps them where its client put them.
- An effort becomes `output_config.effort` and nothing more: which models think by budget and which adaptively is for
  the adapter to know, not for the wire.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from providers.errors import Unsupported
from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    Json,
    Message,
    OpaquePart,
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
from providers.wire import websearch
from providers.wire.anthropic_messages import blocks
from providers.wire.anthropic_messages.blocks import NAME
from providers.wire.anthropic_messages.jsontext import dumps
from providers.wire.anthropic_messages.request import SERVICE_TIERS

# The wire demands a cap. The relay sets one from the catalog; this stands in where nobody did.
DEFAULT_MAX_TOKENS = 4096

_EFFORTS = {"minimal": "low"}
_CHOICES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}
_TIERS = {unified: own for own, unified in SERVICE_TIERS.items()} | {"auto": "auto", "standard_only": "standard_only"}
# https://platform.claude.com/docs/en/api/messages: ids match ^[a-zA-Z0-9_-]+$, other providers write dots and colons.
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")

Turn = tuple[str, list[Json]]


class _Writer(Struct, frozen=True):
    """How to treat what cannot be said, and whose words the request is made of.

    own: fields of `extra`, file ids and the like are this wire's. in_place: a client of this wire placed the messages.
    """

    drop: bool
    own: bool
    in_place: bool

    def cannot(self, param: str, why: str) -> None:
        if not self.drop:
            raise Unsupported(f'{param}: {why}. Leave it out, or set "drop_unsupported": true.', param=param)


def encode_request(request: Request, *, drop_unsupported: bool = False) -> bytes:
    """The body. Raises Unsupported(param) for what this wire cannot say, unless `drop_unsupported`."""
    writer = _Writer(drop=drop_unsupported, own=request.wire in ("", NAME), in_place=request.wire == NAME)
    _refuse_foreign(request, writer)
    system, turns = _conversation(request.messages, writer)
    cap = request.max_output_tokens
    body: Json = {"model": request.model, "max_tokens": DEFAULT_MAX_TOKENS if cap is None else cap}
    if system:
        body["system"] = blocks.short(system)
    body["messages"] = [_message(role, content) for role, content in turns]
    body |= _sampling(request, writer)
    body |= _tools(request)
    body |= _thinking(request.reasoning)
    if request.output_format is not None:
        _output_format(request, body, writer)
    if request.stream:
        body["stream"] = True
    _add_extra(request, body, writer)
    return dumps(body)


def _refuse_foreign(request: Request, writer: _Writer) -> None:
    """Fields of other wires that have no word here. Values that mean the default are no reason to refuse."""
    if request.n > 1:
        writer.cannot("n", "this provider gives one answer a request")
    for name in ("seed", "top_logprobs", "logprobs", "presence_penalty", "frequency_penalty"):
        value = getattr(request, name)
        if value is not None and (value or name == "seed"):
            writer.cannot(name, "this provider does not offer it")


# --- messages ---------------------------------------------------------------------------------------------


def _conversation(messages: tuple[Message, ...], writer: _Writer) -> tuple[list[Json], list[Turn]]:
    """(system blocks, turns). Consecutive messages of one role are one turn, as the wire wants them."""
    system: list[Json] = []
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        # A tool's name on its result only repeats what the call's id says.
        if message.name and message.role != "tool":
            writer.cannot(f"{path}.name", "a message cannot name its author here")
        content = list(_blocks(message.parts, path, writer))
        role = _ROLES[message.role]
        if role == "system" and not _is_whole(content) and not (writer.in_place and turns):
            system.extend(content)
        elif content or role != "assistant":
            _append(turns, role, content)
    if not turns:
        writer.cannot("messages", "at least one user or assistant message is needed besides the system prompt")
        return [], [("user", system)]
    return system, turns


_ROLES = {"system": "system", "developer": "system", "user": "user", "tool": "user", "assistant": "assistant"}


def _append(turns: list[Turn], role: str, content: list[Json]) -> None:
    joined = turns and turns[-1][0] == role and not _is_whole(content) and not _is_whole(turns[-1][1])
    if joined:
        turns[-1][1].extend(content)
    else:
        turns.append((role, content))


def _is_whole(content: list[Json]) -> bool:
    """Whether the content is one whole message that was kept as its client wrote it."""
    return len(content) == 1 and "role" in content[0]


def _message(role: str, content: list[Json]) -> Json:
    return content[0] if _is_whole(content) else {"role": role, "content": blocks.short(content)}


def _blocks(parts: Iterable[Part], path: str, writer: _Writer) -> Iterable[Json]:
    for index, part in enumerate(parts):
        block = _block(part, f"{path}.content[{index}]", writer)
        # The wire refuses empty text, which other wires send beside tool calls.
        if block is not None and block != {"type": "text", "text": ""}:
            yield block


def _block(part: Part, path: str, writer: _Writer) -> Json | None:
    match part:
        case TextPart():
            return _text(part, path, writer)
        case ImagePart():
            return _image(part, path, writer)
        case FilePart():
            return _file(part, path, writer)
        case ReasoningPart():
            return _reasoning(part, path, writer)
        case RefusalPart():
            return {"type": "text", "text": part.text}
        case ToolCallPart():
            return blocks.tool_use_block(part) | {"id": _id(part.id, writer)}
        case ToolResultPart():
            content = list(_blocks(part.parts, path, writer))
            return blocks.tool_result_block(part, content) | {"tool_use_id": _id(part.id, writer)}
        case OpaquePart() if part.wire == NAME:
            return part.value
        case OpaquePart():
            writer.cannot(path, f"a part of the {part.wire} wire has no counterpart here")
        case AudioPart():
            writer.cannot(path, "this provider takes no audio")
    return None


def _text(part: TextPart, path: str, writer: _Writer) -> Json:
    if not all(map(blocks.says_citation, part.citations)):
        writer.cannot(f"{path}.citations", "the citations of another provider are not accepted back here")
        kept = tuple(value for value in part.citations if blocks.says_citation(value))
        part = TextPart(part.text, cache_control=part.cache_control, citations=kept)
    return blocks.text_block(part)


def _image(part: ImagePart, path: str, writer: _Writer) -> Json:
    # The provider always reads an image in full, which is what "high" and "auto" ask for.
    if part.detail not in ("", "auto", "high"):
        writer.cannot(f"{path}.detail", f"detail {part.detail!r} cannot be asked for here")
    return blocks.image_block(part)


def _file(part: FilePart, path: str, writer: _Writer) -> Json | None:
    if part.file_id and not writer.own:
        writer.cannot(f"{path}.file_id", "a file id of another provider means nothing here")
        return None
    for name in part.extra.keys() - {"context", "citations"}:
        writer.cannot(f"{path}.{name}", "a document has no such field here")
    block = blocks.document_block(part)
    if block is None:
        writer.cannot(path, f"a document must be a PDF or UTF-8 text, not {part.media_type!r}")
    return block


def _reasoning(part: ReasoningPart, path: str, writer: _Writer) -> Json | None:
    if not part.signature and not part.redacted:
        writer.cannot(path, "reasoning without this provider's signature is not accepted back")
        return None
    return blocks.reasoning_block(part)


def _id(call_id: str, writer: _Writer) -> str:
    return call_id if writer.in_place else _NOT_IN_ID.sub("_", call_id)


# --- settings ---------------------------------------------------------------------------------------------


def _sampling(request: Request, writer: _Writer) -> Json:
    said: Json = {}
    if request.temperature is not None and request.temperature > 1:
        writer.cannot("temperature", f"{request.temperature!r} is above this provider's highest, 1")
    elif request.temperature is not None:
        said["temperature"] = request.temperature
    if request.top_p is not None:
        said["top_p"] = request.top_p
    if request.top_k is not None:
        said["top_k"] = request.top_k
    if request.stop:
        said["stop_sequences"] = list(request.stop)
    if request.service_tier:
        said |= _service_tier(request.service_tier, writer)
    # Another wire's `metadata` is the gateway's own (its tags are in the books); only the user goes on.
    metadata = dict(request.metadata) if writer.own else {}
    if request.user:
        metadata["user_id"] = request.user
    if metadata:
        said["metadata"] = metadata
    return said


def _service_tier(tier: str, writer: _Writer) -> Json:
    said = tier if writer.own and tier not in _TIERS else _TIERS.get(tier, "")
    if not said:
        writer.cannot("service_tier", f"tier {tier!r} is not offered by this provider")
        return {}
    return {"service_tier": said}


def _tools(request: Request) -> Json:
    options: dict[str, Json] = {}
    others: list[Json] = []
    if request.wire in ("", NAME):
        for tool in request.extra.get("tools", ()):
            # An entry without a type holds the options of the function of that name.
            if "type" in tool:
                others.append(tool)
            else:
                options[str(tool.get("name"))] = tool
    tools = [_tool(tool) | options.get(tool.name, {}) for tool in request.tools] + others
    if not tools:
        return {}
    choice = _tool_choice(request.tool_choice, request.parallel_tool_calls)
    return {"tools": tools} | ({"tool_choice": choice} if choice else {})


def _tool(tool: Tool) -> Json:
    said: Json = {"name": tool.name}
    if tool.description:
        said["description"] = tool.description
    said["input_schema"] = tool.parameters or {"type": "object", "properties": {}}
    if tool.strict is not None:
        said["strict"] = tool.strict
    if tool.cache_control is not None:
        said["cache_control"] = tool.cache_control
    return said


def _tool_choice(choice: ToolChoice | None, parallel: bool | None) -> Json | None:
    if choice is None and parallel is None:
        return None
    mode = choice.mode if choice else "auto"
    said: Json = {"type": _CHOICES[mode]}
    if mode == "named" and choice:
        said["name"] = choice.name
    if parallel is not None and mode != "none":
        said["disable_parallel_tool_use"] = not parallel
    return said


def _thinking(reasoning: Reasoning | None) -> Json:
    if reasoning is None:
        return {}
    said: Json = {}
    if not reasoning.enabled or reasoning.effort == "none":
        said["thinking"] = {"type": "disabled"}
    elif reasoning.budget_tokens is not None:
        said["thinking"] = {"type": "enabled", "budget_tokens": reasoning.budget_tokens}
    elif reasoning.adaptive or not reasoning.effort:
        said["thinking"] = {"type": "adaptive"}
    if reasoning.effort not in ("", "none"):
        said["output_config"] = {"effort": _EFFORTS.get(reasoning.effort, reasoning.effort)}
    return said


def _output_format(request: Request, body: Json, writer: _Writer) -> None:
    wanted = request.output_format
    if wanted is None or wanted.type != "json_schema":
        writer.cannot("response_format", "this provider writes JSON only by a schema: use json_schema")
        return
    config = body.setdefault("output_config", {})
    config["format"] = {"type": "json_schema", "schema": wanted.schema}


def _add_extra(request: Request, body: Json, writer: _Writer) -> None:
    """The fields of this wire that the unified request could not hold; those of another wire are refused."""
    for name, value in request.extra.items():
        if not writer.own and websearch.is_bare(name, value):
            body["tools"] = [*body.get("tools", ()), websearch.ANTHROPICS]
        elif not writer.own:
            writer.cannot(name, "what it says has no counterpart at this provider")
        elif name == "tools":
            continue  # already placed among the functions
        elif isinstance(value, dict) and isinstance(body.get(name), dict):
            body[name] = body[name] | value
        else:
            body[name] = value
