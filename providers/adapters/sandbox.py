"""A provider without a network: deterministic answers on OpenAI's chat wire, for a first run, demos and tests.

Models: `sandbox-echo` says what the last user message said; `sandbox-slow` does so after `settings["delay_s"]`
seconds (1 unless set); `sandbox-error` fails with 500 and `sandbox-error-NNN` with that status (429 asks to wait 1 s);
`sandbox-embed` makes embeddings; `sandbox-image`, `sandbox-transcribe` and `sandbox-speech` make media (see
`providers.adapters.sandbox_media`). A forced tool is called with the smallest arguments its schema accepts, and a JSON
output format gets the smallest value of its schema.

Usage: one token for each 4 bytes of UTF-8 text, rounded up. The prompt's text is that of all messages; the completion's
is that of the answer, or the arguments of its tool calls, once for each of its n choices.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any

import msgspec
from requests.structures import CaseInsensitiveDict

from providers import retry
from providers.adapters import sandbox_media
from providers.adapters.base import (
    HEALTH_TIMEOUT_S,
    Capabilities,
    Conversation,
    Health,
    Operation,
    ProviderConfig,
    decoded_object,
    timed_health,
)
from providers.adapters.media import media_wires
from providers.adapters.schema_sample import sample
from providers.errors import MalformedAnswer, Phase, ProviderError, StreamInterrupted, Timeout
from providers.http import Deadlines
from providers.line import Line
from providers.sse import encode
from providers.wire import openai_chat
from providers.wire.base import Wire
from providers.wire.counting import Counting
from providers.wire.media import MEDIA

MODELS = (
    "sandbox-echo", "sandbox-embed", "sandbox-error", "sandbox-image", "sandbox-slow", "sandbox-speech",
    "sandbox-transcribe",
)  # fmt: skip
BYTES_PER_TOKEN = 4
_ERROR_MODEL = re.compile(r"sandbox-error(?:-([45]\d\d))?")
_WORD = re.compile(r"\S+\s*|\s+")
# A chat's request, counted as its answer counts it.
COUNT = Counting(
    name="sandbox_count", chat=openai_chat.WIRE, read=frozenset({"model", "messages"}), field="input_tokens"
)


class SandboxExchange:
    """An answer that was there all along, in the pieces in which a provider would send it."""

    def __init__(self, *, pieces: list[bytes], content_type: str, request_id: str) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = CaseInsensitiveDict(
            {"Content-Type": content_type, "X-Request-Id": request_id}
        )
        self.upstream_request_id = request_id
        self.first_byte_at = time.monotonic()
        self._pieces = pieces
        self._aborted = False

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self, *, tick_s: float | None = None) -> Iterator[bytes]:
        for piece in self._pieces:
            if self._aborted:
                raise StreamInterrupted("The provider's answer was cut off by the gateway.")
            yield piece

    def close(self) -> None:
        """There is no connection to give back."""

    def abort(self) -> None:
        self._aborted = True


class Sandbox(Conversation):
    wire = openai_chat.WIRE
    wires: Mapping[Operation, Wire] = {**Conversation.wires, "count_tokens": COUNT, **media_wires()}
    capabilities = Capabilities(
        documents=True, audio=True, embeddings=True, count_tokens=True, images=True, transcriptions=True, speech=True
    )

    def __init__(self, config: ProviderConfig, *, wait: Callable[[float], object] | None = None) -> None:
        self.config = config
        self.name = config.name
        self._wait = wait or threading.Event().wait

    def send(
        self,
        *,
        body: bytes,
        model: str,
        stream: bool,
        deadlines: Deadlines | None = None,
        idempotency_key: str = "",
        operation: Operation = "chat",
        line: Line | None = None,
    ) -> SandboxExchange:
        request = {} if operation in MEDIA else self._request(body)
        self._fail_as_named(model)
        if model == "sandbox-slow":
            self._delay(deadlines or self.config.deadlines(stream=stream))
        request_id = f"sandbox-{sha256(body).hexdigest()[:24]}"
        if operation in MEDIA:
            medium = sandbox_media.answered(operation, body)
            return SandboxExchange(pieces=medium.pieces, content_type=medium.content_type, request_id=request_id)
        if operation == "embeddings":
            answer = msgspec.json.encode(_embeddings(request, model=model))
            return SandboxExchange(pieces=[answer], content_type="application/json", request_id=request_id)
        if operation == "count_tokens":
            answer = msgspec.json.encode({"input_tokens": _prompt_tokens(request)})
            return SandboxExchange(pieces=[answer], content_type="application/json", request_id=request_id)
        completion = _completion(request, model=model, request_id=request_id)
        if not stream:
            answer = msgspec.json.encode(completion)
            return SandboxExchange(pieces=[answer], content_type="application/json", request_id=request_id)
        pieces = list(_events(completion, with_usage=_wants_usage(request)))
        return SandboxExchange(pieces=pieces, content_type="text/event-stream", request_id=request_id)

    def health_check(self, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Health:
        return timed_health(lambda: b"")

    def list_models(self) -> tuple[str, ...]:
        return MODELS

    def validate_model(self, name: str) -> bool:
        return name in MODELS or bool(_ERROR_MODEL.fullmatch(name))

    def close(self) -> None:
        """There is nothing to close."""

    def _request(self, body: bytes) -> dict[str, Any]:
        try:
            return decoded_object(body, provider=self.name)
        except MalformedAnswer:
            raise self._error(400, "The body is not a JSON object.") from None

    def _fail_as_named(self, model: str) -> None:
        if not self.validate_model(model):
            raise self._error(404, f"The model {model!r} does not exist: there are {', '.join(MODELS)}.")
        failing = _ERROR_MODEL.fullmatch(model)
        if failing:
            raise self._error(int(failing[1] or 500), f"The model {model!r} always fails.")

    def _error(self, status: int, message: str) -> ProviderError:
        headers: CaseInsensitiveDict[str] = CaseInsensitiveDict({"Retry-After": "1"} if status == 429 else {})
        code = "model_not_found" if status == 404 else f"sandbox_{status}"
        body = msgspec.json.encode({"error": {"message": message, "type": "sandbox_error", "code": code}})
        error = self.wire.decode_error(status=status, body=body, headers=headers, provider=self.name)
        error.provider, error.status = self.name, status
        error.retry_after_s = retry.retry_after_s(status=status, headers=headers)
        return error

    def _delay(self, deadlines: Deadlines) -> None:
        stated = self.config.settings.get("delay_s", 1)
        delay_s = stated if isinstance(stated, int | float) and stated > 0 else 0
        first_byte_s = deadlines.first_byte_s
        if first_byte_s is not None and first_byte_s < min(delay_s, deadlines.total_s):
            self._wait(first_byte_s)
            raise self._late(first_byte_s, "first_byte")
        self._wait(min(delay_s, deadlines.total_s))
        if delay_s >= deadlines.total_s:
            raise self._late(deadlines.total_s, "total")

    def _late(self, timeout_s: float, phase: Phase) -> Timeout:
        message = f"The sandbox did not answer within {round(timeout_s, 2):g} s."
        return Timeout(message, timeout_s=timeout_s, phase=phase, provider=self.name)


def tokens(text: str) -> int:
    """One token for each BYTES_PER_TOKEN bytes of UTF-8, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _prompt_tokens(request: dict[str, Any]) -> int:
    return tokens("".join(_text(message) for message in _objects(request.get("messages"))))


