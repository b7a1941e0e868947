"""What differs among the servers that speak OpenAI's embeddings wire, as data."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class EmbedDialect(Struct, frozen=True):
    """The default is a server that knows every field of OpenAI's own API.

    `dimensions_field`: the name of the vectors' length. `knows_float`: may `encoding_format` say "float"; where not,
    it is left out, since numbers are what every server sends unasked. `refused`: fields that the server refuses.
    `purposes`: unified purpose -> its word in `input_type`; empty where the server has no such field.
    """

    dimensions_field: Literal["dimensions", "output_dimension"] = "dimensions"
    knows_float: bool = True
    refused: tuple[str, ...] = ()
    purposes: dict[str, str] = {}


OPENAI = EmbedDialect()
MISTRAL = EmbedDialect(dimensions_field="output_dimension", refused=("user",))
VOYAGE = EmbedDialect(
    dimensions_field="output_dimension",
    knows_float=False,
    refused=("user",),
    purposes={"query": "query", "document": "document"},
)
