"""What a client may not send: a clear error in the surface's shape, nothing held, nothing sent."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import requests

from ledger.keys import create_key, revoke
from ledger.models import Hold
from tests import factories
from tests.live import books, database
from tests.live.gateway import Account, Gateway, chat_body, messages_body, running

SURFACES = {"chat": ("/v1/chat/completions", chat_body), "messages": ("/v1/messages", messages_body)}
MAX_BODY = 200_000


@pytest.fixture(scope="module")
def gateway(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {"TOLLBOOK_MAX_BODY_BYTES": str(MAX_BODY)}
    with running(
        database_url=own_database, var_dir=tmp_path_factory.mktemp("var"), environment=environment
    ) as made:
        yield made
        books.verify()


@pytest.fixture(scope="module")
def account(gateway: Gateway) -> Account:
    return gateway.account(limits=(("usd", "day", "1000"),))


@pytest.fixture(autouse=True)
def _nothing_held_and_nothing_sent(gateway: Gateway) -> Iterator[None]:
    """Every test of this file: the provider hears nothing and the ledger is not touched."""
    arrivals, calls = len(gateway.upstream.arrivals), len(books.calls())
    yield
    assert len(gateway.upstream.arrivals) == arrivals
    assert len(books.calls()) == calls
    assert Hold.objects.count() == 0


def refused(answered: requests.Response, surface: str, *, status: int, code: str, param: str | None = "any") -> str:
    """Assert the error and its shape; returns its message."""
    assert answered.status_code == status, answered.text
    assert answered.headers["Content-Type"] == "application/json"
    body = answered.json()
    error: dict[str, Any] = body["error"]
    request_id = error.get("request_id") if surface == "chat" else body.get("request_id")
    assert request_id
    assert set(body) == ({"error"} if surface == "chat" else {"type", "error", "request_id", "call_id"})
    assert error["code"] == code
    assert error["type"]
    if param != "any":
        assert error["param"] == param
    message: str = error["message"]
    return message


def send(gateway: Gateway, surface: str, account: Account, body: bytes, **headers: str) -> requests.Response:
    path, _ = SURFACES[surface]
    return gateway.post(path, body, headers={**account.headers, **headers})


WRONG_TYPES: list[tuple[dict[str, Any], str, str]] = [
    ({"messages": "x"}, "both", "$.messages"),
    ({"messages": [{"role": 7, "content": "x"}]}, "both", "$.messages[0].role"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "both", "$.messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "both", "$.messages[0].content"),
    ({"messages": []}, "both", "$.messages"),
    ({"model": 4}, "both", "$.model"),
    ({"stream": "yes"}, "both", "$.stream"),
    ({"max_tokens": "many"}, "both", "$.max_tokens"),
    ({"max_tokens": -1}, "both", "$.max_tokens"),
    ({"temperature": "hot"}, "both", "$.temperature"),
    ({"n": 0}, "chat", "$.n"),
    ({"n": 1_000_000}, "chat", "$.n"),
    ({"tools": {}}, "both", "$.tools"),
]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("wrong", "where", "param"), WRONG_TYPES, ids=lambda value: str(value)[:40])
def test_a_wrong_type_is_named_by_its_path(
    gateway: Gateway, account: Account, surface: str, wrong: dict[str, Any], where: str, param: str
) -> None:
    if where not in ("both", surface):
        return
    body = {**SURFACES[surface][1](account.model.name), **wrong}
    answered = send(gateway, surface, account, json.dumps(body).encode())
    message = refused(answered, surface, status=400, code="invalid_request", param=param)
    assert param in message


NO_REQUESTS = {
    "nothing": b"",
    "spaces": b"  \n",
    "no JSON": b"{model: x}",
    "cut": b'{"model": "x", "messages": [',
    "an array": b"[]",
    "a text": b'"hello"',
    "null": b"null",
    "a byte order mark": b'\xef\xbb\xbf{"model": "x"}',
    "invalid UTF-8": b'{"model": "x\xff", "messages": []}',
    "overlong UTF-8": b'{"model": "x\xc0\x80", "messages": []}',
    "a NUL": b'{"model": "x\\u0000", "messages": [{"role": "user", "content": "a"}]}',
    "a raw NUL": b'{"model": "x\x00"}',
    "deep": (
        b'{"model": "x", "messages": [{"role": "user", "content": "a"}], "z": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    ),
    "deep in a message": (
        b'{"model": "x", "messages": ' + b'[{"role":"user","content":' * 5_000 + b"1" + b"}]" * 5_000 + b"}"
    ),
}  # fmt: skip


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("body", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request_is_400(gateway: Gateway, account: Account, surface: str, body: bytes) -> None:
    answered = send(gateway, surface, account, body.replace(b'"x"', json.dumps(account.model.name).encode()))
    refused(answered, surface, status=400, code="invalid_request")


@pytest.mark.parametrize("surface", SURFACES)
def test_an_unknown_model_is_404(gateway: Gateway, account: Account, surface: str) -> None:
    body = msgspec.json.encode(SURFACES[surface][1]("gpt-99\U0001f600"))
    message = refused(
        send(gateway, surface, account, body), surface, status=404, code="model_not_found", param="model"
    )
    assert "gpt-99" in message


@pytest.mark.parametrize("surface", SURFACES)
def test_a_model_without_a_price_is_402_under_a_usd_limit(gateway: Gateway, surface: str) -> None:
    account = gateway.account(priced=False, limits=(("usd", "day", "10"),))
    body = msgspec.json.encode(SURFACES[surface][1](account.model.name))
    refused(send(gateway, surface, account, body), surface, status=402, code="unpriced_model", param="model")


@pytest.mark.parametrize("surface", SURFACES)
def test_a_model_the_key_may_not_call_is_403(gateway: Gateway, account: Account, surface: str) -> None:
    other = gateway.account(key={"allowed_models": ["another"]})
    body = msgspec.json.encode(SURFACES[surface][1](account.model.name))
    refused(send(gateway, surface, other, body), surface, status=403, code="model_not_allowed")


@pytest.mark.parametrize("surface", SURFACES)
def test_a_key_without_the_scope_is_403(gateway: Gateway, account: Account, surface: str) -> None:
    other = gateway.account(key={"scopes": ["read-spend"]})
    body = msgspec.json.encode(SURFACES[surface][1](account.model.name))
    refused(send(gateway, surface, other, body), surface, status=403, code="scope_missing")


def _bad_key(kind: str) -> str:
    user = factories.make_user()
    past = datetime.now(UTC) - timedelta(seconds=1)
    key, text = create_key(user=user, expires_at=past if kind == "expired" else None)
    match kind:
        case "revoked":
            revoke(key=key)
        case "of a disabled user":
            user.is_active = False
            user.save()
        case "with another secret":
            text = text[:-4] + "AAAA"
        case "foreign":
            text = "sk-proj-abcdefghijklmnop"
        case "unknown":
            text = f"tb_live_{'a' * 12}_{'b' * 40}"
    return text


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    "kind", ["revoked", "expired", "of a disabled user", "with another secret", "foreign", "unknown"]
)
def test_a_bad_key_is_401(gateway: Gateway, account: Account, surface: str, kind: str) -> None:
    path, body_of = SURFACES[surface]
    text = _bad_key(kind)
    body = msgspec.json.encode(body_of(account.model.name))
    answered = gateway.post(path, body, headers={"x-api-key": text})
    message = refused(answered, surface, status=401, code="invalid_key")
    assert text not in message
    assert "WWW-Authenticate" in answered.headers


@pytest.mark.parametrize("surface", SURFACES)
def test_no_key_is_401(gateway: Gateway, surface: str) -> None:
    answered = gateway.post(SURFACES[surface][0], b"{}", headers={})
    refused(answered, surface, status=401, code="invalid_key")


@pytest.mark.parametrize("surface", SURFACES)
def test_a_body_above_the_bound_is_413(gateway: Gateway, account: Account, surface: str) -> None:
    refused(send(gateway, surface, account, b" " * (MAX_BODY + 1)), surface, status=413, code="request_too_large")


@pytest.mark.parametrize("surface", SURFACES)
def test_a_chunked_body_above_the_bound_is_413(gateway: Gateway, account: Account, surface: str) -> None:
    chunks = (b" " * 50_000 for _ in range(6))
    answered = requests.post(
        gateway.url + SURFACES[surface][0], data=chunks, headers=account.headers, timeout=10
    )
    refused(answered, surface, status=413, code="request_too_large")


@pytest.mark.parametrize("surface", SURFACES)
def test_a_gzip_bomb_is_413(gateway: Gateway, account: Account, surface: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < MAX_BODY
    answered = send(gateway, surface, account, bomb, **{"Content-Encoding": "gzip"})
    refused(answered, surface, status=413, code="request_too_large")


@pytest.mark.parametrize(("encoding", "body"), [
    ("gzip", b"not gzip"),
    # No time in the bytes: they name the case, which must be the same in every process that runs the suite.
    ("gzip", gzip.compress(b"{}", mtime=0)[:-4]),
    ("br", b"x"),
    ("gzip", gzip.compress(b"{}", mtime=0) + b"more"),
])  # fmt: skip
def test_a_broken_or_unknown_encoding_is_400(gateway: Gateway, account: Account, encoding: str, body: bytes) -> None:
    answered = send(gateway, "chat", account, body, **{"Content-Encoding": encoding})
    refused(answered, "chat", status=400, code="invalid_request")


@pytest.mark.parametrize(("header", "value"), [
    ("X-Tollbook-Timeout-S", "soon"), ("X-Tollbook-Timeout-S", "-1"), ("X-Tollbook-Timeout-S", "nan"),
    ("X-Tollbook-Tags", "no-equals-sign"), ("X-Tollbook-Tags", ",".join(f"t{n}=1" for n in range(17))),
])  # fmt: skip
def test_a_bad_header_is_named(gateway: Gateway, account: Account, header: str, value: str) -> None:
    answered = send(gateway, "chat", account, b"{}", **{header: value})
    refused(answered, "chat", status=400, code="invalid_request", param=header)


@pytest.mark.parametrize("surface", SURFACES)
def test_another_method_is_405(gateway: Gateway, account: Account, surface: str) -> None:
    answered = requests.get(gateway.url + SURFACES[surface][0], headers=account.headers, timeout=10)
    refused(answered, surface, status=405, code="method_not_allowed")
    assert answered.headers["Allow"] == "POST"


def test_what_the_other_wire_cannot_say_is_refused_by_name(gateway: Gateway) -> None:
    account = gateway.account(wire="anthropic")
    body = msgspec.json.encode(chat_body(account.model.name, logit_bias={"5": 1}, n=3))
    message = refused(send(gateway, "chat", account, body), "chat", status=400, code="unsupported_parameter")
    assert "n" in message


def test_a_provider_without_a_credential_is_not_the_clients_fault(gateway: Gateway) -> None:
    account = gateway.account(provider={"credential_ref": "env:NOT_SET_ANYWHERE"})
    body = msgspec.json.encode(chat_body(account.model.name))
    refused(send(gateway, "chat", account, body), "chat", status=502, code="provider_credential_invalid")


def test_a_database_of_its_own_is_used_here(own_database: str) -> None:
    assert database.url_of(books.rows("SELECT current_database()")[0][0]) == own_database
