"""Each recorded API has its usage read exactly and priced to the last digit: here, or in a test that is named here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger.meters import disjoint
from ledger.money import quantize_usd
from ledger.rating import Conditions, rate
from providers import ndjson, sse
from providers.errors import MalformedAnswer
from providers.sse import ServerEvent
from providers.unified import Usage
from providers.wire import cohere_embed, cohere_rerank, gemini_embed, ollama, openai_completions, openai_embeddings
from providers.wire.bedrock_invoke import frames
from providers.wire.bedrock_invoke import usage as bedrock
from providers.wire.cohere import v1
from providers.wire.gemini import interactions
from tests.ledger.test_recorded_costs import ledger_is_stricter, sheet_from
from tests.recordings import REASON, Exchange, answer_bytes, cases, exchanges

HERE = Path(__file__).parent
Read = Callable[[Exchange, bytes], Usage]


def _whole(wire: Any) -> Read:
    return lambda exchange, body: wire.read_usage(body)[0]


def _frames(decoder: Any, body: bytes) -> list[ServerEvent]:
    return [*decoder.feed(body), *decoder.end()]


def _ollama(exchange: Exchange, body: bytes) -> Usage:
    if not exchange["stream"]:
        return ollama.WIRE.read_usage(body)[0]
    meter = ollama.WIRE.stream_meter(admitted=None)  # type: ignore[arg-type]  # it reads nothing of the request
    for line in _frames(ndjson.Decoder(), body):
        meter.see(line)
    return meter.usage


def _completions(exchange: Exchange, body: bytes) -> Usage:
    if not exchange["stream"]:
        return openai_completions.WIRE.read_usage(body)[0]
    asked = b'{"model": "m", "stream": true, "stream_options": {"include_usage": true}}'
    meter = openai_completions.WIRE.stream_meter(admitted=openai_completions.WIRE.admit(asked))
    for event in _frames(sse.Decoder(), body):
        meter.see(event)
    return meter.usage


def _invoke(exchange: Exchange, body: bytes) -> Usage:
    if not exchange["stream"]:
        return bedrock.of_answer(body, exchange["response_headers_subset"])
    return bedrock.of_stream(_frames(frames.Decoder(), body))


def _cohere_v1(exchange: Exchange, body: bytes) -> Usage:
    return v1.of_stream(_frames(ndjson.Decoder(), body)) if exchange["stream"] else v1.read_usage(body)


def _interaction(exchange: Exchange, body: bytes) -> Usage:
    events = _frames(sse.Decoder(), body)
    return interactions.of_stream(events)[0] if exchange["stream"] else interactions.read_usage(body)[0]


READERS: dict[str, Read] = {
    "bedrock.invoke": _invoke,
    "cohere.embed": _whole(cohere_embed.WIRE),
    "cohere.generate": _cohere_v1,
    "cohere.v1.chat": _cohere_v1,
    "completions": _completions,
    "embeddings": _whole(openai_embeddings.WIRE),
    "gemini.batchEmbedContents": _whole(gemini_embed.BATCH),
    "gemini.embedContent": _whole(gemini_embed.SINGLE),
    "gemini.interactions": _interaction,
    "gemini.predict": _whole(gemini_embed.PREDICT),
    "ollama.chat": _ollama,
    "ollama.generate": _ollama,
    "rerank": _whole(cohere_rerank.WIRE),
}
ELSEWHERE = {
    "anthropic.messages": "test_anthropic_messages_recordings.py",
    "bedrock.converse": "test_bedrock_converse_recorded.py",
    "chat": "test_openai_chat_recorded.py",
    "cohere.v2.chat": "test_cohere_stream.py",
    "gemini.generate": "test_gemini_recorded.py",
    "responses": "test_openai_responses_recorded.py",
}
# What answers with a number of tokens bills none.
COUNTS_NOTHING = frozenset({"anthropic.count_tokens", "bedrock.count_tokens", "gemini.countTokens"})
MEDIA = ("audio.", "images.")
# Meters of ours that say more than the independent readers do.
FINER = {"input_image", "input_audio", "input_video"}


def of_media(exchange: Exchange) -> bool:
    return str(exchange["api"]).startswith(MEDIA)


def has_usage(exchange: Exchange) -> bool:
    return exchange["api"] in READERS and bool((exchange.get("expected") or {}).get("usage"))


def is_priced(exchange: Exchange) -> bool:
    expected = exchange.get("expected") or {}
    return has_usage(exchange) and bool(
        expected.get("cost_usd") and not ledger_is_stricter(expected["rates"], expected["usage"])
    )


RECORDED = cases(exchanges(failed=False, where=has_usage))
PRICED = cases(exchanges(failed=False, where=is_priced))


def usage_of(exchange: Exchange) -> Usage:
    return READERS[exchange["api"]](exchange, answer_bytes(exchange))


@pytest.mark.parametrize("exchange", RECORDED)
def test_the_usage_is_what_independent_readers_say(exchange: Exchange) -> None:
    usage = usage_of(exchange)
    wanted = {name: count for name, count in exchange["expected"]["usage"].items() if count}
    wanted |= {"input_image": wanted.pop("image_in")} if "image_in" in wanted else {}
    told = {meter: count for meter, count in usage.totals.items() if count}
    assert {meter: count for meter, count in told.items() if meter in wanted or meter not in FINER} == wanted
    assert usage.source == "reported"
    assert [flag for flag in usage.flags if not flag.startswith("unmetered:")] == []
    assert usage.raw is not None


@pytest.mark.parametrize("exchange", PRICED)
def test_the_cost_is_what_an_independent_price_package_says(exchange: Exchange) -> None:
    expected, usage = exchange["expected"], usage_of(exchange)
    rating = rate(
        sheet=sheet_from(expected["rates"]),
        meters=disjoint(usage.totals).meters,
        input_total=int(usage.totals.get("input", 0)),
        conditions=Conditions(at=datetime(2026, 11, 23, tzinfo=UTC)),
    )
    assert (rating.unpriced_reason, rating.cost_usd) == ("", quantize_usd(Decimal(expected["cost_usd"])))


def test_every_recorded_api_is_read_here_or_where_this_says() -> None:
    found = {exchange["api"] for exchange in exchanges(where=lambda exchange: not of_media(exchange))}
    if not found:
        pytest.skip(REASON)
    assert found <= READERS.keys() | ELSEWHERE.keys() | COUNTS_NOTHING
    assert [name for name in ELSEWHERE.values() if not (HERE / name).is_file()] == []


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_answer_is_an_error_or_has_no_usage(name: str, stream: bool) -> None:
    exchange = {"stream": stream, "response_headers_subset": {}, "api": name}
    for body in (b"{}", b'{"usage": 3, "meta": 4}', b"nonsense"):
        try:
            usage = READERS[name](exchange, body)
        except MalformedAnswer:
            continue
        assert usage.source == "none"


# --- what only these readers know ---------------------------------------------------------------------------


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


def test_a_stream_of_coheres_first_version_tells_at_its_end_what_it_bills() -> None:
    units = {"billed_units": {"input_tokens": 7, "output_tokens": 115}, "tokens": {"input_tokens": 69}}
    text = {"event_type": "text-generation", "text": '"stream-end"'}
    end = {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"text": "Arr", "meta": units}}
    usage = v1.of_stream(_frames(ndjson.Decoder(), lines(text, end)))
    assert (usage.totals, usage.raw) == ({"input": 7, "output": 115}, units)
    assert v1.of_stream(_frames(ndjson.Decoder(), lines(text))).source == "none"


def test_an_interaction_counts_thoughts_tools_and_what_was_cached() -> None:
    counts = {
        "total_input_tokens": 100, "total_cached_tokens": 40, "total_output_tokens": 3, "total_thought_tokens": 57,
        "total_tool_use_tokens": 10, "total_tokens": 170,
        "input_tokens_by_modality": [{"modality": "audio", "tokens": 30}, {"modality": "text", "tokens": 70}],
    }  # fmt: skip
    body = msgspec.json.encode({"model": "gemini-x", "service_tier": "flex", "usage": counts})
    usage, model = interactions.read_usage(body)
    assert usage.totals == {"input": 110, "cache_read": 40, "input_audio": 30, "output": 60, "reasoning": 57}
    assert (usage.service_tier, usage.raw, model) == ("flex", counts, "gemini-x")


def test_an_interaction_cut_short_has_told_a_part() -> None:
    running = {"total_input_tokens": 11, "total_output_tokens": 0, "total_thought_tokens": 68, "total_tokens": 79}
    begun = {"interaction": {"model": "gemini-x"}, "metadata": {"usage": running}}
    usage, model = interactions.of_stream(_frames(sse.Decoder(), sse.encode(data=msgspec.json.encode(begun))))
    assert (usage.totals, usage.source, model) == (
        {"input": 11, "output": 68, "reasoning": 68}, "partial", "gemini-x",
    )  # fmt: skip
