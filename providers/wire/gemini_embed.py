"""Google's embeddings: the provider's side, and as `providers.wire.gemini_embed_client` the client's.

`BATCH`: models/NAME:batchEmbedContents of the Gemini API, one request for each input. `SINGLE`: NAME:embedContent,
which makes one vector (Vertex has newer models there only). `PREDICT`: NAME:predict of Vertex, a provider's only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from providers.counts import Counts, decode_exact
from providers.embeddings import EmbedAnswer, EmbedInput, EmbedRequest, Purpose, Vector
from providers.errors import MalformedAnswer, Unsupported
from providers.unified import NO_USAGE, Answer, Json, Request, TextPart, Usage
from providers.wire import gemini_embed_client as client
from providers.wire.base import Admitted
from providers.wire.gemini import errors
from providers.wire.gemini.counting import resource_name
from providers.wire.openai_chat.parts import string, unsupported
from providers.wire.openai_embeddings.answer import vector_of
from providers.wire.openai_embeddings.request import embed_request
from providers.wire.unstreamed import ProviderSide, answer_object

_TASKS: dict[Purpose, str] = {purpose: task for task, purpose in client.PURPOSES.items()}
# Wires whose clients may say what only Google knows of one request.
_OWN = frozenset({"gemini_embed", "gemini_batch_embed"})
# What `predict` knows of one text besides: our name of the field -> its own.
_INSTANCE = {"taskType": "task_type", "title": "title"}
_MODALITIES = {"IMAGE": "input_image", "AUDIO": "input_audio", "VIDEO": "input_video"}


class _GeminiEmbed(ProviderSide):
    def decode_answer(self, body: bytes) -> EmbedAnswer:
        value = answer_object(body)
        return EmbedAnswer(
            id="", model="", vectors=tuple(self._vectors(value)), usage=_usage_of(value, body), wire=self.name
        )

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return _usage_of(answer_object(body), body), ""

    def _vectors(self, value: Json) -> Iterator[Vector]:
        raise NotImplementedError

    def _asked(self, request: Request, drop_unsupported: bool) -> EmbedRequest:
        asked = embed_request(request)
        for at, item in enumerate(asked.inputs):
            if item.tokens:
                raise unsupported("tokens instead of text", f"input[{at}]")
        if asked.user and not drop_unsupported:
            raise unsupported("'user'", "user")
        for name in asked.extra:
            if not self._can_say(asked, name) and not drop_unsupported:
                raise unsupported(f"{name!r}", name)
        return asked

    def _can_say(self, asked: EmbedRequest, name: str) -> bool:
        """Whether this wire has a place for the field `name` of `asked.extra`."""
        raise NotImplementedError


class _SpokenByClients(_GeminiEmbed):
    """Adds the client's side. `batch`: many requests a call, or the one that is the body itself."""

    batch: bool

    def _can_say(self, asked: EmbedRequest, name: str) -> bool:
        return asked.wire in _OWN and (len(asked.inputs) == 1 or name.startswith("requests["))

    def admit(self, body: bytes) -> Admitted:
        return client.admit(body, batch=self.batch)

    def decode_request(self, body: bytes) -> EmbedRequest:
        return client.decode_request(body, batch=self.batch, wire=self.name)

    def encode_answer(self, answer: Answer) -> bytes:
        return client.encode_answer(answer, batch=self.batch)

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        return client.rewrite(admitted, model=model, batch=self.batch)

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )


class GeminiBatchEmbed(_SpokenByClients):
    """https://ai.google.dev/api/embeddings#method:-models.batchembedcontents"""

    name = "gemini_batch_embed"
    batch = True

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        asked = self._asked(request, drop_unsupported)
        model = resource_name(asked.model)
        requests = [{"model": model, **_content(asked, item, at)} for at, item in enumerate(asked.inputs)]
        return msgspec.json.encode({"requests": requests})

    def _vectors(self, value: Json) -> Iterator[Vector]:
        entries = value.get("embeddings")
        if not isinstance(entries, list):
            raise MalformedAnswer("The provider's answer has no 'embeddings'.")
        return (_values(entry) for entry in entries)


class GeminiEmbed(_SpokenByClients):
    """https://ai.google.dev/api/embeddings#method:-models.embedcontent"""

    name = "gemini_embed"
    batch = False

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        """Raises Unsupported for more than one input."""
        asked = self._asked(request, drop_unsupported)
        if len(asked.inputs) != 1:
            raise Unsupported("This model takes one input a call.", param="input")
        return msgspec.json.encode(_content(asked, asked.inputs[0], 0))

    def _vectors(self, value: Json) -> Iterator[Vector]:
        yield _values(value.get("embedding"))


