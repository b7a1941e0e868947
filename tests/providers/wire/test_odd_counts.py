"""Counts that no provider should send: on every wire they crash nothing, bill nothing, and are estimated instead."""

from __future__ import annotations

from decimal import Decimal

import pytest

from gateway.settlement import estimated
from providers import eventstream
from providers.sse import encode
from providers.unified import Usage
from providers.wire.base import Wire
from providers.wire.unstreamed import ProviderSide
from tests.providers.wire import streamed

# JSON text of a count -> whether something must be said of it (a null says nothing).
ODD = {
    "null": False, '"12"': True, "-3": True, "NaN": True, "1000000000000000000": True, "1e400": True, "1.5": True,
    "true": True, "[]": True, '{"a": 1}': True,
}  # fmt: skip
TEXT = "The books balance."

# A whole answer that wrote TEXT, with %(given)s and %(made)s where its counts stand.
WHOLE: dict[str, str] = {
    "openai_chat": """{"id": "c", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message":
        {"role": "assistant", "content": "%(text)s"}}],
        "usage": {"prompt_tokens": %(given)s, "completion_tokens": %(made)s}}""",
    "anthropic_messages": """{"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason":
        "end_turn", "content": [{"type": "text", "text": "%(text)s"}],
        "usage": {"input_tokens": %(given)s, "output_tokens": %(made)s}}""",
    "openai_responses": """{"id": "r", "object": "response", "model": "m", "status": "completed", "output": [{"type":
        "message", "id": "i", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text":
        "%(text)s", "annotations": []}]}], "usage": {"input_tokens": %(given)s, "output_tokens": %(made)s}}""",
    "gemini": """{"candidates": [{"content": {"role": "model", "parts": [{"text": "%(text)s"}]}, "finishReason":
        "STOP"}], "modelVersion": "m", "responseId": "r",
        "usageMetadata": {"promptTokenCount": %(given)s, "candidatesTokenCount": %(made)s}}""",
    "cohere_chat": """{"id": "c", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": [{"type":
        "text", "text": "%(text)s"}]},
        "usage": {"billed_units": {"input_tokens": %(given)s, "output_tokens": %(made)s}}}""",
    "bedrock_converse": """{"output": {"message": {"role": "assistant", "content": [{"text": "%(text)s"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": %(given)s, "outputTokens": %(made)s}}""",
    "ollama_chat": """{"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": {"role": "assistant", "content":
        "%(text)s"}, "done": true, "done_reason": "stop", "prompt_eval_count": %(given)s, "eval_count": %(made)s}""",
}  # fmt: skip
_MESSAGE = '"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null'
# The same as the events of a stream: (event type, data).
EVENTS: dict[str, list[tuple[str, str]]] = {
    "openai_chat": [
        ("", '{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "%(text)s"}}]}'),
        ("", '{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'),
        ("", '{"id": "c", "choices": [], "usage": {"prompt_tokens": %(given)s, "completion_tokens": %(made)s}}'),
        ("", "[DONE]"),
    ],
    "anthropic_messages": [
        ("", '{"type": "message_start", "message": {' + _MESSAGE + ', "usage": {"input_tokens": %(given)s}}}'),
        ("", '{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "%(text)s"}}'),
        ("", '{"type": "content_block_stop", "index": 0}'),
        ("", '{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": %(made)s}}'),
        ("", '{"type": "message_stop"}'),
    ],
    "openai_responses": [
        ("", '{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "%(text)s"}'),
        ("", '{"type": "response.completed", "response": ' + WHOLE["openai_responses"].replace("\n", " ") + "}"),
    ],
    "gemini": [("", WHOLE["gemini"].replace("\n", " "))],
    "cohere_chat": [
        ("", '{"type": "message-start", "id": "c"}'),
        ("", '{"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "%(text)s"}}}}'),
        ("", '{"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": '
             '{"input_tokens": %(given)s, "output_tokens": %(made)s}}}}'),
    ],
    "bedrock_converse": [
        ("messageStart", '{"role": "assistant"}'),
        ("contentBlockDelta", '{"contentBlockIndex": 0, "delta": {"text": "%(text)s"}}'),
        ("messageStop", '{"stopReason": "end_turn"}'),
        ("metadata", '{"usage": {"inputTokens": %(given)s, "outputTokens": %(made)s}}'),
    ],
    "ollama_chat": [("", WHOLE["ollama_chat"].replace("\n", " "))],
}  # fmt: skip

