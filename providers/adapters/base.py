"""What every adapter offers, and the HTTP adapter from which most are made by naming what differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

import msgspec
from msgspec import Struct, field

from providers import retry
from providers.credentials import CredentialUnusable, header_text
from providers.errors import InvalidRequest, MalformedAnswer, ModelNotFound, ProviderError, Unsupported
from providers.http import Client, Deadlines, Exchange, HttpExchange
from providers.line import Line
from providers.scrub import scrub
from providers.unified import Answer, Event, Request
from providers.wire import forms, openai_embeddings, openai_responses
from providers.wire.base import Operation as Operation
from providers.wire.base import Wire, json_object, stream_decoder
from providers.wire.media import MEDIA

HEALTH_TIMEOUT_S = 10.0
# What an operation is called in a sentence, where its name is none.
_NOUNS: dict[Operation, str] = {"count_tokens": "way to count tokens", "image_edits": "edits of images"}
# The capability that an operation is a part of, where it has none of its own.
PART_OF: dict[Operation, str] = {"image_edits": "images", "translations": "transcriptions"}


class Capabilities(Struct, frozen=True):
    """What the provider's API can do at most; what one model can do stands in the catalog. Tokens; None: unknown."""

    streaming: bool = True
    tools: bool = True
    vision: bool = True
    documents: bool = False
    audio: bool = False
    structured_output: bool = True
    reasoning: bool = True
    embeddings: bool = False
    rerank: bool = False
    responses: bool = False
    completions: bool = False
    count_tokens: bool = False
    images: bool = False
    transcriptions: bool = False
    speech: bool = False
    max_context_tokens: int | None = None
    max_output_tokens: int | None = None


class Health(Struct, frozen=True):
    """What a health check found. A check that costs money names its `model` and keeps the `answer`, whose usage the
    caller books; `failure` is what `error` tells of."""

    healthy: bool
    latency_ms: float
    checked_at: datetime
    error: str = ""
    model: str = ""
    answer: bytes = b""
    failure: ProviderError | None = None


class ProviderConfig(Struct, frozen=True, kw_only=True):
    """A catalog row as plain data. `credential` is the secret itself; `settings` is what only the adapter reads."""

    name: str
    adapter: str
    base_url: str = ""
    credential: str = ""
    allow_plain_http: bool = False
    allow_private_address: bool = False
    timeout_s: float = 30.0
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float | None = None
    idle_timeout_s: float = 30.0
    stream_timeout_s: float = 600.0
    max_retries: int = 3
    idle_connections: int = 20
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ProviderConfig(name={self.name!r}, adapter={self.adapter!r}, base_url={self.base_url!r})"

    def deadlines(self, *, stream: bool, timeout_s: float | None = None) -> Deadlines:
        """The deadlines of one call; `timeout_s`, a model's or a client's own total, takes the place of the usual."""
        usual_s = self.stream_timeout_s if stream else self.timeout_s
        return Deadlines(
            connect_s=self.connect_timeout_s,
            first_byte_s=self.first_byte_timeout_s,
            # A whole answer is silent while it is being thought of: its total alone bounds it.
            idle_s=self.idle_timeout_s if stream else max(self.idle_timeout_s, timeout_s or usual_s),
            total_s=timeout_s or usual_s,
        )


