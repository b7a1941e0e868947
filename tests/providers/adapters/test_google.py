"""Gemini with a key and Vertex with a service account: addresses, tokens, lists of models."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from providers.adapters.base import ProviderConfig
from providers.adapters.gemini import Gemini
from providers.adapters.service_account import SCOPE, Tokens, read_account
from providers.adapters.vertex import Vertex
from providers.address import AddressRefused
from providers.credentials import CredentialUnusable, resolve
from providers.errors import InvalidCredential, RateLimited, Unsupported
from providers.http import Client, NotSent
from tests.providers.adapters.accounts import private_key, service_account
from tests.upstream import Upstream, answer

TOKEN = b'{"access_token": "token-%d", "expires_in": 3600}'


def config(upstream: Upstream, *, credential: str, base: str, **settings: Any) -> ProviderConfig:
    return ProviderConfig(
        name="mine",
        adapter="any",
        base_url=f"{upstream.url}{base}",
        credential=credential,
        allow_plain_http=True,
        allow_private_address=True,
        settings=settings,
    )


def gemini(upstream: Upstream) -> Gemini:
    return Gemini(config(upstream, credential="key-1", base="/v1beta"))


def vertex(upstream: Upstream, **settings: Any) -> Vertex:
    account = service_account(f"{upstream.url}/token")
    return Vertex(config(upstream, credential=account, base="/v1beta1", **settings))


def paths(upstream: Upstream) -> list[str]:
    return [arrival.path for arrival in upstream.arrivals]


# --- addresses --------------------------------------------------------------------------------------------


def test_gemini_gets_its_key_and_the_model_in_the_path(upstream: Upstream) -> None:
    adapter = gemini(upstream)
    adapter.send(body=b"{}", model="fake-model", stream=False).close()
    adapter.send(body=b"{}", model="models/fake-model", stream=True).close()
    assert paths(upstream) == [
        "/v1beta/models/fake-model:generateContent",
        "/v1beta/models/fake-model:streamGenerateContent?alt=sse",
    ]
    assert upstream.arrivals[0].headers["x-goog-api-key"] == "key-1"
    assert "authorization" not in upstream.arrivals[0].headers
    assert Gemini.base_url == "https://generativelanguage.googleapis.com/v1beta"


def test_vertex_gets_a_token_and_the_project_and_region_in_the_path(upstream: Upstream) -> None:
    adapter = vertex(upstream, region="europe-west4", project="books")
    adapter.send(body=b"{}", model="fake-model", stream=True).close()
    prefix = "/v1beta1/projects/books/locations/europe-west4/publishers/google/models"
    assert paths(upstream) == ["/token", f"{prefix}/fake-model:streamGenerateContent?alt=sse"]
    assert upstream.arrivals[1].headers["authorization"] == "Bearer fake-token"


def test_vertex_takes_the_project_of_its_key_and_the_global_place(upstream: Upstream) -> None:
    vertex(upstream).send(body=b"{}", model="fake-model", stream=False).close()
    assert "/projects/my-project/locations/global/" in paths(upstream)[1]


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-central1", "us-central1-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_each_region_has_its_host(upstream: Upstream, region: str, host: str) -> None:
    account = service_account(f"{upstream.url}/token")
    bare = msgspec.structs.replace(config(upstream, credential=account, base="", region=region), base_url="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("providers.address.check_base_url", lambda *_, **__: None)
        assert Vertex(bare).client.base_url == f"https://{host}/v1beta1"


@pytest.mark.parametrize("make", [gemini, vertex])
def test_a_model_name_cannot_leave_its_path(upstream: Upstream, make: Any) -> None:
    assert not make(upstream).validate_model("../files?x=1")
    assert paths(upstream)[-1].endswith("/models/..%2Ffiles%3Fx%3D1")


@pytest.mark.parametrize("make", [gemini, vertex])
def test_there_is_no_rerank(upstream: Upstream, make: Any) -> None:
    with pytest.raises(Unsupported):
        make(upstream).send(body=b"{}", model="m", stream=False, operation="rerank")
    assert paths(upstream) == []


@pytest.mark.parametrize("make", [gemini, vertex])
def test_models_are_listed_over_all_pages_by_their_last_names(upstream: Upstream, make: Any) -> None:
    adapter = make(upstream)
    field, prefix = (adapter.listed, "models/" if adapter.listed == "models" else "publishers/google/models/")
    if adapter.listed != "models":
        upstream.script(answer(body=TOKEN % 1))
    upstream.script(
        answer(body=json.dumps({field: [{"name": f"{prefix}b"}, {"name": 7}, 7], "nextPageToken": "p&2"}).encode()),
        answer(body=json.dumps({field: [{"name": f"{prefix}a"}]}).encode()),
    )
    assert adapter.list_models() == ("a", "b")
    assert paths(upstream)[-1].endswith("/models?pageSize=1000&pageToken=p%262")


@pytest.mark.parametrize(("settings", "method"), [({}, "predict"), ({"embeddings": "embedContent"}, "embedContent")])
def test_vertex_embeds_by_the_method_its_models_have(
    upstream: Upstream, settings: dict[str, str], method: str
) -> None:
    path = vertex(upstream, **settings).path(operation="embeddings", model="m", stream=False)
    assert path is not None
    assert path.endswith(f"/models/m:{method}")


def test_googles_own_wait_is_obeyed_where_no_header_says_one(upstream: Upstream) -> None:
    body = b'{"error": {"code": 429, "message": "no", "details": [{"retryDelay": "2.5s"}]}}'
    upstream.script(answer(status=429, body=body))
    with pytest.raises(RateLimited) as caught:
        gemini(upstream).send(body=b"{}", model="m", stream=False)
    assert caught.value.retry_after_s == 2.5


# --- credentials ------------------------------------------------------------------------------------------


def test_a_key_is_needed(upstream: Upstream) -> None:
    with pytest.raises(CredentialUnusable):
        Gemini(config(upstream, credential="", base=""))
    with pytest.raises(CredentialUnusable):
        Vertex(config(upstream, credential="", base=""))


@pytest.mark.parametrize(
    "credential",
    [
        "sk-planted",
        "{}",
        service_account("https://127.0.0.1/token", private_key="planted"),
        service_account("https://127.0.0.1/token", private_key=7),
    ],
    ids=["no JSON", "no fields", "no key", "no text"],
)
def test_an_unusable_key_file_is_refused_without_being_quoted(upstream: Upstream, credential: str) -> None:
    with pytest.raises(CredentialUnusable) as caught:
        Vertex(config(upstream, credential=credential, base=""))
    assert "planted" not in f"{caught.value} {caught.value.detail}"


@pytest.mark.parametrize(
    "settings", [{"region": ""}, {"region": 7}, {"embeddings": "guess"}, {"project": "a\nb"}], ids=str
)
def test_wrong_settings_are_refused_when_the_adapter_is_built(upstream: Upstream, settings: dict[str, Any]) -> None:
    with pytest.raises(CredentialUnusable):
        vertex(upstream, **settings)


def test_a_key_file_must_not_point_into_our_network(upstream: Upstream) -> None:
    account = service_account("http://169.254.169.254/token")
    with pytest.raises(AddressRefused):
        Vertex(config(upstream, credential=account, base=""))


def test_a_key_file_of_many_lines_can_be_a_credential(tmp_path: Any) -> None:
    account = service_account("https://t.example/token")
    file = tmp_path / "key.json"
    file.write_text(json.dumps(json.loads(account), indent=2))
    credential = resolve(ref=f"file:{file}", secret="")
    assert "\n" not in credential
    assert read_account(credential, provider="p") == read_account(account, provider="p")
    assert resolve(ref="", secret=file.read_text()) == credential


def test_a_key_file_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(read_account(service_account("https://t.example"), provider="p"))


# --- tokens -----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(upstream: Upstream, clock: Clock) -> Iterator[Tokens]:
    client = Client(
        provider="mine",
        base_url=f"{upstream.url}/token",
        headers={},
        allow_plain_http=True,
        allow_private_address=True,
    )
    account = read_account(service_account(f"{upstream.url}/token"), provider="mine")
    yield Tokens(account, provider="mine", client=client, now=clock)
    client.close()


def unpacked(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_an_assertion_is_signed_by_the_account_for_the_endpoint(upstream: Upstream, tokens: Tokens) -> None:
    assert tokens.current() == "fake-token"
    (arrival,) = upstream.arrivals
    form = parse_qs(arrival.body.decode())
    assert arrival.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    head, claims, signature = form["assertion"][0].split(".")
    assert unpacked(head) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    assert unpacked(claims) == {
        "iss": "caller@my-project.iam.gserviceaccount.com",
        "scope": SCOPE,
        "aud": f"{upstream.url}/token",
        "iat": 1_000_000,
        "exp": 1_003_600,
    }
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    private_key().public_key().verify(raw, f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())


def test_a_token_is_kept_until_a_minute_before_its_end(upstream: Upstream, tokens: Tokens, clock: Clock) -> None:
    upstream.script(answer(body=TOKEN % 1), answer(body=TOKEN % 2))
    assert tokens.current() == "token-1"
    clock.now += 3539
    assert tokens.current() == "token-1"
    clock.now += 1
    assert tokens.current() == "token-2"
    assert len(upstream.arrivals) == 2


def test_many_threads_fetch_one_token(upstream: Upstream, tokens: Tokens) -> None:
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(tokens.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == ["fake-token"] * 8
    assert len(upstream.arrivals) == 1


def test_a_refused_account_is_an_invalid_credential(upstream: Upstream, tokens: Tokens) -> None:
    body = b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}'
    upstream.script(answer(status=400, body=body))
    with pytest.raises(InvalidCredential, match="Invalid JWT Signature") as caught:
        tokens.current()
    assert (caught.value.provider, caught.value.upstream_code) == ("mine", "invalid_grant")
    assert tokens.current() == "fake-token"


@pytest.mark.parametrize(
    "reply",
    [
        answer(status=503, body=b"{}"),
        answer(status=200, body=b"{}"),
        answer(status=200, body=b"<html>"),
        answer(status=200, body=b"[]"),
        answer(status=302, headers={"Location": "http://127.0.0.1:1/"}, body=b""),
    ],
    ids=["busy", "no token", "no JSON", "no object", "elsewhere"],
)
def test_without_a_token_nothing_was_sent(upstream: Upstream, tokens: Tokens, reply: Any) -> None:
    upstream.script(reply)
    with pytest.raises(NotSent) as caught:
        tokens.current()
    assert caught.value.retryable


def test_a_token_that_is_refused_before_its_end_is_replaced(upstream: Upstream) -> None:
    adapter = vertex(upstream)
    upstream.script(answer(body=TOKEN % 1), answer(status=401, body=b"{}"), answer(body=TOKEN % 2))
    with pytest.raises(InvalidCredential):
        adapter.send(body=b"{}", model="fake-model", stream=False)
    adapter.send(body=b"{}", model="fake-model", stream=False).close()
    sent = [arrival.headers.get("authorization") for arrival in upstream.arrivals]
    assert sent == [None, "Bearer token-1", None, "Bearer token-2"]


def test_health_asks_for_one_model_with_a_token(upstream: Upstream) -> None:
    health = vertex(upstream).health_check(timeout_s=5)
    assert health.healthy
    assert paths(upstream) == ["/token", "/v1beta1/publishers/google/models?pageSize=1"]


def test_an_account_that_is_refused_is_not_healthy(upstream: Upstream) -> None:
    upstream.script(answer(status=400, body=b'{"error": "invalid_grant"}'))
    health = vertex(upstream).health_check(timeout_s=5)
    assert (health.healthy, health.error) == (False, "The token endpoint refused the service account: invalid_grant.")
