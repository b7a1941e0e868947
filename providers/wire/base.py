"""What every wire codec offers. A wire is pure functions over JSON and event bytes: no I/O, no Django, no money.

A wire has two sides. Its client side reads a client's request and writes the answer (`admit`, `decode_request`,
`encode_answer`, `stream_writer`, `encode_error`); its provider side does the reverse (`encode_request`,
`decode_answer`, `stream_reader`, `decode_error`). Where the client's wire is the provider's wire, nothing is
translated: `rewrite` changes the few fields that billing needs, `read_usage` and `stream_meter` watch the bytes go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec
from msgspec import Struct

from providers import sse
from providers.errors import ProviderError
from providers.sse import ServerEvent
from providers.unified import Answer, Event, Request, Usage
from providers.wire.forms import Form

Verdict = Literal["forward", "drop", "hold", "last"]
# What can be asked of a provider: an adapter has a wire for each that it offers (`Adapter.wire_for`).
# Of "responses" only where it has an endpoint for them; else it is asked for a chat (`Adapter.operation_for`).
Operation = Literal[
    "chat", "responses", "completions", "embeddings", "rerank", "count_tokens",
    "images", "image_edits", "transcriptions", "translations", "speech",
]  # fmt: skip


class Admitted(Struct, frozen=True):
    """What admission must know of a client's body, read in one pass; `fields` is every top-level field, untouched."""

    model: str
    stream: bool
    fields: dict[str, msgspec.Raw]
    message_count: int = 0
    # The client's own cap for ONE choice; None when it named none.
    max_output_tokens: int | None = None
    n: int = 1
    # Stream only: did the client ask for the usage event itself.
    wants_usage: bool = True
    # Inline and linked media in the messages, for the input bound: kind ("image", "file", "audio") -> how many.
    media: dict[str, int] = {}
    # Bytes of inline base64 media in the body: they are bytes of the request but not of text.
    media_bytes: int = 0
    # True when a server-side tool (web search, code) may add input the client did not send.
    server_tools: bool = False
    service_tier: str = ""
    user: str = ""
    metadata: dict[str, str] = {}
    drop_unsupported: bool = False
    operation: Operation = "chat"
    # The most that may be counted of other meters than tokens, for the bound: {"search_units": 2}.
    fees: dict[str, int] = {}
    # The body, where it is a form; `fields` has its texts then.
    form: Form | None = None
    # Tokens of the input at most, where the wire knows better than a table by bytes.
    input_bound: int | None = None
    # The price variant that was asked for, where the request leaves no choice: "hd-1024x1792".
    variant: str = ""
    # The answer's stream is the bytes of a file: nothing may be put between them.
    raw_stream: bool = False


class StreamMeter(Protocol):
    """Watches a provider's stream on its way through: `see` each event in order.

    "drop": the client did not ask for this event. "last": the event that ends the stream; the caller settles the call
    before it forwards it. "hold": the answer is whole with it, though more may follow: it goes with what comes next, or
    with the end. `complete` is True once the provider said the stream is over as meant.
    """

    def see(self, event: ServerEvent) -> Verdict: ...
    @property
    def usage(self) -> Usage: ...  # final when complete; else what was reported so far (source "partial" or "none")
    @property
    def complete(self) -> bool: ...
    @property
    def output_bytes(self) -> int: ...  # UTF-8 bytes of text, reasoning and tool arguments seen: for an estimate
    @property
    def model(self) -> str: ...  # the model the provider says it served


class StreamReader(Protocol):
    """A provider's stream -> unified events. Raises a ProviderError on an error event or malformed data."""

    def feed(self, event: ServerEvent) -> list[Event]: ...
    def end(self) -> list[Event]: ...  # the bytes ended; raises StreamInterrupted unless the stream was complete
    @property
    def usage(self) -> Usage: ...
    @property
    def complete(self) -> bool: ...
    @property
    def output_bytes(self) -> int: ...
    @property
    def model(self) -> str: ...


class StreamWriter(Protocol):
    """Unified events -> the client's stream bytes. `finish` gives the last bytes ([DONE], message_stop)."""

    def write(self, event: Event) -> bytes: ...
    def finish(self) -> bytes: ...


class Wire(Protocol):
    name: str
    content_type: str

    # --- client side ---
    def admit(self, body: bytes) -> Admitted:
        """Raises InvalidRequest whose param is the JSON path of what is wrong ("$.messages[0].role")."""

    def decode_request(self, body: bytes) -> Request: ...
    def encode_answer(self, answer: Answer) -> bytes: ...
    def stream_writer(self, *, admitted: Admitted) -> StreamWriter: ...
    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        """A whole error body in this wire's shape, always naming the request or call id."""

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        """An error after the stream began: the event bytes to send before the connection closes."""

    # --- provider side ---
    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        """Raises Unsupported(param) for what this wire cannot say, unless `drop_unsupported`."""

    def decode_answer(self, body: bytes) -> Answer:
        """Raises MalformedAnswer."""

    def stream_reader(self) -> StreamReader: ...
    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError: ...

    # --- pass-through ---
    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        """The client's body with the upstream model, the cap if given, and what billing needs; all else untouched."""

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        """Usage and served model of a whole answer. Never raises for odd counts; MalformedAnswer for no JSON object."""

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter: ...


@runtime_checkable
class AnswersAsAsked(Protocol):
    """A client's wire whose answer takes a form that the request names (vectors as base64), besides `encode_answer`."""

    def encode_answer_as_asked(self, answer: Answer, *, admitted: Admitted) -> bytes: ...


@runtime_checkable
class CountsInHeaders(Protocol):
    """A provider's wire whose whole answers may tell their counts in headers alone."""

    def usage_of_headers(self, headers: Mapping[str, str]) -> Usage: ...


class StreamDecoder(Protocol):
    """Bytes of a stream -> frames, whatever frames them: `raw` of all, in order, are the bytes that were fed (or, where
    the client's frames are others, what a client of the wire reads)."""

    def feed(self, chunk: bytes) -> list[ServerEvent]: ...
    def end(self) -> list[ServerEvent]: ...


@runtime_checkable
class FramesItself(Protocol):
    """A wire whose streams are no server-sent events."""

    def stream_decoder(self) -> StreamDecoder: ...


def stream_decoder(wire: Wire) -> StreamDecoder:
    """The decoder of a provider's stream on `wire`."""
    return wire.stream_decoder() if isinstance(wire, FramesItself) else sse.Decoder()


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`, or ValueError."""
    value = msgspec.json.decode(body)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
