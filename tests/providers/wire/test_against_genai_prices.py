"""Our readers against those of the price package, which knows each provider's fields by itself: any counts, one usage.

What is drawn is what the provider may send: parts within their whole, present or absent. What only we read, and what we
clamp, has tests of its own beside each wire's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from genai_prices import extract_usage
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from providers.unified import Usage
from providers.wire import (
    anthropic_messages,
    bedrock_converse,
    cohere,
    gemini,
    openai_chat,
    openai_embeddings,
    openai_responses,
)
from providers.wire.bedrock_invoke import usage as bedrock_invoke

Json = dict[str, Any]
Draw = Callable[[st.DrawFn], Json]
Read = Callable[[bytes], Usage]

# Our meter -> the package's name of the same total.
SAME = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "reasoning": "output_reasoning_tokens",
    "citation": "output_citation_tokens",
    "web_searches": "web_searches",
    **{f"input_{modality}": f"input_{modality}_tokens" for modality in ("audio", "image", "video")},
    **{f"output_{modality}": f"output_{modality}_tokens" for modality in ("audio", "image", "video")},
    **{f"cache_read_{modality}": f"cache_{modality}_read_tokens" for modality in ("audio", "image", "video")},
}
COUNT = st.integers(min_value=0, max_value=3_000_000)
SEARCHES = st.integers(min_value=1, max_value=20)


class Case(Struct, frozen=True):
    """One provider's answer: what it may count, who reads it, and the package's names for all that."""

    provider: str
    flavor: str
    model: str
    read: Read
    usage: Draw
    root: str = "usage"

    def __str__(self) -> str:
        return f"{self.provider}-{self.flavor}"


def of_wire(wire: Any) -> Read:
    return lambda body: wire.read_usage(body)[0]


def parts(draw: st.DrawFn, whole: int, *names: str) -> Json:
    """Counts that fit into `whole` together; any of them may be absent, null or zero."""
    found: Json = {}
    for name in names:
        if draw(st.booleans()):
            found[name] = draw(st.none() | st.integers(min_value=0, max_value=whole))
            whole -= found[name] or 0
    return found


def maybe(draw: st.DrawFn, value: Any) -> Any:
    """`value`, or now and then null: what holds nothing comes as both."""
    return value if value or draw(st.booleans()) else None


def chat(*cached: str, reasoning: bool = True, audio: bool = True) -> Draw:
    """OpenAI's chat: prompt_tokens holds everything read, completion_tokens everything written."""

    def usage(draw: st.DrawFn) -> Json:
        read, made = draw(COUNT), draw(COUNT)
        prompt = parts(draw, read, *cached, *(["audio_tokens"] if audio else []))
        names = [*(["reasoning_tokens"] if reasoning else []), *(["audio_tokens"] if audio else [])]
        return {
            "prompt_tokens": read,
            "completion_tokens": made,
            "total_tokens": read + made,
            "prompt_tokens_details": maybe(draw, prompt),
            "completion_tokens_details": maybe(draw, parts(draw, made, *names)),
        }

    return usage


def perplexity(draw: st.DrawFn) -> Json:
    read, made = draw(COUNT), draw(COUNT)
    beside = {name: draw(COUNT) for name in ("reasoning_tokens", "citation_tokens") if draw(st.booleans())}
    return {
        "prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made,
        "search_context_size": "low", "num_search_queries": draw(SEARCHES), **beside,
    }  # fmt: skip


def xai(draw: st.DrawFn) -> Json:
    """The total is the sum of all three; thoughts stand beside the completion."""
    read, made, thought = draw(COUNT), draw(COUNT), draw(COUNT)
    return {
        "prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made + thought,
        "prompt_tokens_details": parts(draw, read, "cached_tokens"),
        "completion_tokens_details": {"reasoning_tokens": thought},
    }  # fmt: skip


def databricks(draw: st.DrawFn) -> Json:
    read, made = draw(COUNT), draw(COUNT)
    return {
        "prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made,
        **parts(draw, read, "cache_read_input_tokens"), **parts(draw, made, "reasoning_tokens"),
    }  # fmt: skip


def responses(*cached: str) -> Draw:
    def usage(draw: st.DrawFn) -> Json:
        read, made = draw(COUNT), draw(COUNT)
        return {
            "input_tokens": read, "output_tokens": made, "total_tokens": read + made,
            "input_tokens_details": maybe(draw, parts(draw, read, *cached)),
            "output_tokens_details": maybe(draw, parts(draw, made, "reasoning_tokens")),
        }  # fmt: skip

    return usage


def anthropic(draw: st.DrawFn) -> Json:
    short, long, made = draw(COUNT), draw(COUNT), draw(COUNT)
    counts: Json = {"input_tokens": draw(COUNT), "output_tokens": made}
    if draw(st.booleans()):
        counts["cache_read_input_tokens"] = draw(st.none() | COUNT)
    if draw(st.booleans()):
        counts["cache_creation_input_tokens"] = short + long
        counts["cache_creation"] = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}
    elif draw(st.booleans()):
        counts["cache_creation_input_tokens"] = short
    return counts


def searched(draw: st.DrawFn) -> Json:
    """Anthropic's own, which has tools that its hosts do not."""
    used = {"web_search_requests": draw(SEARCHES), "web_fetch_requests": draw(COUNT)}
    return {**anthropic(draw), "server_tool_use": draw(st.sampled_from([None, used]))}


def bedrock(draw: st.DrawFn) -> Json:
    short, long = draw(COUNT), draw(COUNT)
    counts: Json = {"inputTokens": draw(COUNT), "outputTokens": draw(COUNT)}
    if draw(st.booleans()):
        counts["cacheReadInputTokens"] = draw(COUNT)
    if draw(st.booleans()):
        counts["cacheWriteInputTokens"] = short + long
        details = [{"ttl": "5m", "inputTokens": short}, {"ttl": "1h", "inputTokens": long}]
        counts["cacheDetails"] = details if draw(st.booleans()) else details[::-1]
    return counts