class VertexPredict(_GeminiEmbed):
    """https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api"""

    name = "vertex_predict"

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        """Raises Unsupported for anything but text."""
        asked = self._asked(request, drop_unsupported)
        instances = []
        for at, item in enumerate(asked.inputs):
            if item.text is None:
                raise unsupported("anything but one text", f"input[{at}]")
            task = {"task_type": _TASKS[asked.purpose]} if asked.purpose else {}
            own = {_INSTANCE[name]: value for name, value in _own_of(asked, at).items() if name in _INSTANCE}
            instances.append({"content": item.text, **task, **own})
        size = {"parameters": {"outputDimensionality": asked.dimensions}} if asked.dimensions is not None else {}
        return msgspec.json.encode({"instances": instances, **size})

    def _can_say(self, asked: EmbedRequest, name: str) -> bool:
        return asked.wire in _OWN and name.rpartition(".")[2] in _INSTANCE

    def _vectors(self, value: Json) -> Iterator[Vector]:
        entries = value.get("predictions")
        if not isinstance(entries, list):
            raise MalformedAnswer("The provider's answer has no 'predictions'.")
        return (_values(entry.get("embeddings") if isinstance(entry, dict) else None) for entry in entries)


def _content(asked: EmbedRequest, item: EmbedInput, at: int) -> Json:
    parts: list[Json] = []
    for part in item.parts:
        if isinstance(part, TextPart):
            parts.append({"text": part.text})
        elif part.data:
            parts.append({"inlineData": {"mimeType": part.media_type or "image/png", "data": part.data}})
        else:
            raise unsupported("an image by its URL", f"input[{at}]")
    body: Json = {"content": {"parts": parts}}
    if asked.purpose:
        body["taskType"] = _TASKS[asked.purpose]
    if asked.dimensions is not None:
        body["outputDimensionality"] = asked.dimensions
    return body | _own_of(asked, at)


def _own_of(asked: EmbedRequest, at: int) -> Json:
    """What only Google knows of input number `at`: where there are several, their fields are named by their place."""
    if asked.wire not in _OWN:
        return {}
    if len(asked.inputs) == 1:
        return asked.extra
    place = f"requests[{at}]."
    return {name.removeprefix(place): value for name, value in asked.extra.items() if name.startswith(place)}


def _values(entry: Any) -> Vector:
    return vector_of(entry.get("values") if isinstance(entry, dict) else None)


def _usage_of(value: Json, body: bytes) -> Usage:
    """`usageMetadata`; older models of the Gemini API report none, and `predict` counts each input by itself."""
    if isinstance(value.get("usageMetadata"), dict):
        return _metadata(value["usageMetadata"], decode_exact(body)["usageMetadata"])
    if isinstance(value.get("predictions"), list):
        return _statistics(value["predictions"])
    return NO_USAGE


def _metadata(raw: Json, exact: Any) -> Usage:
    counts = Counts(exact)
    tokens = counts.first(("promptTokenCount",), ("totalTokenCount",))
    if tokens is None:
        return Usage(raw=raw, flags=counts.flags)
    totals: dict[str, Any] = {"input": tokens}
    left = tokens
    # The batch method spells it "promptTokenDetails", and what is in there is billed as text: it is told by a flag.
    if counts.raw.get("promptTokensDetails") is None and _mixed(counts.raw.get("promptTokenDetails")):
        counts.flag("unmetered:promptTokenDetails")
    details = counts.raw.get("promptTokensDetails")
    for detail in details if isinstance(details, list) else ():
        meter = _MODALITIES.get(string(detail.get("modality"))) if isinstance(detail, dict) else None
        if meter:
            part = counts.within(Counts(detail).get("tokenCount") or 0, left, meter)
            totals[meter] = totals.get(meter, 0) + part
            left -= part
    return Usage(totals=totals, source="reported", raw=raw, flags=counts.flags)


def _mixed(details: Any) -> bool:
    """Is anything but text among them?"""
    listed = details if isinstance(details, list) else []
    return any(isinstance(detail, dict) and detail.get("modality") in _MODALITIES for detail in listed)


def _statistics(predictions: list[Any]) -> Usage:
    """The sum over the inputs; one that is not counted leaves the sum a part of the truth."""
    counted: list[int | None] = []
    flags: tuple[str, ...] = ()
    for entry in predictions:
        counts = Counts(entry)
        counted.append(counts.get("embeddings", "statistics", "token_count"))
        flags += counts.flags
    known = [number for number in counted if number is not None]
    if not known:
        return Usage(flags=tuple(dict.fromkeys(flags)))
    return Usage(
        totals={"input": sum(known)},
        source="reported" if len(known) == len(counted) else "partial",
        raw={"token_counts": known},
        flags=tuple(dict.fromkeys(flags)),
    )


BATCH = GeminiBatchEmbed()
SINGLE = GeminiEmbed()
PREDICT = VertexPredict()