class Adapter(Protocol):
    """One provider, ready to be called. Safe for use by many threads."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> ProviderConfig: ...
    @property
    def wire(self) -> Wire: ...
    @property
    def capabilities(self) -> Capabilities: ...

    def operation_for(self, asked: Operation) -> Operation:
        """What to ask this provider for where a client asks for `asked`."""

    def wire_for(self, operation: Operation) -> Wire:
        """The wire of an operation's bodies; chat's is `wire`. Raises Unsupported where the provider has none."""

    def send(
        self,
        *,
        body: bytes,
        model: str,
        stream: bool,
        deadlines: Deadlines | None = None,
        idempotency_key: str = "",
        operation: Operation = "chat",
        line: Line | None = None,
    ) -> Exchange:
        """Send a body of this adapter's wire. Returns an exchange with a status below 300, or raises ProviderError.

        Without `deadlines` the provider's own apply. `idempotency_key` is the same for all attempts of one request.
        Another thread may end the call by `line`, also before there is an exchange.
        """

    def complete(self, request: Request) -> Answer: ...
    def stream(self, request: Request) -> Iterator[Event]: ...
    def embed(self, *, body: bytes, model: str) -> dict[str, Any]: ...
    def health_check(self, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Health: ...
    def list_models(self) -> tuple[str, ...]: ...
    def validate_model(self, name: str) -> bool: ...
    def close(self) -> None:
        """Keep no idle connection any more; what is in flight ends as usual."""


class Conversation:
    """`complete`, `stream` and `embed` over `send`: shared by every adapter that has a wire.

    `wires` are those of the operations besides chat; which of them count, the capabilities say.
    """

    name: str
    wire: Wire
    wires: Mapping[Operation, Wire] = {"embeddings": openai_embeddings.WIRE, "responses": openai_responses.WIRE}
    capabilities: Capabilities = Capabilities()

    def operation_for(self, asked: Operation) -> Operation:
        """A response is a chat to a provider that has no endpoint for responses: the answer is translated."""
        return "chat" if asked == "responses" and not self.capabilities.responses else asked

    def wire_for(self, operation: Operation) -> Wire:
        if operation == "chat":
            return self.wire
        wire = self.wires.get(operation)
        if wire is None or not getattr(self.capabilities, PART_OF.get(operation, operation)):
            raise Unsupported(
                f"The provider {self.name!r} has no {_NOUNS.get(operation, operation)}: use a model of another one.",
                param="model",
                provider=self.name,
            )
        return wire

    def send(
        self,
        *,
        body: bytes,
        model: str,
        stream: bool,
        deadlines: Deadlines | None = None,
        idempotency_key: str = "",
        operation: Operation = "chat",
        line: Line | None = None,
    ) -> Exchange:
        raise NotImplementedError

    def complete(self, request: Request) -> Answer:
        """The whole answer to a unified request. Raises ProviderError, Unsupported before anything is sent."""
        body = self.wire.encode_request(msgspec.structs.replace(request, stream=False))
        return self.wire.decode_answer(self.send(body=body, model=request.model, stream=False).body())

    def stream(self, request: Request) -> Iterator[Event]:
        """The events of the answer to a unified request, as they come. Raises ProviderError, also on the way."""
        body = self.wire.encode_request(msgspec.structs.replace(request, stream=True))
        exchange = self.send(body=body, model=request.model, stream=True)
        reader, decoder = self.wire.stream_reader(), stream_decoder(self.wire)
        try:
            for chunk in exchange.chunks():
                for event in decoder.feed(chunk):
                    yield from reader.feed(event)
            for event in decoder.end():
                yield from reader.feed(event)
            yield from reader.end()
        finally:
            exchange.close()

    def embed(self, *, body: bytes, model: str) -> dict[str, Any]:
        """The answer to an embeddings body, both in OpenAI's shape. Raises ProviderError, Unsupported."""
        client, wire = openai_embeddings.WIRE, self.wire_for("embeddings")
        request = msgspec.structs.replace(client.decode_request(body), model=model)
        exchange = self.send(body=wire.encode_request(request), model=model, stream=False, operation="embeddings")
        return decoded_object(client.encode_answer(wire.decode_answer(exchange.body())), provider=self.name)


