from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.adapters.base import ProviderConfig
from providers.adapters.sandbox import Sandbox, tokens
from providers.adapters.schema_sample import sample
from providers.errors import InvalidRequest, ProviderError, StreamInterrupted, Timeout
from providers.http import Deadlines


def make_sandbox(**settings: Any) -> Sandbox:
    return Sandbox(ProviderConfig(name="sandbox", adapter="sandbox", settings=settings), wait=lambda _: None)


def ask(text: str = "Does it balance?", *, model: Any = "sandbox-echo", **more: Any) -> bytes:
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": text}], **more})


def answered(body: bytes, *, model: str = "sandbox-echo") -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(make_sandbox().send(body=body, model=model, stream=False).body())
    return decoded


def said(body: bytes) -> Any:
    return answered(body)["choices"][0]["message"]["content"]


def test_it_says_what_was_said() -> None:
    assert said(ask("Does it balance?")) == "You said: Does it balance?"


def test_it_hears_the_last_user_message_in_parts_too() -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": [{"type": "text", "text": "third"}, {"type": "image_url", "image_url": {}}]},
    ]
    assert said(msgspec.json.encode({"messages": messages})) == "You said: third"


def test_the_same_body_gets_the_same_bytes() -> None:
    for stream in (False, True):
        first, second = (
            make_sandbox().send(body=ask(), model="sandbox-echo", stream=stream).body() for _ in range(2)
        )
        assert first == second


@pytest.mark.parametrize(("text", "count"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ééé", 2)])
def test_a_token_is_four_bytes_rounded_up(text: str, count: int) -> None:
    assert tokens(text) == count


def test_usage_follows_the_rule() -> None:
    usage = answered(ask("x" * 41))["usage"]
    assert usage == {"prompt_tokens": 11, "completion_tokens": 13, "total_tokens": 24}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_it_keeps_to_the_maximum(field: str) -> None:
    answer = answered(ask("a long question indeed", **{field: 3}))
    assert answer["choices"][0]["message"]["content"] == "You said: a "
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def test_a_cut_within_a_character_drops_it() -> None:
    assert said(ask("é" * 9, max_tokens=3)) == "You said: é"


def test_each_of_n_choices_is_billed() -> None:
    answer = answered(ask("abcd", n=3))
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 3 * tokens("You said: abcd")


def test_a_stream_goes_word_by_word() -> None:
    body = ask("one two", stream_options={"include_usage": True})
    frames = list(make_sandbox().send(body=body, model="sandbox-echo", stream=True).chunks())
    chunks = [msgspec.json.decode(frame.removeprefix(b"data: ")) for frame in frames[:-1]]
    words = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    assert words == ["", "You ", "said: ", "one ", "two", None]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]) == ([], 5)
    assert frames[-1] == b"data: [DONE]\n\n"


def test_a_stream_tells_its_usage_only_when_asked() -> None:
    assert b"usage" not in make_sandbox().send(body=ask(), model="sandbox-echo", stream=True).body()


def test_a_stream_can_be_stopped() -> None:
    exchange = make_sandbox().send(body=ask(), model="sandbox-echo", stream=True)
    chunks = exchange.chunks()
    next(chunks)
    exchange.abort()
    with pytest.raises(StreamInterrupted):
        next(chunks)


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}, "x": {}},
            "required": ["city", "days"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("required", "weather"),
        ({"type": "function", "function": {"name": "clock"}}, "clock"),
        ({"type": "function", "function": {"name": "unknown"}}, None),
        ("auto", None),
        ("none", None),
    ],
)
def test_a_forced_tool_is_called(choice: Any, called: str | None) -> None:
    answer = answered(ask(tools=[WEATHER, CLOCK], tool_choice=choice))["choices"][0]
    names = [call["function"]["name"] for call in answer["message"].get("tool_calls", [])]
    assert names == ([called] if called else [])
    assert answer["finish_reason"] == ("tool_calls" if called else "stop")


def test_the_arguments_of_a_call_have_the_shape_of_its_schema() -> None:
    body = ask(tools=[WEATHER], tool_choice="required")
    (call,) = answered(body)["choices"][0]["message"]["tool_calls"]
    assert msgspec.json.decode(call["function"]["arguments"]) == {"city": "text", "days": 2}
    streamed = make_sandbox().send(body=body, model="sandbox-echo", stream=True).body()
    assert streamed.count(b'"tool_calls":[') == 1


