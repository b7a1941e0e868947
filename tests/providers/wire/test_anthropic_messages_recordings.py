"""Every recorded exchange of the Anthropic messages wire, read in each way there is."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage

from providers.errors import Unsupported
from providers.sse import Decoder, ServerEvent
from providers.unified import Event, Finished, PartDelta, Request, Started, Usage
from providers.wire.anthropic_messages import WIRE
from providers.wire.base import Admitted
from providers.wire.openai_chat import WIRE as CHAT
from tests.providers.wire.test_anthropic_messages_stream import as_client
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes


def _speaks_claude(exchange: Exchange) -> bool:
    on_bedrock = exchange["api"] == "bedrock.invoke" and "anthropic" in exchange["model"]
    return exchange["api"] == "anthropic.messages" or on_bedrock


ALL = exchanges(api="anthropic.messages")
WHOLE = exchanges(failed=False, where=lambda item: _speaks_claude(item) and item["response_format"] == "json")
STREAMS = exchanges(api="anthropic.messages", failed=False, where=lambda item: item["response_format"] == "sse")


def expected(exchange: Exchange) -> dict[str, Any]:
    counts: dict[str, Any] = exchange["expected"]["usage"]
    return counts


def comparable(usage: Usage) -> dict[str, Any]:
    assert usage.source == "reported"
    assert usage.flags == ()
    return dict(usage.totals)


def frames(chunks: list[bytes]) -> list[ServerEvent]:
    decoder = Decoder()
    return [frame for chunk in chunks for frame in decoder.feed(chunk)] + decoder.end()


def events_of(found: list[ServerEvent]) -> list[Event]:
    reader = WIRE.stream_reader()
    return [event for frame in found for event in reader.feed(frame)] + reader.end()


@pytest.mark.parametrize("exchange", cases(ALL))
def test_each_request_is_admitted_and_its_values_pass_untouched(exchange: Exchange) -> None:
    sent = exchange["request_body"]
    admitted = WIRE.admit(request_bytes(exchange))
    assert (admitted.model, admitted.stream) == (sent["model"], bool(sent.get("stream")))
    assert json.loads(WIRE.rewrite(admitted, model="served")) == {**sent, "model": "served"}
    for name, raw in admitted.fields.items():
        assert bytes(raw) in request_bytes(exchange)
        assert json.loads(bytes(raw)) == sent[name]


def normal(value: Any) -> Any:
    """A body as the wire understands it: a string is one text block, null and the defaults are absent."""
    if isinstance(value, list):
        return [normal(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: normal(item) for key, item in value.items() if item is not None and (key, item) not in _DEFAULTS}
    for key in ("content", "system"):
        if isinstance(kept.get(key), str):
            kept[key] = [{"type": "text", "text": kept[key]}]
    return kept


_DEFAULTS = (("is_error", False), ("stream", False), ("caller", {"type": "direct"}), ("description", ""))


@pytest.mark.parametrize("exchange", cases(ALL))
def test_each_request_is_said_again_after_translation(exchange: Exchange) -> None:
    request = WIRE.decode_request(request_bytes(exchange))
    body = WIRE.encode_request(request)
    assert WIRE.decode_request(body) == request
    again, sent = normal(json.loads(body)), normal(exchange["request_body"])
    # Server tools follow the functions.
    for side in (again, sent):
        side["tools"] = sorted(side.get("tools", []), key=lambda tool: str(tool["name"]))
    assert again == sent


@pytest.mark.parametrize("exchange", cases(WHOLE))
def test_each_whole_answer_gives_the_expected_usage(exchange: Exchange) -> None:
    usage, model = WIRE.read_usage(answer_bytes(exchange))
    answer = WIRE.decode_answer(answer_bytes(exchange))
    assert comparable(usage) == comparable(answer.usage) == expected(exchange)
    assert model == answer.model == json.loads(answer_bytes(exchange))["model"]


@pytest.mark.parametrize("exchange", cases(WHOLE))
def test_each_whole_answer_is_said_again_after_translation(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    body = WIRE.encode_answer(answer)
    AnthropicMessage.model_validate_json(body)
    assert WIRE.decode_answer(body) == answer
    assert normal(json.loads(body)) == normal(json.loads(answer_bytes(exchange)))


@pytest.mark.parametrize("exchange", cases(STREAMS))
def test_each_stream_gives_the_expected_usage_and_passes_byte_for_byte(exchange: Exchange) -> None:
    data = answer_bytes(exchange)
    meter = WIRE.stream_meter(admitted=Admitted(model="m", stream=True, fields={}))
    found = frames([data])
    verdicts = [meter.see(frame) for frame in found]
    assert b"".join(frame.raw for frame in found) == data
    assert verdicts == ["forward"] * (len(found) - 1) + ["last"]
    assert meter.complete
    assert comparable(meter.usage) == expected(exchange)
    assert meter.model == json.loads(found[0].data)["message"]["model"]
    finished = events_of(found)[-1]
    assert isinstance(finished, Finished)
    assert comparable(finished.usage) == expected(exchange)


@pytest.mark.parametrize("exchange", cases(STREAMS))
def test_each_stream_reads_the_same_however_it_is_cut(exchange: Exchange) -> None:
    data = answer_bytes(exchange)
    whole = events_of(frames([data]))
    dice = random.Random(1)
    for at in [*dice.sample(range(len(data)), 40), 1, len(data) - 1]:
        assert events_of(frames([data[:at], data[at:]])) == whole
    for version in (data, data.replace(b"\n", b"\r\n")):
        assert events_of(frames([version[at : at + 1] for at in range(len(version))])) == whole


@pytest.mark.parametrize("exchange", cases(STREAMS))
def test_each_stream_written_again_builds_the_same_message_at_the_client(exchange: Exchange) -> None:
    data = answer_bytes(exchange)
    writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    events = events_of(frames([data]))
    again = b"".join(writer.write(event) for event in events) + writer.finish()
    content = [block.model_dump(exclude_none=True, exclude={"caller"}) for block in as_client(again).content]
    original = [block.model_dump(exclude_none=True, exclude={"caller"}) for block in as_client(data).content]
    assert [_bare(block) for block in content] == [_bare(block) for block in original]
    assert as_client(again).stop_reason == as_client(data).stop_reason
    assert _said(events_of(frames([again]))) == _said(events)


def _bare(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if value not in ([], None)}


def _said(events: list[Event]) -> list[Event]:
    """Events but for the frame around them (usage loses its raw object) and deltas that say nothing."""
    return [
        event
        for event in events
        if not isinstance(event, Started | Finished)
        and not (isinstance(event, PartDelta) and not (event.text or event.signature or event.citation))
    ]


ASKED = exchanges(
    api="chat", failed=False, where=lambda item: "messages" in item["request_body"] and "model" in item["request_body"]
)


@pytest.mark.parametrize("exchange", cases(ASKED))
def test_each_chat_request_is_said_on_this_wire_or_refused_by_name(exchange: Exchange) -> None:
    request = CHAT.decode_request(request_bytes(exchange))
    body = WIRE.encode_request(request, drop_unsupported=True)
    refused = _refused_param(request)
    # What is not refused loses nothing by the permission to drop.
    assert refused or body == WIRE.encode_request(request)
    said = json.loads(body)
    assert WIRE.admit(body).model == request.model
    assert {message["role"] for message in said["messages"]} <= {"user", "assistant"}
    roles = [message["role"] for message in said["messages"]]
    assert all(before != after for before, after in pairwise(roles))
    assert _calls(said) == [
        call["id"] for message in exchange["request_body"]["messages"] for call in message.get("tool_calls") or ()
    ]


def _refused_param(request: Request) -> str:
    try:
        WIRE.encode_request(request)
    except Unsupported as error:
        return error.param
    return ""


def _calls(body: dict[str, Any]) -> list[str]:
    return [
        block["id"]
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_use"
    ]


ANSWERED = exchanges(api="chat", failed=False, where=lambda item: item["response_format"] in ("json", "sse"))


@pytest.mark.parametrize("exchange", cases(ANSWERED))
def test_each_chat_answer_reaches_a_client_of_this_wire(exchange: Exchange) -> None:
    if exchange["response_format"] == "json":
        answer = CHAT.decode_answer(answer_bytes(exchange))
        message, usage = AnthropicMessage.model_validate_json(WIRE.encode_answer(answer)), answer.usage
    else:
        reader = CHAT.stream_reader()
        events = [event for frame in frames([answer_bytes(exchange)]) for event in reader.feed(frame)] + reader.end()
        writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
        message = as_client(b"".join(writer.write(event) for event in events) + writer.finish())
        usage = reader.usage
    assert message.usage.output_tokens == usage.totals.get("output", 0)
    cached = (message.usage.cache_creation_input_tokens or 0) + (message.usage.cache_read_input_tokens or 0)
    assert message.usage.input_tokens + cached == usage.totals.get("input", 0)
    assert message.stop_reason is not None


def test_a_chat_request_is_written_as_anthropic_documents_it() -> None:
    chat = {
        "model": "claude-sonnet-4-5",
        "max_completion_tokens": 50,
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather here?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Rome"}'}},
                    {"id": "call_2", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "call_2", "content": "no city"},
            {"role": "user", "content": "As JSON."},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "w", "strict": True, "schema": {"type": "object"}},
        },
        "stop": "END",
        "user": "u-1",
    }
    body = json.loads(WIRE.encode_request(CHAT.decode_request(json.dumps(chat).encode())))
    assert body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 50,
        "system": "Be kind.",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather here?"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "call_1", "name": "f", "input": {"city": "Rome"}},
                    {"type": "tool_use", "id": "call_2", "name": "f", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "no city"},
                    {"type": "text", "text": "As JSON."},
                ],
            },
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u-1"},
    }
