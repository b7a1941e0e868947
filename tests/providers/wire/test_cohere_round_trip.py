"""What Cohere's wire can say comes back as it was."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from providers.unified import (
    Answer,
    Choice,
    ImagePart,
    Message,
    OpaquePart,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
    Usage,
)
from providers.wire.cohere import WIRE
from providers.wire.cohere.parts import decode_citation
from tests.providers.wire.test_openai_chat_round_trip import BASE64, NAMES, OBJECTS, WORDS, several

TEXTS = st.builds(TextPart, text=WORDS)
THOUGHTS = st.builds(ReasoningPart, text=WORDS)
IMAGES = st.builds(ImagePart, data=BASE64, media_type=st.just("image/png"), detail=st.sampled_from(["", "low"])) | (
    st.builds(ImagePart, url=NAMES.map(lambda name: f"https://host/{name}"))
)
OPAQUE = st.builds(OpaquePart, wire=st.just("cohere_chat"), value=OBJECTS.map(lambda value: {**value, "type": "new"}))
CALLS = st.builds(ToolCallPart, id=NAMES, name=NAMES, arguments=WORDS)
CITED = st.builds(
    lambda text, source: TextPart(
        text=text, citations=(decode_citation({"start": 0, "end": 1, "sources": [{"document": source}]}),)
    ),
    WORDS,
    st.builds(lambda name: {"url": f"https://host/{name}", "title": name}, NAMES),
)


@st.composite
def spoken(draw: st.DrawFn) -> tuple[Part, ...]:
    """Thoughts and texts in any order, the last one cited; or thoughts, one plan and calls."""
    calls = draw(several(CALLS))
    thoughts: list[Part] = draw(several(THOUGHTS))
    last: list[Part] = draw(st.lists(TEXTS | CITED, max_size=1))
    if calls:
        return (*thoughts, *last, *calls)
    return (*draw(several(THOUGHTS | TEXTS | OPAQUE)), *last)


RESULTS = st.builds(ToolResultPart, NAMES, several(TEXTS).map(tuple)).map(lambda part: (part,))
MESSAGES = (
    st.builds(Message, st.just("system"), several(TEXTS, 1).map(tuple))
    | st.builds(Message, st.just("user"), several(TEXTS | IMAGES | OPAQUE).map(tuple))
    | st.builds(Message, st.just("assistant"), spoken())
    | st.builds(Message, st.just("tool"), RESULTS)
)
TOOLS = st.builds(
    lambda tools, strict: tuple(msgspec.structs.replace(tool, strict=strict) for tool in tools),
    st.lists(st.builds(Tool, NAMES, st.just("") | WORDS, OBJECTS), max_size=2),
    st.sampled_from([None, True]),
)
REQUESTS = st.builds(
    Request,
    model=NAMES,
    messages=st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    stream=st.booleans(),
    max_output_tokens=st.none() | st.integers(1, 9000),
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(0, 500),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    tools=TOOLS,
    tool_choice=st.none() | st.builds(ToolChoice, st.sampled_from(["none", "required"])),
    output_format=st.none()
    | st.just(OutputFormat("json_object"))
    | st.builds(OutputFormat, st.just("json_schema"), schema=OBJECTS),
    reasoning=st.none() | st.builds(Reasoning, budget_tokens=st.none() | st.integers(1, 99), enabled=st.booleans()),
    seed=st.none() | st.integers(-9, 9),
    presence_penalty=st.none() | st.floats(0, 1),
    frequency_penalty=st.none() | st.floats(0, 1),
    logprobs=st.sampled_from([None, True, False]),
    extra=st.dictionaries(NAMES.map(lambda name: f"new_{name}"), OBJECTS, max_size=2)
    | st.just({"documents": ["a", {"data": {"b": 1}}], "safety_mode": "OFF"}),
    wire=st.just("cohere_chat"),
)


@given(REQUESTS)
def test_a_request_survives_the_way_out_and_back(request: Request) -> None:
    # Without a budget there is nothing of a disabled thinking to keep.
    if request.reasoning is not None and not request.reasoning.enabled:
        request = msgspec.structs.replace(request, reasoning=Reasoning(enabled=False))
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


@given(spoken(), st.sampled_from(["stop", "length", "tool_calls", "stop_sequence", "context_window"]), OBJECTS)
def test_an_answer_survives_the_way_out_and_back(
    parts: tuple[Part, ...], reason: str, extra: dict[str, object]
) -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    choice = Choice(parts=parts, stop_reason=reason, logprobs=logprobs)  # type: ignore[arg-type]  # drawn from them
    answer = Answer(
        id="a1", model="", choices=(choice,), extra={f"new_{name}": item for name, item in extra.items()},
        usage=Usage(totals={"input": 3, "output": 4}), wire="cohere_chat",
    )  # fmt: skip
    again = WIRE.decode_answer(WIRE.encode_answer(answer))
    assert again.usage.totals == answer.usage.totals
    assert msgspec.structs.replace(again, usage=answer.usage) == answer
