"""Between any two wires: what both can say survives the way from one to the other; the rest is refused by name."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.errors import Unsupported
from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    Event,
    Finished,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    PartDelta,
    PartStarted,
    PartStopped,
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
from providers.wire.base import Wire
from providers.wire.unstreamed import ProviderSide
from tests.providers.wire import streamed
from tests.providers.wire.test_odd_counts import WIRES

# Ollama's wire has no word for a model that stopped to call a tool, and its arguments are objects: it says less.
TWO_WAY = {
    name: wire for name, wire in WIRES.items() if not isinstance(wire, ProviderSide) and name != "ollama_chat"
}
every_pair = pytest.mark.parametrize(("there", "back"), list(itertools.permutations(sorted(TWO_WAY), 2)))
every_two_way = pytest.mark.parametrize("name", sorted(TWO_WAY))

WORDS = st.text("aé— \U0001f600\"\\\n", min_size=1, max_size=8).map(lambda text: f"x{text}x")
NAMES = st.text("abcdef", min_size=3, max_size=6)
ARGUMENTS = st.sampled_from(["{}", '{"city":"Oslo"}', '{"n":[1,2.5,null],"deep":{"a":""}}'])
SCHEMAS = st.sampled_from([
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    {"type": "object", "properties": {"n": {"type": "array", "items": {"type": "integer"}}}},
])  # fmt: skip
TEXTS = st.builds(TextPart, text=WORDS)
IMAGES = st.builds(ImagePart, data=st.just("aGVsbG8="), media_type=st.sampled_from(["image/png", "image/jpeg"]))
NUMBERS = ("temperature", "top_p", "max_output_tokens")


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns as every wire has them: a system message, then questions and answers, each call answered at once."""
    messages = [Message("system", (draw(TEXTS),))] if draw(st.booleans()) else []
    ids = (f"call_{number}" for number in itertools.count())
    for _ in range(draw(st.integers(1, 2))):
        messages.append(Message("user", (draw(TEXTS), *draw(st.lists(IMAGES, max_size=1)))))
        called = draw(st.lists(st.tuples(NAMES, ARGUMENTS), max_size=2))
        calls = tuple(ToolCallPart(next(ids), name, arguments) for name, arguments in called)
        messages.append(Message("assistant", (draw(TEXTS), *calls)))
        messages += [Message("tool", (ToolResultPart(call.id, (draw(TEXTS),)),)) for call in calls]
    messages.append(Message("user", (draw(TEXTS),)))
    return tuple(messages)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    messages = draw(conversations())
    called = {part.name for message in messages for part in message.parts if isinstance(part, ToolCallPart)}
    names = sorted(called | set(draw(st.lists(NAMES, max_size=1))))
    tools = tuple(Tool(name=name, description=draw(WORDS), parameters=draw(SCHEMAS)) for name in names)
    return Request(
        model="m",
        messages=messages,
        stream=draw(st.booleans()),
        max_output_tokens=draw(st.integers(1, 4000)),
        temperature=draw(st.sampled_from([None, 0.0, 0.5, 1.0])),
        top_p=draw(st.sampled_from([None, 0.25, 1.0])),
        tools=tools,
        tool_choice=draw(st.sampled_from([None, ToolChoice("required")])) if tools else None,
    )


def gist(request: Request) -> Any:
    """What a request asks, without what the frame of a wire decides: where results stand, and who gets the model."""
    turns: list[tuple[str, list[Any]]] = []
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolResultPart):
                turns.append(("tool", [part.id, [text.text for text in part.parts if isinstance(text, TextPart)]]))
            elif isinstance(part, ToolCallPart):
                turns.append((message.role, [part.id, part.name, msgspec.json.decode(part.arguments)]))
            elif not isinstance(part, ReasoningPart):
                # Gemini's wire signs each call, by a word that means nothing elsewhere.
                turns.append((message.role, [msgspec.to_builtins(part)]))
    tools = [(tool.name, tool.description, tool.parameters) for tool in request.tools]
    return turns, tools, request.tool_choice, [getattr(request, name) for name in NUMBERS]


