"""Every surface over HTTP: what is no request is refused in the surface's own words, nothing is held, nothing sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import requests

from ledger.models import Hold
from tests.live import books
from tests.live.gateway import Account, Gateway

ASK = [{"role": "user", "content": "a"}]
CONTENTS = [{"role": "user", "parts": [{"text": "a"}]}]
# Path -> a body that is answered, but for its model; `{model}` stands for that in a path.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": ASK},
    "/v1/messages": {"max_tokens": 9, "messages": ASK},
    "/v1/messages/count_tokens": {"messages": ASK},
    "/v1/responses": {"input": [{"role": "user", "content": "a"}]},
    "/v1/completions": {"prompt": ["a"]},
    "/v1/embeddings": {"input": ["a"]},
    "/v1/rerank": {"query": "q", "documents": ["a"]},
    "/v1/images/generations": {"prompt": "a"},
    "/v1/images/edits": {"prompt": "a", "images": [{"image_url": "https://images.example/1"}]},
    "/v1/audio/speech": {"input": "a", "voice": "alloy"},
    "/v2/chat": {"messages": ASK},
    "/v2/embed": {"texts": ["a"], "input_type": "search_query"},
    "/v2/rerank": {"query": "q", "documents": ["a"]},
    "/v1beta/models/{model}:generateContent": {"contents": CONTENTS},
    "/v1beta/models/{model}:streamGenerateContent": {"contents": CONTENTS},
    "/v1beta/models/{model}:countTokens": {"contents": CONTENTS},
    "/v1beta/models/{model}:embedContent": {"content": CONTENTS[0]},
    "/v1beta/models/{model}:batchEmbedContents": {
        "requests": [{"model": "models/{model}", "content": CONTENTS[0]}]
    },
}  # fmt: skip
FORMS = ("/v1/images/edits", "/v1/audio/transcriptions", "/v1/audio/translations")
BOUNDARY = b"tollbook-test-boundary"
DEEP = b"[" * 10_000 + b"]" * 10_000


@pytest.fixture(scope="module")
def accounts(gateway: Gateway) -> dict[str, Account]:
    """By the first part of a path: a model at a provider that speaks it."""
    made = {}
    for start, adapter, root in (("/v1", "openai", "/v1"), ("/v2", "cohere", ""), ("/v1beta", "gemini", "/v1beta")):
        made[start] = gateway.account(wire=adapter, default_max_output_tokens=64, sync=False)
        made[start].model.provider.base_url = f"{gateway.upstream.url}{root}"
        made[start].model.provider.save()
    made["rerank"] = made["/v2"]
    gateway.sync()
    return made


def account_of(accounts: dict[str, Account], path: str) -> Account:
    return accounts["rerank" if path.endswith("/rerank") else "/" + path.split("/")[1]]


def body_of(account: Account, path: str, **changed: Any) -> dict[str, Any]:
    told = {} if path.startswith("/v1beta") else {"model": account.model.name}
    body: dict[str, Any] = json.loads(json.dumps(BODIES[path]).replace("{model}", account.model.name))
    return told | body | changed


def send(gateway: Gateway, account: Account, path: str, body: bytes, **headers: str) -> requests.Response:
    path = path.replace("{model}", account.model.name)
    return gateway.post(path, body, headers={**account.headers, **headers}, timeout_s=120)


def assert_told_in_its_words(answered: requests.Response, path: str) -> None:
    """`invalid_request`, with the request's id, where a client of this surface looks for them."""
    assert answered.status_code == 400, answered.text[:1_000]
    body = answered.json()
    if path.startswith("/v1beta"):
        assert set(body) == {"error"}
        assert (body["error"]["code"], body["error"]["status"]) == (400, "INVALID_ARGUMENT")
        info = body["error"]["details"][0]
        code, message, request_id = info["reason"], body["error"]["message"], info["metadata"]["request_id"]
    elif path.startswith("/v2"):
        code, message, request_id = body["code"], body["message"], body["request_id"]
        assert body["id"] == request_id
    elif path.startswith("/v1/messages"):
        assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
        code, message, request_id = body["error"]["code"], body["error"]["message"], body["request_id"]
    else:
        assert set(body) == {"error"}
        assert body["error"]["type"] == "invalid_request_error"
        code, message, request_id = (body["error"][name] for name in ("code", "message", "request_id"))
    assert code == "invalid_request"
    assert message
    assert request_id == answered.headers["X-Request-Id"]


