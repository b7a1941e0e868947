"""Google's own client: `genai.Client` with another address and key. It posts to /v1/models/NAME:METHOD.

Not all providers can be told of a budget of thoughts, and not all can count: see PROVIDERS in the test that runs these.
"""

from __future__ import annotations

import base64
import itertools
from typing import Any

from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from tests.clients.said import CITY, MISSING_MODEL, QUESTION, WRONG_KEY, refused

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER = types.FunctionDeclaration(name="weather", description="of a city", parameters_json_schema=CITY)
TIME = types.FunctionDeclaration(
    name="time",
    description="in a city",
    parameters=types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}),
)
TOOLS: Any = [types.Tool(function_declarations=[WEATHER, TIME])]


class City(BaseModel):
    city: str


def client_of(base_url: str, api_key: str) -> genai.Client:
    return genai.Client(api_key=api_key, http_options=types.HttpOptions(base_url=base_url))


def check_whole_answer(base_url: str, api_key: str, model: str) -> None:
    with client_of(base_url, api_key) as client:
        answer = client.models.generate_content(
            model=model,
            contents=QUESTION,
            config=types.GenerateContentConfig(
                system_instruction="Answer as a bookkeeper.", temperature=0.2, top_p=0.9, max_output_tokens=200
            ),
        )
    assert answer.text
    assert answer.candidates
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    assert answer.model_version
    usage = answer.usage_metadata
    assert usage is not None
    assert usage.prompt_token_count
    assert usage.candidates_token_count
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count + (
        usage.thoughts_token_count or 0
    )


def check_stream(base_url: str, api_key: str, model: str) -> None:
    with client_of(base_url, api_key) as client:
        chunks = list(client.models.generate_content_stream(model=model, contents=QUESTION))
        whole = client.models.generate_content(model=model, contents=QUESTION)
    assert len(chunks) > 1
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    ends = [chunk for chunk in chunks if chunk.candidates and chunk.candidates[0].finish_reason]
    assert [end.candidates[0].finish_reason for end in ends if end.candidates] == [types.FinishReason.STOP]
    usage = chunks[-1].usage_metadata
    assert usage is not None
    assert usage.candidates_token_count


def check_chat_remembers(base_url: str, api_key: str, model: str) -> None:
    with client_of(base_url, api_key) as client:
        chat = client.chats.create(model=model)
        assert chat.send_message("The account is 4711.").text
        assert "".join(chunk.text or "" for chunk in chat.send_message_stream(QUESTION))
        # Of a stream each chunk is a turn of its own.
        roles = [turn.role for turn in chat.get_history()]
        assert [role for role, _ in itertools.groupby(roles)] == ["user", "model", "user", "model"]
        assert chat.send_message("And now?").text


def check_tools(base_url: str, api_key: str, model: str) -> None:
    """The model must call a function; then it reads the results of two calls that stood side by side."""
    must = types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    )
    with client_of(base_url, api_key) as client:
        config = types.GenerateContentConfig(tools=TOOLS, tool_config=must)
        asked = client.models.generate_content(model=model, contents="What is it like in Rome?", config=config)
        assert asked.function_calls
        assert asked.candidates
        assert asked.candidates[0].content
        said = asked.candidates[0].content
        for call in asked.function_calls:
            assert call.name in ("weather", "time")
            assert isinstance(call.args, dict)
        streamed = client.models.generate_content_stream(model=model, contents="And in Oslo?", config=config)
        assert [call.name for chunk in streamed for call in chunk.function_calls or ()]
        results = [_result(call, {"result": "sunny"}) for call in asked.function_calls]
        history = [_user("What is it like in Rome?"), said, types.Content(role="tool", parts=results)]
        told = client.models.generate_content(
            model=model, contents=[*history, _user("So?")], config=types.GenerateContentConfig(tools=TOOLS)
        )
        assert told.text
        both = [types.FunctionCall(name=name, args={"city": "Rome"}) for name in ("weather", "time")]
        calls = types.Content(role="model", parts=[types.Part(function_call=call) for call in both])
        answers = types.Content(role="user", parts=[_result(call, {"output": "noon"}) for call in both])
        asked_both = [_user("Weather and time?"), calls, answers, _user("So?")]
        side_by_side = client.models.generate_content(
            model=model, contents=asked_both, config=types.GenerateContentConfig(tools=TOOLS)
        )
    assert side_by_side.text


