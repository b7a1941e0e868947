"""What the wires of token counting have in common: the request of a chat wire, and one number as the answer.

A provider side unless a subclass adds a client's. Each names the fields of its chat wire that its endpoint reads: what
is left out of them says how to answer, and is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from providers.counting import CountAnswer, countable
from providers.counts import Counts
from providers.errors import MalformedAnswer, ProviderError
from providers.unified import Answer, Json, Request, Usage
from providers.wire.base import Wire
from providers.wire.jsontext import dumps
from providers.wire.unstreamed import ProviderSide, answer_object

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Counting(ProviderSide):
    """`chat`: whose requests are counted; `read`: which of their fields the endpoint knows; `field`: of its number."""

    def __init__(self, *, name: str, chat: Wire, read: frozenset[str], field: str) -> None:
        self.name = name
        self.chat = chat
        self._read = read
        self._field = field

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        body = self.chat.encode_request(countable(request), drop_unsupported=drop_unsupported)
        read = {name: value for name, value in _FIELDS.decode(body).items() if name in self._read}
        return dumps(self.enclosed(read, model=request.model))

    def enclosed(self, fields: dict[str, Any], *, model: str) -> dict[str, Any]:
        """The body in which the endpoint wants a chat's fields: as they are, unless it says otherwise."""
        return fields

    def decode_answer(self, body: bytes) -> CountAnswer:
        """Raises MalformedAnswer for an answer without a number: a count is never made up."""
        value = answer_object(body)
        number = Counts(value).get(self._field)
        if number is None:
            raise MalformedAnswer(f"The provider's answer holds no count of tokens: {self._field!r} is missing.")
        return CountAnswer(id="", model="", input_tokens=number, usage=Usage(raw=value), wire=self.name)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        """Nothing was used: what was counted is kept as it came, and enters no total."""
        return Usage(raw=answer_object(body)), ""

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return self.chat.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return self.chat.decode_error(status=status, body=body, headers=headers, provider=provider)


def counted(answer: Answer) -> int:
    """The number of a count's answer. Raises MalformedAnswer for an answer of another kind."""
    if not isinstance(answer, CountAnswer):
        raise MalformedAnswer("The provider's answer is no count of tokens.")
    return answer.input_tokens


def number_answer(answer: Answer, *, field: str) -> Json:
    """The answer as its client reads it: one number under its name."""
    return {field: counted(answer)}
