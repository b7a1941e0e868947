"""The client's side of Google's embeddings: `models/NAME:embedContent` and `:batchEmbedContents`.

The surface puts the model of the path into the body as "model", as for chats. Each request of a batch names it once
more. What a request says of its vector (`taskType`, `outputDimensionality`) is one thing for all inputs of a unified
request: a batch whose requests differ in it is for Google alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import msgspec
from msgspec import Raw

from providers.embeddings import EmbedAnswer, EmbedInput, EmbedRequest, Purpose, floats
from providers.errors import InvalidRequest, MalformedAnswer
from providers.unified import Answer, ImagePart, Json, TextPart
from providers.wire.base import Admitted
from providers.wire.gemini.admission import OWN_FIELDS, media_of, object_of
from providers.wire.gemini.counting import resource_name
from providers.wire.gemini.names import camel, dumps, obj, objects, string
from providers.wire.gemini.parts import Calls, decode_part

MAX_REQUESTS = 2048
PURPOSES: dict[str, Purpose] = {
    "RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
    "SEMANTIC_SIMILARITY": "similarity",
}
_UNSAID = (None, "", "TASK_TYPE_UNSPECIFIED")
_READ = frozenset({"content", "outputDimensionality"})
# The gateway's own fields stand at the top; a request of a batch names its model alone.
_BATCHED = frozenset({"model"})
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[dict[str, Raw]])


def admit(body: bytes, *, batch: bool) -> Admitted:
    """Raises InvalidRequest, `param` the JSON path of what is wrong."""
    value = object_of(body)
    model = value.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("$.model", "the name of a model is needed")
    contents = [_content(request, path) for path, request in _requests(value, batch=batch)]
    media, media_bytes = media_of(contents)
    return Admitted(
        model=model.removeprefix("models/"),
        stream=False,
        fields=_FIELDS.decode(body),
        message_count=len(contents),
        media=media,
        media_bytes=media_bytes,
        drop_unsupported=value.get("dropUnsupported") is True,
        operation="embeddings",
        fees={"images": media["image"]} if "image" in media else {},
    )


def rewrite(admitted: Admitted, *, model: str, batch: bool) -> bytes:
    """The client's body as it came, each request of a batch under the upstream model."""
    fields: dict[str, Any] = {name: raw for name, raw in admitted.fields.items() if name not in OWN_FIELDS}
    if batch:
        name = resource_name(model)
        fields["requests"] = [request | {"model": name} for request in _LIST.decode(fields["requests"])]
    return dumps(fields)


def decode_request(body: bytes, *, batch: bool, wire: str) -> EmbedRequest:
    """Raises InvalidRequest for what `admit` refuses, and for requests of a batch that want vectors of two kinds."""
    value = object_of(body)
    requests = list(_requests(value, batch=batch))
    kinds = [_kind(request, path) for path, request in requests]
    for (path, _), kind in zip(requests, kinds, strict=True):
        if kind != kinds[0]:
            raise _wrong(path, "this model's provider makes one kind of vectors a call: ask for all of them alike")
    dimensions, purpose, own_task = kinds[0]
    known = (_BATCHED if batch else OWN_FIELDS) | _READ | (set() if own_task else {"taskType"})
    extra: Json = _unknown(value, known=OWN_FIELDS | {"requests"}) if batch else {}
    for path, request in requests:
        # Where there are several, each names its fields by its place.
        place = f"{path[2:]}." if len(requests) > 1 else ""
        extra |= {f"{place}{name}": item for name, item in _unknown(request, known=known).items()}
    return EmbedRequest(
        model=string(value.get("model")).removeprefix("models/"),
        inputs=tuple(_input(request, path) for path, request in requests),
        dimensions=dimensions,
        purpose=purpose,
        purpose_field="taskType",
        extra=extra,
        wire=wire,
    )


def encode_answer(answer: Answer, *, batch: bool) -> bytes:
    """Vectors as numbers, with the count of what was read where the provider told it."""
    if not isinstance(answer, EmbedAnswer):
        raise MalformedAnswer("The provider's answer holds no embeddings.")
    vectors = [{"values": floats(vector)} for vector in answer.vectors]
    if not batch and len(vectors) != 1:
        raise MalformedAnswer(f"The provider's answer holds {len(vectors)} vectors where one was asked for.")
    body: Json = {"embeddings": vectors} if batch else {"embedding": vectors[0]}
    tokens = answer.usage.totals.get("input")
    return dumps(body if tokens is None else body | {"usageMetadata": {"promptTokenCount": int(tokens)}})


def _requests(value: Json, *, batch: bool) -> Iterator[tuple[str, Json]]:
    """(JSON path, request in camelCase) of each."""
    if not batch:
        yield "$", value
        return
    listed = value.get("requests")
    if not isinstance(listed, list) or not listed or len(listed) > MAX_REQUESTS:
        raise _wrong("$.requests", f"a list of 1 to {MAX_REQUESTS} requests is needed")
    for at, request in enumerate(listed):
        if not isinstance(request, dict):
            raise _wrong(f"$.requests[{at}]", "an object is needed")
        yield f"$.requests[{at}]", camel(request)


def _content(request: Json, path: str) -> Json:
    content = obj(request.get("content"))
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts or not all(isinstance(part, dict) for part in parts):
        raise _wrong(f"{path}.content.parts", "a list of at least one object is needed")
    return content


def _input(request: Json, path: str) -> EmbedInput:
    parts = []
    for at, value in enumerate(objects(_content(request, path)["parts"])):
        for part in decode_part(value, Calls("embed")):
            if not isinstance(part, TextPart | ImagePart):
                raise _wrong(f"{path}.content.parts[{at}]", "only text and images can be embedded here")
            parts.append(part)
    return EmbedInput(parts=tuple(parts) or (TextPart(text=""),))


def _unknown(value: Json, *, known: Set[str]) -> Json:
    return {name: item for name, item in value.items() if name not in known and item is not None}


def _kind(request: Json, path: str) -> tuple[int | None, Purpose, Any]:
    """(dimensions, purpose, a task that only Google knows)."""
    dimensions = request.get("outputDimensionality")
    if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1):
        raise _wrong(f"{path}.outputDimensionality", f"a whole number above 0 is needed, not {dimensions!r}")
    task = request.get("taskType")
    purpose = PURPOSES.get(string(task), "")
    return dimensions, purpose, None if purpose or task in _UNSAID else task


def _wrong(path: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: {why}.", param=path)