def check_json_schema(base_url: str, api_key: str, model: str) -> None:
    with client_of(base_url, api_key) as client:
        by_model = client.models.generate_content(
            model=model,
            contents=QUESTION,
            config=types.GenerateContentConfig(response_mime_type="application/json", response_schema=City),
        )
        by_schema = client.models.generate_content(
            model=model,
            contents=QUESTION,
            config=types.GenerateContentConfig(
                response_mime_type="application/json", response_json_schema=City.model_json_schema()
            ),
        )
    assert isinstance(by_model.parsed, City)
    assert City.model_validate_json(by_schema.text or "")


def check_image_input(base_url: str, api_key: str, model: str) -> None:
    picture = types.Part.from_bytes(data=PNG, mime_type="image/png")
    with client_of(base_url, api_key) as client:
        answer = client.models.generate_content(model=model, contents=["What is this?", picture])
    assert answer.text


def check_thinking(base_url: str, api_key: str, model: str) -> None:
    """Asked for or not, thoughts are marked as such; with them in the history the conversation goes on."""
    thinking = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW, include_thoughts=True)
    with client_of(base_url, api_key) as client:
        answer = client.models.generate_content(
            model=model, contents=QUESTION, config=types.GenerateContentConfig(thinking_config=thinking)
        )
        assert answer.text
        assert answer.candidates
        assert answer.candidates[0].content
        said = answer.candidates[0].content
        thoughts = [part for part in said.parts or () if part.thought]
        assert all(part.text not in answer.text for part in thoughts if part.text)
        unshown = types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)
        again = client.models.generate_content(
            model=model,
            contents=[_user(QUESTION), said, _user("Are you sure?")],
            config=types.GenerateContentConfig(thinking_config=unshown),
        )
    assert again.text


def check_embeddings(base_url: str, api_key: str, model: str) -> None:
    with client_of(base_url, api_key) as client:
        one = client.models.embed_content(model=model, contents=QUESTION)
        two = client.models.embed_content(model=model, contents=[QUESTION, "They do."])
    assert one.embeddings
    assert one.embeddings[0].values
    assert two.embeddings
    assert len(two.embeddings) == 2


def check_task_of_embeddings(base_url: str, api_key: str, model: str) -> None:
    asked = types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT")
    with client_of(base_url, api_key) as client:
        made = client.models.embed_content(model=model, contents=[QUESTION, "They do."], config=asked)
    assert made.embeddings
    assert len(made.embeddings) == 2


def check_count_tokens(base_url: str, api_key: str, model: str) -> None:
    with client_of(base_url, api_key) as client:
        counted = client.models.count_tokens(model=model, contents=QUESTION)
    assert counted.total_tokens
    assert counted.total_tokens > 0


def check_models_list(base_url: str, api_key: str, model: str) -> None:
    with client_of(base_url, api_key) as client:
        names = [listed.name for listed in client.models.list()]
        found = client.models.get(model=model)
    assert f"models/{model}" in names
    assert found.name == f"models/{model}"
    assert found.supported_actions
    assert "generateContent" in found.supported_actions


def check_refused_model(base_url: str, api_key: str, model: str) -> None:
    error = _refused(base_url, api_key, MISSING_MODEL)
    assert (error.code, error.status) == (404, "NOT_FOUND")
    assert MISSING_MODEL in (error.message or "")


def check_refused_key(base_url: str, api_key: str, model: str) -> None:
    error = _refused(base_url, WRONG_KEY, model)
    assert (error.code, error.status) == (401, "UNAUTHENTICATED")
    assert WRONG_KEY not in str(error)


def check_refused_body(base_url: str, api_key: str, model: str) -> None:
    odd = types.GenerateContentConfig(http_options=types.HttpOptions(extra_body={"tools": "none"}))
    error = _refused(base_url, api_key, model, config=odd)
    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
    assert "$.tools" in (error.message or "")


def _refused(base_url: str, api_key: str, model: str, **fields: Any) -> errors.ClientError:
    with client_of(base_url, api_key) as client:
        return refused(
            lambda: client.models.generate_content(model=model, contents=QUESTION, **fields), errors.ClientError
        )


def _user(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


def _result(call: types.FunctionCall, response: dict[str, Any]) -> types.Part:
    return types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response=response))
