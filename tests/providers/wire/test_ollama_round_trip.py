"""What Ollama's wire can say comes back as it was."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from providers.unified import (
    Answer,
    Choice,
    ImagePart,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    ReasoningPart,
    Request,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from providers.wire.ollama import WIRE
from tests.providers.wire.test_openai_chat_round_trip import NAMES, OBJECTS, WORDS, several

TEXT = st.lists(st.builds(TextPart, text=WORDS), max_size=1)
IMAGES = several(st.just(ImagePart(data="iVBORw0KGgoAAAA=", media_type="image/png")))
ARGUMENTS = OBJECTS.map(lambda value: msgspec.json.encode(value).decode())
CALLS = several(st.builds(ToolCallPart, id=NAMES, name=NAMES, arguments=ARGUMENTS))
THOUGHTS = st.lists(st.builds(ReasoningPart, text=WORDS), max_size=1)


@st.composite
def spoken(draw: st.DrawFn) -> tuple[Part, ...]:
    """One thought, one text, calls: each has one place in a message of this wire."""
    return (*draw(THOUGHTS), *draw(TEXT), *draw(CALLS))


@st.composite
def shown(draw: st.DrawFn) -> tuple[Part, ...]:
    return (*draw(TEXT), *draw(IMAGES))


RESULTS = st.builds(ToolResultPart, NAMES, TEXT.map(tuple)).map(lambda part: (part,))
MESSAGES = (
    st.builds(Message, st.sampled_from(["system", "user"]), shown())
    | st.builds(Message, st.just("assistant"), spoken())
    | st.builds(Message, st.just("tool"), RESULTS)
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
    tools=st.lists(st.builds(Tool, NAMES, st.just("") | WORDS, OBJECTS.filter(bool)), max_size=2).map(tuple),
    output_format=st.none()
    | st.just(OutputFormat("json_object"))
    | st.builds(OutputFormat, st.just("json_schema"), schema=OBJECTS),
    reasoning=st.sampled_from([None, Reasoning(), Reasoning(enabled=False), Reasoning(effort="low")]),
    seed=st.none() | st.integers(-9, 9),
    presence_penalty=st.none() | st.floats(0, 1),
    frequency_penalty=st.none() | st.floats(0, 1),
    logprobs=st.sampled_from([None, True, False]),
    top_logprobs=st.none() | st.integers(0, 20),
    extra=st.sampled_from([{}, {"keep_alive": "5m", "options": {"num_ctx": 4096}}, {"tomorrow": {"a": 1}}]),
    wire=st.just("ollama_chat"),
)


@given(REQUESTS)
def test_a_request_survives_the_way_out_and_back(request: Request) -> None:
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


@given(spoken(), st.sampled_from(["stop", "length"]), st.integers(1, 2**31))
def test_an_answer_survives_the_way_out_and_back(parts: tuple[Part, ...], reason: str, created: int) -> None:
    called = any(isinstance(part, ToolCallPart) for part in parts)
    logprobs = {"content": [{"token": "a", "logprob": -0.5, "bytes": None, "top_logprobs": []}]}
    choice = Choice(
        parts=parts,
        stop_reason="tool_calls" if called and reason == "stop" else reason,  # type: ignore[arg-type]  # drawn from them
        logprobs=logprobs,
    )
    answer = Answer(
        id="", model="m", choices=(choice,), created=created, extra={"total_duration": 5},
        usage=Usage(totals={"input": 3, "output": 4}), wire="ollama_chat",
    )  # fmt: skip
    again = WIRE.decode_answer(WIRE.encode_answer(answer))
    assert again.usage.totals == answer.usage.totals
    assert msgspec.structs.replace(again, usage=answer.usage) == answer
