"""The unified request, answer and stream events: what every wire can be translated to and from.

Frozen structs, no Django, no I/O. A codec in `providers.wire` turns one wire's JSON into these and back.
What a wire says that these cannot hold travels untouched in `extra`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct, field

Json = dict[str, Any]

# --- requests ---------------------------------------------------------------------------------------------

Role = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(Struct, frozen=True, tag="text"):
    text: str
    cache_control: Json | None = None
    citations: tuple[Json, ...] = ()


class ImagePart(Struct, frozen=True, tag="image"):
    """An image by `url`, or inline: `data` is base64 text and `media_type` names its type."""

    url: str = ""
    data: str = ""
    media_type: str = ""
    detail: str = ""
    cache_control: Json | None = None


class FilePart(Struct, frozen=True, tag="file"):
    """A document (PDF or text) by `url`, by provider `file_id`, or inline as base64 `data`."""

    url: str = ""
    file_id: str = ""
    data: str = ""
    media_type: str = ""
    name: str = ""
    cache_control: Json | None = None
    extra: Json = field(default_factory=dict)


class AudioPart(Struct, frozen=True, tag="audio"):
    """Inline audio: base64 `data` in `format` (wav, mp3...)."""

    data: str = ""
    format: str = ""


class ReasoningPart(Struct, frozen=True, tag="reasoning"):
    """What a model thought: `text` with the provider's `signature`, or only `redacted` (opaque) data."""

    text: str = ""
    signature: str = ""
    redacted: str = ""


class RefusalPart(Struct, frozen=True, tag="refusal"):
    text: str


class ToolCallPart(Struct, frozen=True, tag="tool_call"):
    """A call of a tool by the model. `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str
    cache_control: Json | None = None


class ToolResultPart(Struct, frozen=True, tag="tool_result"):
    """What a tool answered to the call `id`: text and images."""

    id: str
    parts: tuple[TextPart | ImagePart | FilePart, ...] = ()
    is_error: bool = False
    cache_control: Json | None = None


class OpaquePart(Struct, frozen=True, tag="opaque"):
    """A part that only wire `wire` can say (`value` is its JSON): kept for the same wire, refused by others."""

    wire: str
    value: Json


Part = (
    TextPart
    | ImagePart
    | FilePart
    | AudioPart
    | ReasoningPart
    | RefusalPart
    | ToolCallPart
    | ToolResultPart
    | OpaquePart
)


def named(part: Part) -> str:
    """What a part is, in a sentence for a client: "an audio part", "a tool result part"."""
    word = str(part.__struct_config__.tag).replace("_", " ")
    return f"{'an' if word[0] in 'aeio' else 'a'} {word} part"


class Message(Struct, frozen=True):
    role: Role
    parts: tuple[Part, ...]
    name: str = ""


class Tool(Struct, frozen=True):
    """A function the model may call. `parameters` is its JSON schema."""

    name: str
    description: str = ""
    parameters: Json = field(default_factory=dict)
    strict: bool | None = None
    cache_control: Json | None = None


class ToolChoice(Struct, frozen=True):
    """mode `named` calls for the tool `name`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class OutputFormat(Struct, frozen=True):
    """What shape the text must have: any JSON object, or JSON under `schema`."""

    type: Literal["json_object", "json_schema"]
    name: str = ""
    schema: Json = field(default_factory=dict)
    strict: bool | None = None
    description: str = ""


class Reasoning(Struct, frozen=True):
    """How much to think: an `effort` word, or a `budget_tokens` count, or `enabled=False` for not at all.

    `hidden`: the client said that it does not want to read the thoughts, which is no reason to think less.
    """

    effort: str = ""
    budget_tokens: int | None = None
    enabled: bool = True
    adaptive: bool = False
    hidden: bool = False


