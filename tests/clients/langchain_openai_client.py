"""LangChain over OpenAI's wire: ChatOpenAI and OpenAIEmbeddings."""

from __future__ import annotations

from typing import Any

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.clients import chains
from tests.clients.said import MISSING_MODEL, QUESTION, VECTORS, WRONG_KEY, refused


def chat(base_url: str, api_key: str, model: str) -> ChatOpenAI:
    made: Any = {"base_url": f"{base_url}/v1", "api_key": api_key, "model": model, "max_retries": 0, "timeout": 20}
    return ChatOpenAI(stream_usage=True, max_tokens=50, **made)


def check_invoke(base_url: str, api_key: str, model: str) -> None:
    chains.invoked(chat(base_url, api_key, model))


def check_stream(base_url: str, api_key: str, model: str) -> None:
    chains.streamed(chat(base_url, api_key, model))


def check_tools_and_their_results(base_url: str, api_key: str, model: str) -> None:
    chains.called(chat(base_url, api_key, model))


def check_streamed_tools(base_url: str, api_key: str, model: str) -> None:
    chains.called_in_a_stream(chat(base_url, api_key, model))


def check_structured_output(base_url: str, api_key: str, model: str) -> None:
    chains.structured(chat(base_url, api_key, model), method="json_schema")


def check_structured_output_by_a_tool(base_url: str, api_key: str, model: str) -> None:
    chains.structured(chat(base_url, api_key, model), method="function_calling")


def check_embeddings(base_url: str, api_key: str, model: str) -> None:
    # Unless told not to, it sends tokens of an OpenAI model, which mean nothing to another provider's.
    made: Any = {"base_url": f"{base_url}/v1", "api_key": api_key, "model": model, "max_retries": 0}
    embeddings = OpenAIEmbeddings(check_embedding_ctx_length=False, **made)
    assert embeddings.embed_documents(["debit", "credit"]) == VECTORS
    assert embeddings.embed_query("debit") == VECTORS[0]


def check_refused_model(base_url: str, api_key: str, model: str) -> None:
    error = refused(lambda: chat(base_url, api_key, MISSING_MODEL).invoke(QUESTION), openai.NotFoundError)
    assert error.code == "model_not_found"


def check_refused_key(base_url: str, api_key: str, model: str) -> None:
    error = refused(lambda: list(chat(base_url, WRONG_KEY, model).stream(QUESTION)), openai.AuthenticationError)
    assert error.code == "invalid_key"
