"""Where an answer came from: `groundingMetadata` and the older `citationMetadata` -> citations, and billed searches.

Segments are counted in bytes of UTF-8 within one part; a citation counts characters of the whole text.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from providers.unified import Json
from providers.wire.gemini import models
from providers.wire.gemini.names import obj, objects, string


class Searches:
    """The billed look-ups of one answer, gathered over its candidates and the chunks of its stream."""

    def __init__(self) -> None:
        # In the order of appearance; a query that is repeated is billed once.
        self._queries: dict[str, None] = {}
        self._maps = False

    def note(self, candidate: Json) -> None:
        metadata = obj(candidate.get("groundingMetadata"))
        for name in ("webSearchQueries", "imageSearchQueries"):
            queries = metadata.get(name)
            for query in queries if isinstance(queries, list) else ():
                if isinstance(query, str) and query:
                    self._queries[query] = None
        if metadata.get("googleMapsWidgetContextToken") or any(
            "maps" in chunk for chunk in objects(metadata.get("groundingChunks"))
        ):
            self._maps = True

    def web(self, model: str) -> int:
        """Billed web searches of an answer by `model`."""
        count = len(self._queries)
        return count if models.bills_each_search(model) else min(count, 1)

    @property
    def maps(self) -> int:
        """A prompt grounded in maps is billed once."""
        return int(self._maps)


class Text(Struct, frozen=True):
    """A text part of a candidate: its number among all parts, and the characters of text before it."""

    number: int
    text: str
    offset: int


def citations(candidate: Json, texts: list[Text]) -> list[Json]:
    """The citations of a candidate whose text stands in `texts`."""
    metadata = obj(candidate.get("groundingMetadata"))
    sources = [_source(chunk) for chunk in objects(metadata.get("groundingChunks"))]
    supports = objects(metadata.get("groundingSupports"))
    found = [citation for support in supports for citation in _supported(support, sources, texts)]
    if not supports:
        found = [source for source in sources if source is not None]
    return found + _recited(obj(candidate.get("citationMetadata")), texts)


def _source(chunk: Json) -> Json | None:
    for kind in ("web", "maps", "retrievedContext", "image"):
        inner = obj(chunk.get(kind))
        url = string(inner.get("uri")) or string(inner.get("sourceUri"))
        if url:
            return {"type": "url_citation", "url": url, "title": string(inner.get("title"))}
    return None


def _supported(support: Json, sources: list[Json | None], texts: list[Text]) -> list[Json]:
    segment = obj(support.get("segment"))
    span = _span(segment, texts, number=_index(segment.get("partIndex")))
    quoted = {"cited_text": segment["text"]} if isinstance(segment.get("text"), str) else {}
    found = []
    indices = support.get("groundingChunkIndices")
    for index in indices if isinstance(indices, list) else ():
        source = sources[index] if isinstance(index, int) and 0 <= index < len(sources) else None
        if source is not None:
            found.append({**source, **span, **quoted})
    return found


def _recited(metadata: Json, texts: list[Text]) -> list[Json]:
    """Gemini says `citationSources`, Vertex says `citations`."""
    found = []
    for source in objects(metadata.get("citationSources")) + objects(metadata.get("citations")):
        if string(source.get("uri")):
            span = _span(source, texts, number=None)
            found.append({"type": "url_citation", "url": source["uri"], "title": string(source.get("title")), **span})
    return found


def _span(segment: Json, texts: list[Text], *, number: int | None) -> Json:
    """The characters that a segment covers: of the part `number`, or of the whole text; {} for one out of range."""
    part = next((text for text in texts if text.number == number), None)
    if part is None and number:
        return {}
    text, offset = ("".join(part.text for part in texts), 0) if part is None else (part.text, part.offset)
    data = text.encode("utf-8", "surrogatepass")
    start, end = _index(segment.get("startIndex")), _index(segment.get("endIndex"))
    if not 0 <= start <= end <= len(data) or not end:
        return {}
    return {"start_index": offset + _characters(data[:start]), "end_index": offset + _characters(data[:end])}


def _characters(data: bytes) -> int:
    return len(data.decode("utf-8", "ignore"))


def _index(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
