"""A field that no wire has heard of, in a request that is translated: it is in what is sent, or is refused by name.

Every wire that clients speak, to every other that a provider speaks, in each operation that can be translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from providers.adapters import sandbox
from providers.errors import Unsupported
from providers.wire import (
    anthropic_messages,
    bedrock_converse,
    cohere_embed,
    cohere_rerank,
    gemini,
    gemini_embed,
    ollama_embed,
    openai_embeddings,
    openai_responses,
    titan_embed,
)
from providers.wire.base import Wire
from providers.wire.openai_embeddings.dialect import MISTRAL, VOYAGE
from tests.providers.wire.test_odd_counts import WIRES as CHATS

FIELD = "newField"
VALUE = {"deep": [1.5]}

_MESSAGES = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
_CONTENT = {"parts": [{"text": "Hi"}]}
_CONTENTS = {"model": "m", "stream": False, "contents": [{"role": "user", **_CONTENT}]}
_EMBED = {"model": "m", "stream": False, "content": _CONTENT}
_BATCH = {"model": "m", "stream": False, "requests": [{"content": _CONTENT}]}
# Operation -> (what a client says, by its wire; the wires of providers).
CLIENTS: dict[str, list[tuple[Wire, dict[str, Any]]]] = {
    "chat": [
        (CHATS["openai_chat"], _MESSAGES),
        (CHATS["anthropic_messages"], {**_MESSAGES, "max_tokens": 9}),
        (CHATS["openai_responses"], {"model": "m", "input": "Hi"}),
        (CHATS["gemini"], _CONTENTS),
        (CHATS["cohere_chat"], _MESSAGES),
        (CHATS["ollama_chat"], _MESSAGES),
        (CHATS["bedrock_converse"], {
            "modelId": "m", "stream": False, "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        }),
    ],
    "count_tokens": [(anthropic_messages.COUNT, _MESSAGES), (gemini.COUNT, _CONTENTS)],
    "embeddings": [
        (openai_embeddings.WIRE, {"model": "m", "input": ["Hi"]}),
        (cohere_embed.WIRE, {"model": "m", "texts": ["Hi"], "input_type": "search_query"}),
        (gemini_embed.SINGLE, _EMBED),
        (gemini_embed.BATCH, _BATCH),
    ],
    "rerank": [(cohere_rerank.WIRE, {"model": "m", "query": "q", "documents": ["Hi"]})],
}  # fmt: skip
PROVIDERS: dict[str, dict[str, Wire]] = {
    "chat": dict(CHATS),
    "count_tokens": {
        "anthropic_messages": anthropic_messages.COUNT,
        "bedrock_converse": bedrock_converse.COUNT,
        "gemini": gemini.COUNT,
        "sandbox": sandbox.COUNT,
        "openai_responses": openai_responses.COUNT,
    },
    "embeddings": {
        "openai": openai_embeddings.WIRE,
        "mistral": openai_embeddings.OpenAIEmbeddings(dialect=MISTRAL),
        "voyage": openai_embeddings.OpenAIEmbeddings(dialect=VOYAGE),
        "cohere": cohere_embed.WIRE,
        "titan": titan_embed.WIRE,
        "ollama": ollama_embed.WIRE,
        "gemini": gemini_embed.BATCH,
        "vertex": gemini_embed.SINGLE,
        "vertex_predict": gemini_embed.PREDICT,
    },
    "rerank": {"cohere": cohere_rerank.WIRE, "cohere_v2": cohere_rerank.V2, "voyage": cohere_rerank.VOYAGE},
}


def pairs() -> Iterator[Any]:
    """(client's wire, its body, provider's wire) of each pair that is not one and the same."""
    for operation, clients in CLIENTS.items():
        for client, body in clients:
            for name, provider in PROVIDERS[operation].items():
                if provider is not client:
                    yield pytest.param(client, body, provider, id=f"{operation}-{client.name}-to-{name}")


every_pair = pytest.mark.parametrize(("client", "body", "provider"), list(pairs()))


def sent(client: Wire, body: dict[str, Any], provider: Wire, *, drop: bool = False) -> bytes:
    return provider.encode_request(client.decode_request(msgspec.json.encode(body)), drop_unsupported=drop)


@every_pair
def test_an_unknown_field_is_sent_or_refused_by_name(client: Wire, body: dict[str, Any], provider: Wire) -> None:
    plain, dropped = sent(client, body, provider), sent(client, {**body, FIELD: VALUE}, provider, drop=True)
    if dropped != plain:
        assert msgspec.json.encode({FIELD: VALUE})[1:-1] in dropped
        assert sent(client, {**body, FIELD: VALUE}, provider) == dropped
        return
    with pytest.raises(Unsupported, match=FIELD) as caught:
        sent(client, {**body, FIELD: VALUE}, provider)
    assert caught.value.param == FIELD


@every_pair
def test_a_field_that_is_null_was_not_given(client: Wire, body: dict[str, Any], provider: Wire) -> None:
    assert sent(client, {**body, FIELD: None}, provider) == sent(client, body, provider)


EMBEDDERS = pytest.mark.parametrize("name", sorted(PROVIDERS["embeddings"]))


@EMBEDDERS
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("field", [FIELD, "title"])
def test_a_field_of_one_request_of_a_batch_is_sent_or_refused_by_its_place(name: str, count: int, field: str) -> None:
    provider = PROVIDERS["embeddings"][name]
    plain: list[dict[str, Any]] = [{"content": {"parts": [{"text": f"text {at}"}]}} for at in range(count)]
    if count > 1 and name in ("titan", "vertex"):
        with pytest.raises(Unsupported):
            sent(gemini_embed.BATCH, {**_BATCH, "requests": plain}, provider, drop=True)
        return
    body = {**_BATCH, "requests": [*plain[:-1], {**plain[-1], field: "x-ray"}]}
    says = name in ("gemini", "vertex") or (name == "vertex_predict" and field == "title")
    if says:
        told = msgspec.json.decode(sent(gemini_embed.BATCH, body, provider))
        inputs = told.get("requests") or told.get("instances") or [told]
        assert [entry.get(field) for entry in inputs] == [None] * (count - 1) + ["x-ray"]
        return
    with pytest.raises(Unsupported) as caught:
        sent(gemini_embed.BATCH, body, provider)
    assert caught.value.param == (field if count == 1 else f"requests[1].{field}")
    assert sent(gemini_embed.BATCH, body, provider, drop=True) == sent(
        gemini_embed.BATCH, {**_BATCH, "requests": plain}, provider
    )


# Task -> the wires that have a word for it, and the word.
TASKS: dict[Any, dict[str, bytes]] = {
    "RETRIEVAL_QUERY": {
        "cohere": b'"input_type":"search_query"', "voyage": b'"input_type":"query"',
        "gemini": b'"taskType":"RETRIEVAL_QUERY"', "vertex": b'"taskType":"RETRIEVAL_QUERY"',
        "vertex_predict": b'"task_type":"RETRIEVAL_QUERY"',
    },
    "CLASSIFICATION": {
        "cohere": b'"input_type":"classification"', "gemini": b'"taskType":"CLASSIFICATION"',
        "vertex": b'"taskType":"CLASSIFICATION"', "vertex_predict": b'"task_type":"CLASSIFICATION"',
    },
    "CODE_RETRIEVAL_QUERY": {
        "gemini": b'"taskType":"CODE_RETRIEVAL_QUERY"', "vertex": b'"taskType":"CODE_RETRIEVAL_QUERY"',
        "vertex_predict": b'"task_type":"CODE_RETRIEVAL_QUERY"',
    },
    1: {"gemini": b'"taskType":1', "vertex": b'"taskType":1', "vertex_predict": b'"task_type":1'},
}  # fmt: skip


@EMBEDDERS
@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_told_in_the_providers_word_or_refused_under_the_clients(name: str, task: Any) -> None:
    provider, body = PROVIDERS["embeddings"][name], {**_EMBED, "taskType": task}
    if name in TASKS[task]:
        assert TASKS[task][name] in sent(gemini_embed.SINGLE, body, provider)
        return
    with pytest.raises(Unsupported) as caught:
        sent(gemini_embed.SINGLE, body, provider)
    assert caught.value.param == "taskType"
    assert sent(gemini_embed.SINGLE, body, provider, drop=True) == sent(gemini_embed.SINGLE, _EMBED, provider)


@EMBEDDERS
def test_a_task_that_says_nothing_is_no_reason_to_refuse(name: str) -> None:
    for nothing in (None, "", "TASK_TYPE_UNSPECIFIED"):
        body = {**_EMBED, "taskType": nothing}
        assert sent(gemini_embed.SINGLE, body, PROVIDERS["embeddings"][name])


@pytest.mark.parametrize("name", ["openai", "mistral", "titan", "ollama"])
def test_a_purpose_is_refused_where_the_client_chose_to_state_it_and_not_where_its_wire_demands_one(name: str) -> None:
    provider = PROVIDERS["embeddings"][name]
    asked = {"model": "m", "input": ["Hi"]}
    if name not in ("openai", "mistral"):  # they speak this client's own wire
        with pytest.raises(Unsupported) as caught:
            sent(openai_embeddings.WIRE, {**asked, "input_type": "query"}, provider)
        assert caught.value.param == "input_type"
    assert b"search_query" not in sent(cohere_embed.WIRE, dict(CLIENTS["embeddings"][1][1]), provider)
