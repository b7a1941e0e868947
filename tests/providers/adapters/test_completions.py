"""Who has OpenAI's legacy completions, and where."""

from __future__ import annotations

import pytest

from providers import registry
from providers.adapters.base import Adapter, ProviderConfig
from providers.errors import Unsupported
from providers.vendors import VENDORS
from tests.upstream import Upstream, answer


def make(upstream: Upstream, name: str, **settings: object) -> Adapter:
    return registry.build(
        ProviderConfig(
            name="mine", adapter=name, base_url=f"{upstream.url}/v1", credential="k", allow_plain_http=True,
            allow_private_address=True, settings=settings,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("openai", "/v1/completions"),
        ("together", "/v1/completions"),
        ("deepseek", "/v1/beta/completions"),
        ("azure", "/v1/openai/deployments/fake-model/completions?api-version=2024-10-21"),
    ],
)
def test_a_prompt_goes_where_the_vendor_takes_it(upstream: Upstream, name: str, path: str) -> None:
    adapter = make(upstream, name)
    assert adapter.wire_for("completions").name == "openai_completions"
    body = b'{"model": "fake-model", "prompt": "a"}'
    upstream.script(answer(body=b"{}"))
    adapter.send(body=body, model="fake-model", stream=False, operation="completions").close()
    assert upstream.arrivals[-1].path == path


@pytest.mark.parametrize("name", ["anthropic", "gemini", "groq", "mistral", "sandbox"])
def test_a_vendor_without_them_says_so(upstream: Upstream, name: str) -> None:
    with pytest.raises(Unsupported, match="has no completions"):
        make(upstream, name).wire_for("completions")


def test_a_server_without_them_is_told_by_an_empty_path(upstream: Upstream) -> None:
    assert make(upstream, "openai_compatible").capabilities.completions
    assert not make(upstream, "openai_compatible", completions_path="").capabilities.completions
    assert not make(upstream, "azure", endpoint="models").capabilities.completions


def test_only_openai_and_azure_are_known_to_stop_by_themselves(upstream: Upstream) -> None:
    wires = {name: make(upstream, name).wire_for("completions") for name in ("openai", "azure", "vllm")}
    assert {name: wire.usual_cap for name, wire in wires.items()} == {"openai": 16, "azure": 16, "vllm": None}  # type: ignore[attr-defined]
    assert VENDORS["vllm"].completions
