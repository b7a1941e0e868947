"""What admission reads of a body on the Anthropic messages wire, and what goes upstream untouched."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers.errors import InvalidRequest
from providers.wire.anthropic_messages import WIRE


def make_body(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not ...}


def as_bytes(body: Any) -> bytes:
    return json.dumps(body).encode()


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return make_body(messages=[{"role": "user", "content": list(blocks)}])


def test_it_reads_what_admission_needs() -> None:
    body = make_body(
        stream=True,
        service_tier="standard_only",
        metadata={"user_id": "u-1", "team": "blue", "n": 3},
        drop_unsupported=True,
    )
    admitted = WIRE.admit(as_bytes(body))
    assert admitted.model == "claude-sonnet-4-5"
    assert admitted.stream
    assert admitted.message_count == 1
    assert admitted.max_output_tokens == 100
    assert (admitted.user, admitted.metadata) == ("u-1", {"team": "blue"})
    assert admitted.service_tier == "standard_only"
    assert admitted.drop_unsupported
    assert admitted.wants_usage
    assert admitted.n == 1
    assert set(admitted.fields) == set(body)


def test_null_says_the_same_as_absent() -> None:
    admitted = WIRE.admit(as_bytes(make_body(stream=None, tools=None, metadata=None, system=None, service_tier=None)))
    assert not admitted.stream
    assert admitted.service_tier == ""


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], "$"),
        (make_body(model=...), "$.model"),
        (make_body(model=""), "$.model"),
        (make_body(model=7), "$.model"),
        (make_body(max_tokens=...), "$.max_tokens"),
        (make_body(max_tokens=0), "$.max_tokens"),
        (make_body(max_tokens=-5), "$.max_tokens"),
        (make_body(max_tokens="100"), "$.max_tokens"),
        (make_body(max_tokens=1.5), "$.max_tokens"),
        (make_body(max_tokens=None), "$.max_tokens"),
        (make_body(messages=...), "$.messages"),
        (make_body(messages=[]), "$.messages"),
        (make_body(messages="hi"), "$.messages"),
        (make_body(messages=[{"content": "x"}]), "$.messages[0].role"),
        (
            make_body(messages=[{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]),
            "$.messages[1].role",
        ),
        (make_body(messages=[{"role": "user"}]), "$.messages[0].content"),
        (make_body(messages=[{"role": "user", "content": 5}]), "$.messages[0].content"),
        (make_body(messages=[{"role": "user", "content": ["x"]}]), "$.messages[0].content[0]"),
        (make_body(stream="yes"), "$.stream"),
        (make_body(system=4), "$.system"),
        (make_body(tools=[1]), "$.tools[0]"),
        (make_body(tool_choice="auto"), "$.tool_choice"),
        (make_body(stop_sequences=["a", 1]), "$.stop_sequences[1]"),
        (make_body(temperature="hot"), "$.temperature"),
        (make_body(thinking=True), "$.thinking"),
        (make_body(metadata={"user_id": 4}), "$.metadata.user_id"),
    ],
)
def test_it_names_the_path_of_what_is_wrong(body: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRE.admit(as_bytes(body))
    assert caught.value.param == param
    assert caught.value.message.startswith(param)
    assert caught.value.client_status == 400


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": "m"', b"nonsense", b"[" * 100_000])
def test_it_refuses_what_is_no_json(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        WIRE.admit(body)
    assert caught.value.param == "$"


def test_unknown_fields_and_unknown_blocks_pass() -> None:
    body = make_body(
        invented_tomorrow={"a": [1]},
        messages=[
            {"role": "user", "content": [{"type": "hologram", "source": "https://x", "content": {"deep": {"er": 1}}}]},
            {"role": "assistant", "content": [{"type": "search_result", "source": "https://x", "content": []}]},
            {"role": "system", "content": "From here on, be brief."},
        ],
    )
    assert WIRE.admit(as_bytes(body)).message_count == 3


PNG = {"type": "base64", "media_type": "image/png", "data": "QUJDRA=="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "QUJDRUZH"}


@pytest.mark.parametrize(
    ("blocks", "media", "media_bytes"),
    [
        ([{"type": "image", "source": PNG}], {"image": 1}, 8),
        ([{"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}], {"image": 1}, 0),
        ([{"type": "document", "source": PDF}, {"type": "image", "source": PNG}], {"file": 1, "image": 1}, 16),
        ([{"type": "document", "source": {"type": "file", "file_id": "file_1"}}], {"file": 1}, 0),
        ([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}}], {}, 0),
        (
            [{"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": PNG}]}}],
            {"image": 1},
            8,
        ),
        ([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PNG}]}], {"image": 1}, 8),
        (
            [
                {
                    "type": "web_fetch_tool_result",
                    "tool_use_id": "t",
                    "content": {"type": "web_fetch_result", "content": {"type": "document", "source": PDF}},
                }
            ],
            {"file": 1},
            8,
        ),
        ([{"type": "text", "text": "no media"}], {}, 0),
    ],
)
def test_it_counts_media_wherever_they_stand(blocks: list[Any], media: dict[str, int], media_bytes: int) -> None:
    admitted = WIRE.admit(as_bytes(user(*blocks)))
    assert (admitted.media, admitted.media_bytes) == (media, media_bytes)


@pytest.mark.parametrize(
    ("changes", "server_side"),
    [
        ({"tools": [{"name": "f", "input_schema": {}}]}, False),
        ({"tools": [{"type": "custom", "name": "f", "input_schema": {}}]}, False),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, False),
        ({"tools": [{"type": "text_editor_20250728", "name": "e"}]}, False),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, True),
        ({"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}, True),
        ({"tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]}, True),
        ({"tools": [{"type": "invented_20300101", "name": "x"}]}, True),
        ({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}, True),
        ({}, False),
    ],
)
def test_it_knows_which_tools_run_at_the_provider(changes: dict[str, Any], server_side: bool) -> None:
    assert WIRE.admit(as_bytes(make_body(**changes))).server_tools is server_side


def test_a_rewrite_changes_the_model_and_nothing_else() -> None:
    body = (
        b'{"model":"alias", "max_tokens":100,\n "messages": [ {"role":"user", "content":"h\\u00e9llo"} ],'
        b' "temperature": 1.0, "big": 123456789012345678901234567890, "x": {"b":1,  "a":2.50},"drop_unsupported":true}'
    )
    rewritten = WIRE.rewrite(WIRE.admit(body), model="claude-sonnet-4-5")
    assert json.loads(rewritten)["model"] == "claude-sonnet-4-5"
    assert "drop_unsupported" not in json.loads(rewritten)
    for kept in (
        b'[ {"role":"user", "content":"h\\u00e9llo"} ]',
        b'"temperature":1.0',
        b"123456789012345678901234567890",
        b'{"b":1,  "a":2.50}',
        b'"max_tokens":100',
    ):
        assert kept in rewritten


@pytest.mark.parametrize(("cap", "sent"), [(None, 100), (50, 50), (100, 100), (4096, 100)])
def test_a_cap_is_lowered_and_never_raised(cap: int | None, sent: int) -> None:
    admitted = WIRE.admit(as_bytes(make_body()))
    assert json.loads(WIRE.rewrite(admitted, model="m", max_output_tokens=cap))["max_tokens"] == sent
