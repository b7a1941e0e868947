"""Requests of other wires in Google's words, and what cannot be said there; bodies of Google's own clients."""

from __future__ import annotations

import json
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
from providers.wire import anthropic_messages, openai_chat
from providers.wire.gemini import WIRE

HI = Message("user", (TextPart("hi"),))
CALL = ToolCallPart(id="c1", name="look", arguments='{"at":"sky"}')


def make(*messages: Message, model: str = "gemini-2.5-flash", **settings: Any) -> Request:
    return Request(model=model, messages=messages or (HI,), wire="openai_chat", **settings)


def body_of(request: Request, *, drop: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(WIRE.encode_request(request, drop_unsupported=drop))
    return body


def user_parts(*parts: Part) -> Any:
    return body_of(make(Message("user", parts)))["contents"][0]["parts"]


# --- messages ---------------------------------------------------------------------------------------------


def test_the_model_and_the_stream_stay_out_of_the_body() -> None:
    assert body_of(make(stream=True)) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def test_system_and_developer_messages_become_the_instruction_wherever_they_stand() -> None:
    body = body_of(make(Message("system", (TextPart("a"),)), HI, Message("developer", (TextPart("b"),))))
    assert body["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "b"}]}
    assert len(body["contents"]) == 1


def test_a_system_message_alone_is_refused_or_asked_as_a_user() -> None:
    alone = make(Message("system", (TextPart("a"),)))
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(alone)
    assert caught.value.param == "messages"
    assert body_of(alone, drop=True)["contents"] == [{"role": "user", "parts": [{"text": "a"}]}]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (ImagePart(data="AA", media_type="image/png"), {"inlineData": {"mimeType": "image/png", "data": "AA"}}),
        (ImagePart(url="data:image/gif;base64,BB"), {"inlineData": {"mimeType": "image/gif", "data": "BB"}}),
        (
            ImagePart(url="https://h/a.JPG?x=1"),
            {"fileData": {"fileUri": "https://h/a.JPG?x=1", "mimeType": "image/jpeg"}},
        ),
        (ImagePart(url="https://h/a"), {"fileData": {"fileUri": "https://h/a"}}),
        (FilePart(data="CC", name="a.pdf"), {"inlineData": {"mimeType": "application/pdf", "data": "CC"}}),
        (
            FilePart(url="gs://b/v.mp4", media_type="video/mp4"),
            {"fileData": {"fileUri": "gs://b/v.mp4", "mimeType": "video/mp4"}},
        ),
        (AudioPart(data="DD", format="mp3"), {"inlineData": {"mimeType": "audio/mp3", "data": "DD"}}),
    ],
    ids=str,
)
def test_media_are_sent_inline_or_by_their_address(part: Part, said: dict[str, Any]) -> None:
    assert user_parts(part) == [said]


def test_an_empty_text_is_not_sent() -> None:
    body = body_of(make(HI, Message("assistant", (TextPart(""), CALL))))
    assert [list(part) for part in body["contents"][1]["parts"]] == [["functionCall"]]
    assert len(body_of(make(HI, Message("assistant", (TextPart(""),))))["contents"]) == 1


def test_results_of_parallel_calls_stand_in_one_content_and_their_media_after_it() -> None:
    second = ToolCallPart(id="c2", name="hear", arguments="")
    image = ImagePart(data="AA", media_type="image/png")
    results = (
        Message("tool", (ToolResultPart("c1", (TextPart("blue"), image)),)),
        Message("tool", (ToolResultPart("c2", (TextPart("loud"),), is_error=True),)),
    )
    contents = body_of(make(HI, Message("assistant", (CALL, second)), *results, HI))["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user", "user", "user"]
    assert contents[1]["parts"] == [
        {"functionCall": {"id": "c1", "name": "look", "args": {"at": "sky"}}},
        {"functionCall": {"id": "c2", "name": "hear", "args": {}}},
    ]
    assert contents[2]["parts"] == [
        {"functionResponse": {"id": "c1", "name": "look", "response": {"output": "blue"}}},
        {"functionResponse": {"id": "c2", "name": "hear", "response": {"error": "loud"}}},
    ]
    assert contents[3]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": "AA"}}


