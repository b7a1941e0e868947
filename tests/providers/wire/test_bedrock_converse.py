"""The Converse wire: what other wires' requests become, what cannot be said, counts, exceptions and odd streams."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from providers import errors, eventstream
from providers.unified import (
    AudioPart,
    Event,
    FilePart,
    ImagePart,
    Message,
    OutputFormat,
    PartStarted,
    Reasoning,
    ReasoningPart,
    Request,
    Stopped,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire import anthropic_messages, openai_chat, openai_responses
from providers.wire.base import Admitted, Wire
from providers.wire.bedrock_converse import WIRE

CLAUDE = "us.anthropic.claude-sonnet-4-6"


def asked(*parts: Any, model: str = CLAUDE, **fields: Any) -> Request:
    said: Any = parts or (TextPart(text="Hi"),)
    return Request(model=model, messages=(Message(role="user", parts=said),), wire="openai_chat", **fields)


def sent(request: Request, *, drop: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(WIRE.encode_request(request, drop_unsupported=drop))
    return body


# --- requests -----------------------------------------------------------------------------------------------


def test_a_chat_of_openai_becomes_a_converse_body() -> None:
    body = {
        "model": CLAUDE,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "a:1", "type": "function", "function": {"name": "look", "arguments": '{"city":"Bern"}'}},
                {"id": "b/2", "type": "function", "function": {"name": "look", "arguments": ""}},
            ]},
            {"role": "tool", "tool_call_id": "a:1", "content": "Sun."},
            {"role": "tool", "tool_call_id": "b/2", "content": "Rain."},
            {"role": "user", "content": "And?"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": "required",
        "max_tokens": 9,
        "temperature": 0.5,
        "stop": "END",
        "stream": True,
        "user": "u-1",
        "metadata": {"team": "search"},
        "service_tier": "flex",
    }  # fmt: skip
    got = sent(openai_chat.WIRE.decode_request(json.dumps(body).encode()))
    assert got == {
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "Weather?"}]},
            {"role": "assistant", "content": [
                {"toolUse": {"toolUseId": "a:1", "name": "look", "input": {"city": "Bern"}}},
                {"toolUse": {"toolUseId": "b_2", "name": "look", "input": {}}},
            ]},
            # Results and what follows them are one turn of the user.
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "a:1", "content": [{"text": "Sun."}]}},
                {"toolResult": {"toolUseId": "b_2", "content": [{"text": "Rain."}]}},
                {"text": "And?"},
            ]},
        ],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "stopSequences": ["END"]},
        "toolConfig": {
            "tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": {"type": "object"}}}}],
            "toolChoice": {"any": {}},
        },
        "serviceTier": {"type": "flex"},
        "requestMetadata": {"user": "u-1"},
    }  # fmt: skip


def test_marks_and_signed_thoughts_of_anthropic_are_kept() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    body = {
        "model": CLAUDE,
        "max_tokens": 2000,
        "system": [{"type": "text", "text": "Long.", "cache_control": mark}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "look", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "redacted_thinking", "data": "AAAA"},
                {"type": "tool_use", "id": "t", "name": "look", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": "no", "cache_control": mark},
            ]},
        ],
    }  # fmt: skip
    got = sent(anthropic_messages.WIRE.decode_request(json.dumps(body).encode()))
    hour = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert got["system"] == [{"text": "Long."}, hour]
    assert got["toolConfig"]["tools"][1] == {"cachePoint": {"type": "default"}}
    assert got["messages"][1]["content"][:2] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "AAAA"}},
    ]
    result = {"toolResult": {"toolUseId": "t", "content": [{"text": "no"}], "status": "error"}}
    assert got["messages"][2]["content"] == [result, hour]
    assert got["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 1024}}


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            ImagePart(url="data:image/jpg;base64,AAAA"),
            {"image": {"format": "jpeg", "source": {"bytes": "AAAA"}}},
        ),
        (
            FilePart(data="AAAA", name="Q3: report_(final).pdf"),
            {"document": {"format": "pdf", "name": "Q3 report (final) pdf", "source": {"bytes": "AAAA"}}},
        ),
        (
            FilePart(data="AAAA", media_type="text/x-log"),
            {"document": {"format": "txt", "name": "document", "source": {"bytes": "AAAA"}}},
        ),
        (
            FilePart(url="s3://b/k", media_type="text/csv", name="t"),
            {"document": {"format": "csv", "name": "t", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        ),
        (
            AudioPart(data="AAAA", format="mp3"),
            {"audio": {"format": "mp3", "source": {"bytes": "AAAA"}}},
        ),
    ],
)
def test_media_are_sent_in_this_wires_words(part: Any, block: dict[str, Any]) -> None:
    assert sent(asked(part))["messages"][0]["content"] == [block]


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (asked(ImagePart(url="https://host/a.png")), "messages[0].content[0]"),
        (asked(FilePart(file_id="file-1")), "messages[0].content[0].file_id"),
        (asked(FilePart(data="AAAA", media_type="application/zip")), "messages[0].content[0]"),
        (asked(n=2), "n"),
        (asked(seed=0), "seed"),
        (asked(top_k=3), "top_k"),
        (asked(logprobs=True), "logprobs"),
        (asked(presence_penalty=0.5), "presence_penalty"),
        (asked(parallel_tool_calls=False), "parallel_tool_calls"),
        (asked(output_format=OutputFormat("json_object")), "output_format"),
        (asked(service_tier="scale"), "service_tier"),
        (asked(user="ü"), "user"),
        (asked(extra={"logit_bias": {}}), "logit_bias"),
        (asked(reasoning=Reasoning(budget_tokens=9), model="amazon.nova-2-lite-v1:0"), "reasoning"),
        (asked(ReasoningPart(text="hm")), "messages[0].content[0]"),
    ],
)
def test_what_this_wire_cannot_say_is_refused_by_name(request_: Request, param: str) -> None:
    with pytest.raises(errors.Unsupported) as caught:
        WIRE.encode_request(request_)
    assert caught.value.param == param
    assert sent(request_, drop=True)["messages"] is not None


def test_values_that_mean_the_default_are_no_reason_to_refuse() -> None:
    same = asked(n=1, logprobs=False, presence_penalty=0.0, parallel_tool_calls=True, service_tier="auto")
    assert sent(same) == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}


def test_a_schema_is_sent_as_text() -> None:
    wanted = OutputFormat("json_schema", name="out", schema={"type": "object"}, strict=True)
    schema = {"schema": '{"type":"object"}', "name": "out"}
    assert sent(asked(output_format=wanted, reasoning=Reasoning(effort="low")))["outputConfig"] == {
        "textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}},
        "effort": "low",
    }


def test_no_tools_are_offered_where_none_may_be_used() -> None:
    tools = (Tool(name="look", parameters={"type": "object"}),)
    assert "toolConfig" not in sent(asked(tools=tools, tool_choice=ToolChoice("none")))
    used = asked(ToolResultPart("t", (TextPart("x"),)), tools=tools, tool_choice=ToolChoice("none"))
    with pytest.raises(errors.Unsupported) as caught:
        WIRE.encode_request(used)
    assert caught.value.param == "tool_choice"


def test_arguments_that_are_no_json_are_kept_as_text() -> None:
    call = Message(role="assistant", parts=(ToolCallPart("t", "look", '{"city": "Be'),))
    got = sent(Request(model=CLAUDE, messages=(*asked().messages, call)))
    assert got["messages"][1]["content"][0]["toolUse"]["input"] == {"INVALID_JSON": '{"city": "Be'}


# --- admission ----------------------------------------------------------------------------------------------


def test_admission_and_rewriting_leave_the_rest_untouched() -> None:
    raw = {
        "modelId": "m",
        "stream": True,
        "messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": "AAAA"}}}]}],
        "inferenceConfig": {"maxTokens": 50, "temperature": 0.1},
        "toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]},
        "requestMetadata": {"user": "u", "team": "search"},
        "inventedTomorrow": [1],
    }
    known = WIRE.admit(json.dumps(raw).encode())
    assert (known.model, known.stream, known.max_output_tokens, known.server_tools) == ("m", True, 50, True)
    assert (known.media, known.media_bytes) == ({"image": 1}, 4)
    assert (known.user, known.metadata) == ("u", {"team": "search"})
    del raw["modelId"], raw["stream"]
    assert json.loads(WIRE.rewrite(known, model="up", max_output_tokens=90)) == raw
    lowered = json.loads(WIRE.rewrite(known, model="up", max_output_tokens=9))
    assert lowered["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.1}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (b"{}", "$"),
        (b"nothing", "$"),
        (b'{"messages": [{"role": "tool", "content": []}]}', "$.messages[0].role"),
        (b'{"messages": [{"role": "user", "content": "Hi"}]}', "$.messages[0].content"),
        (b'{"messages": [{"role": "user", "content": []}], "inferenceConfig": {"maxTokens": 0}}',
         "$.inferenceConfig.maxTokens"),
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_by_its_path(wrong: bytes, param: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        WIRE.decode_request(wrong)
    assert caught.value.param == param


# --- counts -------------------------------------------------------------------------------------------------


def answer(usage: Any, **fields: Any) -> bytes:
    output = {"message": {"role": "assistant", "content": []}}
    return json.dumps({"output": output, "stopReason": "end_turn", "usage": usage, **fields}).encode()


def test_cache_writes_are_split_by_their_lifetime() -> None:
    counts = {
        "inputTokens": 2,
        "outputTokens": 5,
        "cacheReadInputTokens": 10,
        "cacheWriteInputTokens": 100,
        "cacheDetails": [{"ttl": "1h", "inputTokens": 60}, {"ttl": "5m", "inputTokens": 30}],
    }
    usage, _ = WIRE.read_usage(answer(counts))
    assert usage.totals == {"input": 112, "cache_read": 10, "cache_write_1h": 60, "cache_write_5m": 40, "output": 5}


def test_tier_and_speed_that_price_an_answer_are_read() -> None:
    counts = {"inputTokens": 1, "outputTokens": 1}
    usage, _ = WIRE.read_usage(
        answer(counts, serviceTier={"type": "priority"}, performanceConfig={"latency": "optimized"})
    )
    assert (usage.service_tier, usage.speed) == ("priority", "optimized")
    standard, _ = WIRE.read_usage(answer(counts, performanceConfig={"latency": "standard"}))
    assert (standard.service_tier, standard.speed) == ("", "")


def test_the_model_that_a_router_chose_is_the_one_served() -> None:
    arn = "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"
    trace = {"promptRouter": {"invokedModelId": arn}}
    _, model = WIRE.read_usage(answer({"inputTokens": 1, "outputTokens": 1}, trace=trace))
    assert model == "anthropic.claude-3-haiku-20240307-v1:0"


@pytest.mark.parametrize(
    ("counts", "totals", "source"),
    [
        (None, {}, "none"),
        ({"inputTokens": None, "outputTokens": 3}, {"output": 3}, "partial"),
        ({"inputTokens": "7", "outputTokens": -3}, {}, "none"),
        ({"inputTokens": 4, "outputTokens": 1, "cacheDetails": 7}, {"input": 4, "output": 1}, "reported"),
        ({"inputTokens": 10**40, "outputTokens": 1.5}, {}, "none"),
    ],
)
def test_odd_counts_never_crash(counts: Any, totals: dict[str, int], source: str) -> None:
    usage, _ = WIRE.read_usage(answer(counts))
    assert (usage.totals, usage.source) == (totals, source)


# --- streams ------------------------------------------------------------------------------------------------


def frame(event: str, **said: Any) -> bytes:
    return eventstream.encode_event(event=event, data=json.dumps(said).encode())


def read(data: bytes) -> list[Event]:
    decoder, reader = eventstream.Decoder(), WIRE.stream_reader()
    events = [event for each in decoder.feed(data) for event in reader.feed(each)]
    return events + reader.end()


ENDED = frame("messageStop", stopReason="end_turn") + frame("metadata", usage={"inputTokens": 1, "outputTokens": 2})


@pytest.mark.parametrize(
    ("name", "said", "kind"),
    [
        ("throttlingException", {"message": "Too many tokens, please wait"}, errors.RateLimited),
        ("internalServerException", {"message": "oh"}, errors.UpstreamError),
        ("serviceUnavailableException", {"message": "busy"}, errors.Overloaded),
        ("validationException", {"message": "Input is too long for requested model."}, errors.ContextTooLong),
        ("modelStreamErrorException", {"originalMessage": "x", "originalStatusCode": 424}, errors.UpstreamError),
        ("inventedException", {}, errors.UpstreamError),
    ],
)
def test_an_exception_frame_is_a_typed_error(name: str, said: dict[str, Any], kind: type[errors.ProviderError]) -> None:
    headers = {":message-type": "exception", ":exception-type": name}
    raw = eventstream.encode(data=json.dumps(said).encode(), headers=headers)
    with pytest.raises(kind) as caught:
        read(frame("messageStart", role="assistant") + raw)
    assert caught.value.upstream_code == name


def test_a_bare_error_frame_is_a_typed_error() -> None:
    raw = eventstream.encode(data=b"", headers={":message-type": "error", ":error-code": "InternalFailure"})
    with pytest.raises(errors.UpstreamError):
        read(raw)


def test_blocks_begin_with_their_first_delta() -> None:
    thought = {"reasoningContent": {"text": "Hm."}}
    events = read(
        frame("messageStart", role="assistant")
        + frame("contentBlockDelta", contentBlockIndex=0, delta=thought)
        + frame("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"signature": "s"}})
        + frame("contentBlockStop", contentBlockIndex=0)
        + frame("contentBlockDelta", contentBlockIndex=1, delta={"reasoningContent": {"redactedContent": "AAAA"}})
        + frame("contentBlockStop", contentBlockIndex=1)
        + frame("inventedTomorrow", thing=1)
        + frame("contentBlockStart", contentBlockIndex=2, start={"image": {"format": "webp"}})
        + frame("contentBlockDelta", contentBlockIndex=2, delta={"image": {"source": {"bytes": "AA"}}})
        + frame("contentBlockDelta", contentBlockIndex=2, delta={"image": {"source": {"bytes": "BB"}}})
        + frame("contentBlockStop", contentBlockIndex=2)
        + frame("contentBlockDelta", contentBlockIndex=3, delta={"text": "Hi"})
        + ENDED
    )
    assert [event.part for event in events if isinstance(event, PartStarted)] == [
        ReasoningPart(),
        ReasoningPart(redacted="AAAA"),
        ImagePart(data="AABB", media_type="image/webp"),
        TextPart(""),
    ]
    assert [event.reason for event in events if isinstance(event, Stopped)] == ["stop"]


@pytest.mark.parametrize("client", [anthropic_messages.WIRE, openai_chat.WIRE, openai_responses.WIRE])
def test_an_answer_without_an_id_gets_one_of_its_own_on_every_surface(client: Wire) -> None:
    whole = WIRE.decode_answer(answer({"inputTokens": 1, "outputTokens": 1}))
    events = read(frame("contentBlockDelta", contentBlockIndex=0, delta={"text": "Hi"}) + ENDED)
    ids = [json.loads(client.encode_answer(whole))["id"] for _ in range(2)]
    ids += [re.search(rb'"id": ?"(\w+-?\w+)"', _written(client, events))[1].decode() for _ in range(2)]  # type: ignore[index]
    assert len(set(ids)) == 4
    assert all(made.startswith(("msg_", "chatcmpl-", "resp_")) for made in ids)


def _written(client: Wire, events: list[Any]) -> bytes:
    writer = client.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    return b"".join(map(writer.write, events)) + writer.finish()


def test_a_stream_without_its_usage_is_not_complete() -> None:
    with pytest.raises(errors.StreamInterrupted):
        read(frame("messageStart", role="assistant") + frame("messageStop", stopReason="end_turn"))


@pytest.mark.parametrize(
    "broken",
    [
        eventstream.encode_event(event="contentBlockDelta", data=b"{"),
        eventstream.encode_event(event="contentBlockDelta", data=b"7"),
        frame("contentBlockDelta", contentBlockIndex="x", delta={"text": "Hi"}),
    ],
)
def test_frames_that_cannot_be_read_are_malformed(broken: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        read(broken)


def test_an_error_of_ours_is_an_exception_frame() -> None:
    raw = WIRE.encode_stream_error(status=429, code="limit_reached", message="no more", request_id="r", call_id="c")
    with pytest.raises(errors.RateLimited, match="no more"):
        read(raw)


def test_a_writer_that_was_told_little_still_ends_its_stream() -> None:
    writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    body = writer.write(PartStarted(index=0, part=TextPart("Hi"))) + writer.finish()
    assert [event.part for event in read(body) if isinstance(event, PartStarted)] == [TextPart("")]


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "name", "message", "kind"),
    [
        (400, "ValidationException", "Input is too long for requested model.", errors.ContextTooLong),
        (400, "ValidationException", "The provided model identifier is invalid.", errors.ModelNotFound),
        (400, "ValidationException", "The text field is blank.", errors.InvalidRequest),
        (400, "ServiceQuotaExceededException", "Your request exceeds the quota.", errors.QuotaExhausted),
        (403, "AccessDeniedException", "You don't have access to the model.", errors.PermissionDenied),
        (403, "UnrecognizedClientException", "The security token is invalid.", errors.InvalidCredential),
        (403, "InvalidSignatureException", "The request signature we calculated differs.", errors.InvalidCredential),
        (404, "ResourceNotFoundException", "Could not find it.", errors.ModelNotFound),
        (408, "ModelTimeoutException", "The model took too long.", errors.UpstreamError),
        (424, "ModelErrorException", "The model failed.", errors.UpstreamError),
        (429, "ThrottlingException", "Too many tokens, please wait before trying again.", errors.RateLimited),
        (429, "ThrottlingException", "Too many tokens per day, please wait.", errors.QuotaExhausted),
        (429, "ModelNotReadyException", "The model is being loaded.", errors.RateLimited),
        (500, "InternalServerException", "Input is too long", errors.UpstreamError),
        (503, "ServiceUnavailableException", "Bedrock is busy.", errors.Overloaded),
        (400, "", "Anything.", errors.InvalidRequest),
        (500, "", "", errors.UpstreamError),
    ],
)
def test_an_error_has_its_place_in_the_tree(
    status: int, name: str, message: str, kind: type[errors.ProviderError]
) -> None:
    error = WIRE.decode_error(
        status=status,
        body=json.dumps({"message": message}).encode(),
        headers={"X-Amzn-ErrorType": f"{name}:http://internal.amazon.com/"} if name else {},
        provider="p",
    )
    assert type(error) is kind
    assert (error.status, error.upstream_code) == (status, name)
    assert "internal.amazon" not in error.message


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"message": 7}'])
def test_an_error_without_words_is_an_error_still(body: bytes) -> None:
    error = WIRE.decode_error(status=500, body=body, headers={}, provider="p")
    assert "no message" in error.message


def test_a_200_that_holds_an_error_is_one() -> None:
    with pytest.raises(errors.UpstreamError, match="went wrong"):
        WIRE.decode_answer(b'{"__type": "InternalServerException", "message": "It went wrong."}')


@pytest.mark.parametrize("broken", [b"", b"[]", b"{}", b'{"output": {}}'])
def test_what_is_no_answer_is_malformed(broken: bytes) -> None:
    with pytest.raises(errors.MalformedAnswer):
        WIRE.decode_answer(broken)
