"""Which adapters have images, transcriptions and speech, and how their requests leave."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest

from providers import registry
from providers.adapters.base import PART_OF, Adapter, HttpAdapter, Operation, ProviderConfig
from providers.adapters.media import PATHS
from providers.adapters.sandbox import Sandbox
from providers.errors import Unsupported
from providers.wire import forms
from tests.providers.adapters.test_conformance import make_config
from tests.upstream import Upstream

FORM = (
    b"--b'0\r\n"
    b'Content-Disposition: form-data; name="model"\r\n\r\nfake-model\r\n'
    b"--b'0\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n\x00\xff\r\n'
    b"--b'0--\r\n"
)


def build(name: str, upstream: Upstream, **settings: Any) -> Adapter:
    return registry.build(msgspec.structs.replace(make_config(name, upstream), settings=settings))


def media_of(adapter: Adapter) -> set[str]:
    found = set()
    for operation in PATHS:
        with contextlib.suppress(Unsupported):
            adapter.wire_for(operation)
            found.add(operation)
    return found


@pytest.mark.parametrize("operation", PATHS)
@pytest.mark.parametrize("name", registry.names())
def test_an_adapter_has_a_wire_and_a_path_for_what_it_says_it_can_do(
    name: str, operation: Operation, upstream: Upstream
) -> None:
    adapter = build(name, upstream)
    can = getattr(adapter.capabilities, PART_OF.get(operation, operation))
    if operation not in media_of(adapter):
        assert not can or operation in PART_OF
        return
    assert can
    assert adapter.wire_for(operation).content_type == ""
    if isinstance(adapter, HttpAdapter):
        assert adapter.path(operation=operation, model="m", stream=False)


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("openai", {"images", "image_edits", "transcriptions", "translations", "speech"}),
        ("azure", {"images", "image_edits", "transcriptions", "translations", "speech"}),
        ("openai_compatible", {"images", "image_edits", "transcriptions", "translations", "speech"}),
        ("sandbox", {"images", "image_edits", "transcriptions", "translations", "speech"}),
        ("xai", {"images", "image_edits"}),
        ("groq", {"transcriptions", "translations", "speech"}),
        ("openrouter", {"transcriptions", "speech"}),
        ("mistral", {"transcriptions"}),
        ("anthropic", set()),
        ("deepseek", set()),
    ],
)
def test_who_has_what(name: str, media: set[str], upstream: Upstream) -> None:
    assert media_of(build(name, upstream)) == media


def test_a_row_can_say_where_a_server_has_them_or_that_it_has_none(upstream: Upstream) -> None:
    adapter = build("deepseek", upstream, speech_path="/say")
    assert isinstance(adapter, HttpAdapter)
    assert adapter.path(operation="speech", model="m", stream=True) == "/say"
    assert adapter.capabilities.speech
    with pytest.raises(Unsupported, match="images"):
        build("openai_compatible", upstream, images_path="").wire_for("images")


def test_a_form_leaves_with_its_boundary_and_as_it_is(upstream: Upstream) -> None:
    adapter = build("openai", upstream)
    adapter.send(body=FORM, model="fake-model", stream=False, operation="transcriptions").close()
    arrival = upstream.arrivals[-1]
    assert (arrival.path, arrival.body) == ("/v1/audio/transcriptions", FORM)
    assert arrival.headers["content-type"] == "multipart/form-data; boundary=\"b'0\""
    body = msgspec.json.encode({"model": "fake-model", "prompt": "x"})
    adapter.send(body=body, model="fake-model", stream=False, operation="images").close()
    assert upstream.arrivals[-1].headers["content-type"] == "application/json"


def test_azure_has_the_deployment_in_the_path(upstream: Upstream) -> None:
    config = msgspec.structs.replace(make_config("azure", upstream), base_url=upstream.url)
    adapter = registry.build(config)
    adapter.send(body=FORM, model="fake-model", stream=False, operation="transcriptions").close()
    path = "/openai/deployments/fake-model/audio/transcriptions?api-version=2024-10-21"
    assert upstream.arrivals[-1].path == path
    with pytest.raises(Unsupported):
        registry.build(msgspec.structs.replace(config, settings={"endpoint": "models"})).wire_for("images")


def test_the_sandbox_gives_the_same_answer_to_the_same_request() -> None:
    adapter = Sandbox(ProviderConfig(name="sandbox", adapter="sandbox"))
    for operation, model in (("transcriptions", "sandbox-transcribe"), ("translations", "sandbox-transcribe")):
        first, second = (
            adapter.send(body=FORM, model=model, stream=False, operation=operation).body()  # type: ignore[arg-type]
            for _ in range(2)
        )
        assert first == second
        assert msgspec.json.decode(first)["usage"] == {"type": "duration", "seconds": 1.0}
    assert forms.is_form(FORM)