def test_structured_output_has_the_shape_of_its_schema() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    output = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema}}
    assert msgspec.json.decode(said(ask(response_format=output))) == {"ok": False}


def test_json_output_is_json() -> None:
    assert msgspec.json.decode(said(ask("hi", response_format={"type": "json_object"}))) == {"answer": "hi"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 7}, 7),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": ["null", "string"]}, "text"),
        ({"type": "string", "minLength": 6}, "textxx"),
        ({"type": "string", "format": "date"}, "2000-01-01"),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"type": "number", "maximum": -2}, -2),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [False, False]),
        ({"type": "array", "items": {"type": "boolean"}}, []),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 0),
        ({"$defs": {"A/b": {"const": 1}}, "$ref": "#/$defs/A~1b"}, 1),
        (
            {"allOf": [{"required": ["a"], "properties": {"a": {"const": 1}}}, {"required": ["b"], "properties": {}}]},
            {"a": 1, "b": None},
        ),
        ({"$ref": "https://elsewhere.example/schema"}, None),
        ({"$ref": "#"}, None),
        ("nonsense", None),
    ],
    ids=str,
)
def test_a_sample_fits_its_schema(schema: Any, value: Any) -> None:
    assert sample(schema) == value


def test_a_schema_that_contains_itself_has_a_sample() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert list(sample(node)) == ["next"]


@pytest.mark.parametrize(("model", "status"), [("sandbox-error", 500), ("sandbox-error-529", 529)])
def test_an_error_model_fails_as_it_says(model: str, status: int) -> None:
    with pytest.raises(ProviderError) as caught:
        make_sandbox().send(body=ask(model=model), model=model, stream=False)
    assert (caught.value.status, caught.value.retry_after_s) == (status, None)


def test_the_slow_model_waits_as_long_as_it_is_set_to() -> None:
    waited: list[float] = []
    config = ProviderConfig(name="sandbox", adapter="sandbox", settings={"delay_s": 2.5})
    Sandbox(config, wait=waited.append).send(body=ask(), model="sandbox-slow", stream=True)
    assert waited == [2.5]


@pytest.mark.parametrize(
    ("deadlines", "phase", "waited_s"),
    [
        (Deadlines(total_s=2), "total", 2),
        (Deadlines(total_s=2, first_byte_s=1), "first_byte", 1),
        (Deadlines(total_s=2, first_byte_s=9), "total", 2),
    ],
)
def test_the_slow_model_obeys_deadlines(deadlines: Deadlines, phase: str, waited_s: float) -> None:
    waited: list[float] = []
    config = ProviderConfig(name="sandbox", adapter="sandbox", settings={"delay_s": 3})
    with pytest.raises(Timeout) as caught:
        Sandbox(config, wait=waited.append).send(body=ask(), model="sandbox-slow", stream=False, deadlines=deadlines)
    assert (caught.value.phase, waited) == (phase, [waited_s])
    assert caught.value.message == f"The sandbox did not answer within {waited_s} s."


def test_embeddings_depend_on_the_text_alone() -> None:
    body = msgspec.json.encode({"model": "sandbox-embed", "input": ["a", "b", "a"], "dimensions": 40})
    answer = make_sandbox().embed(body=body, model="sandbox-embed")
    first, second, third = (entry["embedding"] for entry in answer["data"])
    assert first == third != second
    assert len(first) == 40
    assert all(-1 <= value <= 1 for value in first)
    assert answer["usage"]["prompt_tokens"] == 3


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_what_is_not_an_object_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_sandbox().send(body=body, model="sandbox-echo", stream=False)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"messages": [1, null], "n": "x", "max_tokens": "y", "tools": [1], "tool_choice": "required"}',
        b'{"messages": {}, "n": -1, "max_tokens": -5, "response_format": {"type": "json_schema"}}',
    ],
)
def test_odd_bodies_do_not_crash_it(body: bytes) -> None:
    exchange = make_sandbox().send(body=body, model="sandbox-echo", stream=False)
    assert msgspec.json.decode(exchange.body())["choices"]
