"""The wires that the fake provider speaks, and embeddings: whole answers, stream frames, errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from providers.eventstream import encode_event

if TYPE_CHECKING:
    from tests.upstream.shapes import Asked


def _frame(value: Any, *, event: str = "") -> bytes:
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"


class Shape:
    """How one wire says what `Asked` asks for, and where its requests say it."""

    content_type = "application/json"
    bills = True

    def model(self, body: dict[str, Any], path: str) -> str:
        return str(body["model"])

    def streams(self, body: dict[str, Any], path: str) -> bool:
        return body.get("stream") is True

    def cap(self, body: dict[str, Any]) -> int | None:
        return body.get("max_completion_tokens") or body.get("max_tokens")

    def serves(self, model: str) -> bool:
        return True

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


class Deployed(Chat):
    """Azure's path names the deployment."""

    def model(self, body: dict[str, Any], path: str) -> str:
        return path.partition("/deployments/")[2].partition("/")[0]

    def serves(self, model: str) -> bool:
        return model.startswith("fake-")


class Completions(Chat):
    """OpenAI's legacy completions: `text` in the place of a message, in whole answers and in chunks."""

    def whole(self, asked: Asked) -> bytes:
        choice = {"index": 0, "text": " ".join(asked.words), "logprobs": None, "finish_reason": _finish_reason(asked)}
        answer = _text_head(asked) | {"choices": [choice]}
        counts = asked.counts()
        return msgspec.json.encode(answer if counts is None else answer | {"usage": counts})

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield from ()

    def closing(self, asked: Asked) -> Iterator[bytes]:
        counts = asked.counts()
        if asked.with_usage and counts is not None:
            yield _frame(_text_head(asked) | {"choices": [], "usage": counts})
        yield b"data: [DONE]\n\n"

    def _chunk(self, asked: Asked, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "text": delta.get("content", ""), "logprobs": None, "finish_reason": finish_reason}
        return _frame(_text_head(asked) | {"choices": [choice]})


class DeployedCompletions(Completions, Deployed):
    """Completions of an Azure deployment."""


class Unasked(Chat):
    """Mistral's chat: the usage stands in the chunk with the finish reason, without being asked for."""

    def tells_usage(self, body: dict[str, Any]) -> bool:
        return "stream_options" not in body

    def finish(self, asked: Asked) -> Iterator[bytes]:
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": _finish_reason(asked)}
        counts = asked.counts() if asked.with_usage else None
        yield _frame(_chat_head(asked, "chat.completion.chunk") | {"choices": [choice], "usage": counts})

    def closing(self, asked: Asked) -> Iterator[bytes]:
        yield b"data: [DONE]\n\n"


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


class DeployedEmbeddings(Embeddings, Deployed):
    """Embeddings of an Azure deployment."""


class CohereChat(Shape):
    """Cohere's chat, version 2: what it bills is less than the tokens that were read."""

    def cap(self, body: dict[str, Any]) -> int | None:
        return body.get("max_tokens")

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"input_tokens": input_tokens, "output_tokens": output_tokens}

    def whole(self, asked: Asked) -> bytes:
        message = {"role": "assistant", "content": [{"type": "text", "text": " ".join(asked.words)}]}
        answer = {"id": asked.request_id, "message": message, **self._end(asked)}
        return msgspec.json.encode(answer)

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield self._event("message-start", {"message": {"role": "assistant"}}, id=asked.request_id)
        yield self._event("content-start", {"message": {"content": {"type": "text", "text": ""}}}, index=0)

    def word(self, asked: Asked, index: int) -> bytes:
        text = (" " if index else "") + asked.words[index]
        return self._event("content-delta", {"message": {"content": {"text": text}}}, index=0)

    def finish(self, asked: Asked) -> Iterator[bytes]:
        yield _frame({"type": "content-end", "index": 0}, event="content-end")

    def closing(self, asked: Asked) -> Iterator[bytes]:
        yield self._event("message-end", self._end(asked), id=asked.request_id)

    def error(self, status: int, message: str) -> bytes:
        return msgspec.json.encode({"id": "err_fake", "message": message})

    def _end(self, asked: Asked) -> dict[str, Any]:
        reason = {"finish_reason": "MAX_TOKENS" if asked.capped else "COMPLETE"}
        counts = asked.counts()
        if counts is None:
            return reason
        return reason | {"usage": {"billed_units": counts, "tokens": {"input_tokens": 10**6, "output_tokens": 10**6}}}

    def _event(self, kind: str, delta: dict[str, Any], **more: Any) -> bytes:
        return _frame({"type": kind, **more, "delta": delta}, event=kind)


