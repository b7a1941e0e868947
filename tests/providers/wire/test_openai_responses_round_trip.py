"""What this wire can say comes back as it was."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

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
    RefusalPart,
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
from providers.wire.base import Admitted
from providers.wire.openai_responses import WIRE

NAME = "openai_responses"
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
BASE64 = st.text("ABCDabcd0123", min_size=4, max_size=8)
OBJECTS = st.dictionaries(NAMES, st.integers(0, 9) | WORDS | st.booleans(), min_size=1, max_size=2)
MARKS = st.none() | st.just({"type": "ephemeral"})
TEXTS = st.builds(TextPart, text=WORDS, cache_control=MARKS)
URLS = NAMES.map(lambda name: f"https://host/{name}")
IMAGES = st.builds(
    ImagePart, data=BASE64, media_type=st.sampled_from(["image/png", "image/webp"]), detail=st.sampled_from(["", "low"])
) | st.builds(ImagePart, url=URLS)
FILES = (
    st.builds(FilePart, data=BASE64, media_type=st.sampled_from(["application/pdf", "text/plain"]), name=NAMES)
    | st.builds(FilePart, file_id=NAMES, extra=st.just({}) | st.just({"detail": "high"}))
    | st.builds(FilePart, url=URLS, name=st.just("") | NAMES)
)
AUDIO = st.builds(AudioPart, data=BASE64, format=st.sampled_from(["wav", "mp3"]))
CONTENT = st.builds(OpaquePart, st.just(NAME), OBJECTS.map(lambda value: {**value, "type": "input_new"}))
ITEMS = st.builds(OpaquePart, st.just(NAME), OBJECTS.map(lambda value: {**value, "type": "new_call"}))
OUTPUTS = st.builds(OpaquePart, st.just(NAME), OBJECTS.map(lambda value: {**value, "type": "new_call_output"}))
CALLS = st.builds(ToolCallPart, id=NAMES, name=NAMES, arguments=st.just("") | WORDS)
REASONING = st.builds(ReasoningPart, text=st.just("") | WORDS, signature=WORDS) | st.builds(ReasoningPart, text=WORDS)
CITED = st.builds(
    lambda text, url: TextPart(
        text=text,
        citations=({"type": "url_citation", "url": url, "title": "t", "start_index": 0, "end_index": 1},),
    ),
    WORDS,
    URLS,
)
SAID = st.builds(TextPart, text=WORDS) | CITED
MADE = REASONING | SAID | st.builds(RefusalPart, text=WORDS) | CALLS | ITEMS


def several(parts: st.SearchStrategy[Any], low: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(parts, min_size=low, max_size=3)


OTHERS = (
    st.builds(Message, st.sampled_from(["system", "developer"]), several(TEXTS, 1).map(tuple))
    | st.builds(Message, st.just("user"), several(TEXTS | IMAGES | FILES | AUDIO | CONTENT).map(tuple))
    | st.builds(
        Message,
        st.just("tool"),
        st.builds(ToolResultPart, NAMES, several(TEXTS | IMAGES | FILES).map(tuple)).map(lambda part: (part,))
        | OUTPUTS.map(lambda part: (part,)),
    )
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns of the assistant between others: side by side they would be one."""
    messages: list[Message] = []
    for other in draw(several(OTHERS, 1)):
        messages.append(other)
        if draw(st.booleans()):
            messages.append(Message("assistant", tuple(draw(several(MADE, 1)))))
    return tuple(messages)


REQUESTS = st.builds(
    Request,
    model=NAMES,
    messages=conversations(),
    stream=st.booleans(),
    max_output_tokens=st.none() | st.integers(1, 9000),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    tools=st.lists(
        st.builds(Tool, NAMES, st.just("") | WORDS, st.just({}) | OBJECTS, st.sampled_from([None, True, False])),
        max_size=2,
    ).map(tuple),
    tool_choice=st.none()
    | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"]))
    | st.builds(ToolChoice, st.just("named"), NAMES),
    parallel_tool_calls=st.sampled_from([None, True, False]),
    output_format=st.none()
    | st.just(OutputFormat("json_object"))
    | st.builds(
        OutputFormat, st.just("json_schema"), NAMES, OBJECTS, st.sampled_from([None, True]), st.just("") | WORDS
    ),
    reasoning=st.none()
    | st.builds(Reasoning, effort=NAMES.filter(lambda word: word != "none"))
    | st.just(Reasoning(enabled=False)),
    logprobs=st.sampled_from([None, True]),
    top_logprobs=st.none() | st.integers(0, 20),
    user=st.just("") | NAMES,
    metadata=st.dictionaries(NAMES, WORDS, max_size=2),
    service_tier=st.sampled_from(["", "flex", "priority"]),
    extra=st.dictionaries(
        NAMES.map(lambda name: f"new_{name}") | st.sampled_from(["text.verbosity", "reasoning.mode"]), WORDS, max_size=2
    ),
    wire=st.just(NAME),
)


