"""POST /v1/responses with the official openai client: native, and translated to every other kind of provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests
from openai import OpenAI
from pydantic import BaseModel

from providers import eventstream
from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.upstream import answer, events

WIRES = ["openai", "anthropic", "bedrock", "openai_compatible"]
SENTENCE = "The ledger balances to the last digit today"
TOOLS: Any = [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}]
CALLED = {
    "openai": {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "up",
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
        "output": [{"type": "function_call", "id": "fc", "call_id": "call_1", "name": "look", "arguments": "{}",
                    "status": "completed"}],
        "usage": {"input_tokens": 20, "output_tokens": 6, "total_tokens": 26},
    },
    "openai_compatible": {
        "id": "c", "object": "chat.completion", "created": 1, "model": "up",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
    },
    "anthropic": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "call_1", "name": "look", "input": {}}],
        "usage": {"input_tokens": 20, "output_tokens": 6},
    },
    "bedrock": {
        "output": {"message": {"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "call_1", "name": "look", "input": {}}}]}},
        "stopReason": "tool_use", "usage": {"inputTokens": 20, "outputTokens": 6, "totalTokens": 26},
    },
}  # fmt: skip


class Weather(BaseModel):
    city: str


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def account(gateway: Gateway, wire: str) -> Account:
    return gateway.account(wire=wire, default_max_output_tokens=512)


@pytest.fixture
def client(gateway: Gateway, account: Account) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=account.text, max_retries=0) as made:
        yield made


def test_a_response_is_answered_and_booked(account: Account, client: OpenAI) -> None:
    response = client.responses.create(model=account.model.name, input="Does it balance?", instructions="Be brief.")
    assert response.output_text == SENTENCE
    assert response.status == "completed"
    assert response.model
    assert response.usage is not None
    row = books.call_of(account.key.pk)
    assert (row.surface, row.outcome) == ("responses", "ok")
    assert (row.input_tokens, row.output_tokens) == (response.usage.input_tokens, response.usage.output_tokens)
    assert row.cost_usd == usd(row.input_tokens, row.output_tokens)


def test_a_response_is_streamed_and_booked(account: Account, client: OpenAI) -> None:
    with client.responses.stream(model=account.model.name, input="Do the books balance?") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output_text == SENTENCE
    assert final.usage is not None
    row = books.call_of(account.key.pk)
    assert (row.streamed, row.outcome, row.usage_source) == (True, "ok", "reported")
    assert (row.input_tokens, row.output_tokens) == (final.usage.input_tokens, final.usage.output_tokens)


def test_a_capped_response_is_incomplete(account: Account, client: OpenAI) -> None:
    response = client.responses.create(model=account.model.name, input="Hi", max_output_tokens=3)
    assert response.output_text == "The ledger balances"
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_tool_is_called_and_answered(gateway: Gateway, account: Account, client: OpenAI, wire: str) -> None:
    gateway.upstream.script(answer(body=json.dumps(CALLED[wire]).encode()))
    asked: Any = [{"role": "user", "content": "Look."}]
    first = client.responses.create(model=account.model.name, input=asked, tools=TOOLS)
    (call,) = first.output
    assert call.type == "function_call"
    assert (call.call_id, call.name, call.arguments) == ("call_1", "look", "{}")
    seen = {"type": "function_call_output", "call_id": call.call_id, "output": "Sun."}
    turns: Any = [*asked, call.model_dump(exclude_none=True), seen]
    second = client.responses.create(model=account.model.name, input=turns, tools=TOOLS)
    assert second.output_text == SENTENCE
    assert b"Sun." in gateway.upstream.arrivals[-1].body


def test_a_structured_answer_is_parsed(gateway: Gateway, account: Account, client: OpenAI, wire: str) -> None:
    text = '{"city": "Bern"}'
    said: dict[str, Any] = json.loads(json.dumps(CALLED[wire]))
    match wire:
        case "openai":
            content = [{"type": "output_text", "text": text, "annotations": []}]
            message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}
            said["output"] = [message]
        case "openai_compatible":
            said["choices"] = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}]
        case "anthropic":
            said |= {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
        case "bedrock":
            said["output"]["message"]["content"] = [{"text": text}]
            said["stopReason"] = "end_turn"
    gateway.upstream.script(answer(body=json.dumps(said).encode()))
    response = client.responses.parse(model=account.model.name, input="Where?", text_format=Weather)
    assert response.output_parsed == Weather(city="Bern")
    assert b"Weather" in gateway.upstream.arrivals[-1].body


@pytest.mark.parametrize("fields", [{"store": True}, {"previous_response_id": "resp_1"}])
def test_state_reaches_a_native_provider_and_no_other(
    gateway: Gateway, account: Account, client: OpenAI, wire: str, fields: Any
) -> None:
    arrived = len(gateway.upstream.arrivals)
    if wire == "openai":
        assert client.responses.create(model=account.model.name, input="Hi", **fields).output_text == SENTENCE
        assert json.loads(gateway.upstream.arrivals[-1].body).items() >= fields.items()
        return
    with pytest.raises(openai.BadRequestError, match="only OpenAI keeps") as caught:
        client.responses.create(model=account.model.name, input="Hi", **fields)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", f"$.{next(iter(fields))}")
    assert len(gateway.upstream.arrivals) == arrived


def test_a_native_request_passes_through_untouched(gateway: Gateway) -> None:
    account = gateway.account()
    body = b'{"input": [ {"role":"user", "content":"Hi\\n", "tomorrow": [ ] } ], "model": "%b", "new": {"x": 1.50}}' % (
        account.model.name.encode()
    )
    raw = (
        b'{ "id":"resp_1","object":"response","model":"up","status":"completed","new":1.10,"output":[],'
        b'\n "usage":{"input_tokens":3,"output_tokens":1}}'
    )
    gateway.upstream.script(answer(body=raw))
    got = gateway.post("/v1/responses", body, headers=account.headers)
    assert (got.status_code, got.content) == (200, raw)
    arrival = gateway.upstream.arrivals[-1]
    assert arrival.path == "/v1/responses"
    assert json.loads(arrival.body) == {**json.loads(body), "model": "fake-model"}
    assert b'{"x": 1.50}' in arrival.body


def test_a_server_of_chats_may_be_said_to_speak_responses(gateway: Gateway) -> None:
    account = gateway.account(wire="openai_compatible", provider={"settings": {"responses": True}})
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=account.text, max_retries=0) as client:
        assert client.responses.create(model=account.model.name, input="Hi").output_text == SENTENCE
    assert gateway.upstream.arrivals[-1].path == "/v1/responses"


def told(kind: str, **said: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **said})}\n\n".encode()


def test_a_failure_within_a_stream_is_raised_by_the_client_and_booked(gateway: Gateway) -> None:
    account = gateway.account()
    begun = {"id": "resp_1", "object": "response", "created_at": 1, "model": "up", "status": "in_progress"}
    failed = {**begun, "status": "failed", "error": {"code": "server_error", "message": "It broke."}}
    usage = {"input_tokens": 1000, "output_tokens": 10, "total_tokens": 1010}
    frames = [
        told("response.created", sequence_number=0, response=begun),
        told("response.failed", sequence_number=1, response={**failed, "usage": usage}),
    ]
    gateway.upstream.script(events(frames))
    with (
        OpenAI(base_url=f"{gateway.url}/v1", api_key=account.text, max_retries=0) as client,
        pytest.raises(openai.APIError, match=r"It broke\."),
    ):
        list(client.responses.create(model=account.model.name, input="Hi", stream=True))
    row = books.call_of(account.key.pk)
    assert (row.outcome, row.input_tokens, row.output_tokens) == ("failed", 1000, 10)
    assert row.cost_usd == usd(1000, 10)


def test_the_events_of_an_openai_stream_arrive_as_they_came(gateway: Gateway) -> None:
    account = gateway.account()
    usage = {"input_tokens": 3, "output_tokens": 1}
    response = {"id": "r", "model": "up", "status": "completed", "output": [], "usage": usage}
    frames = [
        told("response.created", response={**response, "status": "in_progress", "usage": None}),
        told("response.invented_tomorrow", thing=[1]),
        told("response.completed", response=response),
    ]
    gateway.upstream.script(events(frames))
    body = json.dumps({"model": account.model.name, "input": "Hi", "stream": True}).encode()
    got = gateway.post("/v1/responses", body, headers=account.headers)
    comment = got.content.partition(b": tollbook ")[2].partition(b"\n\n")[0]
    assert got.content.replace(b": tollbook " + comment + b"\n\n", b"") == b"".join(frames)
    assert b"cost_usd=" in comment


# --- Bedrock behind the other surfaces ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_bedrock_answers_chats_under_the_name_that_was_asked_for(gateway: Gateway, stream: bool) -> None:
    account = gateway.account(wire="bedrock")
    fields: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
    got = gateway.chat(account, stream=stream, **fields)
    assert got.status_code == 200
    frames = [line[6:] for line in got.text.split("\n") if line.startswith("data: {")] if stream else [got.text]
    chunks = [json.loads(each) for each in frames]
    assert {chunk["model"] for chunk in chunks} == {account.model.name}
    row = books.call_of(account.key.pk)
    usage = chunks[-1]["usage"]
    assert (row.input_tokens, row.output_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert row.cost_usd == usd(row.input_tokens, row.output_tokens)
    expected = "converse-stream" if stream else "converse"
    assert gateway.upstream.arrivals[-1].path == f"/v1/model/fake-model/{expected}"


def test_an_exception_within_bedrocks_stream_is_an_error_and_a_row(gateway: Gateway) -> None:
    account = gateway.account(wire="bedrock")
    headers = {":message-type": "exception", ":exception-type": "throttlingException"}
    gateway.upstream.script(
        events(
            [
                eventstream.encode_event(event="messageStart", data=b'{"role":"assistant"}'),
                eventstream.encode(data=b'{"message":"Slow down."}', headers=headers),
            ],
            content_type="application/vnd.amazon.eventstream",
        )
    )
    got: requests.Response = gateway.chat(account, stream=True)
    assert '"Slow down."' in got.text
    assert "[DONE]" not in got.text
    row = books.call_of(account.key.pk)
    assert (row.outcome, row.error_code) == ("failed", "provider_rate_limited")