def _completion(request: dict[str, Any], *, model: str, request_id: str) -> dict[str, Any]:
    message, finish_reason = _message(request)
    calls = message.get("tool_calls", ())
    said = message["content"] or "".join(call["function"]["arguments"] for call in calls)
    count = request.get("n") if isinstance(request.get("n"), int) else 1
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": finish_reason}
        for index in range(max(1, count or 1))
    ]
    prompt_tokens, completion_tokens = _prompt_tokens(request), tokens(said) * len(choices)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": choices,
        "usage": usage,
    }


def _message(request: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The assistant's message and its finish reason."""
    function = _forced_function(request)
    if function is not None:
        arguments = msgspec.json.encode(sample(function.get("parameters")) or {}).decode()
        call = {"name": str(function.get("name", "")), "arguments": arguments}
        called = {"id": f"call_sandbox_{call['name']}", "type": "function", "function": call}
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [called]}, "tool_calls"
    text, finish_reason = _said(request), "stop"
    cap = request.get("max_completion_tokens", request.get("max_tokens"))
    if isinstance(cap, int) and tokens(text) > cap:
        kept = text.encode("utf-8", "replace")[: max(cap, 0) * BYTES_PER_TOKEN]
        text, finish_reason = kept.decode("utf-8", "ignore"), "length"
    return {"role": "assistant", "content": text, "refusal": None}, finish_reason


