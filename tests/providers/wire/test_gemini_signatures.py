"""Signatures of other providers on their way through Google's own clients and back."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from providers.sse import Decoder
from providers.unified import (
    Answer,
    Choice,
    Event,
    Finished,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
)
from providers.wire import anthropic_messages
from providers.wire.base import Admitted
from providers.wire.gemini import WIRE, signatures

# Two letters that base64 writes otherwise in a URL.
SIGNED = "EqoB+signed/here=="
CALL = ToolCallPart(id="c1", name="look", arguments="{}")
THOUGHT = [ReasoningPart("Let me add.", SIGNED), ReasoningPart(redacted="hid+/=="), TextPart("So."), CALL]


def as_googles_client_sends_it(part: dict[str, Any]) -> dict[str, Any]:
    """It reads a signature as bytes, and writes them in the alphabet of URLs."""
    if "thoughtSignature" not in part:
        return part
    raw = base64.b64decode(part["thoughtSignature"], validate=True)
    return {**part, "thoughtSignature": base64.urlsafe_b64encode(raw).decode()}


def to_anthropic(*contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that Anthropic gets for what its model said, each content one chunk of it."""
    turns = [{"role": "model", "parts": [as_googles_client_sends_it(part) for part in parts]} for parts in contents]
    result = {"functionResponse": {"name": "look", "response": {"output": "blue"}}}
    asked = {"contents": [{"parts": [{"text": "hi"}]}, *turns, {"role": "user", "parts": [result]}], "model": "m"}
    body = anthropic_messages.WIRE.encode_request(WIRE.decode_request(json.dumps(asked).encode()))
    (turn,) = (message for message in json.loads(body)["messages"] if message["role"] == "assistant")
    blocks: list[dict[str, Any]] = turn["content"]
    return blocks


BLOCKS = [
    {"type": "thinking", "thinking": "Let me add.", "signature": SIGNED},
    {"type": "redacted_thinking", "data": "hid+/=="},
    {"type": "text", "text": "So."},
    {"type": "tool_use", "id": "c1", "name": "look", "input": {}},
]


def test_a_whole_answers_thoughts_come_back_letter_for_letter() -> None:
    answer = Answer(id="a", model="m", choices=(Choice(tuple(THOUGHT), "tool_calls"),), wire="anthropic_messages")
    (candidate,) = json.loads(WIRE.encode_answer(answer))["candidates"]
    parts = candidate["content"]["parts"]
    assert [part.get("thought", False) for part in parts] == [True, True, False, False]
    assert to_anthropic(parts) == BLOCKS


def test_a_streamed_thought_is_one_again_with_its_signature() -> None:
    """The text comes in pieces and the signature after them; the client keeps a content for each chunk."""
    events: list[Event] = [
        Started(id="a", model="m"),
        PartStarted(0, ReasoningPart()),
        PartDelta(0, text="Let me "),
        PartDelta(0, text="add."),
        PartDelta(0, signature=SIGNED),
        PartStopped(0),
        PartStarted(1, ReasoningPart(redacted="hid+/==")),
        PartStopped(1),
        PartStarted(2, TextPart("")),
        PartDelta(2, text="S"),
        PartDelta(2, text="o."),
        PartStopped(2),
        PartStarted(3, ToolCallPart(id="c1", name="look", arguments="")),
        PartDelta(3, text="{}"),
        PartStopped(3),
        Stopped("tool_calls"),
        Finished(),
    ]
    writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    written = b"".join(writer.write(event) for event in events) + writer.finish()
    chunks = [json.loads(frame.data) for frame in Decoder().feed(written)]
    contents = [chunk["candidates"][0]["content"]["parts"] for chunk in chunks]
    assert to_anthropic(*contents) == BLOCKS


@pytest.mark.parametrize("signature", ["", "AbC+/==", "93Ri", "93RiOn!!", "not base64 at all", "AbC-_"])
def test_googles_own_signatures_are_left_alone(signature: str) -> None:
    assert signatures.read("t", signature) == ReasoningPart("t", signature)


def test_googles_own_answer_keeps_its_signatures() -> None:
    own = {"parts": [{"text": "t", "thought": True, "thoughtSignature": "Ab+/"}], "role": "model"}
    body = {"candidates": [{"content": own, "finishReason": "STOP"}], "modelVersion": "m", "responseId": "r"}
    again = json.loads(WIRE.encode_answer(WIRE.decode_answer(json.dumps(body).encode())))
    assert again["candidates"][0]["content"] == own
