"""A rerank body in Cohere's shape: admitted, rewritten for pass-through, and <-> the unified RerankRequest."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from providers.errors import InvalidRequest, Unsupported
from providers.rerank import RerankRequest
from providers.unified import Json, Request
from providers.wire.base import Admitted, json_object
from providers.wire.openai_chat.parts import string
from providers.wire.openai_embeddings.request import own_extra
from providers.wire.unstreamed import admitted_fields, raw, refuse_stream

NAME = "cohere_rerank"
# A search unit is one query with up to 100 documents, and a document is cut into pieces of 500 tokens, each of which
# counts as one: https://docs.cohere.com/docs/rerank-understanding-the-results. Two bytes a token are the least.
DOCUMENTS_PER_UNIT = 100
BYTES_PER_PIECE = 1000


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | dict[str, Any]], Meta(min_length=1, max_length=10_000)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = None
    stream: bool | None = None
    metadata: dict[str, str] | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)
_RAW_DOCUMENTS = msgspec.json.Decoder(list[Raw])
_READ = frozenset(
    {"model", "query", "documents", "top_n", "return_documents", "stream", "metadata", "drop_unsupported"}
)


def admit(body: bytes) -> Admitted:
    """Raises InvalidRequest, `param` the JSON path of what is wrong."""
    known, fields = admitted_fields(body, _BODY)
    if known.stream:
        refuse_stream()
    pieces = sum(max(1, -(-len(bytes(item)) // BYTES_PER_PIECE)) for item in _RAW_DOCUMENTS.decode(fields["documents"]))
    return Admitted(
        model=known.model,
        stream=False,
        fields=fields,
        message_count=len(known.documents),
        metadata=known.metadata or {},
        drop_unsupported=bool(known.drop_unsupported),
        operation="rerank",
        fees={"search_units": -(-pieces // DOCUMENTS_PER_UNIT)},
    )


def rewrite(admitted: Admitted, *, model: str) -> bytes:
    """The client's fields with the upstream model; all else as it came.

    No server knows `metadata` here: it is the gateway's own, and stands in the books.
    """
    fields = {name: value for name, value in admitted.fields.items() if name not in ("drop_unsupported", "metadata")}
    fields["model"] = raw(model)
    return msgspec.json.encode(fields)


def decode_request(body: bytes) -> RerankRequest:
    """Raises InvalidRequest for what `admit` refuses, and for a document that has no text."""
    admitted = admit(body)
    known = _BODY.decode(body)
    fields = json_object(body)
    return RerankRequest(
        model=admitted.model,
        query=known.query,
        documents=tuple(_document(item, at) for at, item in enumerate(known.documents)),
        top_n=known.top_n,
        return_documents=known.return_documents,
        metadata=dict(admitted.metadata),
        extra={key: item for key, item in fields.items() if key not in _READ and item is not None},
        wire=NAME,
    )


def _document(item: str | Json, at: int) -> str:
    """A text, or an object with one."""
    if isinstance(item, str):
        return item
    text = item.get("text")
    if not isinstance(text, str):
        path = f"$.documents[{at}].text"
        raise InvalidRequest(f"A document is a text or an object with a 'text', at {path!r}.", param=path)
    return string(text)


def encode_request(request: Request, *, drop_unsupported: bool) -> bytes:
    """Raises Unsupported(param) for what this wire cannot say, unless `drop_unsupported`."""
    asked = rerank_request(request)
    body: Json = {"model": asked.model, "query": asked.query, "documents": list(asked.documents)}
    if asked.top_n is not None:
        body["top_n"] = asked.top_n
    if asked.return_documents is not None:
        body["return_documents"] = asked.return_documents
    body.update(own_extra(asked, wire=NAME, drop_unsupported=drop_unsupported))
    return msgspec.json.encode(body)


def rerank_request(request: Request) -> RerankRequest:
    """The request of a rerank wire. Raises Unsupported for a chat request."""
    if not isinstance(request, RerankRequest):
        raise Unsupported("This model ranks documents: it cannot be sent messages.", param="model")
    return request
