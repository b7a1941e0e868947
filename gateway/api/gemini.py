"""POST /v1beta/models/NAME:METHOD: Gemini's wire, for Google's own clients.

The path names the model and the method, and the query whether a stream is one of events; the wire wants both in the
body. The key may stand in the query, too: it is taken out of it before anything else can see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, urlencode

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from gateway.api.surface import SurfaceView
from gateway.errors import ApiError
from providers import sse
from providers.wire import gemini, gemini_embed
from providers.wire.base import Wire
from providers.wire.gemini.admission import placed

# A blank line, which no client takes for anything: Google's choke on comments.
_AWAKE = b"\n"


class Method(NamedTuple):
    wire: Wire
    surface: str
    stream: bool = False


METHODS = {
    "generateContent": Method(gemini.WIRE, "generate_content"),
    "streamGenerateContent": Method(gemini.WIRE, "generate_content", stream=True),
    "countTokens": Method(gemini.COUNT, "count_tokens"),
    "embedContent": Method(gemini_embed.SINGLE, "embed_content"),
    "batchEmbedContents": Method(gemini_embed.BATCH, "embed_content"),
}


class GeminiView(SurfaceView):
    wire: ClassVar[Wire] = gemini.WIRE
    surface: ClassVar[str] = "generate_content"

    @extend_schema(exclude=True)
    def post(self, request: Request, **place: str) -> HttpResponseBase:
        """`place` is what the path says: `model`, and a `method` of METHODS."""
        meta = request._request.META
        query = take_key(meta)
        method = METHODS[place["method"]]
        self.wire, self.surface = method.wire, method.surface  # type: ignore[misc]  # each method has its own
        self._model, self._streams = place["model"], method.stream
        as_events = self._streams and _wants_events(query)
        answer = super().post(request)
        if isinstance(answer, StreamingHttpResponse):
            shape = events_alone if as_events else json_array
            answer.streaming_content = shape(answer.streaming_content)  # type: ignore[arg-type]  # not asynchronous
            answer["Content-Type"] = "text/event-stream" if as_events else "application/json"
        return answer

    def read(self, meta: dict[str, Any]) -> bytes:
        return placed(super().read(meta), model=self._model, stream=self._streams)


class NoGeminiMethodView(SurfaceView):
    """Whatever else Google's API has at addresses that begin like ours."""

    wire: ClassVar[Wire] = gemini.WIRE
    surface: ClassVar[str] = "generate_content"

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        take_key(request.META)
        self.request = request
        known = ", ".join(METHODS)
        error = ApiError(
            "not_found", f"There is no {request.path[:200]!r} here: POST models/NAME:METHOD ({known}), GET models."
        )
        return self.refusal(error, request_id=None)


def take_key(meta: dict[str, Any]) -> dict[str, str]:
    """The query, without the `key` that Google's clients may put there: it becomes the header that it stands for."""
    text = meta.get("QUERY_STRING", "")
    pairs = parse_qsl(text, keep_blank_values=True) if text else []
    query = dict(pairs)
    key = query.pop("key", None)
    if key is not None:
        meta["QUERY_STRING"] = urlencode([pair for pair in pairs if pair[0] != "key"])
        meta.setdefault("HTTP_X_GOOG_API_KEY", key)
        for name in ("REQUEST_URI", "RAW_URI"):
            if name in meta:
                meta[name] = str(meta[name]).partition("?")[0]
    return query


def _wants_events(query: dict[str, str]) -> bool:
    """`alt=sse`, or a JSON array where nothing is said. Raises ApiError for a form that is neither."""
    alt = query.get("alt") or query.get("$alt") or "json"
    if alt not in ("sse", "json"):
        raise ApiError("invalid_request", f"alt={alt[:40]!r} is no form of a stream here: sse or json.", param="alt")
    return alt == "sse"


def events_alone(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A stream without its comments; where there is nothing else, a blank line in their place."""
    for events in _events(chunks):
        yield b"".join(event.raw for event in events) or _AWAKE


def json_array(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The events of a stream as the entries of one JSON array, as they come."""
    before = b"["
    for events in _events(chunks):
        entries = b",\r\n".join(event.data for event in events)
        yield before + entries if entries else _AWAKE
        before = b",\r\n" if entries else before
    yield b"[]" if before == b"[" else b"]"


def _events(chunks: Iterable[bytes]) -> Iterator[list[sse.ServerEvent]]:
    """The events with data that each chunk completes, and those that are left at the end."""
    decoder = sse.Decoder()
    for chunk in chunks:
        yield [event for event in decoder.feed(chunk) if event.data]
    rest = [event for event in decoder.end() if event.data]
    if rest:
        yield rest
