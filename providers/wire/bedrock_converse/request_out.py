"""The unified request -> a Converse body. The model and whether it streams stand in the URL, not in the body.

What the wire cannot say is refused by name, or left out where the client asked for that. System and developer messages
become the top-level `system`, also those in the middle of a conversation: every model takes them there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from msgspec import Struct

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
    ToolCallPart,
    ToolResultPart,
)
from providers.wire.bedrock_converse import blocks
from providers.wire.bedrock_converse.blocks import NAME

Turn = tuple[str, list[Json]]

_ROLES = {"system": "system", "developer": "system", "user": "user", "tool": "user", "assistant": "assistant"}
_CHOICES: dict[str, Json] = {"auto": {"auto": {}}, "required": {"any": {}}}
# The words of other wires for the tier that everyone gets; "auto" is said by saying nothing.
_TIERS = {word: word for word in ("default", "flex", "priority")} | {"standard": "default", "standard_only": "default"}
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_MOST_OF_ID = 64
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html: requestMetadata
_METADATA_VALUE = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}")
_ABSENT = ("top_k", "seed", "top_logprobs", "logprobs", "presence_penalty", "frequency_penalty")
# Claude alone has a budget for its thinking; the field is Anthropic's own, which Bedrock hands on to the model.
_THINKS_BY_BUDGET = ("anthropic", "claude")


class _Writer(Struct, frozen=True):
    """How to treat what cannot be said, and whether the words are this wire's own."""

    drop: bool
    own: bool

    def cannot(self, param: str, why: str) -> None:
        if not self.drop:
            raise Unsupported(f'{param}: {why}. Leave it out, or set "drop_unsupported": true.', param=param)


def encode_request(request: Request, *, drop_unsupported: bool = False) -> bytes:
    """The body. Raises Unsupported(param) for what this wire cannot say, unless `drop_unsupported`."""
    writer = _Writer(drop=drop_unsupported, own=request.wire == NAME)
    _refuse_foreign(request, writer)
    system, turns = _conversation(request.messages, writer)
    body: Json = {"messages": [{"role": role, "content": content} for role, content in turns]}
    if system:
        body["system"] = system
    inference = _inference(request)
    if inference:
        body["inferenceConfig"] = inference
    _add_tools(request, body, writer)
    _add_output(request, body, writer)
    _add_thinking(request, body, writer)
    _add_labels(request, body, writer)
    _add_extra(request, body, writer)
    return msgspec.json.encode(body)


def _refuse_foreign(request: Request, writer: _Writer) -> None:
    """Fields of other wires that have no word here. Values that mean the default are no reason to refuse."""
    if request.n > 1:
        writer.cannot("n", "this provider gives one answer a request")
    for name in _ABSENT:
        value = getattr(request, name)
        if value is not None and (value or name in ("seed", "top_k")):
            writer.cannot(name, "this provider does not offer it")
    if request.wants_one_call:
        writer.cannot("parallel_tool_calls", "this provider cannot be told to call one tool at a time")


# --- messages -----------------------------------------------------------------------------------------------


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
        if role == "system":
            system.extend(content)
        elif turns and turns[-1][0] == role:
            turns[-1][1].extend(content)
        elif content:
            turns.append((role, content))
    if not turns:
        writer.cannot("messages", "at least one user or assistant message is needed besides the system prompt")
    return system, turns


def _blocks(parts: Iterable[Part], path: str, writer: _Writer) -> Iterable[Json]:
    for index, part in enumerate(parts):
        block = _block(part, f"{path}.content[{index}]", writer)
        # The wire refuses blank text, which other wires send beside tool calls.
        if block is None or block == {"text": ""}:
            continue
        yield block
        mark = getattr(part, "cache_control", None)
        if mark is not None:
            yield blocks.cache_point(mark)


def _block(part: Part, path: str, writer: _Writer) -> Json | None:
    match part:
        case TextPart():
            return blocks.text_block(part) if writer.own else {"text": part.text}
        case RefusalPart():
            return {"text": part.text}
        case ImagePart():
            return _image(part, path, writer)
        case FilePart():
            return _file(part, path, writer)
        case AudioPart():
            return {"audio": {"format": part.format or "wav", "source": {"bytes": part.data}}}
        case ReasoningPart():
            return _reasoning(part, path, writer)
        case ToolCallPart():
            block = blocks.tool_use_block(part)
            block["toolUse"]["toolUseId"] = _id(part.id, writer)
            return block
        case ToolResultPart():
            return _tool_result(part, path, writer)
        case OpaquePart() if part.wire == NAME:
            return part.value
        case OpaquePart():
            writer.cannot(path, f"a part of the {part.wire} wire has no counterpart here")
    return None


def _image(part: ImagePart, path: str, writer: _Writer) -> Json | None:
    # The provider always reads an image in full, which is what "high" and "auto" ask for.
    if part.detail not in ("", "auto", "high"):
        writer.cannot(f"{path}.detail", f"detail {part.detail!r} cannot be asked for here")
    block = blocks.image_block(part)
    if block is None:
        writer.cannot(path, "this provider fetches no image from an address: send it inline, as base64")
    return block


def _file(part: FilePart, path: str, writer: _Writer) -> Json | None:
    if part.file_id:
        writer.cannot(f"{path}.file_id", "a file id of another provider means nothing here")
        return None
    for name in part.extra.keys() - {"context", "citations"}:
        writer.cannot(f"{path}.{name}", "a document has no such field here")
    kept = {name: part.extra[name] for name in ("context", "citations") if name in part.extra}
    block = blocks.document_block(msgspec.structs.replace(part, extra=kept))
    if block is None:
        writer.cannot(path, "a document must be sent inline, as one of pdf, csv, doc, docx, xls, xlsx, html, txt, md")
    return block


