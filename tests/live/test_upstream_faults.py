"""Bad days of a provider: what the client gets, what the books say, what is tried again."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
import requests

from ledger.models import Call, LimitWindow
from tests.live import books
from tests.live.gateway import Account, Gateway, usd
from tests.live.streams import CHAT_FRAMES, MESSAGES_FRAMES
from tests.upstream import Reply, Reset, answer, events, no_answer

# upstream status -> (client's status, our code, the row's outcome, type on the chat surface, type on messages)
MAPPED = {
    400: (400, "invalid_request", "refused", "invalid_request_error", "invalid_request_error"),
    401: (502, "provider_credential_invalid", "refused", "api_error", "api_error"),
    403: (502, "provider_permission_denied", "refused", "api_error", "api_error"),
    404: (502, "provider_model_not_found", "refused", "api_error", "api_error"),
    422: (422, "invalid_request", "refused", "invalid_request_error", "invalid_request_error"),
    429: (429, "provider_rate_limited", "refused", "rate_limit_error", "rate_limit_error"),
    500: (502, "provider_error", "failed", "api_error", "api_error"),
    502: (502, "provider_error", "failed", "api_error", "api_error"),
    503: (503, "provider_overloaded", "failed", "api_error", "overloaded_error"),
    529: (503, "provider_overloaded", "failed", "api_error", "overloaded_error"),
}
SURFACES = [("chat", "openai"), ("chat", "anthropic"), ("messages", "openai"), ("messages", "anthropic")]


def ask(gateway: Gateway, surface: str, account: Account, **fields: Any) -> requests.Response:
    return (gateway.chat if surface == "chat" else gateway.messages)(account, **fields)


def error_of(answered: requests.Response, surface: str) -> dict[str, Any]:
    """The error in the surface's own shape, which names the call."""
    body = answered.json()
    if surface == "messages":
        assert body["type"] == "error"
        assert body["call_id"] == answered.headers["X-Tollbook-Call-Id"]
    else:
        assert set(body) == {"error"}
        assert body["error"]["call_id"] == answered.headers["X-Tollbook-Call-Id"]
    error: dict[str, Any] = body["error"]
    return error


def refusal(status: int, wire: str) -> bytes:
    inner = {"message": "the provider says no", "type": "said_no"}
    return msgspec.json.encode({"type": "error", "error": inner} if wire == "anthropic" else {"error": inner})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("surface", "wire"), SURFACES)
def test_a_refusal_of_the_provider_is_mapped_and_costs_nothing(
    gateway: Gateway, surface: str, wire: str, stream: bool
) -> None:
    account = gateway.account(wire=wire, limits=(("usd", "day", "1000"),))
    for status, (client_status, code, outcome, on_chat, on_messages) in MAPPED.items():
        gateway.upstream.script(answer(status=status, body=refusal(status, wire)))
        answered = ask(gateway, surface, account, stream=stream)
        error = error_of(answered, surface)
        assert (answered.status_code, error["code"]) == (client_status, code), status
        assert error["type"] == (on_chat if surface == "chat" else on_messages), status
        call = Call.objects.get(pk=answered.headers["X-Tollbook-Call-Id"])
        assert (call.http_status, call.outcome, call.error_code) == (status, outcome, code)
        assert (call.streamed, call.usage_source, call.input_tokens) == (stream, "none", 0)
        assert (call.cost_usd, call.cost_source) == (Decimal(0), "nothing_used")
    assert LimitWindow.objects.get(limit__key=account.key).used == 0
    assert len(books.calls(key_id=account.key.pk)) == len(MAPPED)


def test_the_providers_wait_is_told_to_the_client(gateway: Gateway) -> None:
    account = gateway.account()
    gateway.upstream.script(answer(status=429, headers={"Retry-After": "17"}, body=refusal(429, "openai")))
    answered = gateway.chat(account)
    assert answered.status_code == 429
    assert int(answered.headers["Retry-After"]) in (17, 18)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 529])
def test_a_retry_is_a_row_of_its_own(gateway: Gateway, status: int) -> None:
    account = gateway.account(upstream_name="fake-words-3", provider={"max_retries": 2})
    gateway.upstream.script(answer(status=status, body=refusal(status, "openai")))
    before = len(gateway.upstream.arrivals)
    answered = gateway.chat(account)
    assert (answered.status_code, answered.headers["X-Tollbook-Attempts"]) == (200, "2")
    failed, served = books.calls(key_id=account.key.pk)
    assert failed.request_id == served.request_id
    assert (failed.attempt, served.attempt) == (1, 2)
    assert (failed.http_status, failed.cost_usd) == (status, Decimal(0))
    assert (served.outcome, served.output_tokens) == ("ok", 3)
    first, second = gateway.upstream.arrivals[before:]
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == str(served.request_id)