class Untouched:
    """What the provider has heard and the ledger holds, to be the same afterwards."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway, self._before = gateway, self._now(gateway)

    def _now(self, gateway: Gateway) -> tuple[int, int]:
        return len(gateway.upstream.arrivals), len(books.calls())

    def check(self) -> None:
        assert self._now(self._gateway) == self._before
        assert Hold.objects.count() == 0


@pytest.fixture
def untouched(gateway: Gateway, accounts: dict[str, Account]) -> Iterator[None]:
    before = Untouched(gateway)
    yield
    before.check()


@pytest.mark.parametrize("path", BODIES)
def test_its_usual_body_is_answered_and_booked(gateway: Gateway, accounts: dict[str, Account], path: str) -> None:
    account = account_of(accounts, path)
    seen = len(books.calls(key_id=account.key.pk))
    answered = send(gateway, account, path, msgspec.json.encode(body_of(account, path)))
    assert answered.status_code == 200, answered.text
    assert [call.outcome for call in books.calls(key_id=account.key.pk)[seen:]] == ["ok"]


# What another field would refuse and this one takes: a cap, tokens for a text, a name or an object of a vendor's own.
LEGAL: list[tuple[str, str, Any]] = [
    ("/v1/messages", "max_tokens", 7),
    ("/v1/completions", "prompt", [7]),
    ("/v1/completions", "prompt", [[]]),
    ("/v1/embeddings", "input", [7]),
    ("/v1/audio/speech", "voice", {"a": [1]}),
]
# How a body is spoilt: from its bytes, in which "a" is the text that is sent.
SPOILT = {
    "nothing": lambda body: b"",
    "no JSON": lambda body: b"{a: 1}",
    "cut": lambda body: body[:-1],
    "more after its end": lambda body: body + b"}",
    "an array": lambda body: b"[" + body + b"]",
    "a text": lambda body: b'"a"',
    "null": lambda body: b"null",
    "a NUL by escape": lambda body: body.replace(b'"a"', b'"\\u0000"'),
    "a raw NUL": lambda body: body.replace(b'"a"', b'"\x00"'),
    "a NUL in a field nobody knows": lambda body: body[:-1] + b',"novel":"\\u0000"}',
    "invalid UTF-8": lambda body: body.replace(b'"a"', b'"\xff\xfe"'),
    "UTF-8 that is too long": lambda body: body.replace(b'"a"', b'"\xc0\x80"'),
    "a raw surrogate": lambda body: body.replace(b'"a"', b'"\xed\xa0\x80"'),
    "deep in a field nobody knows": lambda body: body[:-1] + b',"novel":' + DEEP + b"}",
    "deep where the text stands": lambda body: body.replace(b'"a"', DEEP),
}


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.usefixtures("untouched")
def test_what_is_no_request_is_refused(gateway: Gateway, accounts: dict[str, Account], path: str, spoilt: str) -> None:
    account = account_of(accounts, path)
    body = msgspec.json.encode(body_of(account, path))
    wrong = SPOILT[spoilt](body)
    assert wrong != body
    assert_told_in_its_words(send(gateway, account, path, wrong), path)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.usefixtures("untouched")
def test_a_field_of_a_wrong_type_is_refused(gateway: Gateway, accounts: dict[str, Account], path: str) -> None:
    account = account_of(accounts, path)
    for name in body_of(account, path):
        for wrong in (7, {"a": [1]}, [7], [[]], True):
            if (path, name, wrong) in LEGAL:
                continue
            answered = send(gateway, account, path, msgspec.json.encode(body_of(account, path, **{name: wrong})))
            assert answered.status_code == 400, (name, wrong, answered.text)
            assert_told_in_its_words(answered, path)


@pytest.mark.parametrize("path", BODIES)
def test_half_a_surrogate_pair_is_no_defect(gateway: Gateway, accounts: dict[str, Account], path: str) -> None:
    account, before = account_of(accounts, path), Untouched(gateway)
    body = msgspec.json.encode(body_of(account, path)).replace(b'"a"', b'"a\\ud83d"')
    answered = send(gateway, account, path, body)
    if answered.status_code != 200:
        assert_told_in_its_words(answered, path)
        before.check()
    assert Hold.objects.count() == 0


@pytest.mark.parametrize("path", [path for path in BODIES if "/images/" not in path and "/audio/" not in path])
def test_a_hundred_thousand_of_them_are_answered_or_refused(
    gateway: Gateway, accounts: dict[str, Account], path: str
) -> None:
    account, before = account_of(accounts, path), Untouched(gateway)
    body = body_of(account, path)
    name = next(name for name, value in reversed(body.items()) if isinstance(value, list | dict))
    many = body[name]["parts"] if isinstance(body[name], dict) else body[name]
    many *= 100_000
    answered = send(gateway, account, path, msgspec.json.encode(body))
    if answered.status_code != 200:
        assert_told_in_its_words(answered, path)
        before.check()
    assert Hold.objects.count() == 0


# --- forms ------------------------------------------------------------------------------------------------


def form(account: Account, path: str, *, prompt: bytes = b"a", model: bytes | None = None) -> bytes:
    file = b"image" if "images" in path else b"file"
    fields = [(b'"model"', model if model is not None else account.model.name.encode()), (b'"prompt"', prompt)]
    parts = [b"Content-Disposition: form-data; name=" + name + b"\r\n\r\n" + value for name, value in fields]
    parts.append(b'Content-Disposition: form-data; name="' + file + b'"; filename="a.bin"\r\n\r\n\x89\x00\xff')
    return b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


def send_form(gateway: Gateway, account: Account, path: str, body: bytes) -> requests.Response:
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    return send(gateway, account, path, body, **{"Content-Type": kind})


@pytest.mark.parametrize("path", FORMS)
def test_a_usual_form_is_answered(gateway: Gateway, accounts: dict[str, Account], path: str) -> None:
    account = accounts["/v1"]
    answered = send_form(gateway, account, path, form(account, path))
    assert answered.status_code == 200, answered.text


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.usefixtures("untouched")
def test_a_spoilt_form_is_refused(gateway: Gateway, accounts: dict[str, Account], path: str) -> None:
    account = accounts["/v1"]
    usual = form(account, path)
    part = b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="n"\r\n\r\n1\r\n'
    spoilt = {
        "nothing": b"",
        "no form": b'{"model": "a"}',
        "another boundary": usual.replace(BOUNDARY, b"other"),
        "cut": usual[: len(usual) // 2],
        "more after its end": usual + b"more",
        "a NUL": form(account, path, prompt=b"\x00"),
        "invalid UTF-8": form(account, path, prompt=b"\xff"),
        "a raw surrogate": form(account, path, prompt=b"\xed\xa0\x80"),
        "no model": form(account, path, model=b""),
        "a model with a NUL": form(account, path, model=b"a\x00"),
        "a hundred thousand parts": part * 100_000 + usual,
        "two models": usual[: -len(BOUNDARY) - 6] + usual,
    }
    for name, body in spoilt.items():
        answered = send_form(gateway, account, path, body)
        assert answered.status_code == 400, (name, answered.text)
        assert_told_in_its_words(answered, path)
