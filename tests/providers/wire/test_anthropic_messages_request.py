"""Requests on the Anthropic messages wire: read into the unified request, and written from it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    RefusalPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.anthropic_messages import WIRE

NAME = "anthropic_messages"
EPHEMERAL = {"type": "ephemeral", "ttl": "1h"}
PNG = {"type": "base64", "media_type": "image/png", "data": "QUJD"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def decode(**fields: Any) -> Request:
    body = {"model": "claude-sonnet-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return WIRE.decode_request(json.dumps(body).encode())


def make_request(*messages: Message, **fields: Any) -> Request:
    """A request of another wire, as a client of that one would have sent it."""
    fields = {"wire": "openai_chat", "max_output_tokens": 64, **fields}
    return Request(model="claude-sonnet-4-5", messages=messages or (Message("user", (TextPart("Hi"),)),), **fields)


def encode(request: Request, *, drop: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(WIRE.encode_request(request, drop_unsupported=drop))
    return body


def said(*parts: Part, role: Any = "user") -> Message:
    return Message(role, parts)


def parts_of(*blocks: Any, role: str = "user") -> tuple[Part, ...]:
    request = decode(messages=[{"role": role, "content": list(blocks)}])
    return tuple(part for message in request.messages for part in message.parts)


# --- one block, one part: both ways -----------------------------------------------------------------------

BLOCKS: list[tuple[dict[str, Any], Part]] = [
    ({"type": "text", "text": "Hi"}, TextPart("Hi")),
    ({"type": "text", "text": "Hi", "cache_control": EPHEMERAL}, TextPart("Hi", cache_control=EPHEMERAL)),
    (
        {"type": "text", "text": "Hi", "citations": [{"type": "page_location", "cited_text": "x"}]},
        TextPart("Hi", citations=({"type": "page_location", "cited_text": "x"},)),
    ),
    (
        {"type": "image", "source": PNG, "cache_control": EPHEMERAL},
        ImagePart(data="QUJD", media_type="image/png", cache_control=EPHEMERAL),
    ),
    ({"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}, ImagePart(url="https://x/a.png")),
    (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}},
        FilePart(data="QUJD", media_type="application/pdf"),
    ),
    (
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"},
            "title": "Notes",
            "context": "Old ones",
            "citations": {"enabled": True},
        },
        FilePart(
            data=base64.b64encode("Grüße".encode()).decode(),
            media_type="text/plain",
            name="Notes",
            extra={"context": "Old ones", "citations": {"enabled": True}},
        ),
    ),
    ({"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}, FilePart(url="https://x/a.pdf")),
    ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, FilePart(file_id="file_1")),
    ({"type": "thinking", "thinking": "Hm", "signature": "sig"}, ReasoningPart(text="Hm", signature="sig")),
    ({"type": "thinking", "thinking": "", "signature": "sig"}, ReasoningPart(signature="sig")),
    ({"type": "redacted_thinking", "data": "xyz"}, ReasoningPart(redacted="xyz")),
    (
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, 2.5]}},
        ToolCallPart(id="toolu_1", name="f", arguments='{"a":[1,2.5]}'),
    ),
    (
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny", "is_error": True},
        ToolResultPart(id="toolu_1", parts=(TextPart("sunny"),), is_error=True),
    ),
    (
        {
            "type": "tool_result",
            "tool_use_id": "toolu_1",
            "content": [{"type": "text", "text": "see"}, {"type": "image", "source": PNG}],
            "cache_control": EPHEMERAL,
        },
        ToolResultPart(
            id="toolu_1",
            parts=(TextPart("see"), ImagePart(data="QUJD", media_type="image/png")),
            cache_control=EPHEMERAL,
        ),
    ),
    ({"type": "tool_result", "tool_use_id": "toolu_1"}, ToolResultPart(id="toolu_1")),
]


@pytest.mark.parametrize(("block", "part"), BLOCKS)
def test_a_block_and_its_part_say_the_same(block: dict[str, Any], part: Part) -> None:
    # A second block keeps a lone text from being written as a plain string.
    other = {"type": "text", "text": "and"}
    assert parts_of(block, other) == (part, TextPart("and"))
    request = make_request(said(part, TextPart("and")), wire=NAME)
    assert encode(request)["messages"] == [{"role": "user", "content": [block, other]}]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": PNG, "transformations": {"oversize": "downscale"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {"type": "text", "text": "x", "invented_tomorrow": 1},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "code_execution_20250825"}},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "f"}]},
        {"type": "search_result", "source": "https://x", "title": "x", "content": []},
        {"type": "invented_tomorrow", "a": 1},
    ],
)
def test_a_block_that_no_part_can_hold_is_kept_whole(block: dict[str, Any]) -> None:
    assert parts_of(block, role="assistant") == (OpaquePart(wire=NAME, value=block),)
    request = make_request(said(OpaquePart(wire=NAME, value=block), role="assistant"))
    assert encode(request)["messages"] == [{"role": "assistant", "content": [block]}]


def test_null_fields_and_the_direct_caller_are_no_reason_to_keep_a_block_opaque() -> None:
    assert parts_of({"type": "text", "text": "x", "citations": None, "invented": None}) == (TextPart("x"),)
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}}
    assert parts_of(call, role="assistant") == (ToolCallPart(id="t", name="f", arguments="{}"),)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], "$.messages[0].content[0].text"),
        (
            [{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "tool_use", "id": "t"}]}],
            "$.messages[1].content[0].name",
        ),
        ([{"role": "wizard", "content": "x"}], "$.messages[0].role"),
    ],
)
def test_a_malformed_block_is_refused_with_its_path(messages: list[Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(messages=messages)
    assert caught.value.param == param


# --- conversation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "parts"),
    [
        ("Be kind.", (TextPart("Be kind."),)),
        (
            [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind", "cache_control": EPHEMERAL}],
            (TextPart("Be"), TextPart("kind", cache_control=EPHEMERAL)),
        ),
    ],
)
def test_system_stands_in_front_and_goes_back(system: Any, parts: tuple[Part, ...]) -> None:
    request = decode(system=system)
    assert request.messages[0] == Message("system", parts)
    assert encode(request)["system"] == system


def test_a_tool_result_is_a_message_of_its_own_and_goes_back_into_one_user_turn() -> None:
    messages = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Looking"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                {"type": "tool_use", "id": "b", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "sun"},
                {"type": "tool_result", "tool_use_id": "b", "content": "rain"},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]
    request = decode(messages=messages)
    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "tool", "user"]
    assert encode(request)["messages"] == messages


def test_consecutive_messages_of_one_role_become_one_turn() -> None:
    body = encode(
        make_request(
            said(TextPart("a")),
            said(TextPart("b")),
            said(TextPart("c"), role="assistant"),
            said(ToolCallPart(id="t", name="f", arguments='{"x": 1.50}'), role="assistant"),
            Message("tool", (ToolResultPart(id="t", parts=(TextPart("ok"),)),), name="f"),
            said(TextPart("d")),
        )
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "t", "content": "ok"},
        {"type": "text", "text": "d"},
    ]


def test_system_and_developer_messages_of_another_wire_are_hoisted_in_order() -> None:
    body = encode(
        make_request(
            said(TextPart("one"), role="system"),
            said(TextPart("two"), role="developer"),
            said(TextPart("Hi")),
            said(TextPart("three"), role="system"),
            said(TextPart("there")),
        )
    )
    assert body["system"] == [{"type": "text", "text": text} for text in ("one", "two", "three")]
    assert len(body["messages"]) == 1


def test_a_system_message_that_a_client_of_this_wire_put_in_the_middle_stays_there() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": "Be brief."},
        {"role": "assistant", "content": "Yes"},
    ]
    assert encode(decode(messages=messages))["messages"] == messages


def test_a_message_with_settings_of_its_own_is_kept_whole() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "system", "content": [], "output_config": {"effort": "low"}},
        {"role": "user", "content": "there"},
    ]
    assert encode(decode(messages=messages))["messages"] == messages


def test_a_conversation_of_system_messages_alone_is_refused_or_asked_as_the_user() -> None:
    request = make_request(said(TextPart("Say hi"), role="system"))
    with pytest.raises(Unsupported) as caught:
        encode(request)
    assert caught.value.param == "messages"
    assert encode(request, drop=True)["messages"] == [{"role": "user", "content": "Say hi"}]


def test_empty_text_is_left_out() -> None:
    call = ToolCallPart(id="t", name="f", arguments="")
    body = encode(
        make_request(said(TextPart("Hi")), said(TextPart(""), call, role="assistant"), said(role="assistant"))
    )
    assert body["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}
    ]


def test_arguments_go_upstream_digit_for_digit() -> None:
    call = ToolCallPart(id="t", name="f", arguments='{"amount": 1.10, "big": 123456789012345678901234567890}')
    sent = WIRE.encode_request(make_request(said(call, role="assistant")))
    assert b'"amount": 1.10, "big": 123456789012345678901234567890' in sent


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", "nonsense", "3"])
def test_arguments_that_are_no_object_are_kept_as_text(arguments: str) -> None:
    body = encode(make_request(said(ToolCallPart(id="t", name="f", arguments=arguments), role="assistant")))
    assert body["messages"][0]["content"][0]["input"] == {"INVALID_JSON": arguments}


def test_call_ids_of_other_providers_are_made_acceptable_on_both_ends() -> None:
    call, result = ToolCallPart(id="functions.f:0", name="f", arguments="{}"), ToolResultPart(id="functions.f:0")
    body = encode(make_request(said(call, role="assistant"), said(result, role="tool")))
    assert body["messages"][0]["content"][0]["id"] == "functions_f_0"
    assert body["messages"][1]["content"][0]["tool_use_id"] == "functions_f_0"


def test_a_data_url_is_sent_inline() -> None:
    body = encode(make_request(said(ImagePart(url="data:image/png;base64,QUJD"))))
    assert body["messages"][0]["content"] == [{"type": "image", "source": PNG}]
    file = FilePart(url="data:application/pdf;base64,QUJD", name="a.pdf")
    assert encode(make_request(said(file)))["messages"][0]["content"][0]["source"]["data"] == "QUJD"


def test_a_refusal_in_the_history_is_what_the_assistant_said() -> None:
    body = encode(make_request(said(TextPart("Hi")), said(RefusalPart("No."), role="assistant")))
    assert body["messages"][1] == {"role": "assistant", "content": "No."}


# --- settings ---------------------------------------------------------------------------------------------


def test_max_tokens_is_always_sent() -> None:
    assert encode(make_request())["max_tokens"] == 64
    assert encode(make_request(max_output_tokens=None))["max_tokens"] == 4096


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}),
    ({"stop_sequences": ["END"]}, {"stop": ("END",)}),
    ({"stream": True}, {"stream": True}),
    ({"metadata": {"user_id": "u-1"}}, {"user": "u-1"}),
    ({"service_tier": "standard_only"}, {"service_tier": "default"}),
    ({"service_tier": "auto"}, {"service_tier": "auto"}),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning": Reasoning(budget_tokens=1024)}),
    ({"thinking": {"type": "adaptive"}}, {"reasoning": Reasoning(adaptive=True)}),
    ({"thinking": {"type": "disabled"}}, {"reasoning": Reasoning(enabled=False)}),
    ({"output_config": {"effort": "xhigh"}}, {"reasoning": Reasoning(effort="xhigh")}),
    (
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
        {"reasoning": Reasoning(effort="max", adaptive=True)},
    ),
    (
        {"thinking": {"type": "adaptive", "display": "omitted"}},
        {"reasoning": Reasoning(adaptive=True), "extra": {"thinking": {"display": "omitted"}}},
    ),
    ({"thinking": {"type": "between_tools"}}, {"extra": {"thinking": {"type": "between_tools"}}}),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"output_format": OutputFormat("json_schema", schema=SCHEMA)},
    ),
    (
        {"output_config": {"effort": "low", "task_budget": {"tokens": 9}}},
        {"reasoning": Reasoning(effort="low"), "extra": {"output_config": {"task_budget": {"tokens": 9}}}},
    ),
    (
        {"output_config": {"format": {"type": "grammar", "text": "x"}}},
        {"extra": {"output_config": {"format": {"type": "grammar", "text": "x"}}}},
    ),
    ({"cache_control": EPHEMERAL}, {"extra": {"cache_control": EPHEMERAL}}),
    ({"invented_tomorrow": [1]}, {"extra": {"invented_tomorrow": [1]}}),
]


@pytest.mark.parametrize(("body", "fields"), SETTINGS)
def test_a_setting_is_read_and_written_back(body: dict[str, Any], fields: dict[str, Any]) -> None:
    request = decode(**body)
    assert {name: getattr(request, name) for name in fields} == fields
    written = encode(request)
    assert {name: written[name] for name in body} == body


def test_the_older_place_of_the_output_format_is_read_too() -> None:
    request = decode(output_format={"type": "json_schema", "schema": SCHEMA})
    assert request.output_format == OutputFormat("json_schema", schema=SCHEMA)


def test_what_is_for_the_gateway_is_not_sent_on() -> None:
    request = decode(drop_unsupported=True)
    assert request.extra == {}
    assert "drop_unsupported" not in encode(request)


TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA}


@pytest.mark.parametrize(
    ("choice", "fields"),
    [
        ({"type": "auto"}, {"tool_choice": ToolChoice("auto"), "parallel_tool_calls": None}),
        ({"type": "any"}, {"tool_choice": ToolChoice("required"), "parallel_tool_calls": None}),
        ({"type": "none"}, {"tool_choice": ToolChoice("none"), "parallel_tool_calls": None}),
        ({"type": "tool", "name": "f"}, {"tool_choice": ToolChoice("named", "f"), "parallel_tool_calls": None}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"tool_choice": ToolChoice("required"), "parallel_tool_calls": False},
        ),
        (
            {"type": "auto", "disable_parallel_tool_use": False},
            {"tool_choice": ToolChoice("auto"), "parallel_tool_calls": True},
        ),
        ({"type": "lottery"}, {"tool_choice": None, "extra": {"tool_choice": {"type": "lottery"}}}),
    ],
)
def test_each_tool_choice_is_read_and_written_back(choice: dict[str, Any], fields: dict[str, Any]) -> None:
    request = decode(tools=[TOOL], tool_choice=choice)
    assert {name: getattr(request, name) for name in fields} == fields
    assert encode(request)["tool_choice"] == choice


def test_no_parallel_calls_needs_a_choice_to_stand_on() -> None:
    tool = Tool(name="f", parameters=SCHEMA)
    body = encode(make_request(tools=(tool,), parallel_tool_calls=False))
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert encode(make_request(tools=(tool,)))["tools"] == [{"name": "f", "input_schema": SCHEMA}]
    assert "tool_choice" not in encode(make_request(tool_choice=ToolChoice("none"), parallel_tool_calls=True))


def test_functions_options_and_server_tools_are_kept_apart_and_joined_again() -> None:
    marked = {**TOOL, "strict": True, "cache_control": EPHEMERAL}
    deferred = {"name": "g", "input_schema": SCHEMA, "defer_loading": True}
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    request = decode(tools=[marked, deferred, search])
    assert request.tools == (
        Tool(name="f", description="d", parameters=SCHEMA, strict=True, cache_control=EPHEMERAL),
        Tool(name="g", parameters=SCHEMA),
    )
    assert request.extra == {"tools": [{"name": "g", "defer_loading": True}, search]}
    assert encode(request)["tools"] == [marked, deferred, search]


def test_a_function_without_parameters_gets_an_empty_schema() -> None:
    body = encode(make_request(tools=(Tool(name="f"),)))
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


# --- what cannot be said ----------------------------------------------------------------------------------

REFUSED: list[tuple[Request, str]] = [
    (make_request(n=2), "n"),
    (make_request(seed=0), "seed"),
    (make_request(logprobs=True), "logprobs"),
    (make_request(top_logprobs=3), "top_logprobs"),
    (make_request(presence_penalty=0.5), "presence_penalty"),
    (make_request(frequency_penalty=-0.5), "frequency_penalty"),
    (make_request(temperature=1.5), "temperature"),
    (make_request(service_tier="flex"), "service_tier"),
    (make_request(output_format=OutputFormat("json_object")), "response_format"),
    (make_request(extra={"logit_bias": {"1": 2}}), "logit_bias"),
    (make_request(said(AudioPart(data="QUJD", format="wav"))), "messages[0].content[0]"),
    (make_request(said(TextPart("x"), OpaquePart(wire="gemini", value={}))), "messages[0].content[1]"),
    (make_request(said(ImagePart(url="https://x", detail="low"))), "messages[0].content[0].detail"),
    (make_request(said(FilePart(file_id="file-1"))), "messages[0].content[0].file_id"),
    (make_request(said(FilePart(data="QUJD", media_type="application/zip"))), "messages[0].content[0]"),
    (make_request(said(FilePart(data="/w==", media_type="text/plain"))), "messages[0].content[0]"),
    (make_request(said(FilePart(url="https://x", extra={"page": 1}))), "messages[0].content[0].page"),
    (make_request(said(ReasoningPart(text="unsigned"), role="assistant")), "messages[0].content[0]"),
    (make_request(Message("user", (TextPart("x"),), name="ada")), "messages[0].name"),
    (make_request(said(TextPart("x", citations=({"type": "url_citation"},)))), "messages[0].content[0].citations"),
]


@pytest.mark.parametrize(("request_", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_what_the_wire_cannot_say_is_refused_by_name_or_dropped(request_: Request, param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        encode(request_)
    assert caught.value.param == param
    assert "drop_unsupported" in caught.value.message
    sent = json.dumps(encode(request_, drop=True))
    for lost in ("logit_bias", "QUJD", "unsigned", "ada", "flex", "1.5", "url_citation", "file-1", "low"):
        assert f'"{lost}"' not in sent


def test_values_that_mean_the_default_are_no_reason_to_refuse() -> None:
    body = encode(
        make_request(
            said(ImagePart(url="https://x", detail="high")),
            n=1,
            logprobs=False,
            top_logprobs=0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            service_tier="default",
            metadata={"team": "blue"},
        )
    )
    assert set(body) == {"model", "max_tokens", "messages", "service_tier"}


@pytest.mark.parametrize(
    ("reasoning", "body"),
    [
        (Reasoning(effort="minimal"), {"output_config": {"effort": "low"}}),
        (Reasoning(effort="none"), {"thinking": {"type": "disabled"}}),
        (Reasoning(), {"thinking": {"type": "adaptive"}}),
    ],
)
def test_efforts_of_other_wires_find_the_nearest_word(reasoning: Reasoning, body: dict[str, Any]) -> None:
    sent = encode(make_request(reasoning=reasoning))
    assert {name: sent[name] for name in sent if name in ("thinking", "output_config")} == body


# --- round trip -------------------------------------------------------------------------------------------

_WORD = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
_ID = st.from_regex(r"[a-zA-Z0-9_-]{1,8}", fullmatch=True)
_MARK = st.sampled_from([None, EPHEMERAL, {"type": "ephemeral"}])
_DATA = st.binary(min_size=1, max_size=6).map(lambda data: base64.b64encode(data).decode())
_JSON = st.dictionaries(
    _WORD, st.integers(-9, 9) | _WORD | st.booleans() | st.none() | st.lists(_WORD, max_size=2), max_size=2
)
_TEXT = st.builds(TextPart, text=_WORD, cache_control=_MARK)
_IMAGE = st.builds(ImagePart, url=st.just("https://x/a.png"), cache_control=_MARK) | st.builds(
    ImagePart, data=_DATA, media_type=st.sampled_from(["image/png", "image/webp"]), cache_control=_MARK
)
_FILE = (
    st.builds(FilePart, url=st.just("https://x/a.pdf"), name=_WORD, cache_control=_MARK)
    | st.builds(FilePart, file_id=_ID)
    | st.builds(FilePart, data=_DATA, media_type=st.just("application/pdf"), extra=st.just({"context": "c"}))
    | st.builds(
        FilePart,
        data=_WORD.map(lambda text: base64.b64encode(text.encode()).decode()),
        media_type=st.just("text/plain"),
    )
)
_RESULT = st.builds(
    ToolResultPart,
    id=_ID,
    parts=st.lists(_TEXT | _IMAGE | _FILE, max_size=2).map(tuple),
    is_error=st.booleans(),
    cache_control=_MARK,
)
_ARGUMENTS = _JSON.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False))
_CALL = st.builds(ToolCallPart, id=_ID, name=_ID, arguments=_ARGUMENTS, cache_control=_MARK)
_THOUGHT = st.builds(ReasoningPart, text=_WORD, signature=_ID) | st.builds(ReasoningPart, redacted=_ID)
_OPAQUE = st.just(
    OpaquePart(wire=NAME, value={"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})
)
_USER = st.lists(_RESULT.map(lambda part: Message("tool", (part,))), max_size=2).flatmap(
    lambda results: st.lists(_TEXT | _IMAGE | _FILE, min_size=1, max_size=3).map(
        lambda parts: [*results, Message("user", tuple(parts))]
    )
)
_ASSISTANT = st.lists(_TEXT | _CALL | _THOUGHT | _OPAQUE, min_size=1, max_size=3).map(
    lambda parts: [Message("assistant", tuple(parts))]
)
_SYSTEM = st.lists(_TEXT, max_size=2).map(lambda parts: [Message("system", tuple(parts))] if parts else [])
_TURNS = st.lists(st.tuples(_USER, _ASSISTANT), min_size=1, max_size=2).map(
    lambda pairs: [message for user, assistant in pairs for message in (*user, *assistant)]
)
_TOOLS = st.lists(
    st.builds(
        Tool,
        name=_ID,
        description=st.just("") | _WORD,
        parameters=st.just(SCHEMA),
        strict=st.none() | st.booleans(),
        cache_control=_MARK,
    ),
    min_size=1,
    max_size=2,
).map(tuple)
_TOOL_FIELDS: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.fixed_dictionaries(
    {
        "tools": _TOOLS,
        "tool_choice": st.none()
        | st.sampled_from([ToolChoice("none"), ToolChoice("required"), ToolChoice("named", "f")]),
    }
)
_REQUEST = st.builds(
    lambda system, turns, tools, **fields: Request(messages=(*system, *turns), wire=NAME, **tools, **fields),
    system=_SYSTEM,
    turns=_TURNS,
    tools=_TOOL_FIELDS,
    model=_ID,
    stream=st.booleans(),
    max_output_tokens=st.integers(1, 99),
    temperature=st.none() | st.floats(0, 1),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 9),
    stop=st.lists(_WORD, max_size=2).map(tuple),
    output_format=st.sampled_from([None, OutputFormat("json_schema", schema=SCHEMA)]),
    reasoning=st.none()
    | st.builds(Reasoning, effort=st.sampled_from(["", "low", "max"]), budget_tokens=st.integers(1024, 2048))
    | st.builds(Reasoning, effort=st.sampled_from(["", "low"]), adaptive=st.just(True))
    | st.builds(Reasoning, effort=st.sampled_from(["", "low"]), enabled=st.just(False))
    | st.just(Reasoning(effort="high")),
    user=st.just("") | _ID,
    service_tier=st.sampled_from(["", "auto", "default"]),
    extra=st.sampled_from([{}, {"inference_geo": "us"}, {"container": {"id": "c"}}]),
)


@settings(deadline=None)
@given(_REQUEST)
def test_everything_the_wire_can_say_comes_back_the_same(request_: Request) -> None:
    assert WIRE.decode_request(WIRE.encode_request(request_)) == request_
