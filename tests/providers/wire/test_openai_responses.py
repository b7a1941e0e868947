"""The responses wire as a client speaks it: admission, what needs state, and what other wires are told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers import errors
from providers.unified import (
    ImagePart,
    Message,
    Reasoning,
    ReasoningPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
)
from providers.wire import anthropic_messages, openai_chat
from providers.wire.openai_responses import WIRE


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "Hi", **fields}).encode()


def request(**fields: Any) -> Request:
    return WIRE.decode_request(body(**fields))


def asked(*parts: Any, **fields: Any) -> Request:
    said: Any = parts or (TextPart(text="Hi"),)
    return Request(model="m", messages=(Message(role="user", parts=said),), **fields)


# --- admission ----------------------------------------------------------------------------------------------


def test_admission_knows_what_a_bound_needs() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAABBBB"}
    paper = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,CCCC"}
    sound = {"type": "input_audio", "input_audio": {"data": "D" * 20, "format": "wav"}}
    shown = {"type": "function_call_output", "call_id": "c", "output": [picture]}
    known = WIRE.admit(
        body(
            input=[{"role": "user", "content": [picture, paper, sound]}, shown],
            max_output_tokens=9,
            service_tier="flex",
            user="u",
            metadata={"team": "search"},
            stream=True,
        )
    )
    assert (known.model, known.stream, known.message_count, known.max_output_tokens) == ("m", True, 2, 9)
    assert known.media == {"image": 2, "file": 1, "audio": 1}
    assert known.media_bytes == 8 + 8 + 4 + 20
    assert (known.service_tier, known.user, known.metadata) == ("flex", "u", {"team": "search"})
    assert not known.server_tools


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "invented_tomorrow"}]},
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"input": [{"type": "item_reference", "id": "rs_1"}]},
    ],
)
def test_input_that_the_client_did_not_send_is_expected(fields: dict[str, Any]) -> None:
    assert WIRE.admit(body(**fields)).server_tools


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (b'{"input": "Hi"}', "$.model"),
        (b'{"model": "", "input": "Hi"}', "$.model"),
        (b'{"model": "m", "input": 7}', "$.input"),
        (b'{"model": "m", "input": [{"role": "robot", "content": "x"}]}', "$.input[0].role"),
        (b'{"model": "m", "input": [{"role": "user", "content": [7]}]}', "$.input[0].content[0]"),
        (b'{"model": "m", "max_output_tokens": 0}', "$.max_output_tokens"),
        (b'{"model": "m", "tools": [{"type": 1}]}', "$.tools[0].type"),
        (b'{"model": "m"', "$"),
        (b"[]", "$"),
    ],
)
def test_a_wrong_body_is_refused_by_its_path(wrong: bytes, param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        WIRE.admit(wrong)
    assert caught.value.param == param


def test_a_response_in_the_background_would_escape_the_books() -> None:
    with pytest.raises(errors.Unsupported) as caught:
        WIRE.admit(body(background=True))
    assert caught.value.param == "$.background"
    dropped = WIRE.admit(body(background=True, drop_unsupported=True))
    assert json.loads(WIRE.rewrite(dropped, model="up")) == {"model": "up", "input": "Hi"}


def test_the_cap_is_lowered_and_never_raised() -> None:
    known = WIRE.admit(body(max_output_tokens=50, invented_tomorrow=1))
    assert json.loads(WIRE.rewrite(known, model="up", max_output_tokens=20))["max_output_tokens"] == 20
    assert json.loads(WIRE.rewrite(known, model="up", max_output_tokens=90))["max_output_tokens"] == 50
    assert json.loads(WIRE.rewrite(WIRE.admit(body()), model="up", max_output_tokens=90))["max_output_tokens"] == 90
    assert json.loads(WIRE.rewrite(known, model="up"))["invented_tomorrow"] == 1


# --- state --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "$.store"),
        ({"previous_response_id": "resp_1"}, "$.previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "$.conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "$.prompt"),
        ({"input": [{"type": "item_reference", "id": "rs_1"}]}, "$.input[0]"),
    ],
)
def test_what_needs_state_is_refused_with_what_to_do(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.Unsupported, match="only OpenAI keeps") as caught:
        request(**fields)
    assert caught.value.param == param


def test_what_needs_state_is_dropped_where_the_client_said_so() -> None:
    items = [{"type": "item_reference", "id": "rs_1"}, {"role": "user", "content": "Hi"}]
    got = request(input=items, store=True, previous_response_id="resp_1", drop_unsupported=True)
    assert got.messages == asked().messages
    assert got.extra == {}


def test_no_state_is_what_unsaid_means() -> None:
    assert request(store=False, truncation="disabled", previous_response_id=None, background=False) == request()
    assert json.loads(WIRE.encode_request(asked()))["store"] is False


# --- translation --------------------------------------------------------------------------------------------

TURNS = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
    {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Ask."}], "encrypted_content": "s"},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
        {"type": "output_text", "text": "Let me look.", "annotations": []}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": '{"a":1}'},
    {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "Sun."},
    {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "Rain."}]},
]  # fmt: skip


def test_items_of_one_turn_are_one_message() -> None:
    got = request(input=TURNS, instructions="You help.")
    assert got.messages == (
        Message("system", (TextPart("You help."),)),
        Message("developer", (TextPart("Be brief."),)),
        Message("user", (TextPart("Weather?"),)),
        Message(
            "assistant",
            (
                ReasoningPart(text="Ask.", signature="s"),
                TextPart("Let me look."),
                ToolCallPart("c1", "look", '{"a":1}'),
                ToolCallPart("c2", "look", "{}"),
            ),
        ),
        Message("tool", (ToolResultPart("c1", (TextPart("Sun."),)),)),
        Message("tool", (ToolResultPart("c2", (TextPart("Rain."),)),)),
    )


def test_a_conversation_reaches_a_chat_provider() -> None:
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}]
    chosen = {"type": "function", "name": "look"}
    schema = {"type": "json_schema", "name": "out", "schema": {"type": "object"}, "strict": True}
    got = request(
        input=TURNS,
        tools=tools,
        tool_choice=chosen,
        text={"format": schema},
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
        max_output_tokens=9,
        stream=True,
    )
    sent = json.loads(openai_chat.WIRE.encode_request(got))
    assert [message["role"] for message in sent["messages"]] == ["developer", "user", "assistant", "tool", "tool"]
    assert [call["id"] for call in sent["messages"][2]["tool_calls"]] == ["c1", "c2"]
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "Sun."}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert sent["tools"][0]["function"]["strict"] is True
    assert sent["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (sent["reasoning_effort"], sent["max_completion_tokens"], sent["stream"]) == ("low", 9, True)


def test_a_conversation_reaches_an_anthropic_provider() -> None:
    sent = json.loads(anthropic_messages.WIRE.encode_request(request(input=TURNS, instructions="You help.")))
    assert sent["system"] == [{"type": "text", "text": "You help."}, {"type": "text", "text": "Be brief."}]
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in sent["messages"][1]["content"]] == ["thinking", "text", "tool_use", "tool_use"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "custom", "name": "c"}]}, "tools[0]"),
        ({"tools": [{"type": "mcp", "server_label": "s", "server_url": "https://x"}]}, "tools[0]"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"include": ["file_search_call.results"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"prompt_cache_key": "k"}, "prompt_cache_key"),
        ({"input": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]}, "messages[0].content[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_a_chat_provider_cannot_be_told_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    got = request(**fields)
    for wire in (openai_chat.WIRE, anthropic_messages.WIRE):
        with pytest.raises(errors.Unsupported) as caught:
            wire.encode_request(got)
        assert caught.value.param.startswith(param.partition("[")[0])
        assert wire.encode_request(got, drop_unsupported=True)
    # The same wire has it back.
    assert WIRE.decode_request(WIRE.encode_request(got)) == got


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stop": ("END",)}, "stop"),
        ({"n": 2}, "n"),
        ({"seed": 7}, "seed"),
        ({"top_k": 5}, "top_k"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"extra": {"logit_bias": {}}, "wire": "openai_chat"}, "logit_bias"),
    ],
)
def test_what_this_wire_cannot_say_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(errors.Unsupported) as caught:
        WIRE.encode_request(asked(**fields))
    assert caught.value.param == param
    assert param not in json.loads(WIRE.encode_request(asked(**fields), drop_unsupported=True))


def test_a_chat_request_reaches_a_responses_provider() -> None:
    got = asked(
        TextPart("Look"),
        ImagePart(data="AAAA", media_type="image/png"),
        wire="openai_chat",
        tools=(Tool(name="look", parameters={"type": "object"}),),
        reasoning=Reasoning(budget_tokens=10_000),
        max_output_tokens=5,
    )
    sent = json.loads(WIRE.encode_request(got))
    assert sent["input"] == [
        {"role": "user", "content": [
            {"type": "input_text", "text": "Look"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        ]},
    ]  # fmt: skip
    # Unsaid means strict on this wire, and not strict on the client's.
    assert sent["tools"] == [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}]
    assert (sent["reasoning"], sent["max_output_tokens"], sent["store"]) == ({"effort": "medium"}, 5, False)


def test_reasoning_that_another_provider_did_not_sign_is_not_sent_as_its_own() -> None:
    thought = Message(role="assistant", parts=(ReasoningPart(text="hm"), TextPart("4")))
    got = Request(model="m", messages=(*asked().messages, thought), wire="openai_chat")
    with pytest.raises(errors.Unsupported, match="did not sign"):
        WIRE.encode_request(got)
    assert json.loads(WIRE.encode_request(got, drop_unsupported=True))["input"][1:] == [
        {"role": "assistant", "content": "4"}
    ]