def google(draw: st.DrawFn) -> Json:
    """A zero is not written; each whole has its modalities, and the cached ones lie within those of the prompt."""
    prompt = {modality: draw(COUNT) for modality in ("TEXT", "IMAGE", "AUDIO", "VIDEO") if draw(st.booleans())}
    held = {modality: draw(st.integers(0, number)) for modality, number in prompt.items() if draw(st.booleans())}
    made = {modality: draw(COUNT) for modality in ("TEXT", "IMAGE", "AUDIO") if draw(st.booleans())}
    tools = {"TEXT": draw(COUNT)} if draw(st.booleans()) else {}
    thoughts = draw(st.none() | COUNT)
    counts: Json = {"totalTokenCount": sum((*prompt.values(), *made.values(), *tools.values(), thoughts or 0))}
    for name, details, listed in (
        ("promptTokenCount", "promptTokensDetails", prompt or {"TEXT": 1}),
        ("cachedContentTokenCount", "cacheTokensDetails", held),
        ("candidatesTokenCount", "candidatesTokensDetails", made),
        ("toolUsePromptTokenCount", "toolUsePromptTokensDetails", tools),
    ):
        if listed:
            counts[name] = sum(listed.values())
            counts[details] = [{"modality": word, "tokenCount": number} for word, number in listed.items()]
    counts["totalTokenCount"] += 0 if prompt else 1
    return counts if thoughts is None else {**counts, "thoughtsTokenCount": thoughts}


def billed(draw: st.DrawFn) -> Json:
    """Cohere bills less than the model read."""
    return {
        "billed_units": {"input_tokens": draw(COUNT), "output_tokens": draw(COUNT)},
        "tokens": {"input_tokens": draw(COUNT), "output_tokens": draw(COUNT)},
    }  # fmt: skip


def embedded(draw: st.DrawFn) -> Json:
    read = draw(COUNT)
    return {"prompt_tokens": read, "total_tokens": read}


CHAT, RESPONSES = of_wire(openai_chat.WIRE), of_wire(openai_responses.WIRE)
CLAUDE = "claude-sonnet-4-5"
CASES = (
    Case("openai", "chat", "gpt-4o", CHAT, chat("cached_tokens", "cache_write_tokens")),
    Case("azure", "chat", "gpt-4o", CHAT, chat("cached_tokens", "cache_write_tokens")),
    Case("deepseek", "chat", "deepseek-chat", CHAT, chat("cached_tokens", audio=False)),
    Case("groq", "default", "openai/gpt-oss-120b", CHAT, chat("cached_tokens")),
    Case("mistral", "default", "mistral-large-latest", CHAT, chat("cached_tokens", audio=False)),
    Case("moonshotai", "chat", "kimi-k2-thinking", CHAT, chat("cached_tokens", "cache_write_tokens", audio=False)),
    Case("openrouter", "chat", "openai/gpt-4o", CHAT, chat("cached_tokens", "cache_write_tokens")),
    Case("google", "chat", "gemini-2.5-flash", CHAT, chat("cached_tokens")),
    Case("databricks", "chat", "databricks-gpt-oss-120b", CHAT, databricks),
    Case("perplexity", "default", "sonar-deep-research", CHAT, perplexity),
    Case("x-ai", "chat", "grok-4-fast-reasoning", CHAT, xai),
    Case("openai", "responses", "gpt-4o", RESPONSES, responses("cached_tokens", "cache_write_tokens")),
    Case("azure", "responses", "gpt-4o", RESPONSES, responses("cached_tokens", "cache_write_tokens")),
    Case("x-ai", "responses", "grok-4-fast-reasoning", RESPONSES, responses("cached_tokens")),
    Case("perplexity", "responses", "sonar", RESPONSES, responses("cache_read_input_tokens")),
    Case("anthropic", "default", CLAUDE, of_wire(anthropic_messages.WIRE), searched),
    Case("aws", "default", f"us.anthropic.{CLAUDE}-20250929-v1:0", of_wire(bedrock_converse.WIRE), bedrock),
    Case("aws", "anthropic", f"us.anthropic.{CLAUDE}-20250929-v1:0", bedrock_invoke.of_answer, anthropic),
    Case("google", "default", "gemini-2.5-flash", of_wire(gemini.WIRE), google, root="usageMetadata"),
    Case("cohere", "default", "command-r", of_wire(cohere.WIRE), billed),
    Case("openai", "embeddings", "text-embedding-3-small", of_wire(openai_embeddings.WIRE), embedded),
)


@pytest.mark.parametrize("case", CASES, ids=str)
@given(data=st.data())
def test_every_count_is_read_as_the_price_package_reads_it(case: Case, data: st.DataObject) -> None:
    counts = data.draw(st.composite(case.usage)())
    body = {"model": case.model, "modelVersion": case.model, case.root: counts}
    ours = case.read(json.dumps(body).encode())
    theirs = extract_usage(body, provider_id=case.provider, api_flavor=case.flavor).usage
    for meter, name in SAME.items():
        assert ours.totals.get(meter, 0) == (_told(theirs, name) or 0), meter
    written = sum(number for meter, number in ours.totals.items() if meter.startswith("cache_write"))
    assert written == (_told(theirs, "cache_write_tokens") or 0)
    assert (ours.source, ours.flags) == ("reported", ())


def _told(usage: Any, name: str) -> int | None:
    """A count of the package's, None where it has none; what it would have to infer from others it refuses to say."""
    return usage.__dict__.get(name)  # type: ignore[no-any-return]
