"""Recorded exchanges, played by the fake upstream: an adapter hands on each byte, and each refusal is typed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from providers import registry
from providers.adapters.base import Adapter, ProviderConfig
from providers.errors import ProviderError
from tests.upstream import Upstream
from tests.upstream.recorded import body_of, load, reply_from

RECORDINGS = Path(__file__).resolve().parents[4] / "shared" / "recordings" / "exchanges.jsonl"
ADAPTER_OF_API = {
    "chat": "openai_compatible",
    "responses": "openai",
    "anthropic.messages": "anthropic",
    "gemini.generate": "gemini",
    "bedrock.converse": "bedrock",
    "ollama.chat": "ollama_native",
}


@cache
def records(*, api: str) -> list[dict[str, Any]]:
    if not RECORDINGS.exists():
        pytest.skip(f"no recordings at {RECORDINGS}")
    return [record for record in load(RECORDINGS) if record["api"] == api and record["method"] == "POST"]


def make_adapter(upstream: Upstream, *, api: str) -> Adapter:
    config = ProviderConfig(
        name="played",
        adapter=ADAPTER_OF_API[api],
        base_url=upstream.url,
        credential="sk-planted-0123456789",
        allow_plain_http=True,
        allow_private_address=True,
    )
    return registry.build(config)


@pytest.mark.parametrize("chunk_bytes", [None, 7], ids=["by event", "by 7 bytes"])
@pytest.mark.parametrize("api", ADAPTER_OF_API)
def test_answers_go_through_byte_for_byte(upstream: Upstream, api: str, chunk_bytes: int | None) -> None:
    adapter = make_adapter(upstream, api=api)
    played = [record for record in records(api=api) if record["status"] == 200 and len(body_of(record)) < 50_000]
    assert played
    for record in played:
        upstream.script(reply_from(record, chunk_bytes=chunk_bytes))
        streamed = record["response_format"] in ("sse", "eventstream", "ndjson")
        exchange = adapter.send(body=b"{}", model="m", stream=streamed)
        assert b"".join(exchange.chunks()) == body_of(record), record["id"]
    assert upstream.connections == 1


@pytest.mark.parametrize("api", ADAPTER_OF_API)
def test_refusals_are_typed(upstream: Upstream, api: str) -> None:
    adapter = make_adapter(upstream, api=api)
    refused = [record for record in records(api=api) if record["status"] >= 400]
    assert refused
    for record in refused:
        upstream.script(reply_from(record))
        with pytest.raises(ProviderError) as caught:
            adapter.send(body=b"{}", model="m", stream=bool(record["stream"]))
        assert (caught.value.status, caught.value.provider) == (record["status"], "played"), record["id"]
        assert caught.value.message
        assert type(caught.value) is not ProviderError
