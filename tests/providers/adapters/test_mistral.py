"""Mistral's dialect of the chat wire, on requests, answers and recordings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.adapters.mistral import Mistral
from providers.errors import Unsupported
from providers.sse import Decoder
from providers.unified import (
    AudioPart,
    FilePart,
    Finished,
    Message,
    Part,
    PartDelta,
    PartStarted,
    ReasoningPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
)
from tests.recordings import Exchange, answer_bytes, cases, exchanges

WIRE = Mistral.wire
HI = Message(role="user", parts=(TextPart(text="hi"),))


def encoded(*messages: Message, drop: bool = False, **fields: Any) -> dict[str, Any]:
    request = Request(model="m", messages=messages or (HI,), **fields)
    value: dict[str, Any] = msgspec.json.decode(WIRE.encode_request(request, drop_unsupported=drop))
    return value


def rewritten(**fields: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields
    value: dict[str, Any] = msgspec.json.decode(WIRE.rewrite(WIRE.admit(msgspec.json.encode(body)), model="up"))
    return value


def test_it_is_asked_in_its_words() -> None:
    asked = encoded(
        seed=4, max_output_tokens=9, stream=True, tools=(Tool(name="t"),), tool_choice=ToolChoice(mode="required")
    )
    assert (asked["random_seed"], asked["max_tokens"], asked["tool_choice"], asked["stream"]) == (4, 9, "any", True)
    assert {"seed", "max_completion_tokens", "stream_options"}.isdisjoint(asked)


def test_clients_of_openais_words_pass_through_in_its_own() -> None:
    asked = rewritten(seed=4, max_completion_tokens=9, stream=True, stream_options={"include_usage": True}, new=[1])
    assert asked == {
        "model": "up", "messages": [{"role": "user", "content": "hi"}], "stream": True, "random_seed": 4,
        "max_tokens": 9, "new": [1],
    }  # fmt: skip


def content(role: Any, *parts: Part) -> Any:
    return encoded(Message(role=role, parts=parts))["messages"][0]["content"]


def test_thoughts_are_parts_of_the_content() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    answered = {"type": "text", "text": "4"}
    assert content("assistant", ReasoningPart(text="hm"), TextPart(text="4")) == [thought, answered]
    call = ToolCallPart(id="c", name="t", arguments="{}")
    assert content("assistant", ReasoningPart(text="hm"), call) == [thought]
    assert content("assistant", ReasoningPart(redacted="x"), TextPart(text="4")) == "4"


def test_files_and_audio_in_its_shapes() -> None:
    parts = (
        FilePart(url="https://h/a.pdf", name="a.pdf"),
        FilePart(data="AAAA", media_type="application/pdf"),
        FilePart(file_id="f1"),
        AudioPart(data="BBBB", format="wav"),
    )
    assert content("user", *parts) == [
        {"type": "document_url", "document_url": "https://h/a.pdf", "document_name": "a.pdf"},
        {"type": "document_url", "document_url": "data:application/pdf;base64,AAAA", "document_name": "document.pdf"},
        {"type": "file", "file_id": "f1"},
        {"type": "input_audio", "input_audio": "BBBB"},
    ]


def test_what_it_refuses_is_refused_before_it_is_asked() -> None:
    named = Message(role="user", parts=HI.parts, name="ann")
    with pytest.raises(Unsupported) as caught:
        encoded(user="u")
    assert caught.value.param == "user"
    with pytest.raises(Unsupported) as caught:
        encoded(named)
    assert caught.value.param == "messages[0].name"
    assert "user" not in encoded(user="u", drop=True)
    assert "name" not in encoded(named, drop=True)["messages"][0]
    with pytest.raises(Unsupported):
        rewritten(user="u")
    assert "user" not in rewritten(user="u", drop_unsupported=True)


def test_audio_stands_outside_the_prompts_tokens() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 390, "prompt_audio_seconds": 30}
    got, _ = WIRE.read_usage(msgspec.json.encode({"choices": [], "usage": usage}))
    assert got.totals == {"input": 385, "input_audio": 375, "output": 5}


CHAT = {"provider": "mistral", "api": "chat", "status": 200}


def expected(exchange: Exchange) -> dict[str, int]:
    names = {"audio_in": "input_audio", "image_in": "input_image"}
    return {names.get(name, name): number for name, number in exchange["expected"]["usage"].items() if number}


@pytest.mark.parametrize("exchange", cases(exchanges(**CHAT, stream=False)))  # type: ignore[arg-type]
def test_recorded_answers(exchange: Exchange) -> None:
    answer = WIRE.decode_answer(answer_bytes(exchange))
    assert ({name: count for name, count in answer.usage.totals.items() if count}) == expected(exchange)
    said = exchange["response_body"]["choices"][0]["message"]["content"]
    kinds = [ReasoningPart, TextPart] if isinstance(said, list) else [TextPart]
    assert [type(part) for part in answer.choices[0].parts] == kinds


@pytest.mark.parametrize("exchange", cases(exchanges(**CHAT, stream=True)))  # type: ignore[arg-type]
def test_recorded_streams_also_split_at_every_byte_of_their_ends(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    whole = read(body)
    assert isinstance(whole[-1], Finished)
    assert {name: count for name, count in whole[-1].usage.totals.items() if count} == expected(exchange)
    assert any(isinstance(event, PartDelta | PartStarted) for event in whole)
    for at in {*range(1, 400), *range(len(body) - 400, len(body))}:
        assert read(body[:at], body[at:]) == whole, at
    assert read(body.replace(b"\n", b"\r\n")) == whole


def read(*pieces: bytes) -> list[Any]:
    decoder, reader = Decoder(), WIRE.stream_reader()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
    return [made for frame in frames for made in reader.feed(frame)] + reader.end()
