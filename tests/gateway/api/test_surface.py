"""What every surface does around the relay: who asks, what is read, and every failure in the surface's own shape."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import OperationalError
from django.http import HttpResponse
from django.test import RequestFactory
from rest_framework.views import APIView

from gateway.api import batches, surface
from gateway.api.authentication import failed_keys
from gateway.api.batches import BatchCancelView, BatchesView
from gateway.api.chat import ChatCompletionsView
from gateway.api.files import FileView
from gateway.api.messages import MessagesView
from gateway.api.models import ModelsView
from gateway.api.surface import known_error
from gateway.errors import CODES, ApiError
from gateway.keyring import Principal
from gateway.relay import Streamed, Whole
from providers.errors import ConnectionFailed, InvalidRequest, Overloaded, RateLimited, Timeout, Unsupported

PRINCIPAL = Principal(1, 2, None, frozenset({"call"}), frozenset())
BODY = b'{"model": "m", "messages": []}'


class Gate:
    """A runtime that knows one key, and a relay that does what a test says."""

    def __init__(self) -> None:
        self.answer: Any = Whole(b"{}", {})
        self.asked: list[dict[str, Any]] = []
        self.keyring = self
        self.snapshot = SimpleNamespace(version=1)

    def authenticate(self, text: str, *, version: int) -> Principal:
        if text != "good":
            raise ApiError("invalid_key", "This API key is not valid.")
        return PRINCIPAL

    def relay(self, **asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate()
    monkeypatch.setattr(surface, "runtime", lambda: made)
    monkeypatch.setattr(surface, "relay", made.relay)
    failed_keys.clear()
    return made


def post(view: Any = ChatCompletionsView, *, key: str = "good", body: bytes = BODY, **headers: str) -> Any:
    request = RequestFactory().post(
        "/v1/x", body, content_type="application/json", headers={"Authorization": f"Bearer {key}", **headers}
    )
    return view.as_view()(request)


def error_of(response: HttpResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(response.content)["error"]
    return found


# --- what goes to the relay, and what comes back ---


def test_the_relay_is_told_who_asks_and_what_the_headers_say(gate: Gate) -> None:
    response = post(**{
        "X-Request-Id": "mine-1", "X-Tollbook-Tags": "job=nightly", "X-Tollbook-Timeout-S": "2.5",
        "Idempotency-Key": "once",
    })  # fmt: skip
    assert response.status_code == 200
    [asked] = gate.asked
    caller = asked["caller"]
    assert (asked["surface"], asked["body"], caller.principal) == ("chat", BODY, PRINCIPAL)
    assert (caller.client_request_id, caller.tags, caller.timeout_s) == ("mine-1", {"job": "nightly"}, 2.5)
    assert caller.idempotency is not None
    assert caller.client is None


def test_a_whole_answer_tells_its_length_and_its_kind(gate: Gate) -> None:
    gate.answer = Whole(b'{"a":1}', {"X-Tollbook-Cost-Usd": "0.01"})
    response = post()
    assert response.content == b'{"a":1}'
    assert (response["Content-Length"], response["X-Tollbook-Cost-Usd"]) == ("7", "0.01")
    assert response["Content-Type"] == ChatCompletionsView.wire.content_type
    gate.answer = Whole(b"RIFF", {"Content-Type": "audio/wav"})
    assert post()["Content-Type"] == "audio/wav"


def test_a_stream_is_not_kept_by_anybody_on_the_way(gate: Gate) -> None:
    headers = {"X-Tollbook-Call-Id": "c", "Content-Type": "text/event-stream"}
    gate.answer = Streamed(iter([b"data: 1\n\n", b"data: 2\n\n"]), headers)
    response = post()
    assert b"".join(response) == b"data: 1\n\ndata: 2\n\n"
    assert (response["Cache-Control"], response["X-Accel-Buffering"]) == ("no-cache", "no")
    assert (response["Content-Type"], response["X-Tollbook-Call-Id"]) == ("text/event-stream", "c")
    # The idempotency key keeps the same headers: nothing was taken out of them.
    assert headers == {"X-Tollbook-Call-Id": "c", "Content-Type": "text/event-stream"}


# --- who asks ---


def test_a_wrong_key_is_told_how_to_come_in(gate: Gate) -> None:
    response = post(key="bad")
    assert (response.status_code, error_of(response)["code"]) == (401, "invalid_key")
    assert response["WWW-Authenticate"] == 'Bearer realm="tollbook"'
    assert gate.asked == []


def test_an_address_of_many_wrong_keys_waits_and_its_good_key_does_not(gate: Gate) -> None:
    answers = [post(key="bad") for _ in range(failed_keys.limit + 1)]
    assert {answer.status_code for answer in answers[:-1]} == {401}
    assert (answers[-1].status_code, error_of(answers[-1])["code"]) == (429, "too_many_bad_keys")
    assert int(answers[-1]["Retry-After"]) >= 1
    assert post().status_code == 200


# --- errors in the surface's shape ---


def test_the_chat_surface_says_errors_as_its_clients_read_them(gate: Gate) -> None:
    gate.answer = ApiError("unpriced_model", "No price.", param="model", call_id="call-1")
    response = post(**{"X-Request-Id": "mine-1"})
    error = error_of(response)
    assert (response.status_code, error["message"], error["param"]) == (402, "No price.", "model")
    assert error["code"] == "unpriced_model"
    assert (response["X-Request-Id"], response["X-Tollbook-Call-Id"]) == ("mine-1", "call-1")
    assert int(response["Content-Length"]) == len(response.content)


def test_the_messages_surface_says_them_as_its_own_clients_do(gate: Gate) -> None:
    gate.answer = ApiError("limit_reached", "No room.", retry_after_s=7)
    response = post(MessagesView)
    told = json.loads(response.content)
    assert (response.status_code, told["type"], told["error"]["type"]) == (429, "error", "rate_limit_error")
    assert "No room." in told["error"]["message"]
    assert response["Retry-After"] == "7"


def test_without_an_id_of_the_clients_the_error_has_ours(gate: Gate) -> None:
    gate.answer = ApiError("not_found", "Nothing there.")
    response = post()
    assert response["X-Request-Id"] == str(gate.asked[0]["request_id"])
    assert "X-Tollbook-Call-Id" not in response


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch", "options"])
def test_another_method_is_told_the_right_one(gate: Gate, method: str) -> None:
    request = getattr(RequestFactory(), method)("/v1/chat/completions")
    response = ChatCompletionsView.as_view()(request)
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert error_of(response)["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("view", "method", "allowed"),
    [
        (ModelsView, "post", "GET, HEAD"), (ModelsView, "options", "GET, HEAD"),
        (BatchesView, "delete", "GET, POST, HEAD"), (FileView, "options", "GET, DELETE, HEAD"),
        (BatchCancelView, "get", "POST"),
    ],
)  # fmt: skip
def test_a_view_of_other_methods_tells_its_own(view: type[APIView], method: str, allowed: str) -> None:
    response: Any = view.as_view()(getattr(RequestFactory(), method)("/v1/any"))
    assert (response.status_code, response["Allow"]) == (405, allowed)
    assert error_of(response)["message"] == f"{method.upper()} is not allowed here: {allowed}."


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "input_file_id"), (b'{"input_file_id": 5}', "input_file_id"), (b"[1]", ""), (b"{", ""),
        (b'{"input_file_id": "f", "endpoint": "/v1/chat/completions", "completion_window": "1h"}', "completion_window"),
        (b'{"input_file_id": "f", "endpoint": "/", "completion_window": "24h", "x": 1}', "x"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_batch_is_refused_with_its_field(body: bytes, param: str) -> None:
    with pytest.raises(ApiError, match="no new batch") as caught:
        batches._asked(body)
    assert caught.value.param == param


def test_a_body_that_cannot_be_read_reaches_no_relay(gate: Gate) -> None:
    response = post(body=b"")
    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_request")
    assert gate.asked == []


@pytest.mark.parametrize(
    ("error", "status", "code", "param", "wait"),
    [
        (InvalidRequest("bad", param="top_p", status=400), 400, "invalid_request", "top_p", None),
        (Unsupported("cannot", param="seed"), 400, "unsupported_parameter", "seed", None),
        (RateLimited("slow", status=429, retry_after_s=2.5), 429, "provider_rate_limited", "", "3"),
        (RateLimited("slow", status=429), 429, "provider_rate_limited", "", None),
        (Overloaded("busy", status=529, retry_after_s=0), 503, "provider_overloaded", "", "1"),
        (ConnectionFailed("gone"), 502, "provider_unreachable", "", None),
        (Timeout("late", timeout_s=3, phase="total"), 504, "provider_timeout", "", None),
        (psycopg.OperationalError("no route"), 503, "ledger_unavailable", "", "1"),
        (OperationalError("no route"), 503, "ledger_unavailable", "", "1"),
        (RecursionError(), 400, "invalid_request", "", None),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, Exception) else None,
)
def test_each_failure_has_its_status_code_and_hint(
    error: Exception, status: int, code: str, param: str, wait: str | None
) -> None:
    told = known_error(error)
    assert (told.status, told.code, told.param) == (status, code, param)
    assert told.headers.get("Retry-After") == wait
    assert code in CODES
    assert "no route" not in told.message


def test_an_error_of_ours_goes_as_it_is() -> None:
    error = ApiError("invalid_key", "No.")
    assert known_error(error) is error


def test_a_defect_is_logged_whole_and_told_as_nothing(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    gate.answer = ZeroDivisionError("secret-of-the-house")
    with caplog.at_level(logging.ERROR, logger="tollbook.api"):
        response = post()
    assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")
    assert b"secret-of-the-house" not in response.content
    [record] = [record for record in caplog.records if record.message == "defect"]
    assert record.exc_info is not None
    assert "secret-of-the-house" in str(record.exc_info[1])
