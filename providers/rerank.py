"""Rerank in unified form: a query and documents in the place of a chat's messages, scores in that of its choices."""

from __future__ import annotations

from msgspec import Struct

from providers.unified import Answer, Choice, Message, Request


class RerankRequest(Request, frozen=True, kw_only=True):
    """`top_n`: how many results to give at most; None: all. `return_documents`: repeat each result's text."""

    messages: tuple[Message, ...] = ()
    query: str
    documents: tuple[str, ...]
    top_n: int | None = None
    return_documents: bool | None = None


class Ranked(Struct, frozen=True):
    """`index` is the place of the document in the request; `text` is empty where it is not repeated."""

    index: int
    score: float
    text: str = ""


class RerankAnswer(Answer, frozen=True, kw_only=True):
    """The most relevant document first."""

    choices: tuple[Choice, ...] = ()
    results: tuple[Ranked, ...]
