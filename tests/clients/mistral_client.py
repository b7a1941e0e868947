"""Mistral's own client: `Mistral` with another address and key. It posts to /v1/chat/completions and /v1/embeddings."""

from __future__ import annotations

import json
from typing import Any

from mistralai.client import Mistral
from mistralai.client.errors import MistralError

from tests.clients.said import MISSING_MODEL, QUESTION, SENTENCE, TOOL, VECTORS, WORDS, WRONG_KEY, refused

ASK: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]


def client(base_url: str, api_key: str) -> Mistral:
    return Mistral(api_key=api_key, server_url=base_url, timeout_ms=20_000)


def check_chat(base_url: str, api_key: str, model: str) -> None:
    with client(base_url, api_key) as made:
        said = made.chat.complete(model=model, messages=ASK, max_tokens=50, temperature=0.5)
    assert said.id
    assert said.model
    (choice,) = said.choices
    assert choice.message is not None
    assert (choice.finish_reason, choice.message.content) == ("stop", SENTENCE)
    assert said.usage.completion_tokens == WORDS
    assert said.usage.total_tokens == (said.usage.prompt_tokens or 0) + WORDS


def check_stream(base_url: str, api_key: str, model: str) -> None:
    with client(base_url, api_key) as made, made.chat.stream(model=model, messages=ASK) as events:
        chunks = [event.data for event in events]
    deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(str(text) for text in deltas) == SENTENCE
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == ["stop"]


def check_tools_and_their_results(base_url: str, api_key: str, model: str) -> None:
    tools: Any = [TOOL]
    with client(base_url, api_key) as made:
        said = made.chat.complete(model=model, messages=ASK, tools=tools, tool_choice="any")
        (choice,) = said.choices
        assert choice.message is not None
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls or []
        assert (call.function.name, json.loads(str(call.function.arguments))) == ("weather", {"city": "Rome"})
        result: Any = {"role": "tool", "tool_call_id": call.id, "name": "weather", "content": "sun"}
        again = made.chat.complete(model=model, messages=[*ASK, choice.message, result], tools=tools)
    assert again.choices[0].message is not None
    assert again.choices[0].message.content == SENTENCE


def check_own_streamed_tools(base_url: str, api_key: str, model: str) -> None:
    """It reads calls in one piece only, as Mistral sends them: OpenAI's own pieces are refused by its types."""
    tools: Any = [TOOL]
    with client(base_url, api_key) as made, made.chat.stream(model=model, messages=ASK, tools=tools) as events:
        choices = [choice for event in events for choice in event.data.choices]
    calls = [call for choice in choices for call in choice.delta.tool_calls or []]
    assert [call.function.name for call in calls if call.function.name] == ["weather"]
    assert json.loads("".join(str(call.function.arguments) for call in calls)) == {"city": "Rome"}
    assert choices[-1].finish_reason == "tool_calls"


def check_embeddings(base_url: str, api_key: str, model: str) -> None:
    with client(base_url, api_key) as made:
        done = made.embeddings.create(model=model, inputs=["debit", "credit"])
    assert [(entry.index, entry.embedding) for entry in done.data] == list(enumerate(VECTORS))
    assert done.usage.prompt_tokens == 20


def check_embeddings_of_a_length(base_url: str, api_key: str, model: str) -> None:
    with client(base_url, api_key) as made:
        done = made.embeddings.create(model=model, inputs="debit", output_dimension=3)
    assert done.data[0].embedding == VECTORS[0]


def check_the_models_own_name_for_the_seed(base_url: str, api_key: str, model: str) -> None:
    with client(base_url, api_key) as made:
        try:
            said = made.chat.complete(model=model, messages=ASK, random_seed=7)
        except MistralError as error:
            # Some providers have no seed.
            told = (error.status_code, json.loads(error.body)["error"]["param"])
        else:
            told = (200, said.choices[0].message.content if said.choices[0].message else "")
    assert told in ((200, SENTENCE), (400, "seed")), told


def check_refused_model(base_url: str, api_key: str, model: str) -> None:
    with client(base_url, api_key) as made:
        error = refused(lambda: made.chat.complete(model=MISSING_MODEL, messages=ASK), MistralError)
    assert error.status_code == 404
    assert MISSING_MODEL in error.body


def check_refused_key(base_url: str, api_key: str, model: str) -> None:
    with client(base_url, WRONG_KEY) as made:
        error = refused(lambda: made.chat.complete(model=model, messages=ASK), MistralError)
    assert error.status_code == 401
