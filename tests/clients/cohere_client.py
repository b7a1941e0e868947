"""Cohere's own client: `cohere.ClientV2` with another address and key."""

from __future__ import annotations

import json
from typing import Any

import cohere

from tests.clients.said import MISSING_MODEL, QUESTION, SENTENCE, TOOL, VECTORS, WORDS, WRONG_KEY, refused

ASK: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]


def client(base_url: str, api_key: str) -> cohere.ClientV2:
    return cohere.ClientV2(api_key=api_key, base_url=base_url, max_retries=0, timeout=20)


def check_chat(base_url: str, api_key: str, model: str) -> None:
    said = client(base_url, api_key).chat(model=model, messages=ASK, max_tokens=50, temperature=0.5, p=0.75)
    assert said.id
    assert said.finish_reason == "COMPLETE"
    assert said.message.role == "assistant"
    (block,) = said.message.content or []
    assert (block.type, block.text) == ("text", SENTENCE)
    assert said.usage is not None
    assert said.usage.billed_units is not None
    assert said.usage.billed_units.output_tokens == WORDS
    assert said.usage.billed_units.input_tokens


def check_a_cut_answer_says_so(base_url: str, api_key: str, model: str) -> None:
    said = client(base_url, api_key).chat(model=model, messages=ASK, max_tokens=2)
    assert (said.finish_reason, (said.message.content or [])[0].text) == ("MAX_TOKENS", "The ledger")


def check_stream(base_url: str, api_key: str, model: str) -> None:
    events = list(client(base_url, api_key).chat_stream(model=model, messages=ASK))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message-start", "content-start"], kinds
    assert kinds[-2:] == ["content-end", "message-end"], kinds
    assert set(kinds[2:-2]) == {"content-delta"}
    assert events[0].id
    texts = [event.delta.message.content.text for event in events if event.type == "content-delta"]
    assert "".join(texts) == SENTENCE
    end = events[-1].delta
    assert (end.finish_reason, end.usage.billed_units.output_tokens) == ("COMPLETE", WORDS)


def check_tools_and_their_results(base_url: str, api_key: str, model: str) -> None:
    made = client(base_url, api_key)
    tools: Any = [TOOL]
    said = made.chat(model=model, messages=ASK, tools=tools)
    assert said.finish_reason == "TOOL_CALL"
    (call,) = said.message.tool_calls or []
    assert call.function is not None
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments or "") == {"city": "Rome"}
    sun: Any = [{"type": "document", "document": {"data": {"weather": "sun"}}}]
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": sun}
    again = made.chat(model=model, messages=[*ASK, said.message, result], tools=tools)
    assert (again.message.content or [])[0].text == SENTENCE


def check_streamed_tools(base_url: str, api_key: str, model: str) -> None:
    tools: Any = [TOOL]
    made = client(base_url, api_key)
    events = list(made.chat_stream(model=model, messages=ASK, tools=tools, tool_choice="REQUIRED"))
    (start,) = [event for event in events if event.type == "tool-call-start"]
    call = start.delta.message.tool_calls
    assert (call.function.name, start.index, bool(call.id)) == ("weather", 0, True)
    pieces = [event.delta.message.tool_calls for event in events if event.type == "tool-call-delta"]
    arguments = call.function.arguments + "".join(piece.function.arguments for piece in pieces)
    assert json.loads(arguments) == {"city": "Rome"}
    assert [event.index for event in events if event.type == "tool-call-end"] == [0]
    assert events[-1].delta.finish_reason == "TOOL_CALL"


def check_json_by_schema(base_url: str, api_key: str, model: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    asked: Any = {"type": "json_object", "json_schema": {**schema, "additionalProperties": False}}
    said = client(base_url, api_key).chat(model=model, messages=ASK, response_format=asked)
    assert json.loads((said.message.content or [])[0].text) == {"city": "Rome"}


def check_embed(base_url: str, api_key: str, model: str) -> None:
    made = client(base_url, api_key).embed(
        model=model, texts=["debit", "credit"], input_type="search_document", embedding_types=["float"]
    )
    assert made.embeddings.float_ == VECTORS
    assert made.texts == ["debit", "credit"]
    assert made.meta is not None
    assert made.meta.billed_units is not None
    assert made.meta.billed_units.input_tokens == 20


def check_rerank(base_url: str, api_key: str, model: str) -> None:
    ranked = client(base_url, api_key).rerank(model=model, query="q", documents=["debit", "credit"], top_n=2)
    assert [(item.index, item.relevance_score) for item in ranked.results] == [(1, 0.75), (0, 0.25)]
    assert ranked.meta is not None
    assert ranked.meta.billed_units is not None
    assert ranked.meta.billed_units.search_units == 1


def check_models_are_listed(base_url: str, api_key: str, model: str) -> None:
    made = client(base_url, api_key)
    listed = {found.name: found for found in made.models.list().models}
    assert "chat" in (listed[model].endpoints or [])
    assert made.models.get(model).name == model


def check_refused_model(base_url: str, api_key: str, model: str) -> None:
    made = client(base_url, api_key)
    body: Any = refused(lambda: made.chat(model=MISSING_MODEL, messages=ASK), cohere.NotFoundError).body
    assert MISSING_MODEL in body["message"]
    assert body["code"] == "model_not_found"
    assert body["request_id"]


def check_refused_key(base_url: str, api_key: str, model: str) -> None:
    made = client(base_url, WRONG_KEY)
    body: Any = refused(lambda: list(made.chat_stream(model=model, messages=ASK)), cohere.UnauthorizedError).body
    assert body["code"] == "invalid_key"


def check_refused_field(base_url: str, api_key: str, model: str) -> None:
    """What a model of another provider cannot be told is named."""
    made = client(base_url, api_key)
    error = refused(lambda: made.chat(model=model, messages=ASK, safety_mode="STRICT"), cohere.BadRequestError)
    body: Any = error.body
    assert body["param"] == "safety_mode"