def _reasoning(part: ReasoningPart, path: str, writer: _Writer) -> Json | None:
    if not (part.signature or part.redacted or writer.own):
        writer.cannot(path, "reasoning without this provider's signature is not accepted back")
        return None
    return blocks.reasoning_block(part)


def _tool_result(part: ToolResultPart, path: str, writer: _Writer) -> Json:
    # A cache point has no place inside a result.
    content = [block for block in _blocks(part.parts, path, writer) if "cachePoint" not in block]
    said: Json = {"toolUseId": _id(part.id, writer), "content": content}
    if part.is_error:
        said["status"] = "error"
    return {"toolResult": said}


def _id(call_id: str, writer: _Writer) -> str:
    return call_id if writer.own else _NOT_IN_ID.sub("_", call_id)[:_MOST_OF_ID]


# --- settings -----------------------------------------------------------------------------------------------


def _inference(request: Request) -> Json:
    said: Json = {}
    if request.max_output_tokens is not None:
        said["maxTokens"] = request.max_output_tokens
    if request.temperature is not None:
        said["temperature"] = request.temperature
    if request.top_p is not None:
        said["topP"] = request.top_p
    if request.stop:
        said["stopSequences"] = list(request.stop)
    return said


def _add_tools(request: Request, body: Json, writer: _Writer) -> None:
    choice = request.tool_choice
    if choice is not None and choice.mode == "none":
        if _has_tool_blocks(body["messages"]):
            writer.cannot("tool_choice", "this provider cannot be kept from its tools once they were used")
        else:
            return
    tools: list[Json] = []
    for tool in request.tools:
        schema = tool.parameters or {"type": "object", "properties": {}}
        spec: Json = {"name": tool.name, "inputSchema": {"json": schema}}
        if tool.description:
            spec["description"] = tool.description
        if tool.strict is not None:
            spec["strict"] = tool.strict
        tools.append({"toolSpec": spec})
        if tool.cache_control is not None:
            tools.append(blocks.cache_point(tool.cache_control))
    if writer.own:
        tools += request.extra.get("toolConfig.tools", [])
    if not tools:
        return
    body["toolConfig"] = {"tools": tools}
    if choice is not None and choice.mode == "named":
        body["toolConfig"]["toolChoice"] = {"tool": {"name": choice.name}}
    elif choice is not None and choice.mode in _CHOICES:
        body["toolConfig"]["toolChoice"] = _CHOICES[choice.mode]


def _has_tool_blocks(messages: list[Json]) -> bool:
    return any("toolUse" in block or "toolResult" in block for message in messages for block in message["content"])


def _add_output(request: Request, body: Json, writer: _Writer) -> None:
    wanted = request.output_format
    if wanted is None:
        return
    if wanted.type == "json_object":
        writer.cannot("output_format", "this provider writes JSON only by a schema: give one")
        return
    body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": _schema(wanted)}}}


def _schema(wanted: OutputFormat) -> Json:
    """The schema as JSON text, as the wire has it."""
    said: Json = {"schema": msgspec.json.encode(wanted.schema).decode()}
    if wanted.name:
        said["name"] = wanted.name
    if wanted.description:
        said["description"] = wanted.description
    return said


def _add_thinking(request: Request, body: Json, writer: _Writer) -> None:
    reasoning = request.reasoning
    if reasoning is None:
        return
    if reasoning.enabled and reasoning.effort:
        body.setdefault("outputConfig", {})["effort"] = reasoning.effort
    thinking = _thinking(reasoning)
    if not thinking:
        return
    if any(mark in request.model for mark in _THINKS_BY_BUDGET):
        body["additionalModelRequestFields"] = {"thinking": thinking}
    else:
        writer.cannot("reasoning", "only an effort can be asked of this model")


def _thinking(reasoning: Reasoning) -> Json | None:
    if not reasoning.enabled:
        return {"type": "disabled"}
    if reasoning.budget_tokens is not None:
        return {"type": "enabled", "budget_tokens": reasoning.budget_tokens}
    return {"type": "adaptive"} if reasoning.adaptive or not reasoning.effort else None


def _add_labels(request: Request, body: Json, writer: _Writer) -> None:
    """Tier, user and metadata. Another wire's metadata is the gateway's own (its tags are in the books)."""
    tier = request.service_tier
    if tier and tier != "auto":
        word = tier if writer.own else _TIERS.get(tier, "")
        if word:
            body["serviceTier"] = {"type": word}
        else:
            writer.cannot("service_tier", f"tier {tier!r} is not offered by this provider")
    labels = dict(request.metadata) if writer.own else {}
    if request.user:
        if _METADATA_VALUE.fullmatch(request.user):
            labels["user"] = request.user
        else:
            writer.cannot("user", "this provider takes up to 256 letters, digits and :_@$#=/+,.- for it")
    if labels:
        body["requestMetadata"] = labels


def _add_extra(request: Request, body: Json, writer: _Writer) -> None:
    """The client's other fields go back where they stood; fields of another wire are refused by name."""
    for name, value in request.extra.items():
        if not writer.own:
            writer.cannot(name, "it has no counterpart at this provider")
        elif name == "toolConfig.tools":
            continue
        elif isinstance(value, dict) and isinstance(body.get(name), dict):
            body[name] = {**value, **body[name]}
        else:
            body[name] = value
