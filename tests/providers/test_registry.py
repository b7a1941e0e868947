"""Rows become adapters; no database is needed for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from providers import registry
from providers.adapters.base import HttpAdapter, ProviderConfig
from providers.adapters.sandbox import Sandbox
from providers.credentials import CredentialUnusable
from providers.models import Provider
from tests.upstream import Upstream, Wait, events

SAVED_AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


def make_row(*, age: int = 0, **fields: object) -> Provider:
    usual: dict[str, object] = {"pk": 1, "name": "mine", "adapter": "sandbox", "updated_at": SAVED_AT}
    row = Provider(**(usual | fields))
    row.updated_at += timedelta(seconds=age)
    return row


def make_http_row(upstream: Upstream, *, age: int = 0) -> Provider:
    return make_row(
        age=age,
        adapter="openai",
        base_url=f"{upstream.url}/v1",
        credential_secret="sk-1",
        allow_plain_http=True,
        allow_private_address=True,
    )


def test_each_name_builds_an_adapter() -> None:
    assert {"anthropic", "azure", "gemini", "openai", "openai_compatible", "sandbox", "vertex"} <= set(registry.names())
    assert isinstance(registry.build(ProviderConfig(name="s", adapter="sandbox")), Sandbox)


def test_an_unknown_adapter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(registry.UnknownAdapter, match=r"'sandbax'.*anthropic, .*openai_compatible, .*sandbox"):
        registry.build(ProviderConfig(name="s", adapter="sandbax"))


def test_a_row_becomes_plain_data_with_its_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-env")
    row = make_row(
        adapter="openai",
        base_url="https://api.example.com/v1",
        credential_ref="env:UPSTREAM_KEY",
        allow_plain_http=True,
        allow_private_address=True,
        timeout_s=11.0,
        connect_timeout_s=2.0,
        first_byte_timeout_s=7.0,
        idle_timeout_s=8.0,
        stream_timeout_s=99.0,
        max_retries=1,
        settings={"organization": "org"},
    )
    assert registry.config_from_row(row) == ProviderConfig(
        name="mine",
        adapter="openai",
        base_url="https://api.example.com/v1",
        credential="sk-env",
        allow_plain_http=True,
        allow_private_address=True,
        timeout_s=11.0,
        connect_timeout_s=2.0,
        first_byte_timeout_s=7.0,
        idle_timeout_s=8.0,
        stream_timeout_s=99.0,
        max_retries=1,
        settings={"organization": "org"},
    )


def test_a_row_whose_credential_is_missing_is_refused() -> None:
    with pytest.raises(CredentialUnusable):
        registry.config_from_row(make_row(credential_ref="env:NOT_SET_ANYWHERE"))


def test_deadlines_of_streams_and_of_whole_answers_differ() -> None:
    config = ProviderConfig(name="s", adapter="sandbox", timeout_s=40, stream_timeout_s=600, idle_timeout_s=30)
    whole, stream = config.deadlines(stream=False), config.deadlines(stream=True)
    assert (whole.total_s, whole.idle_s) == (40, 40)
    assert (stream.total_s, stream.idle_s) == (600, 30)
    assert config.deadlines(stream=True, timeout_s=5).total_s == 5


def test_an_unchanged_row_keeps_its_adapter() -> None:
    cache = registry.AdapterCache()
    assert cache.get(make_row()) is cache.get(make_row())
    assert cache.get(make_row(pk=2)) is not cache.get(make_row())


def test_a_changed_row_gets_a_new_adapter_and_an_old_copy_does_not_bring_it_back() -> None:
    cache = registry.AdapterCache()
    first = cache.get(make_row())
    second = cache.get(make_row(age=1, name="renamed"))
    assert second is not first
    assert second.name == "renamed"
    assert cache.get(make_row()) is second


def test_forgetting_builds_anew() -> None:
    first = registry.adapter_for(make_row(pk=77))
    assert registry.adapter_for(make_row(pk=77)) is first
    registry.forget(77)
    assert registry.adapter_for(make_row(pk=77)) is not first
    registry.forget(77)
    registry.forget(77)


def test_the_replaced_adapter_closes_its_idle_connections_and_lets_its_streams_end(upstream: Upstream) -> None:
    cache, release = registry.AdapterCache(), threading.Event()
    old = cache.get(make_http_row(upstream))
    assert isinstance(old, HttpAdapter)
    upstream.script(events([b"1", Wait(release), b"2"]))
    stream = old.send(body=b"{}", model="m", stream=True)
    assert old.validate_model("fake-model")
    assert old.client.idle_connections == 1
    cache.get(make_http_row(upstream, age=1))
    assert old.client.idle_connections == 0
    release.set()
    assert stream.body() == b"12"
    assert old.client.idle_connections == 0


def test_threads_that_need_an_adapter_at_once_share_one() -> None:
    cache, built = registry.AdapterCache(), []
    threads = [threading.Thread(target=lambda: built.append(cache.get(make_row()))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 20
    assert len(set(map(id, built))) == 1
