"""Requests of the chat wire, in and out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers import errors
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
from providers.wire import bedrock_converse, cohere, gemini
from providers.wire.openai_chat import WIRE, Dialect, OpenAIChat

HI = {"role": "user", "content": "hi"}


def body(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": list(messages) or [HI], **fields}).encode()


def sent(request: Request, *, wire: OpenAIChat = WIRE, drop: bool = False) -> Json:
    value: Json = json.loads(wire.encode_request(request, drop_unsupported=drop))
    return value


def ask(*parts: Part, role: Any = "user", **fields: Any) -> Request:
    return Request(model="m", messages=(Message(role=role, parts=parts or (TextPart("hi"),)),), **fields)


def test_it_decodes_every_kind_of_message() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    request = WIRE.decode_request(
        body(
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
            {
                "role": "user",
                "name": "ann",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA", "detail": "high"}},
                    {"type": "image_url", "image_url": "https://host/x.png"},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                    {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "mp3"}},
                    {"type": "hologram", "depth": 3},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [call, {**call, "id": "c2"}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "43"}]},
            {"role": "assistant", "content": "done", "refusal": None},
            {"role": "assistant", "refusal": "no"},
        )
    )
    assert request.messages == (
        Message("system", (TextPart("be brief"),)),
        Message("developer", (TextPart("x", cache_control={"type": "ephemeral"}),)),
        Message(
            "user",
            (
                ImagePart(data="AAAA", media_type="image/jpeg", detail="high"),
                ImagePart(url="https://host/x.png"),
                FilePart(data="BBBB", media_type="application/pdf", name="a.pdf"),
                FilePart(file_id="file-1"),
                AudioPart(data="CCCC", format="mp3"),
                OpaquePart(wire="openai_chat", value={"type": "hologram", "depth": 3}),
            ),
            name="ann",
        ),
        Message(
            "assistant",
            (ReasoningPart("hm"), ToolCallPart("c1", "f", '{"a":1}'), ToolCallPart("c2", "f", '{"a":1}')),
        ),
        Message("tool", (ToolResultPart("c1", (TextPart("42"),)),)),
        Message("tool", (ToolResultPart("c2", (TextPart("43"),)),)),
        Message("assistant", (TextPart("done"),)),
        Message("assistant", (RefusalPart("no"),)),
    )
    assert request.extra == {}


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ("any", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", "f")),
    ],
)
def test_it_decodes_each_tool_choice(choice: Any, meant: ToolChoice) -> None:
    request = WIRE.decode_request(body(tool_choice=choice, tools=[{"type": "function", "function": {"name": "f"}}]))
    assert request.tool_choice == meant
    assert request.tools == (Tool(name="f"),)


@pytest.mark.parametrize(
    ("fields", "name", "meant"),
    [
        ({"stop": "x"}, "stop", ("x",)),
        ({"stop": ["x", "y"]}, "stop", ("x", "y")),
        ({"reasoning_effort": "low"}, "reasoning", Reasoning(effort="low")),
        ({"reasoning_effort": "none"}, "reasoning", Reasoning(enabled=False)),
        ({"reasoning": {"max_tokens": 9}}, "reasoning", Reasoning(budget_tokens=9)),
        ({"reasoning": {"enabled": False}}, "reasoning", Reasoning(enabled=False)),
        ({"response_format": {"type": "text"}}, "output_format", None),
        ({"response_format": {"type": "json_object"}}, "output_format", OutputFormat("json_object")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True},
                }
            },
            "output_format",
            OutputFormat("json_schema", name="n", schema={"a": 1}, strict=True),
        ),
        ({"max_tokens": 5}, "max_output_tokens", 5),
        ({"parallel_tool_calls": False}, "parallel_tool_calls", False),
    ],
)
def test_it_decodes_each_option(fields: Json, name: str, meant: Any) -> None:
    request = WIRE.decode_request(body(**fields))
    assert getattr(request, name) == meant
    assert request.extra == {}


def test_what_has_no_place_is_kept_by_its_path_and_put_back() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"sig": 1}}
    raw = body(
        HI,
        {"role": "assistant", "content": "The answer", "prefix": True, "tool_calls": [call]},
        logit_bias={"5": 1},
        store=False,
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        tools=[{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}],
        tool_choice={"type": "allowed_tools", "mode": "auto"},
    )
    request = WIRE.decode_request(raw)
    assert request.extra == {
        "messages[1].prefix": True,
        "messages[1].tool_calls[0].extra_content": {"sig": 1},
        "logit_bias": {"5": 1},
        "store": False,
        "stream_options": {"include_obfuscation": False},
        "tools[1]": {"type": "web_search"},
        "tool_choice": {"type": "allowed_tools", "mode": "auto"},
    }
    assert sent(request) == json.loads(raw)


@pytest.mark.parametrize(
    "name", ["messages[7].x", "messages[0].tool_calls[3].x", "tools[99999]", "tools[999999999999]"]
)
def test_a_field_that_looks_like_a_path_does_no_harm(name: str) -> None:
    request = WIRE.decode_request(body(**{name: {"a": 1}}))
    assert WIRE.encode_request(request)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (body(functions=[{"name": "f"}]), "$.functions"),
        (body(function_call="auto"), "$.function_call"),
        (body({"role": "function", "name": "f", "content": "x"}), "$.messages[0]"),
        (body({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}), "$.messages[0]"),
        (
            body({"role": "tool", "tool_call_id": "c", "content": [{"type": "input_audio", "input_audio": {}}]}),
            "$.messages[0].content[0]",
        ),
    ],
)
def test_retired_forms_are_refused_by_their_path(raw: bytes, path: str) -> None:
    with pytest.raises(errors.Unsupported) as refused:
        WIRE.decode_request(raw)
    assert refused.value.param == path


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": 5}}],
        [{"type": "image_url", "image_url": 5}],
        [{"type": "image_url"}],
        [{"type": "file", "file": {"file_data": 5, "filename": [], "file_id": {}}}],
        [{"type": "file", "file": "x"}],
        [{"type": "input_audio", "input_audio": {"data": 5}}],
        [{"type": "refusal", "refusal": 5}],
        [{"type": "text"}],
        [{"type": "text", "text": "x", "cache_control": "yes"}],
        [{"type": "thinking", "thinking": 5}],
    ],
)
def test_odd_parts_are_decoded_or_refused_but_never_crash(content: Any) -> None:
    for role in ("user", "assistant", "system"):
        WIRE.decode_request(body({"role": role, "content": content}))


def test_fields_of_another_wire_are_refused_by_name_or_dropped() -> None:
    request = ask(extra={"thinking_style": "loud"}, wire="anthropic_messages")
    with pytest.raises(errors.Unsupported) as refused:
        WIRE.encode_request(request)
    assert refused.value.param == "thinking_style"
    assert sent(request, drop=True) == {"model": "m", "messages": [HI]}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ask(OpaquePart(wire="gemini", value={"type": "hologram"}), TextPart("x")), "messages[0].content[0]"),
        (ask(TextPart("x"), FilePart(name="empty.pdf")), "messages[0].content[1]"),
        (ask(top_k=5), "top_k"),
    ],
)
def test_what_this_wire_cannot_say_is_refused_by_its_place(request_: Request, param: str) -> None:
    with pytest.raises(errors.Unsupported) as refused:
        WIRE.encode_request(request_)
    assert refused.value.param == param
    assert WIRE.encode_request(request_, drop_unsupported=True)


def test_tool_results_of_a_user_become_tool_messages_before_what_the_user_says() -> None:
    request = Request(
        model="m",
        messages=(
            Message("assistant", (ToolCallPart("a", "f", "{}"), ToolCallPart("b", "g", "{}"))),
            Message(
                "user",
                (
                    ToolResultPart("a", (TextPart("one"),)),
                    ToolResultPart("b", (TextPart("broken"),), is_error=True),
                    TextPart("and now?"),
                ),
            ),
        ),
    )
    messages = sent(request)["messages"]
    assert messages[1:] == [
        {"role": "tool", "tool_call_id": "a", "content": "one"},
        {"role": "tool", "tool_call_id": "b", "content": "Error: broken"},
        {"role": "user", "content": "and now?"},
    ]


def test_images_of_tool_results_follow_the_whole_run_of_results() -> None:
    image = ImagePart(data="AAAA", media_type="image/png")
    request = Request(
        model="m",
        messages=(
            Message("assistant", (ToolCallPart("a", "f", "{}"), ToolCallPart("b", "g", "{}"))),
            Message("tool", (ToolResultPart("a", (TextPart("a chart"), image)),)),
            Message("user", (ToolResultPart("b", (TextPart("two"),)), TextPart("compare"))),
        ),
    )
    messages = sent(request)["messages"]
    assert [message["role"] for message in messages] == ["assistant", "tool", "tool", "user", "user"]
    assert messages[1]["content"] == "a chart"
    assert [part["type"] for part in messages[3]["content"]] == ["text", "image_url"]
    assert messages[4]["content"] == "compare"
    inline = sent(request, wire=OpenAIChat(dialect=Dialect(media_in_tool_results=True)))["messages"]
    assert [message["role"] for message in inline] == ["assistant", "tool", "tool", "user"]
    assert [part["type"] for part in inline[1]["content"]] == ["text", "image_url"]


def test_images_of_a_last_tool_result_are_not_lost() -> None:
    messages = sent(ask(ToolResultPart("a", (ImagePart(url="https://host/x.png"),)), role="tool"))["messages"]
    assert messages[0] == {"role": "tool", "tool_call_id": "a", "content": ""}
    assert messages[1]["content"][1] == {"type": "image_url", "image_url": {"url": "https://host/x.png"}}


THOUGHT = (ReasoningPart("hm", signature="S"), ReasoningPart(redacted="X"), TextPart("4"))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", {}),
        ("reasoning", {"reasoning": "hm"}),
        ("reasoning_content", {"reasoning_content": "hm"}),
        (
            "reasoning_details",
            {
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "S", "index": 0},
                    {"type": "reasoning.encrypted", "data": "X", "index": 1},
                ]
            },
        ),
    ],
)
def test_earlier_reasoning_goes_where_the_dialect_keeps_it(field: Any, expected: Json) -> None:
    wire = OpenAIChat(dialect=Dialect(reasoning_field=field))
    (message,) = sent(ask(*THOUGHT, role="assistant"), wire=wire)["messages"]
    assert message == {"role": "assistant", "content": "4", **expected}


def test_openai_is_sent_only_the_reasoning_that_its_own_client_wrote() -> None:
    (message,) = sent(ask(*THOUGHT, role="assistant", wire="anthropic_messages"))["messages"]
    assert message == {"role": "assistant", "content": "4"}
    (message,) = sent(ask(ReasoningPart("hm"), TextPart("4"), role="assistant", wire="openai_chat"))["messages"]
    assert message == {"role": "assistant", "content": "4", "reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("reasoning", "effort"),
    [
        (Reasoning(effort="high"), "high"),
        (Reasoning(budget_tokens=1024), "low"),
        (Reasoning(budget_tokens=10_000), "medium"),
        (Reasoning(budget_tokens=60_000), "high"),
        (Reasoning(enabled=False), "none"),
        (Reasoning(adaptive=True), None),
        (None, None),
    ],
)
def test_a_budget_of_thinking_becomes_an_effort(reasoning: Reasoning | None, effort: str | None) -> None:
    assert sent(ask(reasoning=reasoning)).get("reasoning_effort") == effort


def test_a_dialect_may_take_the_budget_itself() -> None:
    wire = OpenAIChat(dialect=Dialect(reasoning_object=True))
    assert sent(ask(reasoning=Reasoning(budget_tokens=5)), wire=wire)["reasoning"] == {"max_tokens": 5}
    assert sent(ask(reasoning=Reasoning(enabled=False)), wire=wire)["reasoning"] == {"enabled": False}


def test_a_dialect_keeps_to_what_its_server_knows() -> None:
    old = OpenAIChat(dialect=Dialect(developer_role=False, top_k=True), cap_field="max_tokens")
    value = sent(ask(role="developer", max_output_tokens=5, top_k=4), wire=old)
    assert value == {
        "model": "m",
        "messages": [{"role": "system", "content": "hi"}],
        "max_tokens": 5,
        "top_k": 4,
    }
    assert sent(ask(role="developer", max_output_tokens=5))["max_completion_tokens"] == 5


def test_cache_marks_go_only_to_servers_that_know_them() -> None:
    marked = ask(TextPart("x", cache_control={"type": "ephemeral"}), wire="anthropic_messages")
    assert sent(marked)["messages"][0]["content"] == "x"
    kept = sent(marked, wire=OpenAIChat(dialect=Dialect(cache_control=True)))["messages"][0]["content"]
    assert kept == [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]


def test_marks_of_other_clients_that_are_off_say_nothing() -> None:
    marks = {"prefix": False, "provider_specific_fields": {"refusal": None}}
    assert WIRE.decode_request(body({"role": "assistant", "content": "4", **marks})).extra == {}
    meant = {"prefix": True, "provider_specific_fields": {"refusal": None, "x": 1}}
    kept = WIRE.decode_request(body({"role": "assistant", "content": "4", **meant})).extra
    assert kept == {f"messages[0].{name}": value for name, value in meant.items()}


def test_mistrals_word_for_the_seed_is_understood() -> None:
    request = WIRE.decode_request(body(random_seed=7))
    assert (request.seed, request.extra) == (7, {})
    assert (sent(request)["seed"], "random_seed" in sent(request)) == (7, False)
    both = WIRE.decode_request(body(random_seed=7, seed=8))
    assert (both.seed, both.extra) == (8, {"random_seed": 7})


NAMED, FORCED = ToolChoice(mode="named", name="look"), ToolChoice(mode="required")


@pytest.mark.parametrize("wire", [gemini.WIRE, bedrock_converse.WIRE, cohere.WIRE], ids=lambda wire: wire.name)
def test_a_named_tool_is_called_once_wherever_no_other_limit_can_be_told(wire: Any) -> None:
    """LangChain asks so for an object of a given shape: the tool by its name, and no calls beside it."""
    tools = (Tool(name="look", parameters={"type": "object"}),)
    assert wire.encode_request(ask(tools=tools, tool_choice=NAMED, parallel_tool_calls=False))
    for choice in (None, FORCED):
        with pytest.raises(errors.Unsupported) as caught:
            wire.encode_request(ask(tools=tools, tool_choice=choice, parallel_tool_calls=False))
        assert caught.value.param == "parallel_tool_calls"
