"""What LangChain asks of any chat model, whichever wire is under it."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from tests.clients.said import QUESTION, SENTENCE, TOOL, WORDS

ASK = [SystemMessage("Be brief."), HumanMessage(QUESTION)]


class Place(BaseModel):
    """Where it is."""

    city: str


def invoked(chat: BaseChatModel) -> None:
    said = chat.invoke(ASK)
    assert isinstance(said, AIMessage)
    assert said.text == SENTENCE
    assert_counted(said)


def streamed(chat: BaseChatModel) -> None:
    whole: Any = None
    for piece in chat.stream(ASK):
        whole = piece if whole is None else whole + piece
    assert whole.text == SENTENCE
    assert_counted(whole)


def called(chat: BaseChatModel) -> None:
    offered = chat.bind_tools([TOOL])
    said = offered.invoke(ASK)
    call = assert_called(said)
    again = offered.invoke([*ASK, said, ToolMessage("sun", tool_call_id=str(call["id"]))])
    assert again.text == SENTENCE


def called_in_a_stream(chat: BaseChatModel) -> None:
    whole: Any = None
    for piece in chat.bind_tools([TOOL]).stream(ASK):
        whole = piece if whole is None else whole + piece
    assert_called(whole)
    assert whole.usage_metadata["output_tokens"] == 6


def structured(chat: BaseChatModel, *, method: str) -> None:
    place = chat.with_structured_output(Place, method=method).invoke(ASK)
    assert place == Place(city="Rome")


def assert_counted(said: Any) -> None:
    usage = said.usage_metadata
    assert usage["output_tokens"] == WORDS
    assert usage["input_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + WORDS


def assert_called(said: Any) -> Any:
    (call,) = said.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Rome"})
    assert call["id"]
    return call
