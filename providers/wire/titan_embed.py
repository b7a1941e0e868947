"""Amazon Titan's text embeddings, the body of a Bedrock InvokeModel call. One input a call.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html
"""

from __future__ import annotations

from typing import Any

import msgspec

from providers.counts import Counts, decode_exact
from providers.embeddings import EmbedAnswer
from providers.errors import Unsupported
from providers.unified import Json, Request, Usage
from providers.wire.openai_chat.parts import unsupported
from providers.wire.openai_embeddings.answer import vector_of
from providers.wire.openai_embeddings.request import embed_request, own_extra, refuse_purpose
from providers.wire.unstreamed import ProviderSide, answer_object


class TitanEmbed(ProviderSide):
    name = "titan_embed"

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        """The model's name is not in it: it stands in the URL. Raises Unsupported for anything but one text."""
        asked = embed_request(request)
        text = asked.inputs[0].text if len(asked.inputs) == 1 else None
        if text is None:
            raise Unsupported("This model takes one text a call.", param="input")
        if asked.user and not drop_unsupported:
            raise unsupported("'user'", "user")
        refuse_purpose(asked, drop_unsupported=drop_unsupported)
        body: Json = {"inputText": text}
        if asked.dimensions is not None:
            body["dimensions"] = asked.dimensions
        body.update(own_extra(asked, wire=self.name, drop_unsupported=drop_unsupported))
        return msgspec.json.encode(body)

    def decode_answer(self, body: bytes) -> EmbedAnswer:
        value = answer_object(body)
        by_type = value.get("embeddingsByType")
        vector: Any = value.get("embedding") or (by_type.get("float") if isinstance(by_type, dict) else None)
        return EmbedAnswer(id="", model="", vectors=(vector_of(vector),), usage=_usage_of(value, body), wire=self.name)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return _usage_of(answer_object(body), body), ""


def _usage_of(value: Json, body: bytes) -> Usage:
    counts = Counts(decode_exact(body))
    tokens = counts.get("inputTextTokenCount")
    if tokens is None:
        return Usage(flags=counts.flags)
    return Usage(
        totals={"input": tokens},
        source="reported",
        raw={"inputTextTokenCount": value["inputTextTokenCount"]},
        flags=counts.flags,
    )


WIRE = TitanEmbed()
