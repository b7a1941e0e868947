"""Bedrock: how its requests are authorised and addressed, and its recorded streams through the whole adapter."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from providers.adapters.base import ProviderConfig
from providers.adapters.bedrock import Bedrock
from providers.credentials import CredentialUnusable
from providers.errors import InvalidCredential, Unsupported
from providers.http import Deadlines
from providers.unified import Finished, Message, PartDelta, Request, TextPart
from providers.wire.bedrock_invoke import AnthropicOnBedrock
from tests.recordings import Exchange, cases, exchanges
from tests.upstream import Arrival, Upstream, answer
from tests.upstream.recorded import body_of, reply_from

KEY_ID, SECRET, TOKEN = "AKIAPLANTED012345678", "planted/secret+0123456789", "planted-session-token"
ACCESS_KEY = json.dumps({"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET, "aws_session_token": TOKEN})
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
STREAMS = cases(exchanges(api="bedrock.converse", stream=True, status=200))


def make_bedrock(upstream: Upstream | None = None, *, credential: str = "ABSK-planted", **settings: Any) -> Bedrock:
    config = ProviderConfig(
        name="aws",
        adapter="bedrock",
        base_url=upstream.url if upstream else "",
        credential=credential,
        allow_plain_http=True,
        allow_private_address=True,
        settings=settings,
    )
    return Bedrock(config)


def ask(adapter: Bedrock, *, model: str = MODEL, stream: bool = False) -> None:
    adapter.send(body=b'{"messages":[]}', model=model, stream=stream).close()


# --- how requests are authorised ----------------------------------------------------------------------------


def test_an_api_key_is_a_bearer_token(upstream: Upstream) -> None:
    upstream.script(answer(body=b"{}"))
    ask(make_bedrock(upstream))
    assert upstream.arrivals[0].headers["authorization"] == "Bearer ABSK-planted"
    assert "x-amz-date" not in upstream.arrivals[0].headers


@pytest.mark.parametrize(
    ("credential", "token"), [(ACCESS_KEY, TOKEN), (f"{KEY_ID}:{SECRET}", ""), (f"{KEY_ID}:{SECRET}:{TOKEN}", TOKEN)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_access_key_signs_each_request(upstream: Upstream, credential: str, token: str, stream: bool) -> None:
    pytest.importorskip("botocore")
    adapter = make_bedrock(upstream, credential=credential, region="eu-central-1")
    upstream.script(*[answer(body=b"{}", content_type="application/octet-stream")] * 2)
    ask(adapter, stream=stream)
    ask(adapter, model="arn:aws:bedrock:us-east-1:1:inference-profile/eu.x", stream=stream)
    for arrival in upstream.arrivals:
        assert arrival.headers.get("x-amz-security-token", "") == token
        assert arrival.headers["authorization"] == signature_of(arrival, region="eu-central-1")
        assert SECRET not in str(arrival)


def signature_of(arrival: Arrival, *, region: str) -> str:
    """Signature version 4, by the steps of https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html"""
    stated = arrival.headers["authorization"]
    names = stated.partition("SignedHeaders=")[2].partition(",")[0]
    assert {"host", "x-amz-date"} <= set(names.split(";"))
    headers = "".join(f"{name}:{arrival.headers[name]}\n" for name in names.split(";"))
    path, _, query = arrival.path.partition("?")
    # For every service but S3 the path, encoded already, is encoded once more.
    lines = [arrival.method, quote(path, safe="/-_.~"), query, headers, names, hashlib.sha256(arrival.body).hexdigest()]
    when = arrival.headers["x-amz-date"]
    scope = f"{when[:8]}/{region}/bedrock/aws4_request"
    hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = b"AWS4" + SECRET.encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signed = hmac.digest(key, f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{hashed}".encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, Signature={signed}"


def test_without_a_credential_awss_own_chain_finds_one(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("botocore")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    text = f"[books]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    (tmp_path / "credentials").write_text(text)
    upstream.script(answer(body=b"{}"))
    ask(make_bedrock(upstream, credential="", region="us-east-1", profile="books"))
    assert upstream.arrivals[0].headers["authorization"] == signature_of(upstream.arrivals[0], region="us-east-1")


@pytest.mark.parametrize(
    ("credential", "settings", "why"),
    [
        (ACCESS_KEY, {}, "needs the setting 'region'"),
        (ACCESS_KEY, {"region": "Frankfurt"}, "no AWS region"),
        ('{"aws_access_key_id": "AKIA"}', {"region": "us-east-1"}, "not an access key"),
    ],
)
def test_what_cannot_be_signed_is_told_when_it_is_set_up(
    upstream: Upstream, credential: str, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(CredentialUnusable) as caught:
        make_bedrock(upstream, credential=credential, **settings)
    assert why in caught.value.detail
    assert SECRET not in caught.value.detail


def test_signing_without_botocore_says_what_to_install(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(CredentialUnusable) as caught:
        make_bedrock(upstream, credential=ACCESS_KEY, region="us-east-1")
    assert "requirements-bedrock.in" in caught.value.detail
    assert make_bedrock(upstream)  # an API key needs none


def test_a_region_is_required_where_no_address_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CredentialUnusable) as caught:
        make_bedrock()
    assert "'region'" in caught.value.detail
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, 1, 6, "", ("52.94.133.1", 443))])
    assert make_bedrock(region="us-west-2").client.base_url == "https://bedrock-runtime.us-west-2.amazonaws.com"


def test_secrets_that_aws_quotes_do_not_reach_the_client(upstream: Upstream) -> None:
    pytest.importorskip("botocore")
    said = {"message": f"The canonical string is host:x {TOKEN} {SECRET} by {KEY_ID}."}
    kind = {"x-amzn-errortype": "InvalidSignatureException"}
    upstream.script(answer(status=403, body=json.dumps(said).encode(), headers=kind))
    with pytest.raises(InvalidCredential) as caught:
        ask(make_bedrock(upstream, credential=ACCESS_KEY, region="us-east-1"))
    assert not any(secret in caught.value.message for secret in (KEY_ID, SECRET, TOKEN))


# --- how they are addressed ---------------------------------------------------------------------------------


def test_the_model_and_the_stream_stand_in_the_path(upstream: Upstream) -> None:
    upstream.script(*[answer(body=b"{}", content_type="application/octet-stream")] * 3)
    adapter = make_bedrock(upstream)
    ask(adapter)
    ask(adapter, stream=True)
    adapter.send(body=b"{}", model="amazon.titan-embed-text-v2:0", stream=False, operation="embeddings").close()
    assert [arrival.path for arrival in upstream.arrivals] == [
        "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse",
        "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
    ]
    with pytest.raises(Unsupported):
        adapter.send(body=b"{}", model=MODEL, stream=False, operation="rerank")


def test_a_row_of_anthropics_models_may_invoke_them(upstream: Upstream) -> None:
    upstream.script(*[answer(body=b"{}", content_type="application/octet-stream")] * 2)
    adapter = make_bedrock(upstream, api="invoke", beta="context-1m, files")
    ask(adapter)
    ask(adapter, stream=True)
    assert [arrival.path.rpartition("/")[2] for arrival in upstream.arrivals] == [
        "invoke", "invoke-with-response-stream"
    ]  # fmt: skip
    assert isinstance(adapter.wire, AnthropicOnBedrock)
    assert adapter.wire.betas == ("context-1m", "files")


def test_an_api_that_there_is_not_is_refused() -> None:
    with pytest.raises(CredentialUnusable) as caught:
        make_bedrock(region="us-east-1", api="invoked")
    assert "converse, invoke" in caught.value.detail


def test_models_and_inference_profiles_are_listed_page_by_page(upstream: Upstream) -> None:
    pages: list[dict[str, Any]] = [
        {"modelSummaries": [{"modelId": "b.model"}, {"other": 1}]},
        {"inferenceProfileSummaries": [{"inferenceProfileId": "us.b.model"}], "nextToken": "a/b"},
        {"inferenceProfileSummaries": [{"inferenceProfileId": "eu.b.model"}]},
    ]
    upstream.script(*(answer(body=json.dumps(page).encode()) for page in pages))
    assert make_bedrock(upstream).list_models() == ("b.model", "eu.b.model", "us.b.model")
    assert [arrival.path for arrival in upstream.arrivals] == [
        "/foundation-models",
        "/inference-profiles?maxResults=1000",
        "/inference-profiles?maxResults=1000&nextToken=a%2Fb",
    ]


def test_an_inference_profile_is_a_model_too(upstream: Upstream) -> None:
    refused = answer(status=400, body=b'{"message": "The provided model identifier is invalid."}')
    upstream.script(refused, answer(body=b"{}"), refused, refused)
    adapter = make_bedrock(upstream)
    assert adapter.validate_model("us.b.model")
    assert not adapter.validate_model("nothing")


def test_models_are_listed_where_the_settings_say(upstream: Upstream) -> None:
    with Upstream() as control:
        adapter = make_bedrock(upstream, control_url=control.url)
        assert adapter.health_check(timeout_s=5).healthy
        assert [arrival.path for arrival in control.arrivals] == ["/foundation-models"]
    assert upstream.arrivals == []


# --- recorded streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [None, 7], ids=["as it came", "by 7 bytes"])
@pytest.mark.parametrize("exchange", STREAMS)
def test_a_recorded_stream_is_read_through_the_adapter(
    upstream: Upstream, exchange: Exchange, chunk_bytes: int | None
) -> None:
    upstream.script(reply_from(exchange, chunk_bytes=chunk_bytes or len(body_of(exchange))))
    said = Message(role="user", parts=(TextPart(text="Hi"),))
    events = list(make_bedrock(upstream).stream(Request(model=MODEL, messages=(said,))))
    assert isinstance(events[-1], Finished)
    wanted = {meter: count for meter, count in exchange["expected"]["usage"].items() if count}
    assert events[-1].usage.totals == wanted
    assert any(isinstance(event, PartDelta) for event in events)


def test_a_deadline_holds(upstream: Upstream) -> None:
    with pytest.raises(Exception, match=r"within 0\.2 s"):
        make_bedrock(upstream).send(body=b"{}", model="fake-hang", stream=False, deadlines=Deadlines(total_s=0.2))