class CohereEmbed(CohereChat):
    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"input_tokens": input_tokens}

    def whole(self, asked: Asked) -> bytes:
        answer = {"id": asked.request_id, "embeddings": {"float": [[0.5, -0.25, 0.125]]}, "texts": []}
        counts = asked.counts()
        return msgspec.json.encode(answer if counts is None else answer | {"meta": {"billed_units": counts}})


class Rerank(CohereChat):
    """Two results, whatever was asked, in Cohere's words and in Voyage's; one search unit."""

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"search_units": 1}

    def whole(self, asked: Asked) -> bytes:
        results = [{"index": 1, "relevance_score": 0.75}, {"index": 0, "relevance_score": 0.25}]
        answer = {"id": asked.request_id, "results": results, "data": results}
        counts = asked.counts()
        return msgspec.json.encode(answer if counts is None else answer | {"meta": {"billed_units": counts}})


class OllamaChat(Shape):
    """Ollama's chat: a stream of lines, and the counts beside the answer."""

    def streams(self, body: dict[str, Any], path: str) -> bool:
        return body.get("stream") is not False

    def cap(self, body: dict[str, Any]) -> int | None:
        return (body.get("options") or {}).get("num_predict")

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"prompt_eval_count": input_tokens, "eval_count": output_tokens}

    def whole(self, asked: Asked) -> bytes:
        return msgspec.json.encode(self._answer(asked, " ".join(asked.words)) | self._end(asked))

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield from ()

    def word(self, asked: Asked, index: int) -> bytes:
        text = (" " if index else "") + asked.words[index]
        return msgspec.json.encode(self._answer(asked, text) | {"done": False}) + b"\n"

    def finish(self, asked: Asked) -> Iterator[bytes]:
        yield from ()

    def closing(self, asked: Asked) -> Iterator[bytes]:
        yield msgspec.json.encode(self._answer(asked, "") | self._end(asked)) + b"\n"

    def error(self, status: int, message: str) -> bytes:
        return msgspec.json.encode({"error": message})

    def _answer(self, asked: Asked, text: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text}
        return {"model": asked.model, "created_at": "2026-02-03T04:05:06.789012Z", "message": message}

    def _end(self, asked: Asked) -> dict[str, Any]:
        return {"done": True, "done_reason": "length" if asked.capped else "stop", **(asked.counts() or {})}


class OllamaEmbed(OllamaChat):
    def streams(self, body: dict[str, Any], path: str) -> bool:
        return False

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"prompt_eval_count": input_tokens}

    def whole(self, asked: Asked) -> bytes:
        answer = {"model": asked.model, "embeddings": [[0.5, -0.25, 0.125]]}
        return msgspec.json.encode(answer | (asked.counts() or {}))


class Generate(Shape):
    """Google's generateContent and streamGenerateContent."""

    def model(self, body: dict[str, Any], path: str) -> str:
        return _GOOGLE_METHOD.search(path)[1]  # type: ignore[index]  # the path chose this shape

    def streams(self, body: dict[str, Any], path: str) -> bool:
        return ":streamGenerateContent" in path

    def cap(self, body: dict[str, Any]) -> int | None:
        return (body.get("generationConfig") or {}).get("maxOutputTokens")

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        total = input_tokens + output_tokens
        return {"promptTokenCount": input_tokens, "candidatesTokenCount": output_tokens, "totalTokenCount": total}

    def whole(self, asked: Asked) -> bytes:
        answer = _generated(asked, " ".join(asked.words), finish=True)
        counts = asked.counts()
        return msgspec.json.encode(answer if counts is None else answer | {"usageMetadata": counts})

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield from ()

    def word(self, asked: Asked, index: int) -> bytes:
        return _frame(_generated(asked, (" " if index else "") + asked.words[index]))

    def finish(self, asked: Asked) -> Iterator[bytes]:
        yield _frame(_generated(asked, "", finish=True))

    def closing(self, asked: Asked) -> Iterator[bytes]:
        counts = asked.counts()
        if counts is not None:
            yield _frame({"usageMetadata": counts, "modelVersion": asked.model, "responseId": asked.request_id})

    def error(self, status: int, message: str) -> bytes:
        words = {
            401: "UNAUTHENTICATED",
            403: "PERMISSION_DENIED",
            404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED",
            503: "UNAVAILABLE",
        }
        word = words.get(status, "INTERNAL" if status >= 500 else "INVALID_ARGUMENT")
        return msgspec.json.encode({"error": {"code": status, "message": message, "status": word}})


