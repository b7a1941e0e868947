"""What differs among the many servers that speak the OpenAI chat wire, as data: an adapter states its dialect."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

CapField = Literal["max_completion_tokens", "max_tokens"]
ReasoningField = Literal["", "reasoning", "reasoning_content", "reasoning_details", "thinking"]


class Dialect(Struct, frozen=True):
    """The default is a server that knows every field of OpenAI's own API, and the reasoning that others added to it.

    `cap_field`: the name of the output cap. With "max_tokens" the server is taken to know no other, and would run
    uncapped where a client used the newer name.
    `reasoning_field`: the field of an assistant message that carries earlier reasoning of another wire's client back;
    "" leaves it out, for servers that refuse a message with such a field and keep no reasoning between turns;
    "thinking" makes it a part of the content (Mistral).
    `unexplained_total`: what total_tokens beyond prompt + completion is: thinking that was left out of the completion
    (Gemini's endpoint, xAI), or nothing. Audio seconds in the usage say input audio whatever stands here (Mistral).
    `renamed`: fields of the body that the server knows by another name. `refused`: those that it answers with an error.
    """

    cap_field: CapField = "max_completion_tokens"
    stream_usage: bool = True
    developer_role: bool = True
    top_k: bool = False
    cache_control: bool = False
    reasoning_field: ReasoningField = "reasoning_content"
    # `reasoning: {"effort" | "max_tokens" | "enabled"}` instead of `reasoning_effort`.
    reasoning_object: bool = False
    # Images and files may stand inside a tool message. Where not, they follow in a user message.
    media_in_tool_results: bool = False
    unexplained_total: Literal["output", "ignore"] = "output"
    renamed: dict[str, str] = {}
    refused: tuple[str, ...] = ()
    required_word: Literal["required", "any"] = "required"
    # May a message name its author.
    message_names: bool = True
    # A file as `document_url`, and audio as bare base64.
    document_urls: bool = False
    bare_audio: bool = False


# OpenAI's chat keeps no reasoning between turns, and its messages have no field for any.
OPENAI = Dialect(reasoning_field="")
