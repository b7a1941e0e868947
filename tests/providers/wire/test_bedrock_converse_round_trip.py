"""What this wire can say comes back as it was."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from providers.unified import (
    Answer,
    AudioPart,
    Choice,
    FilePart,
    ImagePart,
    Message,
    OpaquePart,
    OutputFormat,
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
from providers.wire.bedrock_converse import WIRE

NAME = "bedrock_converse"
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
NAMES = st.text("abcdefgh_", min_size=1, max_size=6)
TITLES = st.text("abc-()[]", min_size=1, max_size=6)
BASE64 = st.text("ABCDabcd0123", min_size=4, max_size=8)
OBJECTS = st.dictionaries(NAMES, st.integers(0, 9) | WORDS | st.booleans(), min_size=1, max_size=2)
MARKS = st.none() | st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])
TEXTS = st.builds(TextPart, text=WORDS, cache_control=MARKS)
S3 = NAMES.map(lambda name: f"s3://bucket/{name}")
MEDIA_TYPES = st.sampled_from(["image/png", "image/jpeg", "image/gif", "image/webp"])
IMAGES = st.builds(ImagePart, data=BASE64, media_type=MEDIA_TYPES, cache_control=MARKS) | st.builds(
    ImagePart, url=S3, media_type=MEDIA_TYPES
)
DOCUMENTS = st.sampled_from(["application/pdf", "text/plain", "text/csv", "text/html", "text/markdown"])
CITED_FILE: dict[str, Any] = {"context": "from afar", "citations": {"enabled": True}}
EXTRA = st.sampled_from([{}, CITED_FILE])
FILES = st.builds(
    FilePart, data=BASE64, media_type=DOCUMENTS, name=TITLES, cache_control=MARKS, extra=EXTRA
) | st.builds(FilePart, url=S3, media_type=DOCUMENTS, name=TITLES)
AUDIO = st.builds(AudioPart, data=BASE64, format=st.sampled_from(["wav", "mp3"]))
OPAQUE = st.builds(OpaquePart, st.just(NAME), OBJECTS.map(lambda value: {"guardContent": value}))
ARGUMENTS = OBJECTS.map(lambda value: msgspec.json.encode(value).decode())
CALLS = st.builds(ToolCallPart, id=NAMES, name=NAMES, arguments=ARGUMENTS, cache_control=MARKS)
REASONING = (
    st.builds(ReasoningPart, text=WORDS, signature=WORDS)
    | st.builds(ReasoningPart, text=WORDS)
    | st.builds(ReasoningPart, redacted=BASE64)
)
CITED = st.builds(
    lambda text, url: TextPart(
        text=text, citations=({"title": "t", "location": {"web": {"url": url}}, "url": url}, {"location": {}})
    ),
    WORDS,
    NAMES.map(lambda name: f"https://host/{name}"),
)
INSIDE = st.builds(TextPart, text=WORDS) | st.builds(ImagePart, data=BASE64, media_type=MEDIA_TYPES)
RESULTS = st.builds(
    ToolResultPart, NAMES, st.lists(INSIDE, max_size=2).map(tuple), st.booleans(), cache_control=MARKS
)


def several(parts: st.SearchStrategy[Any], low: int = 1) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(parts, min_size=low, max_size=3).map(tuple)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns that alternate, as the wire has them, after at most one system message."""
    messages = draw(st.lists(st.builds(Message, st.just("system"), several(TEXTS | OPAQUE)), max_size=1))
    for _ in range(draw(st.integers(1, 2))):
        asked = st.builds(Message, st.just("user"), several(TEXTS | IMAGES | FILES | AUDIO | OPAQUE))
        messages.append(draw(asked | st.builds(Message, st.just("tool"), several(RESULTS))))
        messages.append(draw(st.builds(Message, st.just("assistant"), several(TEXTS | CITED | REASONING | CALLS))))
    return tuple(messages)


REQUESTS = st.builds(
    Request,
    model=st.just(""),
    messages=conversations(),
    max_output_tokens=st.none() | st.integers(1, 9000),
    temperature=st.none() | st.floats(0, 1),
    top_p=st.none() | st.floats(0, 1),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    tools=st.lists(
        st.builds(Tool, NAMES, st.just("") | WORDS, OBJECTS, st.sampled_from([None, True, False]), MARKS), max_size=2
    ).map(tuple),
    output_format=st.none()
    | st.builds(OutputFormat, st.just("json_schema"), st.just("") | NAMES, OBJECTS, description=st.just("") | WORDS),
    reasoning=st.none() | st.builds(Reasoning, effort=NAMES),
    user=st.just("") | NAMES,
    metadata=st.dictionaries(NAMES.filter(lambda name: name != "user"), NAMES, max_size=2),
    service_tier=st.sampled_from(["", "default", "flex", "priority", "reserved"]),
    extra=st.dictionaries(st.sampled_from(["guardrailConfig", "performanceConfig", "newConfig"]), OBJECTS, max_size=2),
    wire=st.just(NAME),
)
CHOICES = st.none() | st.builds(ToolChoice, st.sampled_from(["auto", "required"])) | st.builds(
    ToolChoice, st.just("named"), NAMES
)


@given(REQUESTS, CHOICES)
def test_a_request_comes_back(request: Request, choice: ToolChoice | None) -> None:
    if request.tools:
        request = msgspec.structs.replace(request, tool_choice=choice)
    assert WIRE.decode_request(WIRE.encode_request(request)) == request


STOPS = st.sampled_from(["stop", "length", "tool_calls", "stop_sequence", "content_filter", "context_window"])
COUNTS = st.integers(0, 10**9)
METERS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


@given(several(TEXTS | CITED | REASONING | CALLS, low=0), STOPS, st.tuples(*[COUNTS] * len(METERS)))
def test_an_answer_comes_back(parts: tuple[Any, ...], reason: Any, counts: tuple[int, ...]) -> None:
    parts = tuple(msgspec.structs.replace(part, cache_control=None) if _is_marked(part) else part for part in parts)
    if reason == "stop" and any(isinstance(part, ToolCallPart) for part in parts):
        reason = "tool_calls"
    totals: dict[str, Any] = dict(zip(METERS, counts, strict=True))
    totals["input"] += sum(counts[2:])
    usage = Usage(
        totals={meter: count for meter, count in totals.items() if count or meter in ("input", "output")},
        service_tier="priority",
        speed="optimized",
    )
    choice = Choice(parts=parts, stop_reason=reason)
    again = WIRE.decode_answer(WIRE.encode_answer(Answer(id="", model="", choices=(choice,), usage=usage)))
    assert again.choices == (choice,)
    assert (again.usage.totals, again.usage.service_tier, again.usage.speed) == (usage.totals, "priority", "optimized")


def _is_marked(part: Any) -> bool:
    return getattr(part, "cache_control", None) is not None