WIRES: dict[str, Wire] = {wire.name: wire for _, wire in reversed(streamed.wires())}
every_wire = pytest.mark.parametrize("name", sorted(WIRES))
every_odd_count = pytest.mark.parametrize("odd", ODD)
every_place = pytest.mark.parametrize("place", ["given", "made"])


def filled(template: str, counts: dict[str, str]) -> bytes:
    return (template % {"text": TEXT, "given": "11", "made": "5", **counts}).encode()


def stream_of(name: str, counts: dict[str, str]) -> bytes:
    told = [(event, filled(data, counts)) for event, data in EVENTS[name]]
    if name == "bedrock_converse":
        return b"".join(eventstream.encode_event(event=event, data=data) for event, data in told)
    if name == "ollama_chat":
        return b"".join(data + b"\n" for _, data in told)
    return b"".join(encode(data=data, event=event) for event, data in told)


def metered(wire: Wire, body: bytes) -> list[Usage]:
    """What the reader and, where clients speak the wire, the meter of a stream say at its end."""
    frames = streamed.frames(wire, [body])
    reader = wire.stream_reader()
    for frame in frames:
        reader.feed(frame)
    reader.end()
    if isinstance(wire, ProviderSide):
        return [reader.usage]
    meter = wire.stream_meter(admitted=streamed.ADMITTED)
    for frame in frames:
        meter.see(frame)
    return [reader.usage, meter.usage]


def test_every_wire_of_the_registry_is_among_them() -> None:
    assert set(WHOLE) == set(EVENTS) == set(WIRES)


@every_wire
def test_usual_counts_are_reported_and_not_estimated(name: str) -> None:
    wire = WIRES[name]
    usages = [wire.read_usage(filled(WHOLE[name], {}))[0], *metered(wire, stream_of(name, {}))]
    for usage in usages:
        assert (usage.source, usage.totals["input"], usage.totals["output"]) == ("reported", 11, 5)
        assert not [flag for flag in usage.flags if not flag.startswith("derived")]


@every_place
@every_odd_count
@every_wire
def test_an_odd_count_is_flagged_and_estimated_in_a_whole_answer(name: str, odd: str, place: str) -> None:
    body = filled(WHOLE[name], {place: odd})
    assert_estimated(WIRES[name].read_usage(body)[0], odd, place)
    assert_estimated(WIRES[name].decode_answer(body).usage, odd, place)


@every_place
@every_odd_count
@every_wire
def test_an_odd_count_is_flagged_and_estimated_in_a_stream(name: str, odd: str, place: str) -> None:
    for usage in metered(WIRES[name], stream_of(name, {place: odd})):
        assert_estimated(usage, odd, place)


def assert_estimated(usage: Usage, odd: str, place: str) -> None:
    assert usage.source in ("none", "partial"), "what is reported is billed as it stands"
    assert {"given": "input", "made": "output"}[place] not in usage.totals
    assert bool(usage.flags) or not ODD[odd]
    assert isinstance(usage.raw, dict), "the provider's own object is kept"
    for number in usage.totals.values():
        assert isinstance(number, int | Decimal)
        assert number >= 0
    settled = estimated(usage, input_tokens=7, output_bytes=len(TEXT))
    assert settled.totals["input"] in (7, 11)
    assert settled.totals["output"] == 5
