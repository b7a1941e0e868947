"""What the wires of operations that answer in one piece have in common: they refuse to stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from providers.counts import decode
from providers.errors import InvalidRequest, MalformedAnswer, ProviderError, Unsupported
from providers.unified import Json
from providers.wire.base import Admitted, StreamMeter, StreamReader, StreamWriter
from providers.wire.openai_chat import errors
from providers.wire.openai_chat.admit import invalid_field

T = TypeVar("T")
_FIELDS = msgspec.json.Decoder(dict[str, Raw])


class Unstreamed:
    """Errors in OpenAI's shape, and no streams."""

    content_type = "application/json"

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        return self.encode_error(status=status, code=code, message=message, request_id=request_id, call_id=call_id)

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    def stream_writer(self, *, admitted: Admitted) -> StreamWriter:
        refuse_stream()

    def stream_reader(self) -> StreamReader:
        refuse_stream()

    def stream_meter(self, *, admitted: Admitted) -> StreamMeter:
        refuse_stream()


class ProviderSide(Unstreamed):
    """A wire that providers speak and none of our clients does: it has no client side."""

    name = ""

    def admit(self, body: bytes) -> Admitted:
        self._no_client()

    def decode_request(self, body: bytes) -> Any:
        self._no_client()

    def encode_answer(self, answer: Any) -> bytes:
        self._no_client()

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        self._no_client()

    def _no_client(self) -> NoReturn:
        raise Unsupported(f"No surface of the gateway speaks {self.name!r}.")


def refuse_stream() -> NoReturn:
    raise Unsupported("This operation answers in one piece: leave 'stream' out.", param="stream")


def admitted_fields(body: bytes, known: msgspec.json.Decoder[T]) -> tuple[T, dict[str, Raw]]:
    """(the known fields checked, every field raw). Raises InvalidRequest, `param` the JSON path of what is wrong."""
    try:
        return known.decode(body), _FIELDS.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", param="$") from error
    except RecursionError as error:
        raise InvalidRequest("The body is nested too deep.", param="$") from error


def answer_object(body: bytes) -> Json:
    """The JSON object of a 200. Raises MalformedAnswer, or the provider's error where the 200 holds one."""
    try:
        value = decode(body)
    except ValueError as error:
        raise MalformedAnswer("The provider's answer is not JSON.") from error
    if not isinstance(value, dict):
        raise MalformedAnswer("The provider's answer is not a JSON object.")
    if value.get("error"):
        raise errors.error_from(value, status=None)
    return value


def raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))
