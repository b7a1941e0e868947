"""litellm, which calls OpenAI's wire with its openai 2.x client and Anthropic's by its own code."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import Any

# Its prices and its tokenizer come with it: nothing is fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # after what its import reads

from tests.clients.said import MISSING_MODEL, QUESTION, SENTENCE, TOOL, VECTORS, WORDS, WRONG_KEY, refused

litellm.telemetry = False
litellm.suppress_debug_info = True
ASK: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]


def openai(base_url: str, api_key: str, model: str, **fields: Any) -> Any:
    return litellm.completion(
        model=f"openai/{model}", api_base=f"{base_url}/v1", api_key=api_key, num_retries=0, max_retries=0, **fields
    )


def anthropic(base_url: str, api_key: str, model: str, **fields: Any) -> Any:
    return litellm.completion(
        model=f"anthropic/{model}", api_base=base_url, api_key=api_key, num_retries=0, max_retries=0, **fields
    )


def assert_whole(said: Any) -> None:
    assert said.id
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == (SENTENCE, "stop")
    assert said.usage.completion_tokens == WORDS
    assert said.usage.total_tokens == said.usage.prompt_tokens + WORDS


def assert_streamed(chunks: list[Any]) -> None:
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == SENTENCE
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    told = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert [usage.completion_tokens for usage in told] == [WORDS]


def assert_called(said: Any) -> Any:
    assert said.choices[0].finish_reason == "tool_calls"
    (call,) = said.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Rome"})
    assert call.id
    return {"role": "tool", "tool_call_id": call.id, "content": "sun"}


def check_openai(base_url: str, api_key: str, model: str) -> None:
    assert_whole(openai(base_url, api_key, model, messages=ASK, max_tokens=50))


def check_openai_stream(base_url: str, api_key: str, model: str) -> None:
    options = {"include_usage": True}
    assert_streamed(list(openai(base_url, api_key, model, messages=ASK, stream=True, stream_options=options)))


def check_openai_tools(base_url: str, api_key: str, model: str) -> None:
    said = openai(base_url, api_key, model, messages=ASK, tools=[TOOL])
    result = assert_called(said)
    again = openai(base_url, api_key, model, messages=[*ASK, said.choices[0].message, result], tools=[TOOL])
    assert_whole(again)


def check_openai_streamed_tools(base_url: str, api_key: str, model: str) -> None:
    chunks = list(openai(base_url, api_key, model, messages=ASK, tools=[TOOL], stream=True))
    assert_called(litellm.stream_chunk_builder(chunks))


def check_anthropic(base_url: str, api_key: str, model: str) -> None:
    assert_whole(anthropic(base_url, api_key, model, messages=ASK, max_tokens=50))


def check_anthropic_stream(base_url: str, api_key: str, model: str) -> None:
    options = {"include_usage": True}
    assert_streamed(
        list(anthropic(base_url, api_key, model, messages=ASK, max_tokens=50, stream=True, stream_options=options))
    )


def check_anthropic_tools(base_url: str, api_key: str, model: str) -> None:
    said = anthropic(base_url, api_key, model, messages=ASK, tools=[TOOL], max_tokens=50)
    result = assert_called(said)
    history = [*ASK, said.choices[0].message, result]
    assert_whole(anthropic(base_url, api_key, model, messages=history, tools=[TOOL], max_tokens=50))


def check_anthropic_streamed_tools(base_url: str, api_key: str, model: str) -> None:
    chunks = list(anthropic(base_url, api_key, model, messages=ASK, tools=[TOOL], max_tokens=50, stream=True))
    assert_called(litellm.stream_chunk_builder(chunks))


def check_embedding(base_url: str, api_key: str, model: str) -> None:
    made = litellm.embedding(
        model=f"openai/{model}", input=["debit", "credit"], api_base=f"{base_url}/v1", api_key=api_key,
        encoding_format="float",
    )  # fmt: skip
    assert [entry["embedding"] for entry in made.data] == VECTORS
    assert made.usage.prompt_tokens == 20


def check_refused_model(base_url: str, api_key: str, model: str) -> None:
    for ask in (openai, anthropic):
        asking = partial(ask, base_url, api_key, MISSING_MODEL, messages=ASK, max_tokens=50)
        assert MISSING_MODEL in str(refused(asking, litellm.NotFoundError))


def check_refused_key(base_url: str, api_key: str, model: str) -> None:
    for ask in (openai, anthropic):
        refused(partial(ask, base_url, WRONG_KEY, model, messages=ASK, max_tokens=50), litellm.AuthenticationError)