def test_a_result_of_no_known_call_is_refused_unless_it_says_its_tool() -> None:
    result = ToolResultPart("c9", (TextPart("x"),))
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(make(HI, Message("tool", (result,))))
    assert caught.value.param == "messages[1].content[0]"
    body = body_of(make(HI, Message("tool", (result,), name="look")))
    assert body["contents"][1]["parts"][0]["functionResponse"]["name"] == "look"


def test_arguments_that_are_no_object_are_kept_as_text() -> None:
    bad = msgspec.structs.replace(CALL, arguments="[1,")
    body = body_of(make(HI, Message("assistant", (bad,))))
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == {"INVALID_JSON": "[1,"}


# --- thought signatures -----------------------------------------------------------------------------------


def model_parts(*parts: Part, model: str = "gemini-3-pro") -> list[tuple[str, str]]:
    """(what a part is, its signature) of a model's turn as it is sent."""
    sent = body_of(make(HI, Message("assistant", parts), model=model))["contents"][1]["parts"]
    return [(next(key for key in part if key != "thoughtSignature"), part.get("thoughtSignature", "")) for part in sent]


def test_a_signature_goes_back_onto_the_part_after_it() -> None:
    said = (ReasoningPart(signature="s1"), CALL, CALL)
    assert model_parts(*said) == [("functionCall", "s1"), ("functionCall", "")]
    assert model_parts(ReasoningPart(signature="s1"), TextPart("so")) == [("text", "s1")]


def test_a_lone_signature_that_a_client_moved_to_the_front_is_the_calls() -> None:
    assert model_parts(ReasoningPart(signature="s1"), TextPart("so"), CALL) == [("text", ""), ("functionCall", "s1")]


def test_two_signatures_are_the_texts_and_the_calls() -> None:
    said = (ReasoningPart(signature="s1"), ReasoningPart(signature="s2"), TextPart("so"), CALL)
    assert model_parts(*said) == [("text", "s1"), ("functionCall", "s2")]


@pytest.mark.parametrize(
    ("model", "signature"),
    [
        ("gemini-2.5-flash", ""),
        ("gemini-3-flash-preview", "skip_thought_signature_validator"),
        ("gemini-3.5-pro", "skip_thought_signature_validator"),
        ("gemini-flash-latest", "skip_thought_signature_validator"),
    ],
)
def test_a_call_without_its_signature_is_marked_for_models_that_check(model: str, signature: str) -> None:
    assert model_parts(CALL, CALL, model=model) == [("functionCall", signature), ("functionCall", "")]


def test_thoughts_are_sent_back_as_thoughts() -> None:
    body = body_of(make(HI, Message("assistant", (ReasoningPart("hm", "s"), TextPart("so")))))
    assert body["contents"][1]["parts"] == [
        {"text": "hm", "thought": True, "thoughtSignature": "s"},
        {"text": "so"},
    ]


@pytest.mark.parametrize("client", [openai_chat.WIRE, anthropic_messages.WIRE], ids=["openai", "anthropic"])
def test_a_signature_survives_a_turn_through_a_client_of_another_wire(client: Any) -> None:
    answered = {
        "candidates": [
            {
                "content": {
                    "parts": [{"functionCall": {"name": "look", "args": {"at": "sky"}}, "thoughtSignature": "c2lnbmVk"}]
                },
                "finishReason": "STOP",
            }
        ],
        "responseId": "r1",
    }
    answer = json.loads(client.encode_answer(WIRE.decode_answer(json.dumps(answered).encode())))
    if client is openai_chat.WIRE:
        said = answer["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "blue"}
    else:
        said = {"role": "assistant", "content": answer["content"]}
        used = next(block["id"] for block in answer["content"] if block["type"] == "tool_use")
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used, "content": "blue"}]}
    next_turn = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}, said, result]}
    request = client.decode_request(json.dumps(next_turn).encode())
    contents = body_of(msgspec.structs.replace(request, model="gemini-3-pro"))["contents"]
    (call,) = contents[1]["parts"]
    assert call["thoughtSignature"] == "c2lnbmVk"
    assert contents[2]["parts"][0]["functionResponse"]["id"] == call["functionCall"]["id"]
    assert contents[2]["parts"][0]["functionResponse"]["name"] == "look"


