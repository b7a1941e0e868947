"""Streams of both wires, frame by frame, for replies that stop where a test wants."""

from __future__ import annotations

import msgspec
from msgspec import Struct


def frame(value: object, *, event: str = "") -> bytes:
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"


class Frames(Struct, frozen=True):
    """`text` holds 24 bytes of text; the usage reported at the end is 20 in and 6 out."""

    opening: list[bytes]
    text: bytes
    closing: list[bytes]
    last: bytes
    error: bytes

    @property
    def opening_and_text(self) -> list[bytes]:
        return [*self.opening, self.text, self.text]

    @property
    def whole(self) -> list[bytes]:
        return [*self.opening_and_text, *self.closing, self.last]


TEXT = "The books balance today."


def _chat(delta: dict[str, object], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return frame({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [choice]})


CHAT_FRAMES = Frames(
    opening=[_chat({"role": "assistant", "content": ""})],
    text=_chat({"content": TEXT}),
    closing=[
        _chat({}, "stop"),
        frame({
            "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": [],
            "usage": {"prompt_tokens": 20, "completion_tokens": 6, "total_tokens": 26},
        }),
    ],
    last=b"data: [DONE]\n\n",
    error=frame({"error": {"message": "Overloaded", "type": "overloaded_error", "code": 529}}),
)  # fmt: skip
_MESSAGE: dict[str, object] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [], "stop_reason": None
}  # fmt: skip
MESSAGES_FRAMES = Frames(
    opening=[
        frame(
            {"type": "message_start", "message": _MESSAGE | {"usage": {"input_tokens": 20, "output_tokens": 1}}},
            event="message_start",
        ),
        frame(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            event="content_block_start",
        ),
    ],
    text=frame(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": TEXT}},
        event="content_block_delta",
    ),
    closing=[
        frame({"type": "content_block_stop", "index": 0}, event="content_block_stop"),
        frame(
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}},
            event="message_delta",
        ),
    ],
    last=frame({"type": "message_stop"}, event="message_stop"),
    error=frame({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, event="error"),
)
