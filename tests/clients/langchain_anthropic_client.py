"""LangChain over Anthropic's wire: ChatAnthropic."""

from __future__ import annotations

from typing import Any

import anthropic
from langchain_anthropic import ChatAnthropic

from tests.clients import chains
from tests.clients.said import MISSING_MODEL, QUESTION, WRONG_KEY, refused


def chat(base_url: str, api_key: str, model: str) -> ChatAnthropic:
    made: Any = {"base_url": base_url, "api_key": api_key, "model": model, "max_retries": 0, "timeout": 20}
    return ChatAnthropic(stream_usage=True, max_tokens=50, **made)


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


def check_refused_model(base_url: str, api_key: str, model: str) -> None:
    error = refused(lambda: chat(base_url, api_key, MISSING_MODEL).invoke(QUESTION), anthropic.NotFoundError)
    assert MISSING_MODEL in str(error)


def check_refused_key(base_url: str, api_key: str, model: str) -> None:
    refused(lambda: list(chat(base_url, WRONG_KEY, model).stream(QUESTION)), anthropic.AuthenticationError)