# --- settings ---------------------------------------------------------------------------------------------


def test_settings_have_their_names() -> None:
    request = make(
        max_output_tokens=9,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop=("END",),
        n=2,
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        logprobs=True,
        top_logprobs=3,
        output_format=OutputFormat("json_schema", name="n", schema={"type": "object"}, strict=True),
        service_tier="flex",
        user="u",
        metadata={"team": "t"},
    )
    body = body_of(request)
    assert body["serviceTier"] == "flex"
    assert body["generationConfig"] == {
        "maxOutputTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "seed": 7,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "stopSequences": ["END"],
        "candidateCount": 2,
        "responseLogprobs": True,
        "logprobs": 3,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }


@pytest.mark.parametrize(
    ("model", "reasoning", "said"),
    [
        ("gemini-2.5-flash", Reasoning(effort="low"), {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning(effort="high"), {"thinkingBudget": 24576, "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning(adaptive=True), {"thinkingBudget": -1, "includeThoughts": True}),
        ("gemini-3-pro", Reasoning(effort="low"), {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3-pro", Reasoning(effort="xhigh"), {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3-pro", Reasoning(adaptive=True), {"includeThoughts": True}),
        ("gemini-3-pro", Reasoning(budget_tokens=500), {"thinkingBudget": 500, "includeThoughts": True}),
        ("gemini-2.5-flash", Reasoning(enabled=False), {"thinkingBudget": 0}),
    ],
    ids=str,
)
def test_thinking_is_asked_for_as_the_model_knows_it(model: str, reasoning: Reasoning, said: dict[str, Any]) -> None:
    assert body_of(make(model=model, reasoning=reasoning))["generationConfig"]["thinkingConfig"] == said


TOOL = Tool("look", "Look up", {"type": "object", "properties": {"at": {"type": "string"}}})


@pytest.mark.parametrize(
    ("choice", "strict", "said"),
    [
        (None, None, None),
        (None, True, {"mode": "VALIDATED"}),
        (ToolChoice("auto"), None, {"mode": "AUTO"}),
        (ToolChoice("auto"), True, {"mode": "VALIDATED"}),
        (ToolChoice("none"), None, {"mode": "NONE"}),
        (ToolChoice("required"), True, {"mode": "ANY"}),
        (ToolChoice("named", "look"), None, {"mode": "ANY", "allowedFunctionNames": ["look"]}),
    ],
    ids=str,
)
def test_tools_and_the_choice_among_them(choice: ToolChoice | None, strict: bool | None, said: Any) -> None:
    body = body_of(make(tools=(msgspec.structs.replace(TOOL, strict=strict),), tool_choice=choice))
    (declared,) = body["tools"][0]["functionDeclarations"]
    assert declared == {"name": "look", "description": "Look up", "parametersJsonSchema": TOOL.parameters}
    assert body.get("toolConfig", {}).get("functionCallingConfig") == said


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (make(parallel_tool_calls=False), "parallel_tool_calls"),
        (make(extra={"logit_bias": {"1": 2}}), "logit_bias"),
        (make(service_tier="scale"), "service_tier"),
        (make(reasoning=Reasoning(effort="colossal")), "reasoning_effort"),
        (make(Message("user", (TextPart("hi"),), name="ann")), "messages[0].name"),
        (make(Message("user", (ImagePart(data="A", detail="low"),))), "messages[0].content[0].detail"),
        (make(Message("user", (FilePart(file_id="file-1"),))), "messages[0].content[0].file_id"),
        (make(Message("user", (FilePart(data="A", extra={"context": "c"}),))), "messages[0].content[0].context"),
        (make(Message("user", (OpaquePart("openai_chat", {"type": "x"}),))), "messages[0].content[0]"),
        (make(HI, Message("assistant", (ReasoningPart(redacted="xx"),))), "messages[1].content[0]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_said_is_refused_by_name_or_dropped(request_: Request, param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        WIRE.encode_request(request_)
    assert caught.value.param == param
    assert "logit_bias" not in body_of(request_, drop=True)


# --- Google's own clients ---------------------------------------------------------------------------------


def decoded(body: dict[str, Any]) -> Request:
    return WIRE.decode_request(json.dumps({"contents": [{"parts": [{"text": "hi"}]}]} | body).encode())


def test_snake_case_is_read_as_camel_case() -> None:
    request = decoded(
        {
            "system_instruction": {"parts": [{"text": "be"}]},
            "generation_config": {"max_output_tokens": 5, "top_k": 40.0},
            "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "AA"}}]}],
            "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"type": "object"}}]}],
        }
    )
    assert request.messages[0] == Message("system", (TextPart("be"),))
    assert request.messages[1].parts == (ImagePart(data="AA", media_type="image/png"),)
    assert (request.max_output_tokens, request.top_k) == (5, 40)
    assert request.tools == (Tool("f", parameters={"type": "object"}),)


def test_calls_without_ids_get_ones_that_their_responses_share() -> None:
    call, response = {"functionCall": {"name": "f"}}, {"functionResponse": {"name": "f", "response": {"a": 1}}}
    contents = [{"role": "model", "parts": [call, call]}, {"role": "user", "parts": [response, response]}]
    request = decoded({"contents": contents})
    made = [part.id for part in request.messages[0].parts if isinstance(part, ToolCallPart)]
    answered = [part for message in request.messages[1:] for part in message.parts if isinstance(part, ToolResultPart)]
    assert len(set(made)) == 2
    assert [part.id for part in answered] == made
    assert answered[0].parts == (TextPart('{"a":1}'),)
    assert decoded({"contents": contents}) == request


def test_googles_own_schema_becomes_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "nullable": True, "minLength": "3"},
            "many": {"type": "ARRAY", "items": {"anyOf": [{"type": "INTEGER"}, {"type": "NULL"}]}},
        },
    }
    request = decoded({"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]})
    assert request.tools[0].parameters == {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"], "minLength": 3},
            "many": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        },
    }


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}, {"googleSearch": {}}]},
        {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "b"]}}},
        {"toolConfig": {"retrievalConfig": {"languageCode": "no"}}},
        {"generationConfig": {"responseModalities": ["IMAGE"], "temperature": 1}},
        {"tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f"}]}, {"urlContext": {}}]},
        {"labels": {"team": "t"}},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 100, "includeThoughts": False}}},
        {"safetySettings": [{"category": "X", "threshold": "OFF"}], "cachedContent": "cachedContents/1"},
        {"contents": [{"role": "user", "parts": [{"text": "see", "videoMetadata": {"fps": 1}}]}]},
    ],
    ids=str,
)
def test_what_only_google_knows_goes_back_as_it_came(body: dict[str, Any]) -> None:
    sent = json.loads(WIRE.encode_request(decoded(body)))
    for name, value in body.items():
        assert sent[name] == value


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"safetySettings": []}, "safetySettings"),
        ({"cached_content": "cachedContents/1"}, "cachedContent"),
        ({"tools": [{"functionDeclarations": [{"name": "f"}]}, {"codeExecution": {}}]}, "tools[1].codeExecution"),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "behavior": "BLOCKING"}]}]},
            "tools[0].functionDeclarations[0].behavior",
        ),
        ({"generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig"),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, "generationConfig.responseModalities"),
        (
            {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "b"]}}},
            "toolConfig.functionCallingConfig",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("other", [openai_chat.WIRE, anthropic_messages.WIRE], ids=["openai", "anthropic"])