@given(REQUESTS)
def test_a_request_comes_back(request: Request) -> None:
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


@given(REQUESTS, OBJECTS)
def test_tools_of_the_providers_own_stay_in_their_place(request: Request, tool: dict[str, Any]) -> None:
    own = {**tool, "type": "web_search"}
    request = msgspec.structs.replace(request, extra={**request.extra, f"tools[{len(request.tools)}]": own})
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


USAGES = st.builds(
    lambda given, made, cached, thought: Usage(
        totals={
            meter: count
            for meter, count in {
                "input": given,
                "output": made,
                "cache_read": min(cached, given),
                "reasoning": min(thought, made),
            }.items()
            if count or meter in ("input", "output")
        },
        source="reported",
    ),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
ANSWERED = st.builds(ReasoningPart, text=st.just("") | WORDS, signature=WORDS) | SAID | st.builds(RefusalPart, WORDS)
CALLED = st.builds(ToolCallPart, id=NAMES, name=NAMES, arguments=WORDS)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    parts = tuple(draw(several(ANSWERED | CALLED)))
    called = any(isinstance(part, ToolCallPart) for part in parts)
    reason: Any = draw(st.sampled_from(["length", "content_filter", "tool_calls" if called else "stop"]))
    return Choice(parts=parts, stop_reason=reason)


@given(choices(), USAGES, st.sampled_from(["", "default", "priority"]))
def test_an_answer_comes_back_and_the_official_client_reads_it(choice: Choice, usage: Usage, tier: str) -> None:
    usage = msgspec.structs.replace(usage, service_tier=tier)
    body = WIRE.encode_answer(Answer(id="resp_1", model="m", choices=(choice,), usage=usage, created=7))
    again = WIRE.decode_answer(body)
    assert (again.id, again.model, again.created, again.choices) == ("resp_1", "m", 7, (choice,))
    assert (again.usage.totals, again.usage.service_tier) == (usage.totals, tier)
    Response.model_validate_json(body)


def events_of(choice: Choice, usage: Usage, pieces: int) -> list[Event]:
    """A choice as a stream, each text in up to so many pieces."""
    events: list[Event] = [Started(id="resp_1", model="m", created=7)]
    for index, part in enumerate(choice.parts):
        text = part.arguments if isinstance(part, ToolCallPart) else getattr(part, "text", "")
        events.append(PartStarted(index=index, part=_empty(part)))
        size = max(1, -(-len(text) // pieces))
        events += [PartDelta(index=index, text=text[at : at + size]) for at in range(0, len(text), size)]
        events += [PartDelta(index=index, citation=citation) for citation in getattr(part, "citations", ())]
        if isinstance(part, ReasoningPart) and part.signature:
            events.append(PartDelta(index=index, signature=part.signature))
        events.append(PartStopped(index=index))
    return [*events, Stopped(reason=choice.stop_reason), Finished(usage=usage)]


def _empty(part: Part) -> Part:
    match part:
        case TextPart():
            return TextPart(text="")
        case RefusalPart():
            return RefusalPart(text="")
        case ReasoningPart():
            return ReasoningPart()
        case ToolCallPart():
            return msgspec.structs.replace(part, arguments="")
    return part


def joined(events: list[Event]) -> list[tuple[Part, str, str, int]]:
    """Of each part: how it began, all its text, its signature, how many citations."""
    parts: dict[int, tuple[Part, str, str, int]] = {}
    for event in events:
        if isinstance(event, PartStarted):
            text = getattr(event.part, "text", "")
            parts[event.index] = (_empty(event.part), text, getattr(event.part, "signature", ""), 0)
        elif isinstance(event, PartDelta):
            part, text, signature, cited = parts[event.index]
            cited += event.citation is not None
            parts[event.index] = (part, text + event.text, signature + event.signature, cited)
    return list(parts.values())


@given(choices(), USAGES, st.integers(1, 3))
def test_a_stream_comes_back_and_ends_in_the_same_answer(choice: Choice, usage: Usage, pieces: int) -> None:
    events = events_of(choice, usage, pieces)
    writer = WIRE.stream_writer(admitted=Admitted(model="m", stream=True, fields={}))
    body = b"".join(map(writer.write, events)) + writer.finish()
    reader = WIRE.stream_reader()
    frames = Decoder().feed(body)
    again = [event for frame in frames for event in reader.feed(frame)] + reader.end()
    assert joined(again) == joined(events)
    assert again[0] == events[0]
    assert [event for event in again if isinstance(event, Stopped)] == [Stopped(reason=choice.stop_reason)]
    whole = msgspec.json.encode(msgspec.json.decode(frames[-1].data)["response"])
    assert WIRE.decode_answer(whole).choices == (choice,)
    assert reader.usage.totals == usage.totals
