"""A provider that makes use of what it is offered, in the words of any wire: a handler for `Upstream`.

Offered a tool, it calls the first with {"city": "Rome"}; told its result, or offered none, it answers with the usual
words. Asked for JSON, it writes what fits the schema. It makes a vector for each input, no two alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from providers.eventstream import encode_event
from tests.upstream import shapes, wires
from tests.upstream.invoice import Invoice
from tests.upstream.steps import Reply, answer, events

if TYPE_CHECKING:
    from tests.upstream.server import Arrival

JSON_TEXT = '{"city":"Rome"}'
CALL_ID = "call12345"
INPUT_TOKENS, OUTPUT_TOKENS = 20, 6
_RESULTS = (b'"role":"tool"', b'"tool_result"', b'"functionResponse"', b'"toolResult"')
_FORMATS = (b'"response_format"', b'"output_config"', b'"responseJsonSchema"', b'"responseSchema"', b'"outputConfig"')
_Called = Callable[[str, bool], list[bytes]]


def reply_to(arrival: Arrival, invoice: Invoice) -> Reply:
    """The reply to any request; what offers nothing is answered as `shapes` does."""
    wire = wires.shape_of(arrival.path)
    if arrival.method == "GET" or wire is None:
        return shapes.reply_to(arrival, invoice)
    body = msgspec.json.decode(arrival.body)
    if isinstance(wire, wires.Embeddings | wires.CohereEmbed | wires.BatchEmbed):
        return answer(body=msgspec.json.encode(_vectors(wire, body)))
    name = _offered(body)
    stream = wire.streams(body, arrival.path)
    if name and not any(result in arrival.body for result in _RESULTS):
        return _sent(_CALLED[_family(wire)](name, stream), stream)
    if any(asked in arrival.body for asked in _FORMATS):
        return _json(arrival, wire, body)
    return shapes.reply_to(arrival, invoice)


def _sent(frames: list[bytes], stream: bool) -> Reply:
    return events(frames) if stream else answer(body=b"".join(frames))


def _json(arrival: Arrival, wire: wires.Shape, body: dict[str, Any]) -> Reply:
    asked = shapes.Asked(
        wire=wire,
        model=wire.model(body, arrival.path),
        stream=wire.streams(body, arrival.path),
        with_usage=wire.tells_usage(body),
        words=(_fitting(body),),
        capped=False,
        input_tokens=INPUT_TOKENS,
        request_id=f"req_fake_{arrival.number}",
    )
    if not asked.stream:
        return answer(body=wire.whole(asked))
    return events([*wire.opening(asked), wire.word(asked, 0), *wire.finish(asked), *wire.closing(asked)])


def _fitting(body: dict[str, Any]) -> str:
    """JSON that fits the schema in a request, wherever its wire has it."""
    schema = _schema_in(body) or {}
    made = {name: _MADE[str(held["type"]).lower()] for name, held in schema.get("properties", {}).items()}
    return msgspec.json.encode(made).decode()


def _schema_in(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str) and value.startswith("{"):
        value = msgspec.json.decode(value)  # Bedrock is given its text
    if isinstance(value, dict) and isinstance(value.get("properties"), dict):
        return value
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for item in inside if (found := _schema_in(item))), None)


_MADE = {"string": "Rome", "integer": 7, "number": 0.5, "boolean": True}


def _offered(body: dict[str, Any]) -> str:
    """The name of the first tool of a request, on whichever wire; '' for none."""
    tools = body.get("tools") or (body.get("toolConfig") or {}).get("tools") or []
    if not tools or body.get("tool_choice") in ("none", "NONE"):
        return ""
    tool = tools[0]
    declared = (tool.get("functionDeclarations") or [None])[0]
    held = declared or tool.get("function") or tool.get("toolSpec") or tool
    return str(held["name"])


# --- vectors ----------------------------------------------------------------------------------------------


def _vectors(wire: wires.Shape, body: dict[str, Any]) -> dict[str, Any]:
    inputs = body.get("input") or body.get("texts") or body.get("inputs") or body.get("images") or body.get("requests")
    count = len(inputs) if isinstance(inputs, list) else 1
    vectors = [[0.5 + at, -0.25, 0.125] for at in range(count)]
    if isinstance(wire, wires.CohereEmbed):
        billed = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": INPUT_TOKENS}}
        return {"id": "e1", "embeddings": {"float": vectors}, "texts": body.get("texts") or [], "meta": billed}
    if isinstance(wire, wires.BatchEmbed):
        usage = {"promptTokenCount": INPUT_TOKENS}
        return {"embeddings": [{"values": vector} for vector in vectors], "usageMetadata": usage}
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS}
    return {"id": "e1", "object": "list", "model": "up", "data": data, "usage": usage}


# --- calls of a tool --------------------------------------------------------------------------------------


def _frame(value: Any, *, event: str = "") -> bytes:
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"


def _chat(name: str, stream: bool) -> list[bytes]:
    function = {"name": name, "arguments": JSON_TEXT}
    call = {"id": CALL_ID, "type": "function", "function": function}
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    head = {"id": "c1", "created": 1, "model": "up"}
    if not stream:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return [msgspec.json.encode({**head, "object": "chat.completion", "choices": [choice], "usage": usage})]
    first = {**call, "index": 0, "function": {"name": name, "arguments": ""}}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": [first]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in _PIECES]
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
    head |= {"object": "chat.completion.chunk"}
    chunks = [_frame({**head, "choices": choice}) for choice in choices]
    return [*chunks, _frame({**head, "choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def _mistral(name: str, stream: bool) -> list[bytes]:
    """The whole call in one piece, beside the finish reason and the usage."""
    whole = msgspec.json.decode(_chat(name, False)[0])
    if not stream:
        return [msgspec.json.encode(whole)]
    (choice,) = whole.pop("choices")
    chosen = {"index": 0, "delta": choice["message"], "finish_reason": "tool_calls"}
    return [_frame(whole | {"object": "chat.completion.chunk", "choices": [chosen]}), b"data: [DONE]\n\n"]


def _messages(name: str, stream: bool) -> list[bytes]:
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "up"}
    block = {"type": "tool_use", "id": CALL_ID, "name": name}
    stopped = {"stop_reason": "tool_use", "stop_sequence": None}
    if not stream:
        content = [{**block, "input": msgspec.json.decode(JSON_TEXT)}]
        return [msgspec.json.encode({**message, **stopped, "content": content, "usage": usage})]
    begun = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _PIECES]
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stopped, "usage": usage},
        {"type": "message_stop"},
    ]
    return [_frame(value, event=value["type"]) for value in told]


def _generate(name: str, stream: bool) -> list[bytes]:
    part = {"functionCall": {"name": name, "args": msgspec.json.decode(JSON_TEXT)}}
    total = INPUT_TOKENS + OUTPUT_TOKENS
    usage = {"promptTokenCount": INPUT_TOKENS, "candidatesTokenCount": OUTPUT_TOKENS, "totalTokenCount": total}
    candidate = {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [part]}}
    whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "up", "responseId": "r1"}
    return [_frame(whole) if stream else msgspec.json.encode(whole)]


def _cohere(name: str, stream: bool) -> list[bytes]:
    tokens = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
    ended = {"finish_reason": "TOOL_CALL", "usage": {"billed_units": tokens, "tokens": tokens}}
    call = {"id": CALL_ID, "type": "function", "function": {"name": name, "arguments": JSON_TEXT}}
    if not stream:
        message = {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [call]}
        return [msgspec.json.encode({"id": "c1", "message": message, **ended})]
    first = {**call, "function": {"name": name, "arguments": ""}}
    pieces = [{"function": {"arguments": piece}} for piece in _PIECES]
    told: list[dict[str, Any]] = [
        {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant"}}},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will look."}}},
        {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": first}}},
        *({"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": piece}}} for piece in pieces),
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "id": "c1", "delta": ended},
    ]
    return [_frame(value, event=value["type"]) for value in told]


def _converse(name: str, stream: bool) -> list[bytes]:
    total = INPUT_TOKENS + OUTPUT_TOKENS
    usage = {"inputTokens": INPUT_TOKENS, "outputTokens": OUTPUT_TOKENS, "totalTokens": total}
    call = {"toolUseId": CALL_ID, "name": name}
    if not stream:
        content = [{"toolUse": {**call, "input": msgspec.json.decode(JSON_TEXT)}}]
        output = {"message": {"role": "assistant", "content": content}}
        return [msgspec.json.encode({"output": output, "stopReason": "tool_use", "usage": usage})]
    pieces = [{"toolUse": {"input": piece}} for piece in _PIECES]
    told: list[tuple[str, dict[str, Any]]] = [
        ("messageStart", {"role": "assistant"}),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": call}}),
        *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": piece}) for piece in pieces),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}}),
    ]
    return [encode_event(event=event, data=msgspec.json.encode(value)) for event, value in told]


_PIECES = (JSON_TEXT[:5], JSON_TEXT[5:])
_CALLED: dict[type[wires.Shape], _Called] = {
    wires.Chat: _chat,
    wires.Unasked: _mistral,
    wires.Messages: _messages,
    wires.Generate: _generate,
    wires.CohereChat: _cohere,
    wires.Converse: _converse,
}


def _family(wire: wires.Shape) -> type[wires.Shape]:
    """The vendor's wire, of which a shape may be a variety. KeyError where none of them is known to call tools."""
    return next(kind for kind in type(wire).__mro__ if kind in _CALLED)