def test_googles_own_fields_are_refused_on_another_wire_by_their_path(
    other: Any, body: dict[str, Any], param: str
) -> None:
    request = msgspec.structs.replace(decoded(body), model="other")
    with pytest.raises(Unsupported) as caught:
        other.encode_request(request)
    assert caught.value.param == param
    assert other.encode_request(request, drop_unsupported=True)


def test_a_bare_search_of_the_web_is_one_where_the_other_wire_has_it() -> None:
    tools = [{"functionDeclarations": [{"name": "f"}]}, {"google_search": {}}]
    request = msgspec.structs.replace(decoded({"tools": tools}), model="other")
    said = json.loads(anthropic_messages.WIRE.encode_request(request))["tools"]
    assert said == [
        {"name": "f", "input_schema": {"type": "object", "properties": {}}},
        {"type": "web_search_20250305", "name": "web_search"},
    ]
    with pytest.raises(Unsupported) as caught:
        openai_chat.WIRE.encode_request(request)
    assert caught.value.param == "tools[1].googleSearch"
    dated = decoded({"tools": [{"googleSearch": {"timeRangeFilter": {"startTime": "2026-01-01T00:00:00Z"}}}]})
    with pytest.raises(Unsupported) as caught:
        anthropic_messages.WIRE.encode_request(dated)
    assert caught.value.param == "tools[0].googleSearch"