class BatchEmbed(Generate):
    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        return {"promptTokenCount": input_tokens}

    def whole(self, asked: Asked) -> bytes:
        counts = asked.counts()
        answer = {"embeddings": [{"values": [0.5, -0.25, 0.125]}]}
        return msgspec.json.encode(answer if counts is None else answer | {"usageMetadata": counts})


class EmbedContent(BatchEmbed):
    def whole(self, asked: Asked) -> bytes:
        counts = asked.counts()
        answer = {"embedding": {"values": [0.5, -0.25, 0.125]}}
        return msgspec.json.encode(answer if counts is None else answer | {"usageMetadata": counts})


class Predict(Generate):
    def whole(self, asked: Asked) -> bytes:
        embeddings = {"values": [0.5, -0.25, 0.125], "statistics": {"token_count": asked.input_tokens}}
        return msgspec.json.encode({"predictions": [{"embeddings": embeddings}]})


class Converse(Shape):
    """Bedrock's Converse and ConverseStream."""

    def model(self, body: dict[str, Any], path: str) -> str:
        return unquote(_BEDROCK.search(path)[1])  # type: ignore[index]  # the path chose this shape

    def streams(self, body: dict[str, Any], path: str) -> bool:
        return path.endswith("/converse-stream")

    def cap(self, body: dict[str, Any]) -> int | None:
        return (body.get("inferenceConfig") or {}).get("maxTokens")

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        total = input_tokens + output_tokens
        return {"inputTokens": input_tokens, "outputTokens": output_tokens, "totalTokens": total}

    def whole(self, asked: Asked) -> bytes:
        message = {"role": "assistant", "content": [{"text": " ".join(asked.words)}]}
        answer = {"output": {"message": message}, "stopReason": _stop_reason(asked), "metrics": {"latencyMs": 1}}
        counts = asked.counts()
        return msgspec.json.encode(answer if counts is None else answer | {"usage": counts})

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield _bedrock_frame("messageStart", {"role": "assistant"})

    def word(self, asked: Asked, index: int) -> bytes:
        delta = {"text": (" " if index else "") + asked.words[index]}
        return _bedrock_frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": delta, "p": "abc"})

    def finish(self, asked: Asked) -> Iterator[bytes]:
        yield _bedrock_frame("contentBlockStop", {"contentBlockIndex": 0})
        yield _bedrock_frame("messageStop", {"stopReason": _stop_reason(asked)})

    def closing(self, asked: Asked) -> Iterator[bytes]:
        counts = asked.counts()
        told = {"metrics": {"latencyMs": 1}}
        yield _bedrock_frame("metadata", told if counts is None else told | {"usage": counts})

    def error(self, status: int, message: str) -> bytes:
        return msgspec.json.encode({"message": message})


class Invoke(Converse):
    """Bedrock's InvokeModel, for Titan's embeddings."""

    def whole(self, asked: Asked) -> bytes:
        return msgspec.json.encode({"embedding": [0.5, -0.25, 0.125], "inputTextTokenCount": asked.input_tokens})


