"""Which providers are asked for a response as such, and which for a chat whose answer is translated."""

from __future__ import annotations

from typing import Any

import pytest

from providers import registry
from providers.adapters.base import Adapter, ProviderConfig
from providers.credentials import CredentialUnusable
from providers.wire.openai_responses import OpenAIResponses
from tests.upstream import Upstream, answer


def make_adapter(upstream: Upstream, name: str, **settings: Any) -> Adapter:
    config = ProviderConfig(
        name="p",
        adapter=name,
        base_url=upstream.url,
        credential="sk-planted-0123456789",
        allow_plain_http=True,
        allow_private_address=True,
        settings=settings,
    )
    return registry.build(config)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("openai", {}), ("openai_compatible", {"responses": True}), ("azure", {"endpoint": "v1"}), ("xai", {}),
     ("perplexity", {})],
)
def test_a_provider_with_responses_is_asked_for_one(upstream: Upstream, name: str, settings: dict[str, Any]) -> None:
    upstream.script(answer(body=b"{}"))
    adapter = make_adapter(upstream, name, **settings)
    assert adapter.operation_for("responses") == "responses"
    assert adapter.wire_for("responses").name == "openai_responses"
    adapter.send(body=b'{"model": "fake-model", "input": "Hi"}', model="m", stream=False, operation="responses").close()
    assert upstream.arrivals[0].path.endswith("/responses")


@pytest.mark.parametrize("name", ["openai_compatible", "anthropic", "bedrock", "sandbox"])
def test_a_provider_without_responses_is_asked_for_a_chat(upstream: Upstream, name: str) -> None:
    adapter = make_adapter(upstream, name)
    assert adapter.operation_for("responses") == "chat"
    assert adapter.wire_for(adapter.operation_for("responses")) is adapter.wire
    assert adapter.operation_for("embeddings") == "embeddings"


def test_uses_of_tools_are_metered_where_the_settings_say_so(upstream: Upstream) -> None:
    for metered in (False, True):
        wire = make_adapter(upstream, "openai", meter_tool_calls=metered).wire_for("responses")
        assert isinstance(wire, OpenAIResponses)
        assert wire.dialect.meter_tool_calls is metered


def test_a_setting_that_is_neither_true_nor_false_is_told(upstream: Upstream) -> None:
    with pytest.raises(CredentialUnusable) as caught:
        make_adapter(upstream, "openai", meter_tool_calls="yes")
    assert "must be true or false" in caught.value.detail
