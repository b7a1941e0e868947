"""What this wire can say comes back as it was. The model and the choice to stream are the path's, not the body's."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from providers.sse import Decoder
from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    Event,
    FilePart,
    Finished,
    ImagePart,
    Message,
    OpaquePart,
    OutputFormat,
    Part,
    PartDelta,
    PartStarted,
    PartStopped,
    Reasoning,
    ReasoningPart,
    Request,
    Started,
    Stopped,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    Usage,
)
from providers.wire import openai_chat
from providers.wire.base import Admitted
from providers.wire.gemini import WIRE
from providers.wire.gemini.names import NAME

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
NAMES = st.text("abcdefgh", min_size=1, max_size=6)
BASE64 = st.text("ABCDabcd0123", min_size=4, max_size=8)
OBJECTS = st.dictionaries(NAMES, st.integers(0, 9) | WORDS | st.booleans(), min_size=1, max_size=2)
URLS = NAMES.map(lambda name: f"https://host/{name}")
TEXTS = st.builds(TextPart, text=WORDS)
IMAGES = st.builds(ImagePart, data=BASE64, media_type=st.just("image/png")) | st.builds(
    ImagePart, url=URLS, media_type=st.just("image/webp")
)
FILES = st.builds(FilePart, data=BASE64, media_type=st.sampled_from(["application/pdf", "text/plain", "video/mp4"]))
FILES |= st.builds(FilePart, url=URLS, media_type=st.sampled_from(["application/pdf", "audio/mp3", ""]))
AUDIO = st.builds(AudioPart, data=BASE64, format=st.sampled_from(["wav", "mp3"]))
OPAQUE = st.builds(OpaquePart, wire=st.just(NAME), value=OBJECTS.map(lambda value: {"executableCode": value}))
ARGUMENTS = st.sampled_from(["{}", '{"city":"Oslo"}', '{"n":[1,2.5,null]}'])
THOUGHTS = st.builds(ReasoningPart, text=WORDS, signature=st.just("") | BASE64)


def several(parts: st.SearchStrategy[Any], low: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(parts, min_size=low, max_size=3)


@st.composite
def said(draw: st.DrawFn) -> tuple[Part, ...]:
    """A model's turn: thoughts, texts and calls in any order, some with the signature of the thought before them."""
    parts: list[Part] = []
    for part in draw(several(TEXTS | THOUGHTS | OPAQUE | st.builds(ToolCallPart, NAMES, NAMES, ARGUMENTS), 1)):
        if isinstance(part, TextPart | ToolCallPart) and draw(st.booleans()):
            parts.append(ReasoningPart(signature=draw(BASE64)))
        parts.append(part)
    return (*parts, ReasoningPart(signature="c2ln")) if draw(st.booleans()) else tuple(parts)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    system = st.builds(Message, st.just("system"), several(TEXTS, 1).map(tuple))
    user = st.builds(Message, st.just("user"), several(TEXTS | IMAGES | FILES | AUDIO | OPAQUE).map(tuple))
    messages = [*draw(st.lists(system, max_size=1)), draw(user)]
    for at, parts in enumerate(draw(st.lists(said(), max_size=2))):
        if at and messages[-1].role == "assistant":
            # What a model said in a row is one turn.
            messages.append(draw(user))
        messages.append(Message("assistant", parts))
        for call in (part for part in parts if isinstance(part, ToolCallPart)):
            shown: list[Any] = [TextPart(draw(WORDS)), *draw(st.lists(IMAGES, max_size=1))]
            messages.append(Message("tool", (ToolResultPart(call.id, tuple(shown), draw(st.booleans())),)))
    return tuple(messages)


SETTINGS = {
    "max_output_tokens": st.none() | st.integers(1, 9000),
    "temperature": st.none() | st.floats(0, 2),
    "top_p": st.none() | st.floats(0, 1),
    "top_k": st.none() | st.integers(1, 50),
    "stop": st.lists(WORDS, max_size=2).map(tuple),
    "tool_choice": st.none()
    | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"]))
    | st.builds(ToolChoice, st.just("named"), NAMES),
    "output_format": st.none()
    | st.just(OutputFormat("json_object"))
    | st.builds(OutputFormat, st.just("json_schema"), schema=OBJECTS),
    "reasoning": st.none()
    | st.builds(Reasoning, effort=st.sampled_from(["minimal", "low", "medium", "high"]))
    | st.builds(Reasoning, budget_tokens=st.integers(1, 9999))
    | st.builds(Reasoning, budget_tokens=st.integers(1, 9999), hidden=st.booleans())
    | st.sampled_from([Reasoning(enabled=False), Reasoning(adaptive=True)]),
    "n": st.integers(1, 3),
    "seed": st.none() | st.integers(-9, 9),
    "presence_penalty": st.none() | st.floats(-2, 2),
    "frequency_penalty": st.none() | st.floats(-2, 2),
    "logprobs": st.sampled_from([None, True, False]),
    "top_logprobs": st.none() | st.integers(0, 20),
    "service_tier": st.sampled_from(["", "flex", "standard"]),
    "metadata": st.dictionaries(NAMES, WORDS, max_size=2),
    "extra": st.dictionaries(st.sampled_from(["safetySettings", "cachedContent"]), OBJECTS, max_size=2),
}
TOOLS = st.lists(st.builds(Tool, NAMES, st.just("") | WORDS, st.just({}) | OBJECTS), max_size=2).map(tuple)
REQUESTS = st.builds(
    Request, model=st.just(""), messages=conversations(), tools=TOOLS, wire=st.just(NAME), **SETTINGS
)


