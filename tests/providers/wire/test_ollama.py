"""Ollama's own chat wire: what it is asked, what it answers, and its recorded exchanges."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import Message as AnthropicMessage
from openai.types.chat import ChatCompletion

from ledger.meters import METERS
from providers import errors, ndjson
from providers.unified import (
    AudioPart,
    Event,
    FilePart,
    Finished,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    PartDelta,
    PartStarted,
    Reasoning,
    ReasoningPart,
    Request,
    Started,
    Stopped,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire import anthropic_messages, openai_chat
from providers.wire.base import Admitted
from providers.wire.ollama import WIRE, OllamaChat
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes

PNG = "iVBORw0KGgo="
LOOK = Tool(name="look", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
RECORDED = cases(exchanges(status=200, where=lambda item: item["api"] in ("ollama.chat", "ollama.generate")))
RECORDED_CHATS = cases(exchanges(api="ollama.chat"))


def sent(*messages: Message, of: OllamaChat = WIRE, drop: bool = False, **fields: Any) -> dict[str, Any]:
    said = messages or (Message("user", (TextPart("hi"),)),)
    body = of.encode_request(Request(model="m", messages=said, **fields), drop_unsupported=drop)
    value: dict[str, Any] = msgspec.json.decode(body)
    return value


def line(done: bool = False, **fields: Any) -> bytes:
    said = {"model": "m", "created_at": "2026-02-03T04:05:06.789012345Z", "done": done, **fields}
    return msgspec.json.encode(said) + b"\n"


def piece(**message: Any) -> bytes:
    return line(message={"role": "assistant", "content": "", **message})


def read(stream: bytes) -> list[Event]:
    decoder, reader = ndjson.Decoder(), WIRE.stream_reader()
    return [made for frame in decoder.feed(stream) + decoder.end() for made in reader.feed(frame)] + reader.end()


# --- what it is asked ---------------------------------------------------------------------------------------


def test_it_is_told_not_to_stream() -> None:
    assert sent() == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    assert sent(stream=True)["stream"] is True


def test_a_cap_and_the_sampling_are_options() -> None:
    asked = sent(
        max_output_tokens=9, temperature=0.5, top_p=0.9, top_k=4, seed=7, presence_penalty=0.1, frequency_penalty=0.2,
        stop=("END",),
    )  # fmt: skip
    assert asked["options"] == {
        "num_predict": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 4, "seed": 7, "presence_penalty": 0.1,
        "frequency_penalty": 0.2, "stop": ["END"],
    }  # fmt: skip


def test_images_stand_beside_the_text() -> None:
    asked = sent(Message("user", (TextPart("What is it?"), ImagePart(data=PNG), TextPart("And where?"))))
    assert asked["messages"] == [{"role": "user", "content": "What is it?\nAnd where?", "images": [PNG]}]


def test_a_conversation_with_tools_names_the_tool_of_each_result() -> None:
    call = ToolCallPart(id="c1", name="look", arguments='{"city":"Rome"}')
    asked = sent(
        Message("developer", (TextPart("Be brief."),)),
        Message("assistant", (ReasoningPart(text="hm"), ReasoningPart(redacted="sealed"), TextPart("Wait."), call)),
        Message("user", (ToolResultPart(id="c1", parts=(TextPart("rain"),), is_error=True), TextPart("So?"))),
        tools=(LOOK,),
    )
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant", "content": "Wait.", "thinking": "hm",
            "tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": {"city": "Rome"}}}],
        },
        {"role": "tool", "content": "Error: rain", "tool_name": "look", "tool_call_id": "c1"},
        {"role": "user", "content": "So?"},
    ]  # fmt: skip
    assert asked["tools"] == [{"type": "function", "function": {"name": "look", "parameters": LOOK.parameters}}]


def test_arguments_that_are_no_object_stay_readable() -> None:
    said = Message("assistant", (ToolCallPart(id="c", name="look", arguments='{"city":'),))
    assert sent(said)["messages"][0]["tool_calls"][0]["function"]["arguments"] == {"INVALID_JSON": '{"city":'}


@pytest.mark.parametrize(
    ("reasoning", "think"),
    [
        (Reasoning(effort="minimal"), "low"),
        (Reasoning(effort="medium"), "medium"),
        (Reasoning(effort="xhigh"), "high"),
        (Reasoning(budget_tokens=1024), "low"),
        (Reasoning(budget_tokens=50_000), "high"),
        (Reasoning(), True),
        (Reasoning(enabled=False), False),
        (Reasoning(adaptive=True), None),
        (None, None),
    ],
)
def test_how_much_to_think(reasoning: Reasoning | None, think: object) -> None:
    assert sent(reasoning=reasoning).get("think") == think


def test_a_schema_is_the_format() -> None:
    schema = {"type": "object"}
    assert sent(output_format=OutputFormat("json_schema", name="w", schema=schema))["format"] == schema
    assert sent(output_format=OutputFormat("json_object"))["format"] == "json"


def test_no_tool_may_be_called_where_none_is_told() -> None:
    assert "tools" not in sent(tools=(LOOK,), tool_choice=ToolChoice("none"))
    assert "tools" in sent(tools=(LOOK,), tool_choice=ToolChoice("auto"))


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("n", {"n": 2}),
        ("user", {"user": "u"}),
        ("service_tier", {"service_tier": "priority"}),
        ("tool_choice", {"tools": (LOOK,), "tool_choice": ToolChoice("required")}),
        ("tool_choice", {"tools": (LOOK,), "tool_choice": ToolChoice("named", "look")}),
        ("parallel_tool_calls", {"tools": (LOOK,), "parallel_tool_calls": False}),
        ("tools", {"tools": (msgspec.structs.replace(LOOK, strict=True),)}),
        ("logit_bias", {"extra": {"logit_bias": {"1": 2}}, "wire": "openai_chat"}),
    ],
)
def test_what_cannot_be_said_is_refused_by_name_or_dropped(param: str, fields: dict[str, Any]) -> None:
    with pytest.raises(errors.Unsupported) as caught:
        sent(**fields)
    assert caught.value.param == param
    assert sent(drop=True, **fields)["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("part", [ImagePart(url="https://h/i.png"), FilePart(data="AAAA"), AudioPart(data="AAAA")])
def test_media_that_it_cannot_take_are_refused_by_their_place(part: Part) -> None:
    said = Message("user", (TextPart("Look:"), part))
    with pytest.raises(errors.Unsupported) as caught:
        sent(said)
    assert caught.value.param == "messages[0].content[1]"
    assert sent(said, drop=True)["messages"] == [{"role": "user", "content": "Look:"}]


def test_a_clients_own_options_come_before_the_rows() -> None:
    wire = OllamaChat(defaults={"keep_alive": "10m", "options": {"num_ctx": 16384, "num_gpu": 1, "temperature": 0}})
    assert sent(of=wire)["keep_alive"] == "10m"
    asked = sent(of=wire, temperature=0.5, extra={"keep_alive": 0, "options": {"num_ctx": 8192}})
    assert asked["keep_alive"] == 0
    assert asked["options"] == {"num_ctx": 8192, "num_gpu": 1, "temperature": 0.5}
    with pytest.raises(errors.InvalidRequest):
        sent(extra={"options": 3})


# --- what it answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "totals", "source"),
    [
        ({"prompt_eval_count": 17, "eval_count": 50}, {"input": 17, "output": 50}, "reported"),
        ({"eval_count": 50}, {"output": 50}, "partial"),
        ({"prompt_eval_count": None, "eval_count": -3}, {}, "none"),
        ({"prompt_eval_count": "12", "eval_count": 10**30}, {}, "none"),
        ({}, {}, "none"),
    ],
)
def test_counts_that_are_absent_are_unknown_and_no_error(
    counts: dict[str, Any], totals: dict[str, int], source: str
) -> None:
    body = line(done=True, done_reason="stop", message={"content": "hi"}, **counts)
    usage, served = WIRE.read_usage(body)
    assert (usage.totals, usage.source, served) == (totals, source, "m")
    assert read(body)[-1] == Finished(usage=usage)
    assert WIRE.decode_answer(body).usage == usage


def test_an_answer_with_calls_on_both_surfaces() -> None:
    calls = [{"function": {"name": "look", "arguments": {"city": "Rome"}}}] * 2
    message = {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls}
    answer = WIRE.decode_answer(line(done=True, done_reason="stop", message=message, prompt_eval_count=1, eval_count=2))
    assert answer.created == 1770091506
    (choice,) = answer.choices
    assert choice.stop_reason == "tool_calls"
    ids = [part.id for part in choice.parts if isinstance(part, ToolCallPart)]
    assert len(set(ids)) == 2
    assert all(ids)
    chat = ChatCompletion.model_validate_json(openai_chat.WIRE.encode_answer(answer))
    assert chat.choices[0].finish_reason == "tool_calls"
    said = AnthropicMessage.model_validate_json(anthropic_messages.WIRE.encode_answer(answer))
    assert (said.stop_reason, said.id[:4]) == ("tool_use", "msg_")
    assert [block.type for block in said.content] == ["thinking", "tool_use", "tool_use"]


@pytest.mark.parametrize("body", [b"", b"[]", b"nope", b'{"done": true}', b'{"message": "text"}'])
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        WIRE.decode_answer(body)


def test_a_200_that_holds_an_error_is_that_error() -> None:
    with pytest.raises(errors.UpstreamError, match="runner has terminated"):
        WIRE.decode_answer(b'{"error": "llama runner has terminated"}')


def test_a_stream_of_thoughts_text_and_calls() -> None:
    call = {"id": "c1", "function": {"name": "look", "arguments": {"city": "Rome"}}}
    events = read(
        piece(thinking="h") + piece(thinking="m") + piece(content="Wait") + piece(content=".") + b"\n"
        + piece(tool_calls=[call]) + piece(tool_calls=[{**call, "id": "c2"}])
        + line(done=True, done_reason="stop", prompt_eval_count=17, eval_count=5)
    )  # fmt: skip
    assert events[0] == Started(id="", model="m", created=1770091506)
    assert [event.part for event in events if isinstance(event, PartStarted)] == [
        ReasoningPart(), TextPart(text=""), ToolCallPart("c1", "look", ""), ToolCallPart("c2", "look", ""),
    ]  # fmt: skip
    texts: dict[int, str] = {}
    for event in events:
        if isinstance(event, PartDelta):
            texts[event.index] = texts.get(event.index, "") + event.text
    assert texts == {0: "hm", 1: "Wait.", 2: '{"city":"Rome"}', 3: '{"city":"Rome"}'}
    assert events[-2] == Stopped(reason="tool_calls")


def test_an_error_on_the_way_is_raised_and_a_broken_stream_is_interrupted() -> None:
    with pytest.raises(errors.UpstreamError, match="out of memory"):
        read(piece(content="It") + b'{"error":"out of memory"}\n')
    with pytest.raises(errors.StreamInterrupted):
        read(piece(content="It"))
    with pytest.raises(errors.MalformedAnswer):
        read(piece(content="It") + b'{"mess')


def test_half_a_surrogate_pair_passes() -> None:
    stream = piece(content="X").replace(b"X", b"\\ud83d") + line(done=True, done_reason="length", eval_count=1)
    events = read(stream)
    assert Stopped(reason="length") in events
    writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    assert b"\\ud83d" in b"".join(map(writer.write, events))


# --- what a client of it says -------------------------------------------------------------------------------


def test_a_client_streams_unless_it_says_no() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi", "images": [PNG]}]}
    admitted = WIRE.admit(msgspec.json.encode({**body, "options": {"num_predict": -1}}))
    assert (admitted.stream, admitted.max_output_tokens) == (True, None)
    assert (admitted.media, admitted.media_bytes) == ({"image": 1}, len(PNG))
    assert not WIRE.admit(msgspec.json.encode({**body, "stream": False})).stream


def test_a_result_without_an_id_answers_the_last_call_of_its_tool() -> None:
    call = {"function": {"name": "look", "arguments": {"city": "Rome"}}}
    messages = [
        {"role": "assistant", "tool_calls": [{**call, "id": "c1"}]},
        {"role": "assistant", "tool_calls": [{**call, "id": "c2"}]},
        {"role": "tool", "content": "rain", "tool_name": "look"},
        {"role": "tool", "content": "x", "tool_name": "other"},
    ]
    request = WIRE.decode_request(msgspec.json.encode({"model": "m", "messages": messages}))
    results = [part.id for said in request.messages for part in said.parts if isinstance(part, ToolResultPart)]
    assert results == ["c2", "other"]


def test_pass_through_changes_the_model_and_lowers_the_cap() -> None:
    said = [{"role": "user", "content": "hi"}]
    body = {"model": "ours", "messages": said, "novel": {"a": 1}, "options": {"mirostat": 1}}
    admitted = WIRE.admit(msgspec.json.encode({**body, "drop_unsupported": True}))
    assert msgspec.json.decode(WIRE.rewrite(admitted, model="theirs")) == {**body, "model": "theirs"}
    capped = msgspec.json.decode(WIRE.rewrite(admitted, model="theirs", max_output_tokens=9))
    assert capped["options"] == {"mirostat": 1, "num_predict": 9}
    own = WIRE.admit(msgspec.json.encode({**body, "options": {"num_predict": 5}}))
    assert msgspec.json.decode(WIRE.rewrite(own, model="m", max_output_tokens=9))["options"] == {"num_predict": 5}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({}, "$.messages"),
        ({"messages": []}, "$.messages"),
        ({"messages": [{"role": "robot"}]}, "$.messages[0].role"),
        ({"messages": [{"role": "user"}], "options": {"num_predict": "9"}}, "$.options.num_predict"),
    ],
)
def test_a_bad_body_is_refused_by_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        WIRE.admit(msgspec.json.encode({"model": "m", **fields}))
    assert caught.value.param == path


# --- recorded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", RECORDED)
def test_recorded_usage_is_read_exactly(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    if exchange["response_format"] == "ndjson":
        body = body.strip().rpartition(b"\n")[2]
    usage, served = WIRE.read_usage(body)
    assert usage.totals == exchange["expected"]["usage"]
    assert (usage.source, served) == ("reported", exchange["response_model"] or exchange["model"])
    assert usage.totals.keys() <= METERS.keys()


@pytest.mark.parametrize("exchange", RECORDED_CHATS)
def test_recorded_requests_survive_the_way_in_and_out(exchange: Exchange) -> None:
    asked = exchange["request_body"]
    again = msgspec.json.decode(WIRE.encode_request(WIRE.decode_request(request_bytes(exchange))))
    kept = {name: value for name, value in asked.items() if value not in (None, "", [], {})}
    assert again == kept | {"stream": asked["stream"]}


@pytest.mark.parametrize("exchange", RECORDED_CHATS)
def test_recorded_answers_are_read_whole(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    if exchange["status"] >= 400:
        error = WIRE.decode_error(status=exchange["status"], body=body, headers={}, provider="p")
        assert isinstance(error, errors.ModelNotFound)
        assert error.message == msgspec.json.decode(body)["error"]
        return
    if exchange["stream"]:
        said = "".join(msgspec.json.decode(part)["message"]["content"] for part in body.splitlines())
        assert "".join(event.text for event in read(body) if isinstance(event, PartDelta)) == said
        return
    message = msgspec.json.decode(body)["message"]
    again = msgspec.json.decode(WIRE.encode_answer(WIRE.decode_answer(body)))["message"]
    assert {name: again.get(name) for name in ("content", "thinking")} == {
        name: message.get(name) for name in ("content", "thinking")
    }
    assert len(again.get("tool_calls", ())) == len(message.get("tool_calls", ()))