def test_all_attempts_may_fail_and_each_is_in_the_books(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-500", provider={"max_retries": 2})
    assert gateway.chat(account, stream=True).status_code == 502
    assert [call.attempt for call in books.calls(key_id=account.key.pk)] == [1, 2, 3]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_client_error_is_not_tried_again(gateway: Gateway, status: int) -> None:
    account = gateway.account(upstream_name=f"fake-{status}", provider={"max_retries": 3})
    before = len(gateway.upstream.arrivals)
    gateway.chat(account)
    assert len(gateway.upstream.arrivals) == before + 1
    assert len(books.calls(key_id=account.key.pk)) == 1


def test_a_long_wait_is_the_clients_not_ours(gateway: Gateway) -> None:
    account = gateway.account(provider={"max_retries": 3})
    gateway.upstream.script(answer(status=429, headers={"Retry-After": "60"}, body=refusal(429, "openai")))
    assert gateway.chat(account).status_code == 429
    assert len(books.calls(key_id=account.key.pk)) == 1


# --- nobody knows whether it was billed -----------------------------------------------------------------------


def assert_unknown_and_counted(account: Account, *, code: str, attempts: int = 1) -> None:
    """No usage was reported: the cost is NULL with a reason, and the bound counts against the limits."""
    found = books.calls(key_id=account.key.pk)
    assert len(found) == attempts
    for call in found:
        assert (call.cost_usd, call.cost_source, call.error_code) == (None, "unknown", code)
        assert call.unpriced_reason
        assert call.counted_usd > 0
        assert call.counted_tokens > 0
    for limit, counted in (("usd", "counted_usd"), ("tokens", "counted_tokens")):
        used = LimitWindow.objects.get(limit__key=account.key, limit__metric=limit).used
        assert used == sum(getattr(call, counted) for call in found)


LIMITS = (("usd", "day", "1000"), ("tokens", "day", "1000000"))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("phase", ["first_byte", "total"])
def test_a_timeout_is_504_and_counts_its_bound(gateway: Gateway, phase: str, stream: bool) -> None:
    short = {"first_byte_timeout_s": 0.3} if phase == "first_byte" else {"timeout_s": 0.3, "stream_timeout_s": 0.3}
    account = gateway.account(upstream_name="fake-hang", limits=LIMITS, provider=short)
    answered = gateway.chat(account, stream=stream)
    assert (answered.status_code, error_of(answered, "chat")["code"]) == (504, "provider_timeout")
    assert_unknown_and_counted(account, code="provider_timeout")


def test_a_client_may_lower_the_deadline(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-hang", limits=LIMITS)
    answered = gateway.chat(account, headers={"X-Tollbook-Timeout-S": "0.3"})
    assert answered.status_code == 504
    assert_unknown_and_counted(account, code="provider_timeout")


def test_a_silent_first_byte_is_tried_again(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS, provider={"first_byte_timeout_s": 0.3, "max_retries": 1})
    gateway.upstream.script(no_answer())
    assert gateway.chat(account).headers["X-Tollbook-Attempts"] == "2"
    unknown, served = books.calls(key_id=account.key.pk)
    assert (unknown.cost_usd, unknown.error_code) == (None, "provider_timeout")
    assert served.cost_usd is not None


@pytest.mark.parametrize("reply", [(Reset(),), answer(body=b'{"choices": []}', cut_at=4)], ids=["reset", "cut body"])
def test_a_broken_connection_is_unknown(gateway: Gateway, reply: Reply) -> None:
    account = gateway.account(limits=LIMITS)
    gateway.upstream.script(reply)
    answered = gateway.chat(account)
    assert answered.status_code == 502
    assert_unknown_and_counted(account, code=error_of(answered, "chat")["code"])


def test_a_provider_that_is_not_there_costs_nothing(gateway: Gateway) -> None:
    account = gateway.account(limits=LIMITS)
    provider = account.model.provider
    provider.base_url = "http://127.0.0.1:9/v1"
    provider.save()
    gateway.sync()
    answered = gateway.chat(account)
    assert (answered.status_code, error_of(answered, "chat")["code"]) == (502, "provider_unreachable")
    call = books.call_of(account.key.pk)
    assert (call.cost_usd, call.cost_source, call.counted_tokens) == (Decimal(0), "nothing_used", 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("odd", ["fake-html", "fake-malformed"])
@pytest.mark.parametrize(("surface", "wire"), SURFACES)
def test_an_answer_that_is_none_is_502(gateway: Gateway, surface: str, wire: str, odd: str, stream: bool) -> None:
    account = gateway.account(wire=wire, upstream_name=odd, limits=LIMITS)
    answered = ask(gateway, surface, account, stream=stream)
    # Passed through, what is no event is the client's to judge; that no end came is ours to tell.
    passes = (wire, surface, odd, stream) == ("anthropic", "messages", "fake-malformed", True)
    code = "provider_stream_interrupted" if passes else "provider_malformed_answer"
    began = stream and odd == "fake-malformed"
    if began:
        assert code.encode() in answered.content
    else:
        assert (answered.status_code, error_of(answered, surface)["code"]) == (502, code)
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code) == ("failed", code)
    if not began:
        assert_unknown_and_counted(account, code=code)


# --- streams that break off -----------------------------------------------------------------------------------

FRAMES = {"openai": CHAT_FRAMES, "anthropic": MESSAGES_FRAMES}


@pytest.mark.parametrize(("surface", "wire"), SURFACES)
@pytest.mark.parametrize("cut", ["between events", "within a line"])
def test_a_cut_stream_ends_with_an_error_and_an_estimate(gateway: Gateway, surface: str, wire: str, cut: str) -> None:
    account = gateway.account(wire=wire, limits=LIMITS)
    seen = FRAMES[wire].opening_and_text
    torn = [*seen, FRAMES[wire].text[:-9]] if cut == "within a line" else seen
    gateway.upstream.script(events(torn, ends=False))
    got = ask(gateway, surface, account, stream=True).content
    assert b"provider_stream_interrupted" in got
    assert b"event: error" in got or surface == "chat"
    assert b"message_stop" not in got
    assert b"data: [DONE]" not in got
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code) == ("failed", "provider_stream_interrupted")
    assert (call.usage_source, call.output_tokens > 0, call.input_tokens > 0) == ("estimated", True, True)
    assert call.cost_usd == usd(call.input_tokens, call.output_tokens)


@pytest.mark.parametrize("surface", ["chat", "messages"])
def test_a_stream_cut_after_its_finish_and_before_its_usage_is_estimated(gateway: Gateway, surface: str) -> None:
    account = gateway.account(upstream_name="fake-cut-usage", limits=LIMITS)
    ask(gateway, surface, account, stream=True)
    call = books.call_of(account.key.pk)
    assert (call.usage_source, call.output_tokens > 0) == ("estimated", True)
    assert call.cost_usd


@pytest.mark.parametrize(("surface", "wire"), SURFACES)
def test_an_error_event_within_a_stream_is_told_in_the_surfaces_shape(
    gateway: Gateway, surface: str, wire: str
) -> None:
    account = gateway.account(wire=wire)
    frames = FRAMES[wire]
    gateway.upstream.script(events([*frames.opening_and_text, frames.error]))
    got = ask(gateway, surface, account, stream=True).content
    last = msgspec.json.decode(got.strip().rpartition(b"data: ")[2])
    assert last["error"]["code"] == "provider_overloaded"
    assert last.get("type", "error") == "error"
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code, call.output_tokens > 0) == ("failed", "provider_overloaded", True)


