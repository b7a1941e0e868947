"""Counting tokens on this wire: `models/NAME:countTokens`, contents or a whole generateContent request in.

The Gemini API takes a system instruction and tools only within `generateContentRequest`, Vertex only beside the
contents: two wires of one answer. Clients speak the first.
https://ai.google.dev/api/tokens https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/count-tokens
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from providers.errors import InvalidRequest
from providers.unified import Answer, Json, Request
from providers.wire.base import Admitted, Wire
from providers.wire.counting import Counting, number_answer
from providers.wire.gemini import admission, request
from providers.wire.gemini.names import camel, dumps, string

_FIELD = "totalTokens"
_INNER = "generateContentRequest"
_READ = frozenset({"contents", "systemInstruction", "tools", "toolConfig", "generationConfig"})
_READ_BY_VERTEX = _READ - {"toolConfig"}
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


class GeminiCounting(Counting):
    """Both sides: what Google's clients ask and what the Gemini API answers."""

    def __init__(self, *, chat: Wire) -> None:
        super().__init__(name="gemini_count_tokens", chat=chat, read=_READ, field=_FIELD)

    def admit(self, body: bytes) -> Admitted:
        """Raises InvalidRequest whose param is the JSON path of what is wrong."""
        admitted = admission.admit(_flat(body))
        return msgspec.structs.replace(
            admitted, fields=_FIELDS.decode(body), stream=False, max_output_tokens=None, n=1, operation="count_tokens"
        )

    def decode_request(self, body: bytes) -> Request:
        return request.decode_request(_flat(body))

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        """The client's body; a request within it names the model once more."""
        fields: dict[str, Any] = {
            name: raw for name, raw in admitted.fields.items() if name not in admission.OWN_FIELDS
        }
        for name in (_INNER, "generate_content_request"):
            if name in fields:
                fields[name] = _FIELDS.decode(fields[name]) | {"model": resource_name(model)}
        return dumps(fields)

    def encode_answer(self, answer: Answer) -> bytes:
        return dumps(number_answer(answer, field=_FIELD))

    def enclosed(self, fields: dict[str, Any], *, model: str) -> dict[str, Any]:
        return {_INNER: {"model": resource_name(model), **fields}}


class VertexCounting(Counting):
    """Vertex's provider side."""

    def __init__(self, *, chat: Wire) -> None:
        super().__init__(name="vertex_count_tokens", chat=chat, read=_READ_BY_VERTEX, field=_FIELD)


def resource_name(model: str) -> str:
    """The name of a model as Google's bodies spell it."""
    return model if model.startswith("models/") else f"models/{model}"


def _flat(body: bytes) -> bytes:
    """The generateContent body that is to be counted, with what the surface and the gateway put beside it."""
    value = admission.object_of(body)
    inner: Any = value.pop(_INNER, None)
    if inner is None:
        return body
    if not isinstance(inner, dict):
        raise InvalidRequest(f"$.{_INNER}: an object is needed.", param=f"$.{_INNER}")
    if value.get("contents"):
        raise InvalidRequest(f"$.contents: give either contents or {_INNER}.", param="$.contents")
    own: Json = {name: item for name, item in value.items() if name in admission.OWN_FIELDS}
    return dumps({**camel(inner), **own, "model": string(value.get("model"))})
