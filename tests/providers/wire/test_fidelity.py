"""What must be kept when a request is told on another wire, point by point, on every recorded request that has it.

Points that no recorded request has (redacted thinking, refusals, several choices) are in the generated ones of
`*_round_trip.py`. What answers keep (ids, logprobs, finish reasons, citations, web search results) is tested on
recorded answers by the `*_recorded.py` of each wire.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from providers.unified import (
    AudioPart,
    FilePart,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    Request,
    TextPart,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from providers.wire.unstreamed import ProviderSide
from tests.providers.wire.streamed import APIS
from tests.providers.wire.test_bad_answers import wire_of
from tests.providers.wire.test_cross_wire import TWO_WAY, with_model
from tests.recordings import REASON, Exchange, exchanges

CHAT, RESPONSES, ANTHROPIC, GEMINI, COHERE, BEDROCK = (
    "openai_chat", "openai_responses", "anthropic_messages", "gemini", "cohere_chat", "bedrock_converse"
)  # fmt: skip
ALL = (CHAT, RESPONSES, ANTHROPIC, GEMINI, COHERE, BEDROCK)


class Point(Struct, frozen=True):
    """`of` finds it in a request, and nothing where there is none; `on`: the wires that have words for it."""

    of: Callable[[Request], Any]
    on: tuple[str, ...] = ALL


def parts(request: Request, *roles: str) -> Iterator[Part]:
    for message in request.messages:
        if not roles or message.role in roles:
            yield from message.parts


def texts(request: Request, *roles: str) -> str:
    """All that was said in these roles: some wires join what stands side by side.

    Where results of tools hold text alone, what else they had follows as the user's, with a word on whose it is.
    """
    said = [part.text.strip() for part in parts(request, *roles) if isinstance(part, TextPart)]
    return "".join(text for text in said if not text.startswith("What the tool call "))


def same_id(text: str) -> str:
    """Anthropic's ids have fewer characters than others'."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", text)


def calls(request: Request) -> list[Any]:
    found = [part for part in parts(request, "assistant") if isinstance(part, ToolCallPart)]
    return [(same_id(call.id), call.name, msgspec.json.decode(call.arguments or "{}")) for call in found]


def results(request: Request) -> list[Any]:
    """By the id of the call, the text: where there is no mark for a failure, a word says it."""
    found = [part for part in parts(request) if isinstance(part, ToolResultPart)]
    said = ["".join(text.text for text in part.parts if isinstance(text, TextPart)) for part in found]
    texts = [text.removeprefix("Error:").strip() for text in said]
    return [(same_id(part.id), text) for part, text in zip(found, texts, strict=True)]


def media(request: Request, kind: type[ImagePart], *, linked: bool) -> list[str]:
    """The media beside text; what is inline by its data, else by its URL."""
    held = [part for part in parts(request, "user") if isinstance(part, kind)]
    return [part.url if linked else part.data for part in held if bool(part.url) is linked and (part.url or part.data)]


def shown(request: Request) -> list[str]:
    """All images inline, where a tool gave one: those that its result cannot hold follow as the user's."""
    found = [part for part in parts(request) if isinstance(part, ToolResultPart)]
    given = [said.data for part in found for said in part.parts if isinstance(said, ImagePart)]
    return sorted([*given, *media(request, ImagePart, linked=False)])


def pdfs(request: Request) -> list[str]:
    """Each provider knows other kinds of documents; all of these know PDF."""
    held = [part for part in parts(request, "user") if isinstance(part, FilePart)]
    return [part.data for part in held if part.media_type == "application/pdf" and part.data]


def offered(request: Request) -> list[Any]:
    """The tools; of those beside one that must be called nothing is needed, and Cohere is not told of them."""
    named = request.tool_choice.name if request.tool_choice is not None else ""
    return [(tool.name, tool.description) for tool in request.tools if not named or tool.name == named]


def choice(request: Request) -> Any:
    """Not to say it is to leave it to the model."""
    return None if request.tool_choice == ToolChoice("auto") else request.tool_choice