class Request(Struct, frozen=True):
    """One chat request. System and developer messages stand in `messages`, where the client put them."""

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output_format: OutputFormat | None = None
    reasoning: Reasoning | None = None
    n: int = 1
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str = ""
    metadata: Json = field(default_factory=dict)
    service_tier: str = ""
    # Fields of the client's wire that have no place above, by their wire's name. The same wire gets them back;
    # another wire refuses them by name, or drops them where the client said `drop_unsupported`.
    extra: Json = field(default_factory=dict)
    wire: str = ""

    @property
    def wants_one_call(self) -> bool:
        """Must the provider be told to call one tool at a time? A named tool is called exactly once as it is:
        https://platform.openai.com/docs/guides/function-calling
        """
        named = self.tool_choice is not None and self.tool_choice.mode == "named"
        return self.parallel_tool_calls is False and not named


# --- usage ------------------------------------------------------------------------------------------------

UsageSource = Literal["reported", "partial", "estimated", "none"]


class Usage(Struct, frozen=True):
    """What one call used, as TOTALS by meter code (see `ledger/meters.py`).

    `input` contains cache reads and writes and every input modality; `output` contains reasoning. Flat meters
    (`web_searches`, `search_units`...) are counts. `ledger.meters` subtracts the totals into disjoint leaves.
    `flags` name what was odd about the provider's numbers. `raw` is the provider's own object, kept as it came.
    `variant` is what was made, in the word that rates have for it ("hd-1024x1792", a search context's "high").
    `counted` is what the gateway counted itself, by meter: it stands in for totals on a sheet that prices it instead.
    """

    totals: dict[str, int | Decimal] = field(default_factory=dict)
    source: UsageSource = "none"
    raw: Json | None = None
    flags: tuple[str, ...] = ()
    service_tier: str = ""
    speed: str = ""
    region: str = ""
    variant: str = ""
    stated_cost_usd: Decimal | None = None
    counted: dict[str, int | Decimal] | None = None


NO_USAGE = Usage()

# --- answers ----------------------------------------------------------------------------------------------

StopReason = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "stop_sequence", "pause", "context_window", "unknown"
]


class Choice(Struct, frozen=True):
    parts: tuple[Part, ...]
    stop_reason: StopReason = "unknown"
    stop_sequence: str = ""
    index: int = 0
    logprobs: Json | None = None
    # What the provider says of this choice beyond the above, for its own wire: no other has a place for it.
    extra: Json = field(default_factory=dict)


class Answer(Struct, frozen=True):
    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage = NO_USAGE
    created: int = 0
    extra: Json = field(default_factory=dict)
    wire: str = ""


# --- stream events ----------------------------------------------------------------------------------------
# A stream is: Started, then for each part PartStarted, PartDelta..., PartStopped, then Stopped for each choice,
# then Finished with the usage. `index` counts the parts of a choice from 0. A provider's error inside a stream is
# raised as a ProviderError, never an event.


class Started(Struct, frozen=True):
    id: str
    model: str
    created: int = 0
    usage: Usage = NO_USAGE


class PartStarted(Struct, frozen=True):
    """`part` is the empty or first piece of the part: a ToolCallPart has its id and name here."""

    index: int
    part: Part
    choice: int = 0


class PartDelta(Struct, frozen=True):
    """What to append to part `index`: text for text, refusal and reasoning parts, JSON text for a tool call."""

    index: int
    text: str = ""
    signature: str = ""
    citation: Json | None = None
    logprobs: Json | None = None
    choice: int = 0


class PartStopped(Struct, frozen=True):
    index: int
    choice: int = 0


class Stopped(Struct, frozen=True):
    """One choice ended, and why."""

    reason: StopReason
    stop_sequence: str = ""
    choice: int = 0


class Finished(Struct, frozen=True):
    """The stream ended as the provider meant it to; `usage` is final."""

    usage: Usage = NO_USAGE


Event = Started | PartStarted | PartDelta | PartStopped | Stopped | Finished