@pytest.mark.parametrize(
    "body",
    [
        {"generationConfig": {"responseModalities": ["TEXT"], "responseMimeType": "text/plain", "candidateCount": 1}},
        {"generationConfig": {"thinkingConfig": {}}, "labels": {"team": "t"}},
        {"generationConfig": {"thinkingConfig": {"includeThoughts": False}}},
        {"toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}},
    ],
    ids=str,
)
def test_what_says_the_default_is_no_reason_to_refuse(body: dict[str, Any]) -> None:
    for other in (openai_chat.WIRE, anthropic_messages.WIRE):
        assert other.encode_request(msgspec.structs.replace(decoded(body), model="other"))


@pytest.mark.parametrize(
    ("config", "reasoning"),
    [
        ({"thinkingBudget": 0}, Reasoning(enabled=False)),
        ({"thinkingBudget": 2048}, Reasoning(budget_tokens=2048, hidden=True)),
        ({"thinkingBudget": 2048, "includeThoughts": True}, Reasoning(budget_tokens=2048)),
        ({"thinking_level": "LOW", "include_thoughts": True}, Reasoning(effort="low")),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
        ({"thinkingBudget": -1}, Reasoning(adaptive=True, hidden=True)),
        ({"includeThoughts": True}, Reasoning(adaptive=True)),
    ],
    ids=str,
)
def test_thinking_is_read_with_or_without_its_thoughts(config: dict[str, Any], reasoning: Reasoning | None) -> None:
    request = decoded({"generationConfig": {"thinkingConfig": config}})
    assert (request.reasoning, request.extra) == (reasoning, {})


def test_numbers_may_be_text_as_json_of_a_proto_has_them() -> None:
    config = {"maxOutputTokens": "50", "seed": "7", "topK": 40.0, "temperature": "0.5"}
    request = decoded({"generationConfig": config})
    assert (request.max_output_tokens, request.seed, request.top_k, request.temperature) == (50, 7, 40, 0.5)
    body = {"model": "m", "contents": [{"parts": []}], "generationConfig": config}
    assert WIRE.admit(json.dumps(body).encode()).max_output_tokens == 50


@pytest.mark.parametrize(
    ("config", "param"),
    [
        ({"temperature": "hot"}, "$.generationConfig.temperature"),
        ({"stop_sequences": "END"}, "$.generationConfig.stopSequences"),
        ({"stopSequences": ["a", 3]}, "$.generationConfig.stopSequences[1]"),
        ({"responseLogprobs": [1]}, "$.generationConfig.responseLogprobs"),
    ],
    ids=str,
)
def test_a_setting_of_a_wrong_type_is_refused_in_a_translation(config: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded({"generationConfig": config})
    assert caught.value.param == param


def test_a_schema_says_its_order_and_that_it_is_closed() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"b": {"type": "STRING", "format": "enum", "enum": ["x"]}, "a": {"type": "OBJECT"}},
        "propertyOrdering": ["a", "b"],
    }
    config = {"responseMimeType": "application/json", "responseSchema": schema}
    wanted = decoded({"generationConfig": config}).output_format
    assert wanted is not None
    assert list(wanted.schema["properties"]) == ["a", "b"]
    assert wanted.schema == {
        "type": "object",
        "properties": {"a": {"type": "object"}, "b": {"type": "string", "enum": ["x"]}},
        "additionalProperties": False,
    }