def has_only_what_all_know(request: Request) -> bool:
    """Parts that one wire alone has words for are dropped, as the client asked for, and with them their turns."""
    return not any(isinstance(part, OpaquePart) for part in parts(request))


def turns(request: Request) -> list[str]:
    """Who spoke, in which order: what stands side by side is one turn, and results are the user's."""
    order: list[str] = []
    for message in request.messages:
        role = {"developer": "", "system": "", "tool": "user"}.get(message.role, message.role)
        if role and message.parts and order[-1:] != [role]:
            order.append(role)
    return order


def signed(request: Request) -> list[Any]:
    found = [part for part in parts(request, "assistant") if isinstance(part, ReasoningPart)]
    return [(part.text, part.signature) for part in found if part.signature and part.text]


def marks(request: Request) -> int:
    held = [*parts(request), *request.tools]
    return sum(1 for part in held if getattr(part, "cache_control", None) is not None)


POINTS: dict[str, Point] = {
    "system and developer messages": Point(lambda request: texts(request, "system", "developer")),
    "what the user said": Point(lambda request: texts(request, "user")),
    "what the assistant said": Point(lambda request: texts(request, "assistant")),
    "turns, consecutive ones as one": Point(turns),
    "tool calls with their ids": Point(calls),
    "tool results": Point(results),
    "tool results with images": Point(shown, (CHAT, RESPONSES, ANTHROPIC, GEMINI, BEDROCK)),
    "tools": Point(offered),
    "tool choice": Point(choice, (CHAT, RESPONSES, ANTHROPIC, GEMINI)),
    "JSON schema of the output": Point(
        lambda request: request.output_format and request.output_format.schema, (CHAT, RESPONSES, COHERE)
    ),
    "images inline": Point(lambda request: media(request, ImagePart, linked=False)),
    "images by URL": Point(
        lambda request: media(request, ImagePart, linked=True), (CHAT, RESPONSES, ANTHROPIC, COHERE)
    ),
    "PDFs inline": Point(pdfs, (CHAT, RESPONSES, ANTHROPIC, GEMINI, BEDROCK)),
    "audio": Point(
        lambda request: [part.data for part in parts(request) if isinstance(part, AudioPart)], (CHAT, GEMINI, BEDROCK)
    ),
    "stop sequences": Point(lambda request: request.stop, (CHAT, ANTHROPIC, GEMINI, COHERE, BEDROCK)),
    "signed thoughts of earlier turns": Point(signed, (ANTHROPIC, BEDROCK)),
    "cache marks": Point(marks, (ANTHROPIC, BEDROCK)),
    "most tokens to write": Point(lambda request: request.max_output_tokens),
    "temperature": Point(lambda request: request.temperature if (request.temperature or 2) <= 1 else None),
}  # fmt: skip

ASKED = exchanges(failed=False, where=lambda item: item["api"] in APIS and isinstance(item["request_body"], dict))


def decoded(exchange: Exchange) -> Request:
    """Azure has the model in its path, as Google has."""
    wire, body = wire_of(exchange), exchange["request_body"]
    named = body if wire.name == BEDROCK else {"model": "m", **body}
    return wire.decode_request(with_model(msgspec.json.encode(named), wire.name))


ASKERS = [item for item in ASKED if not isinstance(wire_of(item), ProviderSide)]


@pytest.mark.skipif(not ASKERS, reason=REASON)
@pytest.mark.parametrize(("name", "other"), [(name, other) for name, point in POINTS.items() for other in point.on])
def test_a_point_of_every_recorded_request_is_kept_on_the_other_wires(name: str, other: str) -> None:
    point, wire = POINTS[name], TWO_WAY[other]
    kept = []
    for exchange in ASKERS:
        request = decoded(exchange)
        wanted = point.of(request)
        if not wanted or not has_only_what_all_know(request):
            continue
        body = wire.encode_request(msgspec.structs.replace(request, model="m"), drop_unsupported=True)
        got = point.of(wire.decode_request(with_model(body, other)))
        assert got == wanted, exchange["id"]
        kept.append(exchange["id"])
    assert kept, "no recorded request has it: the test shows nothing"
