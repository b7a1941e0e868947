"""Streams of every wire to test against: the recorded ones, and one that each wire's own writer makes."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from providers import eventstream, registry
from providers.adapters.base import Adapter, ProviderConfig
from providers.errors import Unsupported
from providers.sse import ServerEvent, encode
from providers.unified import (
    Event,
    Finished,
    PartDelta,
    PartStarted,
    PartStopped,
    ReasoningPart,
    Started,
    Stopped,
    TextPart,
    ToolCallPart,
    Usage,
)
from providers.wire.base import Admitted, Operation, Wire, stream_decoder
from providers.wire.unstreamed import ProviderSide
from tests.providers.adapters.accounts import service_account
from tests.providers.wire.test_cohere_stream import CALLS, TALK
from tests.recordings import exchanges
from tests.upstream.recorded import body_of

# The recorded APIs that are streamed on a wire of ours: its name, and what an adapter is asked for to speak it.
APIS: dict[str, tuple[str, Operation]] = {
    "chat": ("openai_chat", "chat"),
    "responses": ("openai_responses", "responses"),
    "anthropic.messages": ("anthropic_messages", "chat"),
    "gemini.generate": ("gemini", "chat"),
    "bedrock.converse": ("bedrock_converse", "chat"),
    "cohere.v2.chat": ("cohere_chat", "chat"),
    "ollama.chat": ("ollama_chat", "chat"),
}
FORMATS = ("sse", "eventstream", "json_stream", "ndjson")
ADMITTED = Admitted(model="asked-for", stream=True, fields={}, wants_usage=True)

TOTALS: dict[str, int] = {"input": 20, "output": 9}
EVENTS: tuple[Event, ...] = (
    Started(id="s1", model="served", created=7),
    PartStarted(0, ReasoningPart()),
    PartDelta(0, text="h\u00f6m…"),
    PartStopped(0),
    PartStarted(1, TextPart("")),
    PartDelta(1, text="It "),
    PartDelta(1, text="balances \U0001f600"),
    PartStopped(1),
    PartStarted(2, ToolCallPart(id="c1", name="add", arguments="")),
    PartDelta(2, text='{"a"'),
    PartDelta(2, text=":1}"),
    PartStopped(2),
    Stopped("tool_calls"),
    Finished(Usage(totals=dict(TOTALS), source="reported")),
)  # fmt: skip
TOLD = {"type": "tomorrow", "novelty": {"text": "new", "usage": 5}}
# An event that nobody knows yet, in the frame of each wire.
UNKNOWN: dict[str, bytes] = {
    "openai_chat": encode(data=b'{"object":"chat.tomorrow","novelty":{"text":"new"}}'),
    "anthropic_messages": encode(data=msgspec.json.encode(TOLD), event="tomorrow"),
    "openai_responses": encode(data=msgspec.json.encode(TOLD | {"type": "response.tomorrow"})),
    "gemini": encode(data=b'{"novelty":{"text":"new"}}'),
    "cohere_chat": encode(data=msgspec.json.encode(TOLD), event="tomorrow"),
    "bedrock_converse": eventstream.encode_event(event="tomorrow", data=msgspec.json.encode(TOLD)),
    "ollama_chat": b'{"novelty":{"text":"new"}}\n',
}
COMMENTS = (b": ping\n\n", b'event: ping\ndata: {"type": "ping"}\n\n', b"\n\n", b":\n\n")


class Stream(Struct, frozen=True):
    """`body` as it came over the line, and the wire of the adapter that would read it."""

    name: str
    wire: Wire
    body: bytes


@functools.cache
def adapters() -> dict[str, Adapter]:
    """Each adapter of the registry, set up as far as its wires need."""
    token_uri = "http://127.0.0.1:9/token"
    return {
        name: registry.build(
            ProviderConfig(
                name=name,
                adapter=name,
                base_url="http://127.0.0.1:9/v1",
                credential=service_account(token_uri) if name == "vertex" else "sk-planted-0123456789",
                allow_plain_http=True,
                allow_private_address=True,
            )
        )
        for name in registry.names()
    }


def wires() -> list[tuple[str, Wire]]:
    """Every wire of the registry that streams, with the name of the first adapter that has it so."""
    found: dict[str, tuple[str, Wire]] = {}
    for name, adapter in adapters().items():
        for operation in ("chat", "responses"):
            wire = _wire(adapter, operation)  # type: ignore[arg-type]  # two of them
            if wire is not None:
                found.setdefault(f"{wire.name}/{getattr(wire, 'dialect', '')}", (f"{wire.name}-of-{name}", wire))
    return list(found.values())


def _wire(adapter: Adapter, operation: Operation) -> Wire | None:
    try:
        return adapter.wire_for(operation)
    except Unsupported:
        return None


def wire_of(provider: str, *, name: str, operation: Operation) -> Wire:
    """The wire of the provider's own adapter; of the first one that speaks it where there is none."""
    own = adapters().get(provider)
    for adapter in (own, *adapters().values()):
        wire = _wire(adapter, operation) if adapter is not None else None
        if wire is not None and wire.name == name:
            return wire
    raise AssertionError(f"No adapter speaks {name!r}.")


def recorded() -> Iterator[Stream]:
    for exchange in exchanges(failed=False, where=lambda item: item["response_format"] in FORMATS):
        if exchange["api"] in APIS:
            name, operation = APIS[exchange["api"]]
            wire = wire_of(exchange["provider"], name=name, operation=operation)
            yield Stream(f"{exchange['provider']}-{exchange['model']}-{exchange['id']}", wire, body_of(exchange))


def written() -> Iterator[Stream]:
    for name, wire in wires():
        if not isinstance(wire, ProviderSide):
            writer = wire.stream_writer(admitted=ADMITTED)
            yield Stream(name, wire, b"".join(map(writer.write, EVENTS)) + writer.finish())
    cohere = wire_of("cohere", name="cohere_chat", operation="chat")
    yield Stream("cohere-talk", cohere, TALK)
    yield Stream("cohere-calls", cohere, CALLS)


def frames(wire: Wire, pieces: list[bytes]) -> list[ServerEvent]:
    """The frames of a stream whose bytes arrive in `pieces`."""
    decoder = stream_decoder(wire)
    return [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.end()
