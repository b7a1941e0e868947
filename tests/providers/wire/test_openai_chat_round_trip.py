"""What this wire can say comes back as it was."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    FilePart,
    ImagePart,
    Message,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.openai_chat import WIRE

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
BASE64 = st.text("ABCDabcd0123", min_size=4, max_size=8)
OBJECTS = st.dictionaries(NAMES, st.integers(0, 9) | WORDS | st.booleans(), min_size=1, max_size=2)
MARKS = st.none() | st.just({"type": "ephemeral"})
TEXTS = st.builds(TextPart, text=WORDS, cache_control=MARKS)
IMAGES = st.builds(
    ImagePart, data=BASE64, media_type=st.sampled_from(["image/png", "image/webp"]), detail=st.sampled_from(["", "low"])
) | st.builds(ImagePart, url=NAMES.map(lambda name: f"https://host/{name}"), cache_control=MARKS)
FILES = (
    st.builds(FilePart, data=BASE64, media_type=st.sampled_from(["application/pdf", "text/plain"]), name=NAMES)
    | st.builds(FilePart, file_id=NAMES, extra=st.just({}) | st.just({"new": 1}))
    | st.builds(FilePart, url=NAMES.map(lambda name: f"https://host/{name}"), name=st.just("") | NAMES)
)
AUDIO = st.builds(AudioPart, data=BASE64, format=st.sampled_from(["wav", "mp3"]))
OPAQUE = st.builds(OpaquePart, wire=st.just("openai_chat"), value=OBJECTS.map(lambda value: {"type": "new", **value}))
CALLS = st.builds(ToolCallPart, id=NAMES, name=NAMES, arguments=st.just("") | WORDS)
REASONING = st.builds(ReasoningPart, text=WORDS) | st.lists(
    st.builds(ReasoningPart, text=WORDS, signature=WORDS) | st.builds(ReasoningPart, redacted=WORDS),
    min_size=1,
    max_size=3,
)


def several(parts: st.SearchStrategy[Any], low: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(parts, min_size=low, max_size=3)


@st.composite
def said(draw: st.DrawFn) -> tuple[Part, ...]:
    """An assistant's parts in the one order that this wire can say."""
    thoughts = draw(st.just([]) | REASONING)
    texts = draw(several(TEXTS))
    refusals = draw(st.lists(st.builds(RefusalPart, text=WORDS), max_size=1))
    thoughts = thoughts if isinstance(thoughts, list) else [thoughts]
    return (*thoughts, *texts, *refusals, *draw(several(CALLS)))


MESSAGES = (
    st.builds(Message, st.sampled_from(["system", "developer"]), several(TEXTS, 1).map(tuple))
    | st.builds(
        Message, st.just("user"), several(TEXTS | IMAGES | FILES | AUDIO | OPAQUE).map(tuple), st.just("") | NAMES
    )
    | st.builds(Message, st.just("assistant"), said(), st.just("") | NAMES)
    | st.builds(
        Message,
        st.just("tool"),
        st.builds(ToolResultPart, NAMES, several(TEXTS | IMAGES | FILES).map(tuple)).map(lambda part: (part,)),
    )
)
REQUESTS = st.builds(
    Request,
    model=NAMES,
    messages=st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    stream=st.booleans(),
    max_output_tokens=st.none() | st.integers(1, 9000),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(1, 50),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    tools=st.lists(
        st.builds(Tool, NAMES, st.just("") | WORDS, st.just({}) | OBJECTS, st.sampled_from([None, True, False]), MARKS),
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
    n=st.integers(1, 3),
    seed=st.none() | st.integers(-9, 9),
    presence_penalty=st.none() | st.floats(-2, 2),
    frequency_penalty=st.none() | st.floats(-2, 2),
    logprobs=st.sampled_from([None, True, False]),
    top_logprobs=st.none() | st.integers(0, 20),
    user=st.just("") | NAMES,
    metadata=st.dictionaries(NAMES, WORDS, max_size=2),
    service_tier=st.sampled_from(["", "flex", "standard"]),
    extra=st.dictionaries(NAMES.map(lambda name: f"new_{name}"), OBJECTS, max_size=2),
    wire=st.just("openai_chat"),
)


@given(REQUESTS)
def test_a_request_survives_the_way_out_and_back(request: Request) -> None:
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


CHOICES = st.builds(
    Choice,
    parts=said().map(
        lambda parts: tuple(
            TextPart(part.text) if isinstance(part, TextPart) else part
            for part in joined(parts)
            if keeps_its_arguments(part)
        )
    ),
    stop_reason=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]),
    extra=st.dictionaries(st.sampled_from(["native_finish_reason", "message.reasoning_model"]), OBJECTS | WORDS),
)


def keeps_its_arguments(part: Part) -> bool:
    """A call without arguments is written as one with none, "{}"."""
    return not isinstance(part, ToolCallPart) or part.arguments != ""


def joined(parts: tuple[Part, ...]) -> list[Part]:
    """This wire joins the texts of one answer."""
    texts = [part for part in parts if isinstance(part, TextPart)]
    first = texts[0] if texts else None
    whole = TextPart("".join(part.text for part in texts))
    return [whole if part is first else part for part in parts if part is first or not isinstance(part, TextPart)]


@given(CHOICES, CHOICES)
def test_an_answer_survives_the_way_out_and_back(first: Choice, second: Choice) -> None:
    answer = Answer(
        id="c1", model="m", choices=(first, msgspec.structs.replace(second, index=1)), created=5, extra={"new": 1}
    )
    answer = msgspec.structs.replace(answer, wire="openai_chat")
    raw = WIRE.encode_answer(answer)
    assert WIRE.decode_answer(raw) == answer
    ChatCompletion.model_validate_json(raw)