def test_what_a_model_said_in_a_row_is_one_turn() -> None:
    chunks = [{"role": "model", "parts": [part]} for part in ({"text": "It "}, {"text": "does."}, {"functionCall": {}})]
    contents = [{"parts": [{"text": "hi"}]}, *chunks, {"role": "tool", "parts": [{"text": "so"}]}]
    messages = decoded({"contents": contents}).messages
    assert [message.role for message in messages] == ["user", "assistant", "user"]
    assert messages[1].parts[0] == TextPart("It does.")
    assert len(messages[1].parts) == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b"{}", "$.contents"),
        (b'{"contents": [7]}', "$.contents[0]"),
        (b'{"contents": [{"role": "system", "parts": []}]}', "$.contents[0].role"),
        (b'{"contents": [{"parts": "x"}]}', "$.contents[0].parts"),
        (b'{"contents": [{"parts": []}], "generationConfig": 3}', "$.generationConfig"),
        (b'{"contents": [{"parts": []}], "tool_config": []}', "$.toolConfig"),
        (b'{"contents": [{"parts": []}], "tools": "none"}', "$.tools"),
        (b'{"contents": [{"parts": []}], "tools": ["f"]}', "$.tools"),
        (b'{"contents": [{"parts": []}], "systemInstruction": 3}', "$.systemInstruction"),
        (b'{"contents": [{"parts": []}]}', "$.model"),
        (b'{"contents": [{}], "model": "m", "generationConfig": {"maxOutputTokens": 0}}',
         "$.generationConfig.maxOutputTokens"),
        (b"[" * 100_000, "$"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_body_is_refused_with_its_path(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRE.admit(body)
    assert caught.value.param == param


def test_admission_counts_media_tools_and_candidates() -> None:
    body = {
        "model": "models/gemini-x",
        "stream": True,
        "contents": [
            {"parts": [{"inlineData": {"mimeType": "image/png", "data": "A" * 40}}]},
            {"parts": [{"file_data": {"mime_type": "audio/mp3", "file_uri": "gs://x"}}]},
            {"parts": [{"inlineData": {"mimeType": "text/plain", "data": "AAAA"}}]},
        ],
        "generationConfig": {"candidateCount": 2, "maxOutputTokens": 50},
        "tools": [{"googleSearch": {}}],
        "labels": {"team": "t"},
    }
    admitted = WIRE.admit(json.dumps(body).encode())
    assert (admitted.model, admitted.stream, admitted.n, admitted.max_output_tokens) == ("gemini-x", True, 2, 50)
    assert (admitted.media, admitted.media_bytes) == ({"image": 1, "audio": 1}, 40)
    assert (admitted.server_tools, admitted.metadata, admitted.message_count) == (True, {"team": "t"}, 3)


@pytest.mark.parametrize(("own", "cap", "sent"), [(None, 9, 9), (50, 9, 9), (5, 9, 5), (5, None, 5)])
def test_a_cap_is_lowered_and_never_raised(own: int | None, cap: int | None, sent: int) -> None:
    config = {"generationConfig": {"maxOutputTokens": own, "topK": 3}} if own else {}
    body = {"model": "m", "stream": True, "contents": [{"parts": []}], **config}
    said = json.loads(WIRE.rewrite(WIRE.admit(json.dumps(body).encode()), model="other", max_output_tokens=cap))
    assert said["generationConfig"]["maxOutputTokens"] == sent
    assert said.keys() == {"contents", "generationConfig"}