class HttpAdapter(Conversation):
    """An adapter over HTTP. A vendor's own names its address, its wire, its paths and how it is authenticated."""

    wire: Wire
    capabilities: Capabilities = Capabilities()
    base_url: ClassVar[str] = ""
    paths: ClassVar[Mapping[Operation, str]] = {}
    models_path: ClassVar[str] = "/models"
    models_query: ClassVar[str] = ""
    idempotency_header: ClassVar[str] = ""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config
        self.name = config.name
        self.client = Client(
            provider=config.name,
            base_url=config.base_url or self.base_url,
            headers=self.headers(config),
            allow_plain_http=config.allow_plain_http,
            allow_private_address=config.allow_private_address,
            idle_connections=config.idle_connections,
            ca_bundle=text_setting(config, "ca_bundle"),
        )

    def headers(self, config: ProviderConfig) -> dict[str, str]:
        """The headers of every request: the credential, in the vendor's way, and what its settings add."""
        raise NotImplementedError

    def path(self, *, operation: Operation, model: str, stream: bool) -> str | None:
        """What stands behind the base URL; None for an operation that the provider has not."""
        return self.paths.get(operation)

    def request_headers(self, *, method: str, path: str, body: bytes) -> dict[str, str]:
        """The headers of one request, for a vendor that signs each or whose token expires."""
        return {}

    def send(
        self,
        *,
        body: bytes,
        model: str,
        stream: bool,
        deadlines: Deadlines | None = None,
        idempotency_key: str = "",
        operation: Operation = "chat",
        line: Line | None = None,
    ) -> HttpExchange:
        path = self.path(operation=operation, model=model, stream=stream)
        if path is None:
            raise Unsupported(f"The provider {self.name!r} has no {operation}.", provider=self.name)
        exchange = self.client.post(
            path=path,
            body=body,
            deadlines=deadlines or self.config.deadlines(stream=stream),
            headers={
                **self._idempotency(idempotency_key),
                **self.request_headers(method="POST", path=path, body=body),
                **({"Content-Type": forms.content_type(body)} if operation in MEDIA and forms.is_form(body) else {}),
            },
            stream=stream,
            line=line,
        )
        # Servers that cannot stream a medium answer in one piece, and bill for it.
        return self._checked(exchange, stream=stream and operation not in MEDIA)

    def health_check(self, *, timeout_s: float = HEALTH_TIMEOUT_S) -> Health:
        """Ask for the list of models, which costs nothing."""
        return timed_health(lambda: self._ask_for_models(timeout_s))

    def list_models(self) -> tuple[str, ...]:
        """The provider's names of its models, sorted. Raises ProviderError."""
        return tuple(sorted(model_ids(self._models_page(""))))

    def validate_model(self, name: str) -> bool:
        """Does the provider know the model `name`? Raises ProviderError when it cannot say."""
        try:
            self._get(f"{self.models_path}/{quote(name, safe='')}")
        except (ModelNotFound, InvalidRequest):
            return False
        return True

    def close(self) -> None:
        self.client.close()

    def _ask_for_models(self, timeout_s: float) -> bytes:
        self._models_page("", timeout_s=timeout_s)
        return b""

    def _models_page(self, after: str, *, timeout_s: float = HEALTH_TIMEOUT_S) -> dict[str, Any]:
        return self._get(self.models_path + self.models_query + after, timeout_s=timeout_s)

    def _get(self, path: str, *, timeout_s: float = HEALTH_TIMEOUT_S) -> dict[str, Any]:
        deadlines = Deadlines(connect_s=min(self.config.connect_timeout_s, timeout_s), total_s=timeout_s)
        headers = self.request_headers(method="GET", path=path, body=b"")
        exchange = self._checked(self.client.get(path=path, deadlines=deadlines, headers=headers), stream=False)
        return decoded_object(exchange.body(), provider=self.name)

    def _idempotency(self, key: str) -> dict[str, str]:
        return {self.idempotency_header: key} if key and self.idempotency_header else {}

    def _checked(self, exchange: HttpExchange, *, stream: bool) -> HttpExchange:
        """The exchange, if it is a success of the right kind; else its error is raised and it is closed."""
        if exchange.status >= 300:
            raise self._refusal(exchange)
        kind = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
        # Other odd types are let through: servers send events as text/plain, or with no type at all.
        if kind == "text/html" or (stream and kind == "application/json"):
            exchange.close()
            wanted = "a stream of events" if stream else "JSON"
            raise MalformedAnswer(
                f"The provider answered with {kind} where {wanted} was asked for.",
                provider=self.name,
                status=exchange.status,
                upstream_request_id=exchange.upstream_request_id,
            )
        return exchange

    def _refusal(self, exchange: HttpExchange) -> ProviderError:
        try:
            body = exchange.body()
        except ProviderError:
            # The status says enough when the words about it do not arrive.
            body = b""
        error = self.wire.decode_error(
            status=exchange.status, body=body, headers=exchange.headers, provider=self.name
        )
        error.provider, error.status = self.name, exchange.status
        error.upstream_request_id = error.upstream_request_id or exchange.upstream_request_id
        wait_s = retry.retry_after_s(status=exchange.status, headers=exchange.headers)
        # Without the header a body may say it: Google's RetryInfo.
        error.retry_after_s = error.retry_after_s if wait_s is None else wait_s
        error.message = self._without_credential(error.message)
        error.args = (error.message,)
        return error

    def _without_credential(self, text: str) -> str:
        credential = self.config.credential
        return scrub(text.replace(credential, "[credential]") if credential else text)


def timed_health(probe: Callable[[], bytes], *, model: str = "") -> Health:
    """Run `probe`: it raises ProviderError when the provider is not well, and returns an answer that was paid for."""
    checked_at, begun = datetime.now(UTC), time.monotonic()
    answer: bytes = b""
    failure: ProviderError | None = None
    try:
        answer = probe()
    except ProviderError as error:
        failure = error
    return Health(
        healthy=failure is None,
        latency_ms=(time.monotonic() - begun) * 1000,
        checked_at=checked_at,
        error=(failure.message or failure.code) if failure is not None else "",
        model=model,
        answer=answer,
        failure=failure,
    )


def decoded_object(body: bytes, *, provider: str) -> dict[str, Any]:
    """The JSON object in an answer. Raises MalformedAnswer."""
    try:
        return json_object(body)
    except (ValueError, RecursionError):
        raise MalformedAnswer("The provider's answer is not a JSON object.", provider=provider) from None


def text_setting(config: ProviderConfig, name: str, default: str = "") -> str:
    """A setting that is a text. Raises CredentialUnusable when it is something else or cannot stand in a header."""
    value = config.settings.get(name, default)
    if not isinstance(value, str):
        raise CredentialUnusable(f"The setting {name!r} of provider {config.name!r} must be a text.")
    return header_text(value, what=f"The setting {name!r} of provider {config.name!r}")


def bearer(config: ProviderConfig) -> dict[str, str]:
    """The usual Authorization header. Raises InvalidCredential when there is no credential."""
    return {"Authorization": f"Bearer {required_credential(config)}"}


def required_credential(config: ProviderConfig) -> str:
    if not config.credential:
        raise CredentialUnusable(f"The provider {config.name!r} has no credential.")
    return config.credential


def model_ids(page: dict[str, Any], *, listed: str = "data", named: str = "id") -> Iterator[str]:
    """The ids in a page of `{"data": [{"id": ...}]}`, or in a vendor's words for these; entries without are skipped."""
    entries = page.get(listed)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get(named), str):
            yield entry[named]
