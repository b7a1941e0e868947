"""What is told of an address that nobody answers."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/v2/chat", "/v2/chat"),
        ("/models/sandbox-echo", "/v1/models/sandbox-echo"),
    ],
)
def test_the_address_that_was_probably_meant_is_named(path: str, meant: str) -> None:
    answered = Client().post(path, data={}, content_type="application/json")
    assert answered.status_code == 404
    assert answered.json()["error"]["message"] == f"There is no {path!r} here: did you mean {meant!r}?"


@pytest.mark.parametrize("path", ["/v1/moderations", "/api/nope", "/api/calls/nope/", "/nope", "/v1/" + "x" * 5000])
def test_an_unknown_address_is_a_typed_error_with_a_request_id(path: str) -> None:
    answered = Client().get(path)
    error = answered.json()["error"]
    assert (answered.status_code, answered["Content-Type"]) == (404, "application/json")
    assert error["code"] == "not_found"
    assert error["message"] == f"There is no {path[:200]!r} here: check the address."
    assert error["request_id"] == answered["X-Request-Id"]


@pytest.mark.parametrize(
    ("path", "headers", "fields"),
    [
        ("/v1/messages/batches", {"anthropic-version": "2023-06-01"}, {"type", "error", "request_id", "call_id"}),
        ("/v2/nope", {}, {"id", "message", "code", "param", "request_id", "call_id"}),
        ("/v1/nope", {}, {"error"}),
    ],
)
def test_it_is_told_in_the_shape_of_whoever_asks(path: str, headers: dict[str, str], fields: set[str]) -> None:
    body: dict[str, Any] = Client().post(path, data={}, content_type="application/json", headers=headers).json()
    assert set(body) == fields


def test_a_page_is_not_found_as_a_page(admin_client: Client) -> None:
    answered = admin_client.get("/admin/nope/")
    assert (answered.status_code, answered["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert Client().get("/api/spend").status_code == 301, "a slash that is missing is still put there"