@given(REQUESTS)
def test_a_request_survives_the_way_out_and_back(request: Request) -> None:
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


@given(REQUESTS)
def test_a_request_of_no_wire_is_said_the_same(request: Request) -> None:
    bare = msgspec.structs.replace(request, wire="openai_chat", extra={}, service_tier="", messages=plain(request))
    again = WIRE.decode_request(WIRE.encode_request(bare, drop_unsupported=True))
    assert [part for message in again.messages for part in message.parts if isinstance(part, ToolCallPart)] == [
        part for message in request.messages for part in message.parts if isinstance(part, ToolCallPart)
    ]
    assert (again.tools, again.stop, again.output_format) == (request.tools, request.stop, request.output_format)


def plain(request: Request) -> tuple[Message, ...]:
    return tuple(message for message in request.messages if message.parts) or (Message("user", (TextPart("hi"),)),)


def merged(parts: tuple[Part, ...]) -> list[Part]:
    """A stream joins texts that follow one another, and so do thoughts that no signature parts."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            out[-1] = TextPart(last.text + part.text)
        elif isinstance(part, ReasoningPart) and isinstance(last, ReasoningPart) and part.text and not last.signature:
            out[-1] = ReasoningPart(last.text + part.text, part.signature)
        else:
            out.append(part)
    return out


def finished(parts: tuple[Part, ...], reason: str) -> str:
    called = any(isinstance(part, ToolCallPart) for part in parts)
    return "tool_calls" if called and reason in ("stop", "unknown") else reason


CHOICES = st.builds(
    lambda parts, reason: Choice(parts=parts, stop_reason=finished(parts, reason)),  # type: ignore[arg-type]
    said(),
    st.sampled_from(["stop", "length", "content_filter", "unknown"]),
)


@given(CHOICES, CHOICES)
def test_an_answer_survives_the_way_out_and_back(first: Choice, second: Choice) -> None:
    choices = (first, Choice(second.parts, second.stop_reason, index=1))
    raw = {"promptTokenCount": 3, "candidatesTokenCount": 2}
    usage = Usage(totals={"input": 3, "output": 2}, source="reported", raw=raw)
    answer = Answer(id="c1", model="m", choices=choices, created=5, usage=usage, extra={"newField": 1}, wire=NAME)
    assert WIRE.decode_answer(WIRE.encode_answer(answer)) == answer
    ChatCompletion.model_validate_json(openai_chat.WIRE.encode_answer(answer))


@given(CHOICES)
def test_a_stream_survives_the_way_out_and_back(choice: Choice) -> None:
    usage = Usage(totals={"input": 3, "output": 2}, source="reported")
    events: list[Event] = [Started(id="c1", model="m"), *events_of(choice), Finished(usage)]
    writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    written = b"".join(writer.write(event) for event in events) + writer.finish()
    reader, decoder = WIRE.stream_reader(), Decoder()
    again = [event for frame in decoder.feed(written) + decoder.end() for event in reader.feed(frame)] + reader.end()
    assert parts_of(again) == merged(choice.parts)
    assert [event.reason for event in again if isinstance(event, Stopped)] == [choice.stop_reason]
    assert reader.usage.totals == usage.totals


def events_of(choice: Choice) -> list[Event]:
    events: list[Event] = []
    for index, part in enumerate(choice.parts):
        match part:
            case TextPart():
                events += [PartStarted(index, TextPart("")), PartDelta(index, text=part.text)]
            case ReasoningPart():
                events += [PartStarted(index, ReasoningPart()), PartDelta(index, part.text, part.signature)]
            case ToolCallPart():
                events += [PartStarted(index, ToolCallPart(part.id, part.name, ""))]
                events += [PartDelta(index, text=piece) for piece in part.arguments]
            case _:
                events += [PartStarted(index, part)]
        events.append(PartStopped(index))
    return [*events, Stopped(choice.stop_reason)]


def parts_of(events: list[Event]) -> list[Part]:
    parts: list[Part] = []
    for event in events:
        if isinstance(event, PartStarted):
            parts.append(event.part)
        elif isinstance(event, PartDelta):
            match parts[event.index]:
                case TextPart(text=text):
                    parts[event.index] = TextPart(text + event.text)
                case ReasoningPart(text=text, signature=signature):
                    parts[event.index] = ReasoningPart(text + event.text, signature + event.signature)
                case ToolCallPart(id=id_, name=name, arguments=arguments):
                    parts[event.index] = ToolCallPart(id_, name, arguments + event.text)
    return parts
