"""The two wires that the fake provider speaks, and embeddings: whole answers, stream frames, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from tests.upstream.shapes import Asked


def _frame(value: Any, *, event: str = "") -> bytes:
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"


class Shape:
    """How one wire says what `Asked` asks for."""

    def tells_usage(self, body: dict[str, Any]) -> bool:
        return True

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        raise NotImplementedError

    def whole(self, asked: Asked) -> bytes:
        raise NotImplementedError

    def opening(self, asked: Asked) -> Iterator[bytes]:
        raise NotImplementedError

    def word(self, asked: Asked, index: int) -> bytes:
        raise NotImplementedError

    def finish(self, asked: Asked) -> Iterator[bytes]:
        raise NotImplementedError

    def closing(self, asked: Asked) -> Iterator[bytes]:
        raise NotImplementedError

    def error(self, status: int, message: str) -> bytes:
        usual = "server_error" if status >= 500 else "invalid_request_error"
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, usual)
        return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": None}})


class Chat(Shape):
    def tells_usage(self, body: dict[str, Any]) -> bool:
        return body.get("stream") is not True or (body.get("stream_options") or {}).get("include_usage") is True

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {
            "prompt_tokens": input_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": input_tokens + output_tokens,
        }

    def whole(self, asked: Asked) -> bytes:
        message = {"role": "assistant", "content": " ".join(asked.words)}
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(asked)}
        answer = _chat_head(asked, "chat.completion") | {"choices": [choice]}
        counts = asked.counts()
        return msgspec.json.encode(answer if counts is None else answer | {"usage": counts})

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield self._chunk(asked, {"role": "assistant", "content": ""})

    def word(self, asked: Asked, index: int) -> bytes:
        return self._chunk(asked, {"content": (" " if index else "") + asked.words[index]})

    def finish(self, asked: Asked) -> Iterator[bytes]:
        yield self._chunk(asked, {}, finish_reason=_finish_reason(asked))

    def closing(self, asked: Asked) -> Iterator[bytes]:
        counts = asked.counts()
        if asked.with_usage and counts is not None:
            yield _frame(_chat_head(asked, "chat.completion.chunk") | {"choices": [], "usage": counts})
        yield b"data: [DONE]\n\n"

    def _chunk(self, asked: Asked, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _frame(_chat_head(asked, "chat.completion.chunk") | {"choices": [choice]})


class Messages(Shape):
    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"input_tokens": input_tokens, "output_tokens": output_tokens}

    def whole(self, asked: Asked) -> bytes:
        counts = asked.counts()
        content = [{"type": "text", "text": " ".join(asked.words)}]
        answer = _message(asked) | {"content": content, "stop_reason": _stop_reason(asked), "stop_sequence": None}
        return msgspec.json.encode(answer if counts is None else answer | {"usage": counts})

    def opening(self, asked: Asked) -> Iterator[bytes]:
        message = _message(asked) | {"content": [], "stop_reason": None, "stop_sequence": None}
        counts = asked.counts()
        if counts is not None:
            # The count at the start is not the count at the end: only the latter is right.
            message["usage"] = counts | {"output_tokens": 1} if isinstance(counts["output_tokens"], int) else counts
        yield _frame({"type": "message_start", "message": message}, event="message_start")
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        yield _frame(block, event="content_block_start")

    def word(self, asked: Asked, index: int) -> bytes:
        delta = {"type": "text_delta", "text": (" " if index else "") + asked.words[index]}
        return _frame({"type": "content_block_delta", "index": 0, "delta": delta}, event="content_block_delta")

    def finish(self, asked: Asked) -> Iterator[bytes]:
        yield _frame({"type": "content_block_stop", "index": 0}, event="content_block_stop")

    def closing(self, asked: Asked) -> Iterator[bytes]:
        delta = {"stop_reason": _stop_reason(asked), "stop_sequence": None}
        event: dict[str, Any] = {"type": "message_delta", "delta": delta}
        counts = asked.counts()
        if counts is not None:
            event["usage"] = counts
        yield _frame(event, event="message_delta")
        yield _frame({"type": "message_stop"}, event="message_stop")

    def error(self, status: int, message: str) -> bytes:
        kind = {
            401: "authentication_error",
            403: "permission_error",
            404: "not_found_error",
            413: "request_too_large",
            429: "rate_limit_error",
            529: "overloaded_error",
        }.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})


class Embeddings(Shape):
    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"prompt_tokens": input_tokens, "total_tokens": input_tokens}

    def whole(self, asked: Asked) -> bytes:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25, 0.125]}]
        answer = {"object": "list", "model": asked.model, "data": data}
        counts = asked.counts()
        return msgspec.json.encode(answer if counts is None else answer | {"usage": counts})


def _chat_head(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{asked.request_id}", "object": kind, "created": 1, "model": asked.model}


def _message(asked: Asked) -> dict[str, Any]:
    return {"id": f"msg_{asked.request_id}", "type": "message", "role": "assistant", "model": asked.model}


def _finish_reason(asked: Asked) -> str:
    return "length" if asked.capped else "stop"


def _stop_reason(asked: Asked) -> str:
    return "max_tokens" if asked.capped else "end_turn"


CHAT = Chat()
BY_PATH: dict[str, Shape] = {
    "/v1/chat/completions": CHAT,
    "/v1/messages": Messages(),
    "/v1/embeddings": Embeddings(),
}
