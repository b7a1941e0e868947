"""OpenAI's legacy completions: passed through, watched, counted by the rules of chat."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers import errors, sse
from providers.unified import Request
from providers.wire.openai_chat import Dialect
from providers.wire.openai_completions import WIRE, Meter, OpenAICompletions
from tests.recordings import Exchange, answer_bytes, cases, exchanges, request_bytes

RECORDED = cases(exchanges(api="completions", status=200))
REFUSED = cases(exchanges(api="completions", failed=True))
USAGE = {"prompt_tokens": 31, "completion_tokens": 25, "total_tokens": 56}


def admit(**fields: Any) -> Any:
    return WIRE.admit(msgspec.json.encode({"model": "ours", "prompt": "hi", **fields}))


def sent(wire: OpenAICompletions = WIRE, *, cap: int | None = None, **fields: Any) -> dict[str, Any]:
    value: dict[str, Any] = msgspec.json.decode(
        wire.rewrite(admit(**fields), model="theirs", max_output_tokens=cap)
    )
    return value


def chunk(text: str = "", *, finish: str | None = None, **fields: Any) -> bytes:
    choices = [{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}]
    value = {"id": "c", "object": "text_completion", "model": "babbage", "choices": choices, "usage": None, **fields}
    return sse.encode(data=msgspec.json.encode(value))


def seen(stream: bytes, *, wants_usage: bool = False) -> tuple[bytes, Meter]:
    options = {"stream_options": {"include_usage": True}} if wants_usage else {}
    meter = WIRE.stream_meter(admitted=admit(stream=True, **options))
    decoder = sse.Decoder()
    return b"".join(event.raw for event in decoder.feed(stream) if meter.see(event) != "drop"), meter


@pytest.mark.parametrize(
    ("prompt", "many"),
    [("hi", 1), (None, 1), ([], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)],
)
def test_each_prompt_and_each_try_is_an_answer_to_hold_for(prompt: object, many: int) -> None:
    assert admit(prompt=prompt).n == many
    assert admit(prompt=prompt, n=2).n == 2 * many
    assert admit(prompt=prompt, n=2, best_of=5).n == 5 * many


def test_admission_knows_what_a_hold_needs() -> None:
    admitted = admit(max_tokens=9, stream=True, user="u")
    assert (admitted.operation, admitted.max_output_tokens, admitted.stream) == ("completions", 9, True)
    assert (admitted.user, admitted.wants_usage) == ("u", False)
    assert admit(stream=True, stream_options={"include_usage": True}).wants_usage


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"prompt": {"a": 1}}, "$.prompt"), ({"prompt": [1.5]}, "$.prompt[0]"), ({"model": ""}, "$.model"),
        ({"max_tokens": -1}, "$.max_tokens"), ({"n": 0}, "$.n"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_by_its_path(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        admit(**fields)
    assert caught.value.param == path


def test_only_the_model_changes_on_the_way() -> None:
    body = {"prompt": [[1, 2]], "suffix": "end", "echo": True, "logit_bias": {"50256": -100}, "novel": None}
    assert sent(**body, drop_unsupported=True) == {"model": "theirs", **body}


def test_a_cap_lowers_and_never_raises_also_not_what_the_server_does_by_itself() -> None:
    assert sent(cap=4096, max_tokens=9)["max_tokens"] == 9
    assert sent(cap=5, max_tokens=9)["max_tokens"] == 5
    assert sent(cap=4096)["max_tokens"] == 16
    assert sent(cap=4096, max_tokens=0)["max_tokens"] == 0
    assert sent(OpenAICompletions(usual_cap=None), cap=4096)["max_tokens"] == 4096
    assert "max_tokens" not in sent()


def test_a_stream_is_asked_for_its_usage() -> None:
    assert sent(stream=True)["stream_options"] == {"include_usage": True}
    assert sent(stream=True, stream_options={"a": 1})["stream_options"] == {"a": 1, "include_usage": True}
    assert "stream_options" not in sent()
    unasked = OpenAICompletions(dialect=Dialect(stream_usage=False))
    assert "stream_options" not in sent(unasked, stream=True, stream_options={"include_usage": True})


def test_the_usage_event_is_kept_from_a_client_that_did_not_ask() -> None:
    told = sse.encode(data=msgspec.json.encode({"object": "text_completion", "choices": [], "usage": USAGE}))
    stream = chunk("It ") + chunk("balances\u2026") + chunk(finish="length") + told + b"data: [DONE]\n\n"
    forwarded, meter = seen(stream)
    assert forwarded == stream.replace(told, b"")
    assert seen(stream, wants_usage=True)[0] == stream
    assert (meter.usage.totals, meter.usage.source) == ({"input": 31, "output": 25}, "reported")
    assert (meter.complete, meter.model) == (True, "babbage")
    assert meter.output_bytes == len("It balances\u2026".encode())


def test_a_cut_stream_is_not_complete_and_an_error_in_it_is_raised() -> None:
    _, meter = seen(chunk("It "))
    assert (meter.complete, meter.usage.source, meter.output_bytes) == (False, "none", 3)
    with pytest.raises(errors.ProviderError, match="overloaded"):
        seen(sse.encode(data=b'{"error": {"message": "overloaded"}}'))


def test_what_was_written_is_known_where_nothing_was_counted() -> None:
    answer = WIRE.decode_answer(b'{"model": "m", "choices": [{"text": "a"}, {"text": "bc"}]}')
    assert [part.text for choice in answer.choices for part in choice.parts] == ["a", "bc"]  # type: ignore[union-attr]
    assert answer.usage.source == "none"
    for broken in (b"{}", b"[]", b"nope"):
        with pytest.raises(errors.MalformedAnswer):
            WIRE.decode_answer(broken)


def test_nothing_of_it_is_translated() -> None:
    answer = WIRE.decode_answer(b'{"choices": []}')
    for call in (
        lambda: WIRE.decode_request(b"{}"), lambda: WIRE.encode_answer(answer), WIRE.stream_reader,
        lambda: WIRE.stream_writer(admitted=admit()), lambda: WIRE.encode_request(Request(model="m", messages=())),
    ):  # fmt: skip
        with pytest.raises(errors.Unsupported):
            call()


@pytest.mark.parametrize("exchange", RECORDED)
def test_recorded_usage_is_read_exactly(exchange: Exchange) -> None:
    body = answer_bytes(exchange)
    WIRE.admit(request_bytes(exchange))
    usage = seen(body, wants_usage=True)[1].usage if exchange["stream"] else WIRE.read_usage(body)[0]
    assert (usage.totals, usage.source, usage.flags) == (exchange["expected"]["usage"], "reported", ())


@pytest.mark.parametrize("exchange", REFUSED)
def test_recorded_refusals_are_typed(exchange: Exchange) -> None:
    status, body = exchange["status"], answer_bytes(exchange)
    error = WIRE.decode_error(status=status, body=body, headers={}, provider="p")
    kinds = {400: errors.InvalidRequest, 401: errors.InvalidCredential, 404: errors.ModelNotFound}
    assert isinstance(error, kinds[status])
