"""A long body is gone over once: the fields that pass through are the same bytes that a second reading would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from providers.errors import InvalidRequest
from providers.wire import anthropic_messages, gemini, openai_chat, openai_responses, unread
from providers.wire.base import Wire
from providers.wire.gemini import admission

LONG = ('quotes " and \\ and ]}, a line\nand \u2014 \U0001f600 ' * 400)[:16_000]
EVERYTHING = msgspec.json.Decoder(dict[str, Raw])


def _google(turns: list[Any]) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text, "novel": 1}]} for text in turns]}


def _messages(turns: list[Any]) -> dict[str, Any]:
    return {"messages": [{"novel": {"content": 7}, "role": "user", "content": text, "x": "y"} for text in turns]}


def _items(turns: list[Any]) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": text, "x": "y"} for text in turns]}


WIRES: dict[str, tuple[Wire, str, Callable[[list[Any]], dict[str, Any]]]] = {
    "chat": (openai_chat.WIRE, "messages", _messages),
    "messages": (anthropic_messages.WIRE, "messages", _messages),
    "responses": (openai_responses.WIRE, "input", _items),
    "gemini": (gemini.WIRE, "contents", _google),
}
BEFORE = {"model": "m", "novel": [{"messages": ["a"]}], "max_tokens": 9}
AFTER = {"metadata": {"a": "0"}, "other": "\u2014 0"}
TURNS = {
    "one": [LONG + "0"],
    "several": [LONG, "", "0", "a"],
    "the same one twice": ["0,", LONG, "0,"],
    "long ends": [LONG, "a", LONG],
    "no text at the end": ["a", LONG, None],
    "no text at the start": [None, LONG, "a"],
}


def _told(wire: Wire, body: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in wire.admit(body).fields.items()}


def _read_again(body: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in EVERYTHING.decode(body).items()}


@pytest.mark.parametrize("turns", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("wire", WIRES)
def test_every_field_is_told_as_it_came(wire: str, turns: list[Any]) -> None:
    codec, _, made = WIRES[wire]
    instead = {"messages": [{"type": "text", "text": "a"}], "gemini": {"odd": 1}}
    turns = [instead.get(wire) if text is None else text for text in turns]
    body = msgspec.json.encode({**BEFORE, **made(turns), **AFTER})
    assert _told(codec, body) == _read_again(body)
    spaced = msgspec.json.format(body, indent=3)
    assert _told(codec, spaced) == _read_again(spaced)


@pytest.mark.parametrize("wire", WIRES)
def test_of_a_name_given_twice_the_last_one_counts(wire: str) -> None:
    codec, name, made = WIRES[wire]
    first, last = (msgspec.json.encode(made([word + LONG])[name]) for word in ("first", "last"))
    quoted = b'"' + name.encode() + b'":'
    body = b'{"model":"a",' + quoted + first + b',"max_tokens":1,' + quoted + last + b',"model":"b"}'
    told = _told(codec, body)
    assert told == _read_again(body)
    assert (told[name], codec.admit(body).model) == (last, "b")


@pytest.mark.parametrize("wire", WIRES)
def test_the_texts_of_a_long_body_are_not_gone_over_again(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []

    class Watched:
        def decode(self, body: bytes) -> dict[str, Raw]:
            lengths.append(len(body))
            return EVERYTHING.decode(body)

    monkeypatch.setattr(unread, "_FIELDS", Watched())
    codec, _, made = WIRES[wire]
    codec.admit(msgspec.json.encode({**BEFORE, **made([LONG, LONG, "end"]), **AFTER}))
    assert len(lengths) == 1
    assert lengths[0] < 1_000


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("end", [b"", b"}", b"]}]}", b',"model":}', b',"a":"\\x"}', b"}}"])
def test_a_long_body_that_is_no_json_is_refused(wire: str, end: bytes) -> None:
    codec, _, made = WIRES[wire]
    body = msgspec.json.encode({**BEFORE, **made([LONG, "b"])})
    with pytest.raises(InvalidRequest):
        codec.admit(body[:-1] + end if end != b"}" else body[:-3] + end)


@pytest.mark.parametrize("wire", WIRES)
def test_a_fault_deep_in_a_long_body_is_named_by_its_path(wire: str) -> None:
    codec, name, made = WIRES[wire]
    body = {**BEFORE, **made([LONG, "b"])}
    body[name][1]["role"] = 7
    with pytest.raises(InvalidRequest) as caught:
        codec.admit(msgspec.json.encode(body))
    assert caught.value.param == f"$.{name}[1].role"


_BLOB, _TEXT_FILE = {"mimeType": "image/png", "data": "A" * 400}, {"mime_type": "text/plain", "data": "QQ=="}
_FILE, _SOUND = {"mime_type": "application/pdf", "file_uri": "gs://a/b"}, {"mimeType": "audio/wav", "data": "AAAA"}
GOOGLE_PARTS: list[Any] = [
    {"text": LONG}, {"inlineData": _BLOB}, {"inline_data": _BLOB}, {"inline_data": _TEXT_FILE}, {"fileData": _FILE},
    {"file_data": _FILE}, {"inlineData": None, "text": "a"}, {"inlineData": 7}, {"text": None, "inlineData": _SOUND},
    {"functionResponse": {"name": "f", "response": {}, "parts": [{"inlineData": _BLOB}, {"fileData": _FILE}]}},
    {"function_response": {"name": "f", "parts": [{"inline_data": _SOUND}, {"text": "a"}]}}, {"thought": True}, {},
]  # fmt: skip


@pytest.mark.parametrize("part", GOOGLE_PARTS, ids=range(len(GOOGLE_PARTS)))
def test_googles_media_are_counted_as_if_all_was_read(part: Any) -> None:
    body = {"model": "m", "contents": [{"parts": [part, {"text": "a"}, part]}, {"role": "model", "parts": []}]}
    admitted = gemini.WIRE.admit(msgspec.json.encode(body))
    assert (admitted.media, admitted.media_bytes) == admission.media_of(body["contents"])  # type: ignore[arg-type]
    assert admitted.message_count == 2


class _Message(msgspec.Struct):
    content: Raw = Raw()


class _Body(msgspec.Struct):
    messages: list[_Message]


_JSON = st.recursive(
    st.none() | st.integers(0, 9) | st.text(alphabet='0",:{}[]\\a\u2014', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["content", "messages", "x"]), inner),
    max_leaves=6,
)
_MESSAGES = st.lists(st.dictionaries(st.sampled_from(["content", "x", "y"]), _JSON, max_size=3), min_size=1, max_size=4)


@given(before=_JSON, messages=_MESSAGES, after=_JSON)
def test_any_two_values_of_the_list_may_be_its_ends(before: Any, messages: Any, after: Any) -> None:
    body = msgspec.json.encode({"a": before, "pad": "0" * 16_384, "messages": messages, "z": after})
    read = msgspec.json.decode(body, type=_Body).messages
    fields = unread.fields(body, "messages", first=read[0].content, last=read[-1].content)
    assert {name: bytes(raw) for name, raw in fields.items()} == _read_again(body)


def test_what_is_no_part_of_the_body_is_no_end_of_its_list() -> None:
    body = msgspec.json.encode({"messages": ["a" * 20_000, "b"]})
    elsewhere = Raw(b'"b"')
    for first, last in ((elsewhere, elsewhere), (Raw(), elsewhere), (Raw(), Raw())):
        fields = unread.fields(body, "messages", first=first, last=last)
        assert {name: bytes(raw) for name, raw in fields.items()} == _read_again(body)