def test_a_stalled_stream_is_cut_and_estimated(gateway: Gateway) -> None:
    account = gateway.account(provider={"idle_timeout_s": 0.3})
    gateway.upstream.script((*events(CHAT_FRAMES.opening_and_text)[:-1], *no_answer()))
    assert b"provider_timeout" in gateway.chat(account, stream=True).content
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.error_code, call.usage_source) == ("failed", "provider_timeout", "estimated")
    assert call.output_tokens > 0


# --- odd usage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_missing_usage_is_estimated_never_free(gateway: Gateway, wire: str, stream: bool) -> None:
    account = gateway.account(wire=wire, upstream_name="fake-nousage")
    assert ask(gateway, "chat" if wire == "openai" else "messages", account, stream=stream).status_code == 200
    call = books.call_of(account.key.pk)
    assert (call.outcome, call.usage_source) == ("ok", "estimated")
    assert call.output_tokens == 11  # 43 bytes of text
    assert call.input_tokens > 0
    assert call.cost_usd == usd(call.input_tokens, 11)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("odd", ["null", "string", "float", "negative", "nan", "absurd"])
@pytest.mark.parametrize(("surface", "wire"), SURFACES)
def test_absurd_usage_never_breaks_a_call_nor_the_books(
    gateway: Gateway, surface: str, wire: str, odd: str, stream: bool
) -> None:
    account = gateway.account(wire=wire, upstream_name=f"fake-usage-{odd}")
    answered = ask(gateway, surface, account, stream=stream)
    call = books.call_of(account.key.pk)
    assert (answered.status_code, call.outcome) == (200, "ok")
    assert call.usage_source == "estimated"
    assert (call.output_tokens, call.input_tokens > 0) == (11, True)
    assert call.cost_usd == usd(call.input_tokens, 11)
    assert bool(call.usage_flags) == (odd != "null")
    assert call.raw_usage is not None, "the provider's own object is kept"


def test_an_answer_beyond_all_bounds_is_refused(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-huge")
    assert error_of(gateway.chat(account), "chat")["code"] == "provider_malformed_answer"
    assert books.call_of(account.key.pk).cost_usd is None


def test_a_redirect_is_not_followed(gateway: Gateway) -> None:
    account = gateway.account(upstream_name="fake-redirect")
    assert gateway.chat(account).status_code == 502
    assert books.call_of(account.key.pk).http_status == 302


def test_the_providers_secret_never_reaches_a_client_a_row_or_the_log(gateway: Gateway) -> None:
    account = gateway.account()
    body = b'{"error":{"message":"bad key sk-planted-0123456789abcdef at /srv/app.py","type":"x"}}'
    gateway.upstream.script(answer(status=400, body=body))
    answered = gateway.chat(account)
    assert "sk-planted" not in answered.text + repr(answered.headers)
    assert "sk-planted" not in repr(vars(books.call_of(account.key.pk)))
    assert "sk-planted" not in gateway.log()