class Responses(Shape):
    """OpenAI's responses."""

    def cap(self, body: dict[str, Any]) -> int | None:
        return body.get("max_output_tokens")

    def usage(self, input_tokens: int, output_tokens: int) -> dict[str, Any]:
        total = input_tokens + output_tokens
        return {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": total}

    def whole(self, asked: Asked) -> bytes:
        return msgspec.json.encode(self._ended(asked))

    def opening(self, asked: Asked) -> Iterator[bytes]:
        yield _told("response.created", response=self._begun(asked))
        yield _told("response.output_item.added", output_index=0, item=_written(asked, "", "in_progress"))
        part = {"type": "output_text", "text": "", "annotations": []}
        yield _told("response.content_part.added", **_PLACE, part=part)

    def word(self, asked: Asked, index: int) -> bytes:
        delta = (" " if index else "") + asked.words[index]
        return _told("response.output_text.delta", **_PLACE, delta=delta, logprobs=[])

    def finish(self, asked: Asked) -> Iterator[bytes]:
        item = _written(asked, " ".join(asked.words), "completed")
        yield _told("response.output_item.done", output_index=0, item=item)

    def closing(self, asked: Asked) -> Iterator[bytes]:
        ended = self._ended(asked)
        yield _told(f"response.{ended['status']}", response=ended)

    def _begun(self, asked: Asked) -> dict[str, Any]:
        return {
            "id": f"resp_{asked.request_id}",
            "object": "response",
            "created_at": 1,
            "status": "in_progress",
            "model": asked.model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": None,
        }

    def _ended(self, asked: Asked) -> dict[str, Any]:
        status = "incomplete" if asked.capped else "completed"
        return self._begun(asked) | {
            "status": status,
            "incomplete_details": {"reason": "max_output_tokens"} if asked.capped else None,
            "output": [_written(asked, " ".join(asked.words), status)],
            "usage": asked.counts(),
        }


_PLACE = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}


def _told(event: str, **said: Any) -> bytes:
    return _frame({"type": event, "sequence_number": 0, **said}, event=event)


def _written(asked: Asked, text: str, status: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content}


def _bedrock_frame(event: str, value: dict[str, Any]) -> bytes:
    return encode_event(event=event, data=msgspec.json.encode(value))


def _generated(asked: Asked, text: str, *, finish: bool = False) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    if finish:
        candidate["finishReason"] = "MAX_TOKENS" if asked.capped else "STOP"
    return {"candidates": [candidate], "modelVersion": asked.model, "responseId": asked.request_id}


def _chat_head(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{asked.request_id}", "object": kind, "created": 1, "model": asked.model}


def _text_head(asked: Asked) -> dict[str, Any]:
    return {"id": f"cmpl-{asked.request_id}", "object": "text_completion", "created": 1, "model": asked.model}


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
    "/v1/responses": Responses(),
    "/v1/completions": Completions(),
    "/v1/embeddings": Embeddings(),
    "/v1/v1/embeddings": Embeddings(),
    "/mistral/chat/completions": Unasked(),
    "/mistral/embeddings": Embeddings(),
    "/v1/rerank": Rerank(),
    "/v2/chat": CohereChat(),
    "/v2/embed": CohereEmbed(),
    "/v2/rerank": Rerank(),
    "/api/chat": OllamaChat(),
    "/api/embed": OllamaEmbed(),
}
_BY_TAIL: dict[str, Shape] = {
    "chat/completions": Deployed(), "completions": DeployedCompletions(), "embeddings": DeployedEmbeddings()
}  # fmt: skip
_GOOGLE: dict[str, Shape] = {
    "generateContent": Generate(),
    "streamGenerateContent": Generate(),
    "batchEmbedContents": BatchEmbed(),
    "embedContent": EmbedContent(),
    "predict": Predict(),
}
_GOOGLE_METHOD = re.compile(r"/models/([^/:?]+):(\w+)")
_BEDROCK = re.compile(r"/model/([^/]+)/([\w-]+)$")
_AMAZON: dict[str, Shape] = {"converse": Converse(), "converse-stream": Converse(), "invoke": Invoke()}
_DEPLOYMENT = re.compile(r"/openai/deployments/[^/]+/(.+)")
# What stands before "/models" -> the field of a page that holds them, and what stands before each name.
GOOGLE_PREFIXES = {"/v1beta": ("models", ""), "/v1beta1/publishers/google": ("publisherModels", "publishers/google/")}


def shape_of(path: str) -> Shape | None:
    """The wire of a path, by all of it or by what a vendor puts around the model's name."""
    plain = path.partition("?")[0]
    google, deployment = _GOOGLE_METHOD.search(plain), _DEPLOYMENT.search(plain)
    if google:
        return _GOOGLE.get(google[2])
    amazon = _BEDROCK.search(plain)
    if amazon:
        return _AMAZON.get(amazon[2])
    return _BY_TAIL.get(deployment[1]) if deployment else BY_PATH.get(plain)
