"""The chat wire: admission and pass-through."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from providers import errors
from providers.unified import (
    Json,
    Message,
    Part,
    Request,
    TextPart,
)
from providers.wire.base import Admitted, Wire
from providers.wire.openai_chat import WIRE, Dialect, OpenAIChat

HI = {"role": "user", "content": "hi"}


def body(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": list(messages) or [HI], **fields}).encode()


def sent(request: Request, *, wire: OpenAIChat = WIRE, drop: bool = False) -> Json:
    value: Json = json.loads(wire.encode_request(request, drop_unsupported=drop))
    return value


def ask(*parts: Part, role: Any = "user", **fields: Any) -> Request:
    return Request(model="m", messages=(Message(role=role, parts=parts or (TextPart("hi"),)),), **fields)


def test_it_is_a_wire() -> None:
    wire: Wire = WIRE
    assert wire.name == "openai_chat"


def test_it_admits_what_billing_and_routing_need() -> None:
    admitted = WIRE.admit(
        body(
            HI,
            HI,
            model="gpt",
            stream=True,
            max_tokens=10,
            max_completion_tokens=20,
            n=3,
            user="u",
            service_tier="flex",
            metadata={"team": "a"},
            drop_unsupported=True,
            tomorrow={"x": 1},
        )
    )
    fields, admitted = admitted.fields, msgspec.structs.replace(admitted, fields={})
    assert admitted == Admitted(
        model="gpt",
        stream=True,
        fields={},
        message_count=2,
        max_output_tokens=20,
        n=3,
        wants_usage=False,
        user="u",
        service_tier="flex",
        metadata={"team": "a"},
        drop_unsupported=True,
    )
    assert bytes(fields["tomorrow"]) == b'{"x": 1}'


@pytest.mark.parametrize(
    ("fields", "wants"),
    [
        ({}, True),
        ({"stream": False}, True),
        ({"stream": True}, False),
        ({"stream": True, "stream_options": None}, False),
        ({"stream": True, "stream_options": {"include_usage": False}}, False),
        ({"stream": True, "stream_options": {"include_usage": True}}, True),
    ],
)
def test_it_knows_whether_the_client_asked_for_usage(fields: Json, wants: bool) -> None:
    assert WIRE.admit(body(**fields)).wants_usage is wants


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"", "$"),
        (b"{", "$"),
        (b"[]", "$"),
        (b'{"messages":[{"role":"user"}]}', "$.model"),
        (b'{"model":"m"}', "$.messages"),
        (b'{"model":"m\xff","messages":[{"role":"user"}]}', "$"),
        (b'{"model":"m","messages":[{"role":"user"}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "$"),
        (body(model=""), "$.model"),
        (body(model=5), "$.model"),
        (b'{"model":"m","messages":[]}', "$.messages"),
        (body("hi"), "$.messages[0]"),
        (body({"content": "hi"}), "$.messages[0].role"),
        (body(HI, {"role": "wizard", "content": "hi"}), "$.messages[1].role"),
        (body({"role": "user", "content": 5}), "$.messages[0].content"),
        (body({"role": "user", "content": [{"text": "x"}]}), "$.messages[0].content[0].type"),
        (body({"role": "user", "content": [{"type": "text", "text": 5}]}), "$.messages[0].content[0].text"),
        (body({"role": "assistant", "tool_calls": [5]}), "$.messages[0].tool_calls[0]"),
        (body(stream="yes"), "$.stream"),
        (body(max_tokens=0), "$.max_tokens"),
        (body(max_completion_tokens=-1), "$.max_completion_tokens"),
        (body(max_tokens=10**30), "$.max_tokens"),
        (body(max_tokens=1.5), "$.max_tokens"),
        (body(n=0), "$.n"),
        (body(n=10**6), "$.n"),
        (body(tools=[5]), "$.tools[0]"),
        (body(tools={}), "$.tools"),
        (body(metadata="x"), "$.metadata"),
        (body(stream_options=[]), "$.stream_options"),
        (body(temperature="hot"), "$.temperature"),
    ],
)
def test_it_refuses_a_wrong_field_by_its_path(raw: bytes, path: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        WIRE.admit(raw)
    assert refused.value.param == path
    assert refused.value.client_status == 400


def test_it_counts_media_and_their_inline_bytes() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAABBBB", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://host/x.png"}},
        {"type": "input_audio", "input_audio": {"data": "C" * 40, "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,DDDD"}},
        {"type": "file", "file": {"filename": "b", "file_data": "E" * 100}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "document_url", "document_url": "https://host/x.pdf"},
    ]
    admitted = WIRE.admit(body({"role": "user", "content": parts}, HI))
    assert admitted.media == {"image": 2, "audio": 1, "file": 4}
    assert admitted.media_bytes == 8 + 40 + 4 + 100


@pytest.mark.parametrize(
    ("fields", "server"),
    [
        ({}, False),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, False),
        ({"tools": [{"type": "web_search"}]}, True),
        ({"web_search_options": {}}, True),
        ({"web_search_options": None}, False),
        ({"plugins": [{"id": "web"}]}, True),
    ],
)
def test_it_knows_tools_that_the_provider_runs_itself(fields: Json, server: bool) -> None:
    assert WIRE.admit(body(**fields)).server_tools is server


def test_all_but_the_model_passes_through_byte_for_byte() -> None:
    raw = b'{ "model":"a", "messages":[ {"role":"user","content":"\\u00e9"} ], "new": {"x": 1.10, "y" :[]} }'
    assert WIRE.rewrite(WIRE.admit(raw), model="b") == (
        b'{"model":"b","messages":[ {"role":"user","content":"\\u00e9"} ],"new":{"x": 1.10, "y" :[]}}'
    )


def test_a_repeated_field_is_sent_once_as_it_was_read() -> None:
    raw = b'{"model":"cheap","max_tokens":1,"messages":[{"role":"user","content":"x"}],"max_tokens":900}'
    admitted = WIRE.admit(raw)
    assert admitted.max_output_tokens == 900
    assert WIRE.rewrite(admitted, model="m").count(b"max_tokens") == 1


@pytest.mark.parametrize(
    ("options", "rewritten"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
        ),
    ],
)
def test_a_stream_always_asks_for_its_usage(options: Json, rewritten: Json) -> None:
    value = json.loads(WIRE.rewrite(WIRE.admit(body(stream=True, **options)), model="m"))
    assert value["stream_options"] == rewritten


def test_a_server_that_does_not_know_stream_options_is_not_sent_them() -> None:
    wire = OpenAIChat(dialect=Dialect(stream_usage=False))
    assert "stream_options" not in json.loads(wire.rewrite(wire.admit(body(stream=True)), model="m"))
    assert "stream_options" not in sent(ask(stream=True), wire=wire)


def test_our_own_switch_is_not_sent_on() -> None:
    assert "drop_unsupported" not in json.loads(WIRE.rewrite(WIRE.admit(body(drop_unsupported=True)), model="m"))


CAPS = ("max_tokens", "max_completion_tokens")


@pytest.mark.parametrize(
    ("field", "client", "cap", "rewritten"),
    [
        ("max_completion_tokens", {}, None, {}),
        ("max_completion_tokens", {}, 50, {"max_completion_tokens": 50}),
        ("max_completion_tokens", {"max_tokens": 90}, 50, {"max_tokens": 50}),
        ("max_completion_tokens", {"max_tokens": 9}, 50, {"max_tokens": 9}),
        ("max_completion_tokens", {"max_completion_tokens": 90}, 50, {"max_completion_tokens": 50}),
        (
            "max_completion_tokens",
            {"max_completion_tokens": 90, "max_tokens": 9},
            50,
            {"max_completion_tokens": 50, "max_tokens": 9},
        ),
        ("max_completion_tokens", {"max_tokens": None}, 50, {"max_completion_tokens": 50, "max_tokens": None}),
        ("max_tokens", {}, 50, {"max_tokens": 50}),
        # A server that knows only `max_tokens` would run without any cap.
        ("max_tokens", {"max_completion_tokens": 90}, None, {"max_tokens": 90}),
        ("max_tokens", {"max_completion_tokens": 90}, 50, {"max_tokens": 50}),
        ("max_tokens", {"max_completion_tokens": 90, "max_tokens": 9}, 50, {"max_tokens": 50}),
    ],
)
def test_the_cap_is_lowered_where_the_server_looks_for_it(
    field: Any, client: Json, cap: int | None, rewritten: Json
) -> None:
    wire = OpenAIChat(cap_field=field)
    value = json.loads(wire.rewrite(wire.admit(body(**client)), model="m", max_output_tokens=cap))
    assert {name: value[name] for name in CAPS if name in value} == rewritten
