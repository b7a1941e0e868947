"""OpenAI's legacy completions: POST /v1/completions, a prompt in and text out.

Passed through, never translated: a prompt is no conversation.
https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta, Struct

from providers import sse
from providers.errors import MalformedAnswer, ProviderError, Unsupported
from providers.unified import Answer, Choice, Json, Request, TextPart, Usage
from providers.wire.base import Admitted, StreamReader, StreamWriter
from providers.wire.jsontext import dumps
from providers.wire.openai_chat import answer as answers
from providers.wire.openai_chat import errors, stream
from providers.wire.openai_chat.admit import with_usage
from providers.wire.openai_chat.dialect import OPENAI, Dialect
from providers.wire.openai_chat.parts import string
from providers.wire.unstreamed import admitted_fields, raw

NAME = "openai_completions"
# What OpenAI writes at most where a request names no cap.
USUAL_CAP = 16

_Cap = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_N = Annotated[int, Meta(ge=1, le=128)]


class _StreamOptions(Struct, frozen=True, gc=False):
    include_usage: bool | None = None


class _Body(Struct, frozen=True, gc=False):
    model: Annotated[str, Meta(min_length=1)]
    prompt: str | list[str | int | list[int]] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Cap | None = None
    n: _N | None = None
    best_of: _N | None = None
    user: str | None = None
    drop_unsupported: bool | None = None


_BODY = msgspec.json.Decoder(_Body)


class OpenAICompletions:
    """The codec of `providers.wire.base.Wire`, as far as bodies pass through. `usual_cap`: the server's own, in tokens,
    for requests without one; None where it has none."""

    name = NAME
    content_type = "application/json"

    def __init__(self, *, dialect: Dialect = OPENAI, usual_cap: int | None = USUAL_CAP) -> None:
        self.dialect = dialect
        self.usual_cap = usual_cap

    # --- client side ---

    def admit(self, body: bytes) -> Admitted:
        """Reads a body by its known fields. Raises InvalidRequest, `param` the JSON path of what is wrong."""
        known, fields = admitted_fields(body, _BODY)
        stream_ = bool(known.stream)
        prompts = _prompts(known.prompt)
        return Admitted(
            model=known.model,
            stream=stream_,
            fields=fields,
            message_count=prompts,
            max_output_tokens=known.max_tokens,
            # Each prompt has answers of its own; of `best_of` all are written and billed, also those not returned.
            n=max(known.n or 1, known.best_of or 1) * prompts,
            wants_usage=not stream_ or bool(known.stream_options and known.stream_options.include_usage),
            user=known.user or "",
            drop_unsupported=bool(known.drop_unsupported),
            operation="completions",
        )

    def decode_request(self, body: bytes) -> Request:
        self._untranslated()

    def encode_answer(self, answer: Answer) -> bytes:
        self._untranslated()

    def stream_writer(self, *, admitted: Admitted) -> StreamWriter:
        self._untranslated()

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def encode_stream_error(self, *, status: int, code: str, message: str, request_id: str, call_id: str) -> bytes:
        said = self.encode_error(status=status, code=code, message=message, request_id=request_id, call_id=call_id)
        return sse.encode(data=said)

    # --- provider side ---

    def encode_request(self, request: Request, *, drop_unsupported: bool = False) -> bytes:
        self._untranslated()

    def decode_answer(self, body: bytes) -> Answer:
        """What was written, for an estimate where the server does not count. Raises MalformedAnswer."""
        value = answers.answer_object(body)
        choices = value.get("choices")
        if not isinstance(choices, list):
            raise MalformedAnswer("The provider's answer has no 'choices'.")
        texts = [_text(choice) for choice in choices if isinstance(choice, dict)]
        return Answer(
            id=string(value.get("id")),
            model=string(value.get("model")),
            choices=tuple(Choice(parts=(TextPart(text=text),), index=at) for at, text in enumerate(texts)),
            usage=answers.usage_of(value, body, dialect=self.dialect),
            wire=NAME,
        )

    def stream_reader(self) -> StreamReader:
        self._untranslated()

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)

    # --- pass-through ---

    def rewrite(self, admitted: Admitted, *, model: str, max_output_tokens: int | None = None) -> bytes:
        """The client's fields with the upstream model, the cap and the usage event switched on; all else as it came."""
        fields = dict(admitted.fields)
        fields.pop("drop_unsupported", None)
        fields["model"] = raw(model)
        if max_output_tokens is not None:
            own = self.usual_cap if admitted.max_output_tokens is None else admitted.max_output_tokens
            fields["max_tokens"] = raw(max_output_tokens if own is None else min(own, max_output_tokens))
        if not self.dialect.stream_usage:
            fields.pop("stream_options", None)
        elif admitted.stream:
            fields["stream_options"] = with_usage(fields.get("stream_options"))
        return dumps(fields)

    def read_usage(self, body: bytes) -> tuple[Usage, str]:
        return answers.read_usage(body, dialect=self.dialect)

    def stream_meter(self, *, admitted: Admitted) -> Meter:
        return Meter(dialect=self.dialect, wants_usage=admitted.wants_usage)

    def _untranslated(self) -> NoReturn:
        raise Unsupported("Completions are passed through as they are: no other wire has them.")


class Meter(stream.Meter):
    """A chat's, but that what is written stands in `text`."""

    def _note(self, value: Json, data: bytes) -> None:
        super()._note(value, data)
        for choice in stream.choices_of(value):
            self._output_bytes += len(_text(choice).encode("utf-8", "surrogatepass"))


def _prompts(prompt: str | list[str | int | list[int]] | None) -> int:
    """How many prompts there are: a list of numbers is one, in tokens."""
    if not isinstance(prompt, list) or not prompt or isinstance(prompt[0], int):
        return 1
    return len(prompt)


def _text(choice: Json) -> str:
    return string(choice.get("text"))


WIRE = OpenAICompletions()
