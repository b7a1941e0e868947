"""Cohere's whole answers, what it bills, and its errors."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anthropic.types import Message as AnthropicMessage
from openai.types.chat import ChatCompletion

from ledger.meters import METERS
from providers import errors
from providers.unified import Answer, Choice, Part, ReasoningPart, TextPart, ToolCallPart, Usage
from providers.wire import anthropic_messages, openai_chat
from providers.wire.cohere import WIRE
from tests.recordings import Exchange, answer_bytes, cases, exchanges

USAGE = {"billed_units": {"input_tokens": 12, "output_tokens": 7}, "tokens": {"input_tokens": 500, "output_tokens": 9}}
CITATION = {
    "start": 0,
    "end": 5,
    "text": "Paris",
    "sources": [{"type": "document", "id": "d1", "document": {"url": "https://h/p", "title": "P"}}],
    "type": "TEXT_CONTENT",
}


def answer(*, message: dict[str, Any] | None = None, usage: Any = USAGE, **fields: Any) -> bytes:
    content = [{"type": "thinking", "thinking": "where?"}, {"type": "text", "text": "Paris."}]
    usual = {"role": "assistant", "content": content, "citations": [CITATION]}
    value = {"id": "a1", "finish_reason": "COMPLETE", "message": usual if message is None else message, "usage": usage}
    return msgspec.json.encode(value | fields)


def test_an_answer_with_thoughts_and_citations() -> None:
    decoded = WIRE.decode_answer(answer())
    thought, text = decoded.choices[0].parts
    assert thought == ReasoningPart(text="where?")
    assert isinstance(text, TextPart)
    assert (text.text, text.citations[0]["url"], text.citations[0]["start_index"]) == ("Paris.", "https://h/p", 0)
    assert (decoded.id, decoded.choices[0].stop_reason) == ("a1", "stop")


def test_tool_calls_come_after_their_plan() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    message = {"role": "assistant", "tool_plan": "I will add.", "tool_calls": [call]}
    decoded = WIRE.decode_answer(answer(message=message, finish_reason="TOOL_CALL"))
    assert decoded.choices[0].parts == (
        TextPart(text="I will add."),
        ToolCallPart(id="c1", name="add", arguments='{"a":1}'),
    )
    assert decoded.choices[0].stop_reason == "tool_calls"


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("COMPLETE", "stop"),
        ("STOP_SEQUENCE", "stop_sequence"),
        ("MAX_TOKENS", "length"),
        ("TOOL_CALL", "tool_calls"),
        ("ERROR_TOXIC", "content_filter"),
        ("ERROR_LIMIT", "context_window"),
        ("ERROR", "unknown"),
        ("TOMORROW", "unknown"),
        (None, "unknown"),
    ],
)
def test_why_it_ended(word: str | None, reason: str) -> None:
    assert WIRE.decode_answer(answer(finish_reason=word)).choices[0].stop_reason == reason


def test_billed_units_are_the_usage_and_not_the_tokens() -> None:
    usage, model = WIRE.read_usage(answer())
    assert (usage.totals, usage.source, model) == ({"input": 12, "output": 7}, "reported", "")
    assert usage.raw == USAGE
    assert WIRE.decode_answer(answer()).usage == usage


def test_cached_tokens_are_billed_as_others() -> None:
    usage, _ = WIRE.read_usage(answer(usage={**USAGE, "cached_tokens": 5}))
    assert usage.totals == {"input": 12, "output": 7}


def test_tokens_count_where_nothing_is_billed() -> None:
    usage, _ = WIRE.read_usage(answer(usage={"tokens": {"input_tokens": 5, "output_tokens": 2}}))
    assert (usage.totals, usage.source, usage.flags) == (
        {"input": 5, "output": 2},
        "reported",
        ("derived:billed_units",),
    )


def test_search_units_are_told() -> None:
    units = {"input_tokens": 1, "output_tokens": 2, "search_units": 3}
    assert WIRE.read_usage(answer(usage={"billed_units": units}))[0].totals["search_units"] == 3


@pytest.mark.parametrize(
    ("tokens", "flag"),
    [(-1, "negative"), ("12", "not_a_number"), (1.5, "fraction"), (10**30, "too_large"), (True, "not_a_number")],
)
def test_a_count_that_cannot_be_is_flagged(tokens: Any, flag: str) -> None:
    usage, _ = WIRE.read_usage(answer(usage={"billed_units": {"input_tokens": tokens, "output_tokens": 7}}))
    assert (usage.totals, usage.source) == ({"output": 7}, "partial")
    assert usage.flags == (f"{flag}:billed_units.input_tokens",)


@pytest.mark.parametrize("usage", [None, {}, {"billed_units": None}, "many", []])
def test_an_answer_without_usage_has_none(usage: Any) -> None:
    assert WIRE.read_usage(answer(usage=usage))[0].source == "none"


def test_counts_as_floats_are_whole_numbers() -> None:
    usage, _ = WIRE.read_usage(answer(usage={"billed_units": {"input_tokens": 12.0, "output_tokens": 7.0}}))
    assert usage.totals == {"input": 12, "output": 7}
    assert usage.totals.keys() <= METERS.keys()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id": "a"', b'{"message": null}'])
def test_what_is_no_answer_is_malformed_or_an_error(body: bytes) -> None:
    with pytest.raises(errors.ProviderError):
        WIRE.decode_answer(body)


def test_an_error_inside_a_200_is_an_error() -> None:
    with pytest.raises(errors.ContextTooLong):
        WIRE.decode_answer(b'{"id": "x", "message": "too many tokens: the limit is 1"}')


def test_a_failed_generation_that_said_nothing_is_an_error() -> None:
    with pytest.raises(errors.UpstreamError):
        WIRE.decode_answer(answer(message={"role": "assistant", "content": []}, finish_reason="ERROR"))


def test_log_probabilities_in_the_shape_that_all_share() -> None:
    items = [{"text": "Pa", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]}, {"text": "x", "token_ids": []}]
    logprobs = WIRE.decode_answer(answer(logprobs=items)).choices[0].logprobs
    assert logprobs == {"content": [{"token": "Pa", "logprob": -0.75, "bytes": None, "top_logprobs": []}]}


def test_its_answers_are_accepted_by_the_official_clients_of_both_surfaces() -> None:
    decoded = WIRE.decode_answer(answer())
    chat = ChatCompletion.model_validate_json(openai_chat.WIRE.encode_answer(decoded))
    assert chat.choices[0].message.content == "Paris."
    annotations = chat.choices[0].message.annotations
    assert annotations is not None
    assert annotations[0].url_citation.url == "https://h/p"
    assert chat.usage is not None
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (12, 7)
    message = AnthropicMessage.model_validate_json(anthropic_messages.WIRE.encode_answer(decoded))
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.usage.input_tokens == 12


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "invalid request: message must be at least 1 token long", errors.InvalidRequest),
        (400, "too many tokens: size limit exceeded by 25836 tokens.", errors.ContextTooLong),
        (401, "invalid api token", errors.InvalidCredential),
        (402, "Please add or update your payment method", errors.QuotaExhausted),
        (403, "not allowed", errors.PermissionDenied),
        (404, "model 'x' not found, make sure the correct model ID was used", errors.ModelNotFound),
        (422, "invalid schema", errors.InvalidRequest),
        (429, "You are using a Trial key, which is limited to 40 API calls / minute.", errors.RateLimited),
        (429, "You are using a Trial key, which is limited to 1000 API calls / month.", errors.QuotaExhausted),
        (498, "the request contains a deny-listed token", errors.ContentRefused),
        (500, "internal server error", errors.UpstreamError),
        (503, "unavailable", errors.Overloaded),
    ],
)
def test_errors_are_typed(status: int, message: str, kind: type[errors.ProviderError]) -> None:
    body = msgspec.json.encode({"id": "req-9", "message": message})
    error = WIRE.decode_error(status=status, body=body, headers={}, provider="p")
    assert type(error) is kind
    assert (error.message, error.status, error.upstream_request_id) == (message, status, "req-9")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"message": 3}', b'{"id": 5}'])
def test_an_error_body_of_any_kind_never_breaks(body: bytes) -> None:
    error = WIRE.decode_error(status=502, body=body, headers={}, provider="p")
    assert isinstance(error, errors.UpstreamError)
    assert error.message


def test_an_error_to_a_client_names_the_ids() -> None:
    body = WIRE.encode_error(status=400, code="c", message="m", param="f", request_id="r", call_id="k")
    assert msgspec.json.decode(body) == {
        "id": "k", "message": "m", "code": "c", "param": "f", "request_id": "r", "call_id": "k",
    }  # fmt: skip


def encoded(*parts: Part, **totals: int) -> dict[str, Any]:
    answer = Answer(id="a", model="m", choices=(Choice(parts=parts),), usage=Usage(totals=dict(totals)))
    value: dict[str, Any] = msgspec.json.decode(WIRE.encode_answer(answer))
    return value


def test_only_what_is_known_of_the_usage_is_told() -> None:
    assert "usage" not in encoded()
    assert encoded(input=3)["usage"] == {"billed_units": {"input_tokens": 3}, "tokens": {"input_tokens": 3}}
    tokens = {"input_tokens": 30, "output_tokens": 2}
    assert encoded(input=30, output=2, cache_read=20, search_units=1)["usage"] == {
        "billed_units": {**tokens, "search_units": 1}, "tokens": tokens, "cached_tokens": 20,
    }  # fmt: skip


def test_an_answer_of_calls_alone_has_no_content() -> None:
    assert encoded()["message"] == {"role": "assistant", "content": []}
    message = encoded(TextPart(text="I will look."), ToolCallPart(id="c", name="look", arguments="{}"))["message"]
    assert (message["tool_plan"], "content" in message) == ("I will look.", False)


# --- recordings -------------------------------------------------------------------------------------------

ERRORS = cases(exchanges(provider="cohere", failed=True))
KINDS: dict[int, tuple[type[errors.ProviderError], ...]] = {
    400: (errors.InvalidRequest,),
    401: (errors.InvalidCredential,),
    404: (errors.ModelNotFound,),
    429: (errors.RateLimited, errors.QuotaExhausted),
}


@pytest.mark.parametrize("exchange", ERRORS)
def test_recorded_errors_are_typed(exchange: Exchange) -> None:
    error = WIRE.decode_error(
        status=exchange["status"], body=answer_bytes(exchange), headers={}, provider=exchange["provider"]
    )
    assert isinstance(error, KINDS.get(exchange["status"], (errors.ProviderError,)))
    assert error.message


@pytest.mark.parametrize(
    "exchange",
    cases(
        exchanges(
            provider="cohere", status=200, where=lambda item: item["api"] not in ("cohere.embed", "rerank")
            and item["response_format"] == "json",
        )
    ),
)  # fmt: skip
def test_the_usage_of_recorded_answers(exchange: Exchange) -> None:
    usage, _ = WIRE.read_usage(answer_bytes(exchange))
    expected = exchange["expected"]["usage"]
    assert (usage.totals["input"], usage.totals["output"]) == (expected["input"], expected["output"])
    assert usage.source == "reported"