@every_pair
@settings(max_examples=12)
@given(request=requests())
def test_a_request_that_both_can_say_survives(there: str, back: str, request: Request) -> None:
    first, second = TWO_WAY[there], TWO_WAY[back]
    asked = first.decode_request(with_model(first.encode_request(request), there))
    # The gateway names the model that it found for the name.
    named = msgspec.structs.replace(asked, model="m")
    passed_on = second.decode_request(with_model(second.encode_request(named), back))
    assert gist(passed_on) == gist(asked) == gist(request)


def with_model(body: bytes, name: str) -> bytes:
    """Gemini's wire has the model in its path: the surface puts it into the body."""
    if name == "gemini":
        return msgspec.json.encode({**msgspec.json.decode(body), "model": "m", "stream": False})
    return body


# A request field -> the wires that have a word for it.
CHAT = {"openai_chat"}
SAYS: dict[str, tuple[Any, set[str]]] = {
    "n": (3, CHAT | {"gemini"}),
    "seed": (7, CHAT | {"gemini", "cohere_chat", "ollama_chat"}),
    "presence_penalty": (0.5, CHAT | {"gemini", "cohere_chat", "ollama_chat"}),
    "frequency_penalty": (0.5, CHAT | {"gemini", "cohere_chat", "ollama_chat"}),
    "top_k": (40, {"anthropic_messages", "gemini", "cohere_chat", "ollama_chat"}),
    "stop": (("END",), set(WIRES) - {"openai_responses"}),
    "logprobs": (True, CHAT | {"openai_responses", "gemini", "cohere_chat", "ollama_chat"}),
    "output_format": (OutputFormat("json_object"), set(WIRES) - {"anthropic_messages", "bedrock_converse"}),
    "parallel_tool_calls": (False, CHAT | {"openai_responses", "anthropic_messages"}),
}
PLAIN = Request(
    model="m", messages=(Message("user", (TextPart("Hi"),)),), max_output_tokens=9, tools=(Tool("add", "adds"),)
)


@pytest.mark.parametrize("field", SAYS)
@pytest.mark.parametrize("name", sorted(WIRES))
def test_what_a_wire_cannot_say_is_refused_by_name_or_dropped_where_the_client_says_so(name: str, field: str) -> None:
    value, says = SAYS[field]
    wire, request = WIRES[name], msgspec.structs.replace(PLAIN, **{field: value})
    if name in says:
        assert wire.encode_request(request) != wire.encode_request(PLAIN)
        return
    with pytest.raises(Unsupported) as caught:
        wire.encode_request(request)
    assert caught.value.param
    assert wire.encode_request(request, drop_unsupported=True) == wire.encode_request(PLAIN)


HEARS = CHAT | {"openai_responses", "gemini", "bedrock_converse"}


@pytest.mark.parametrize("name", sorted(WIRES))
def test_a_part_that_a_wire_has_no_place_for_is_called_by_its_plain_name(name: str) -> None:
    part = AudioPart(data="UklGRg==", format="wav")
    request = msgspec.structs.replace(PLAIN, messages=(Message("user", (TextPart("Hi"), part)),))
    if name in HEARS:
        assert b"UklGRg" in WIRES[name].encode_request(request)
        return
    with pytest.raises(Unsupported, match="audio") as caught:
        WIRES[name].encode_request(request)
    assert "AudioPart" not in caught.value.message
    assert caught.value.param


@pytest.mark.parametrize(
    ("name", "said"),
    [("openai_chat", "cannot be sent 'top_k'. Leave"), ("openai_responses", "cannot be sent 'top_k'. Leave")],
)
def test_a_refusal_names_its_field_once(name: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said) as caught:
        WIRES[name].encode_request(msgspec.structs.replace(PLAIN, top_k=40))
    assert caught.value.param == "top_k"


# --- answers ------------------------------------------------------------------------------------------------

STOPS = st.sampled_from(["stop", "length"])


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    parts: list[Part] = [draw(TEXTS)] if draw(st.booleans()) else []
    parts += [ToolCallPart(f"call_{at}", draw(NAMES), draw(ARGUMENTS)) for at in range(draw(st.integers(0, 2)))]
    called = any(isinstance(part, ToolCallPart) for part in parts)
    parts = parts or [TextPart("x")]
    totals: dict[str, Any] = {"input": draw(st.integers(0, 10**9)), "output": draw(st.integers(0, 10**9))}
    choice = Choice(parts=tuple(parts), stop_reason="tool_calls" if called else draw(STOPS))
    return Answer(id="a1", model="m", choices=(choice,), usage=Usage(totals=totals, source="reported"), created=7)