def _said(request: dict[str, Any]) -> str:
    users = [message for message in _objects(request.get("messages")) if message.get("role") == "user"]
    text = _text(users[-1]) if users else ""
    output = request.get("response_format")
    kind = output.get("type") if isinstance(output, dict) else None
    if kind == "json_schema":
        stated = output.get("json_schema") if isinstance(output, dict) else None
        return msgspec.json.encode(sample(stated.get("schema") if isinstance(stated, dict) else None)).decode()
    if kind == "json_object":
        return msgspec.json.encode({"answer": text}).decode()
    return f"You said: {text}" if text else "Hello from the sandbox."


def _forced_function(request: dict[str, Any]) -> dict[str, Any] | None:
    """The function that must be called: the one named, or the first when any one must."""
    functions = [tool["function"] for tool in _objects(request.get("tools")) if isinstance(tool.get("function"), dict)]
    choice = request.get("tool_choice")
    if choice == "required":
        return functions[0] if functions else None
    named = choice.get("function") if isinstance(choice, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    return next((function for function in functions if function.get("name") == name), None) if name else None


def _events(completion: dict[str, Any], *, with_usage: bool) -> Iterator[bytes]:
    head = {key: completion[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
        return encode(data=msgspec.json.encode(head | {"choices": choices} | more))

    for choice in completion["choices"]:
        for delta in _deltas(choice["message"]):
            yield chunk([{"index": choice["index"], "delta": delta, "finish_reason": None}])
        yield chunk([{"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}])
    if with_usage:
        yield chunk([], usage=completion["usage"])
    yield encode(data=b"[DONE]")


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if message["content"] is not None else None}
    for word in _WORD.findall(message["content"] or ""):
        yield {"content": word}
    for index, call in enumerate(message.get("tool_calls", ())):
        yield {"tool_calls": [{"index": index} | call]}


def _wants_usage(request: dict[str, Any]) -> bool:
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _embeddings(request: dict[str, Any], *, model: str) -> dict[str, Any]:
    """A vector of whole numbers from -1 to 1 in steps of 1/128 for each input: equal for equal texts."""
    stated = request.get("input", "")
    inputs = [str(one) for one in stated] if isinstance(stated, list) else [str(stated)]
    wanted = request.get("dimensions")
    size = wanted if isinstance(wanted, int) and 0 < wanted <= 4096 else 16
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, size)} for index, text in enumerate(inputs)
    ]
    used = sum(tokens(text) for text in inputs)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def _vector(text: str, size: int) -> list[float]:
    blocks = -(-size // 32)
    seed = text.encode("utf-8", "replace")
    noise = b"".join(sha256(number.to_bytes(4, "big") + seed).digest() for number in range(blocks))
    return [(byte - 128) / 128 for byte in noise[:size]]


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in _objects(content))
    return " ".join(text for text in texts if isinstance(text, str))


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
