"""What a request becomes for Cohere, and what cannot be said to it."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from providers.errors import InvalidRequest, Unsupported
from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    Message,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire import anthropic_messages, bedrock_converse, gemini, openai_chat
from providers.wire.cohere import WIRE

HI = Message(role="user", parts=(TextPart(text="hi"),))
ADD, MUL = Tool(name="add", parameters={"type": "object"}), Tool(name="mul", parameters={"type": "object"})


def encoded(*messages: Message, drop: bool = False, **fields: Any) -> dict[str, Any]:
    request = Request(model="m", messages=messages or (HI,), wire="openai_chat", **fields)
    value: dict[str, Any] = msgspec.json.decode(WIRE.encode_request(request, drop_unsupported=drop))
    return value


def said(role: Any, *parts: Part) -> dict[str, Any]:
    message: dict[str, Any] = encoded(Message(role=role, parts=parts))["messages"][0]
    return message


def test_its_own_names_for_the_usual_options() -> None:
    body = encoded(
        max_output_tokens=9, top_p=0.5, top_k=7, stop=("END",), seed=4, temperature=0.1, presence_penalty=0.2,
        frequency_penalty=0.3, logprobs=True, stream=True,
    )  # fmt: skip
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "p": 0.5,
        "k": 7,
        "stop_sequences": ["END"],
        "seed": 4,
        "temperature": 0.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "logprobs": True,
        "stream": True,
    }


def test_a_developer_is_the_system() -> None:
    assert said("developer", TextPart(text="be brief")) == {"role": "system", "content": "be brief"}


def test_images_by_address_and_inline() -> None:
    parts = (TextPart(text="look"), ImagePart(url="https://h/i.png", detail="low"), ImagePart(data="AAAA"))
    assert said("user", *parts)["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://h/i.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]


def test_text_beside_tool_calls_is_the_plan_for_them() -> None:
    calls = (ToolCallPart(id="c1", name="add", arguments='{"a":1}'), ToolCallPart(id="c2", name="mul", arguments=""))
    assert said("assistant", ReasoningPart(text="hm"), TextPart(text="I will add."), *calls) == {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "hm"}],
        "tool_plan": "I will add.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
            {"id": "c2", "type": "function", "function": {"name": "mul", "arguments": "{}"}},
        ],
    }


def test_thoughts_sealed_by_another_provider_stay_out() -> None:
    assert said("assistant", ReasoningPart(redacted="xyz"), TextPart(text="4"))["content"] == "4"


def test_tool_results_become_messages_before_what_else_is_said() -> None:
    result = ToolResultPart(id="c1", parts=(TextPart(text="5"),), is_error=True)
    messages = encoded(Message(role="user", parts=(result, TextPart(text="go on"))))["messages"]
    assert messages == [
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": [{"type": "text", "text": "Error:"}, {"type": "text", "text": "5"}],
        },
        {"role": "user", "content": "go on"},
    ]


def test_text_files_are_documents() -> None:
    file = FilePart(data=base64.b64encode(b"the facts").decode(), media_type="text/plain", name="facts.txt")
    body = encoded(Message(role="user", parts=(TextPart(text="what?"), file)))
    assert body["documents"] == [{"data": {"text": "the facts", "title": "facts.txt"}, "id": "facts.txt"}]
    assert body["messages"] == [{"role": "user", "content": "what?"}]


RESULT = {
    "role": "tool",
    "tool_call_id": "c1",
    "content": [{"type": "document", "document": {"id": "d1", "data": {"title": "T", "n": 1}}}],
}


@pytest.mark.parametrize("wire", [openai_chat.WIRE, anthropic_messages.WIRE, bedrock_converse.WIRE, gemini.WIRE])
def test_a_tools_document_is_read_as_text_by_every_other_provider(wire: Any) -> None:
    function = {"name": "look", "arguments": "{}"}
    called = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    messages = [{"role": "user", "content": "?"}, called, RESULT]
    asked = {"model": "m", "max_tokens": 9, "tools": tools, "messages": messages}
    sent = wire.encode_request(WIRE.decode_request(msgspec.json.encode(asked)))
    assert rb'{\"title\":\"T\",\"n\":1}' in sent
    assert b"document" not in sent


def test_a_users_documents_come_back_as_they_were() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "documents": ["x", {"data": {"n": 1}}]}
    assert msgspec.json.decode(WIRE.encode_request(WIRE.decode_request(msgspec.json.encode(body)))) == body
    with pytest.raises(Unsupported) as caught:
        openai_chat.WIRE.encode_request(WIRE.decode_request(msgspec.json.encode(body)))
    assert caught.value.param == "documents"


def test_metadata_is_the_gateways_own() -> None:
    fields = {"messages": [{"role": "user", "content": "x"}], "metadata": {"team": "a"}}
    body = msgspec.json.encode({"model": "m", **fields})
    admitted = WIRE.admit(body)
    assert admitted.metadata == {"team": "a"} == WIRE.decode_request(body).metadata
    assert b"metadata" not in WIRE.rewrite(admitted, model="up", max_output_tokens=None)
    assert b"metadata" not in WIRE.encode_request(WIRE.decode_request(body))


@pytest.mark.parametrize(
    ("reasoning", "cap", "thinking"),
    [
        (Reasoning(enabled=False), None, {"type": "disabled"}),
        (Reasoning(budget_tokens=500), None, {"type": "enabled", "token_budget": 500}),
        (Reasoning(effort="low"), None, {"type": "enabled", "token_budget": 4096}),
        (Reasoning(effort="low"), 100, {"type": "enabled", "token_budget": 50}),
        (Reasoning(effort="high"), 100, {"type": "enabled"}),
        (Reasoning(adaptive=True), None, {"type": "enabled"}),
    ],
)
def test_reasoning_is_a_budget(reasoning: Reasoning, cap: int | None, thinking: dict[str, Any]) -> None:
    assert encoded(reasoning=reasoning, max_output_tokens=cap)["thinking"] == thinking


def test_a_schema_and_a_plain_object() -> None:
    schema = {"type": "object", "properties": {}}
    format_ = OutputFormat(type="json_schema", name="n", schema=schema, strict=True)
    assert encoded(output_format=format_)["response_format"] == {"type": "json_object", "json_schema": schema}
    assert encoded(output_format=OutputFormat(type="json_object"))["response_format"] == {"type": "json_object"}


def test_tool_choices() -> None:
    assert "tool_choice" not in encoded(tools=(ADD, MUL), tool_choice=ToolChoice(mode="auto"))
    assert encoded(tools=(ADD, MUL), tool_choice=ToolChoice(mode="required"))["tool_choice"] == "REQUIRED"
    assert encoded(tools=(ADD, MUL), tool_choice=ToolChoice(mode="none"))["tool_choice"] == "NONE"
    named = encoded(tools=(ADD, MUL), tool_choice=ToolChoice(mode="named", name="mul"))
    assert (named["tool_choice"], [tool["function"]["name"] for tool in named["tools"]]) == ("REQUIRED", ["mul"])
    with pytest.raises(Unsupported) as caught:
        encoded(tools=(ADD,), tool_choice=ToolChoice(mode="named", name="mul"))
    assert caught.value.param == "tool_choice"


def test_a_tool_without_parameters_takes_none() -> None:
    (tool,) = encoded(tools=(Tool(name="now"),))["tools"]
    assert tool["function"] == {"name": "now", "parameters": {"type": "object", "properties": {}}}


def test_strict_tools_are_all_strict_or_none() -> None:
    strict = msgspec.structs.replace(ADD, strict=True)
    assert encoded(tools=(strict,))["strict_tools"] is True
    assert "strict_tools" not in encoded(tools=(ADD,))
    with pytest.raises(Unsupported):
        encoded(tools=(strict, MUL))


def message(*parts: Part, role: Any = "user", name: str = "") -> Message:
    return Message(role=role, parts=parts, name=name)


@pytest.mark.parametrize(
    ("param", "messages", "fields"),
    [
        ("n", (), {"n": 2}),
        ("user", (), {"user": "u-1"}),
        ("top_logprobs", (), {"top_logprobs": 3}),
        ("service_tier", (), {"service_tier": "priority"}),
        ("parallel_tool_calls", (), {"tools": (ADD,), "parallel_tool_calls": False}),
        ("logit_bias", (), {"extra": {"logit_bias": {"1": 2}}}),
        ("messages[0].name", (message(TextPart(text="hi"), name="ann"),), {}),
        ("messages[0].content[1]", (message(TextPart(text="hi"), AudioPart(data="AA", format="wav")),), {}),
        ("messages[0].content[0]", (message(FilePart(data="AAAA", media_type="application/pdf")),), {}),
        ("messages[0].content[0]", (message(FilePart(data="%%", media_type="text/plain")),), {}),
        ("messages[0].content[0]", (message(OpaquePart(wire="openai_chat", value={"type": "new"})),), {}),
        ("messages[0].content[0]", (message(ToolResultPart(id="c", parts=(ImagePart(url="https://h/i"),))),), {}),
    ],
)
def test_what_it_cannot_say_is_refused_by_name_or_dropped_on_request(
    param: str, messages: tuple[Message, ...], fields: dict[str, Any]
) -> None:
    with pytest.raises(Unsupported) as caught:
        encoded(*messages, **fields)
    assert caught.value.param == param
    assert encoded(*messages, drop=True, **fields)["model"] == "m"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", "$"),
        (b'{"model": "m", "messages": []}', "$.messages"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "$.model"),
        (b'{"model": "m", "messages": [{"role": "pope", "content": "x"}]}', "$.messages[0].role"),
        (b'{"model": "m", "messages": [{"role": "user"}], "p": "a"}', "$.p"),
        (b'{"model": "m", "messages": [{"role": "user"}], "tools": [{"type": "x"}]}', "$.tools[0].type"),
    ],
)
def test_a_wrong_body_is_refused_with_its_path(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRE.admit(body)
    assert caught.value.param == param


def test_admission_counts_what_a_bound_needs() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAABBBB"}}
    body = {"model": "m", "messages": [{"role": "user", "content": [image]}], "stream": True, "max_tokens": 5}
    admitted = WIRE.admit(msgspec.json.encode(body))
    assert (admitted.model, admitted.stream, admitted.max_output_tokens, admitted.message_count) == ("m", True, 5, 1)
    assert (admitted.media, admitted.media_bytes) == ({"image": 1}, 8)
    rewritten = msgspec.json.decode(WIRE.rewrite(admitted, model="up", max_output_tokens=3))
    assert rewritten == {**body, "model": "up", "max_tokens": 3}
    assert msgspec.json.decode(WIRE.rewrite(admitted, model="up", max_output_tokens=9))["max_tokens"] == 5


def test_requests_of_both_other_clients_are_said() -> None:
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    chat = {"model": "m", "messages": [{"role": "user", "content": "2+2"}], "tools": tools, "tool_choice": "required"}
    body = msgspec.json.decode(WIRE.encode_request(openai_chat.WIRE.decode_request(msgspec.json.encode(chat))))
    assert (body["tool_choice"], body["tools"]) == ("REQUIRED", tools)
    messages = {
        "model": "m",
        "max_tokens": 9000,
        "system": "short",
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [{"role": "user", "content": "2+2"}],
    }
    request = anthropic_messages.WIRE.decode_request(msgspec.json.encode(messages))
    body = msgspec.json.decode(WIRE.encode_request(request))
    assert body["messages"][0] == {"role": "system", "content": "short"}
    assert body["thinking"] == {"type": "enabled", "token_budget": 2000}