def said(choices: tuple[Choice, ...]) -> Any:
    (choice,) = choices
    parts = [
        (part.id, part.name, msgspec.json.decode(part.arguments)) if isinstance(part, ToolCallPart) else part
        for part in choice.parts
    ]
    return parts, choice.stop_reason


@every_pair
@settings(max_examples=12)
@given(answer=answers())
def test_an_answer_survives(there: str, back: str, answer: Answer) -> None:
    first = TWO_WAY[there].decode_answer(TWO_WAY[there].encode_answer(answer))
    second = TWO_WAY[back].decode_answer(TWO_WAY[back].encode_answer(first))
    assert said(second.choices) == said(first.choices) == said(answer.choices)
    for meter in ("input", "output"):
        assert second.usage.totals[meter] == answer.usage.totals[meter]


# --- streams ------------------------------------------------------------------------------------------------


def events_of(answer: Answer, pieces: int, thought: str) -> list[Event]:
    """The answer as a stream, a thought first, its texts in pieces."""
    (choice,) = answer.choices
    events: list[Event] = [Started(id=answer.id, model=answer.model, created=answer.created)]
    for index, part in enumerate((ReasoningPart(text=thought), *choice.parts)):
        text = part.arguments if isinstance(part, ToolCallPart) else getattr(part, "text", "")
        events.append(PartStarted(index, _emptied(part)))
        size = -(-len(text) // pieces)
        events += [PartDelta(index, text=text[at : at + size]) for at in range(0, len(text), size)]
        events.append(PartStopped(index))
    return [*events, Stopped(choice.stop_reason), Finished(answer.usage)]


def _emptied(part: Part) -> Part:
    if isinstance(part, ToolCallPart):
        return msgspec.structs.replace(part, arguments="")
    return ReasoningPart() if isinstance(part, ReasoningPart) else TextPart("")


def told(wire: Wire, events: list[Event]) -> list[Event]:
    """The events as a client of `wire` reads them."""
    writer, reader = wire.stream_writer(admitted=streamed.ADMITTED), wire.stream_reader()
    frames = streamed.frames(wire, [b"".join(map(writer.write, events)) + writer.finish()])
    return [event for frame in frames for event in reader.feed(frame)] + reader.end()


def joined(events: list[Event]) -> Any:
    """(kind, what was said) of each part, why it stopped, and the counts."""
    parts: dict[int, tuple[Any, str]] = {}
    for event in events:
        if isinstance(event, PartStarted):
            head: Any = type(event.part).__name__
            if isinstance(event.part, ToolCallPart):
                head = (event.part.id, event.part.name)
            text = getattr(event.part, "text", "") or getattr(event.part, "arguments", "")
            parts[event.index] = (head, text)
        elif isinstance(event, PartDelta):
            head, text = parts[event.index]
            parts[event.index] = (head, text + event.text)
    reasons = [event.reason for event in events if isinstance(event, Stopped)]
    (usage,) = [event.usage for event in events if isinstance(event, Finished)]
    return list(parts.values()), reasons, usage.totals["input"], usage.totals["output"]


@every_two_way
@settings(max_examples=40)
@given(answer=answers(), pieces=st.integers(1, 4), thought=WORDS)
def test_a_stream_survives(name: str, answer: Answer, pieces: int, thought: str) -> None:
    events = events_of(answer, pieces, thought)
    assert joined(told(TWO_WAY[name], events)) == joined(events)


@every_pair
@settings(max_examples=8)
@given(answer=answers(), pieces=st.integers(1, 4), thought=WORDS)
def test_a_stream_survives_the_way_over_two_wires(
    there: str, back: str, answer: Answer, pieces: int, thought: str
) -> None:
    events = events_of(answer, pieces, thought)
    assert joined(told(TWO_WAY[back], told(TWO_WAY[there], events))) == joined(events)
