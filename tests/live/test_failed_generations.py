"""A provider that accepts the work and fails at it: a typed error for the client, what was used for the books."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from ledger.models import Call
from tests.live import books
from tests.live.gateway import Gateway, usd
from tests.live.streams import frame
from tests.upstream import answer, events

USED = {"input_tokens": 20, "output_tokens": 6, "total_tokens": 26}
FAILED = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "up", "output": [], "status": "failed",
    "error": {"code": "server_error", "message": "The model fell over."}, "usage": USED,
}  # fmt: skip
BILLED = {"billed_units": {"input_tokens": 20, "output_tokens": 6}, "tokens": {"input_tokens": 90, "output_tokens": 6}}
ENDED = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "The model fell over.", "usage": BILLED}}


def assert_what_was_used_is_booked(call: Call) -> None:
    assert (call.outcome, call.error_code) == ("failed", "provider_error")
    assert (call.usage_source, call.input_tokens, call.output_tokens) == ("reported", 20, 6)
    assert (call.cost_usd, call.cost_source) == (usd(20, 6), "computed")


def test_a_response_that_fails_in_its_last_event_is_booked_with_its_usage(gateway: Gateway) -> None:
    account = gateway.account(wire="openai")
    delta = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Half an answ"}
    created = {"type": "response.created", "response": {**FAILED, "status": "in_progress", "usage": None}}
    gateway.upstream.script(
        events([frame(created), frame(delta), frame({"type": "response.failed", "response": FAILED})])
    )
    body = json.dumps({"model": account.model.name, "input": "Hi", "stream": True}).encode()
    got = gateway.post("/v1/responses", body, headers=account.headers).content
    assert b"Half an answ" in got
    assert b"The model fell over." in got
    assert_what_was_used_is_booked(books.call_of(account.key.pk))


@pytest.mark.parametrize("surface", ["chat", "messages"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_generation_that_fails_at_its_end_is_booked_with_its_usage(
    gateway: Gateway, surface: str, stream: bool
) -> None:
    account = gateway.account(wire="cohere")
    whole = {"id": "c", "finish_reason": "ERROR", "message": {"role": "assistant", "content": []}, "usage": BILLED}
    started = frame({"type": "message-start", "id": "c"})
    gateway.upstream.script(events([started, frame(ENDED)]) if stream else answer(body=json.dumps(whole).encode()))
    answered = (gateway.chat if surface == "chat" else gateway.messages)(account, stream=stream)
    assert answered.status_code == (200 if stream else 502)
    assert b"provider_error" in answered.content
    assert_what_was_used_is_booked(books.call_of(account.key.pk))


@pytest.mark.parametrize("surface", ["chat", "messages"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_error_inside_a_200_is_told_by_its_code_and_its_cost_is_unknown(
    gateway: Gateway, surface: str, stream: bool
) -> None:
    account = gateway.account(limits=(("usd", "day", "1000"),))
    error = {"error": {"message": "Overloaded", "type": "overloaded_error", "code": 529}}
    gateway.upstream.script(events([frame(error)]) if stream else answer(body=json.dumps(error).encode()))
    answered = (gateway.chat if surface == "chat" else gateway.messages)(account, stream=stream)
    assert answered.status_code == (200 if stream else 503)
    assert b"provider_overloaded" in answered.content
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code, call.http_status) == ("failed", "provider_overloaded", 200)
    if stream:
        # Nothing was written before it: the question alone is counted.
        assert (call.usage_source, call.output_tokens) == ("estimated", 0)
    else:
        assert (call.cost_usd, call.cost_source) == (None, "unknown")
        assert call.counted_usd > Decimal(0)
