"""The only module that talks HTTP: one client per provider and credential, deadlines of its own, typed errors.

A requests session owns the connection and the mapping of what goes wrong. A call does not go through
`Session.request`, which merges environment, cookies and hooks for half a millisecond: a prepared request is put
together from cached parts and handed to the session's mounted adapter.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from providers import address
from providers.errors import ConnectionFailed, MalformedAnswer, ProviderError, StreamInterrupted, UpstreamError
from providers.line import Line
from providers.pool import Clock, Deadlines, NotSent, TimedHTTPConnectionPool, TimedHTTPSConnectionPool, open_pool

__all__ = ["Client", "Deadlines", "Exchange", "HttpExchange", "NotSent"]

READ_BYTES = 65536
MAX_ANSWER_BYTES = 64 * 1024 * 1024
IDLE_CONNECTIONS = 20
IDLE_S = 90.0
_REQUEST_ID_HEADERS = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "cf-ray")


class Exchange(Protocol):
    """A provider's answer as it arrives. Header names compare without case; `first_byte_at` is monotonic seconds.

    `body` reads all of it, bounded in size; `chunks` gives it piece by piece as it comes. Both raise ProviderErrors
    (Timeout, StreamInterrupted, MalformedAnswer) and close the exchange at their end. With `tick_s`, `chunks` gives b""
    whenever nothing has come for so long. `close` may be called at any time and again; `abort` is for another thread,
    to wake the one that waits in `chunks`.
    """

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def upstream_request_id(self) -> str: ...
    @property
    def first_byte_at(self) -> float: ...
    def body(self) -> bytes: ...
    def chunks(self, *, tick_s: float | None = None) -> Iterator[bytes]: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class HttpExchange:
    """An answer on a connection of a pool, which gets the connection back only when all of it was read."""

    def __init__(self, response: requests.Response, *, clock: Clock, provider: str, max_answer_bytes: int) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.upstream_request_id = _request_id(response.headers)
        self.first_byte_at: float = clock.first_byte_at or 0.0
        self._raw: Any = response.raw
        self._provider = provider
        self._max_answer_bytes = max_answer_bytes
        self._clock = clock
        self._closed = False

    def body(self) -> bytes:
        """The whole answer, decompressed. MalformedAnswer when it is larger than the client's bound."""
        bound = self._max_answer_bytes
        parts: list[bytes] = []
        size = 0
        try:
            while chunk := self._read():
                size += len(chunk)
                if size > bound:
                    raise MalformedAnswer(f"The answer is larger than {bound} bytes.", **self._where())
                parts.append(chunk)
        finally:
            self.close()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, *, tick_s: float | None = None) -> Iterator[bytes]:
        """The answer, decompressed, in the pieces in which it arrives."""
        try:
            while True:
                while tick_s is not None and self._is_silent(tick_s):
                    yield b""
                chunk = self._read()
                if not chunk:
                    return
                yield chunk
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back if all was read, else close it: one that was half read is never used again."""
        if self._closed:
            return
        self._closed = True
        self._raw.close()
        self._raw.release_conn()

    def abort(self) -> None:
        """Stop receiving: the thread that reads gets StreamInterrupted."""
        self._clock.line.cut()

    def _is_silent(self, for_s: float) -> bool:
        reader = self._clock.reader
        if reader is None or reader.closed:
            return False
        try:
            return reader.is_silent(for_s=for_s)
        except ProviderError as error:
            raise self._placed(error) from None
        except (OSError, ValueError):
            # The connection is gone: the read that follows says how.
            return False

    def _read(self) -> bytes:
        try:
            data: bytes = self._raw.read1(READ_BYTES, decode_content=True)
        except ProviderError as error:
            raise self._placed(error) from None
        except urllib3.exceptions.DecodeError:
            raise MalformedAnswer("The answer's compression is broken.", **self._where()) from None
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
            raise StreamInterrupted("The provider's answer broke off before its end.", **self._where()) from None
        if not data and self._clock.line.is_cut:
            raise StreamInterrupted("The provider's answer was cut off by the gateway.", **self._where())
        return data

    def _placed(self, error: ProviderError) -> ProviderError:
        error.provider, error.status = self._provider, self.status
        error.upstream_request_id = self.upstream_request_id
        return error

    def _where(self) -> dict[str, Any]:
        return {
            "provider": self._provider,
            "status": self.status,
            "upstream_request_id": self.upstream_request_id,
        }


class _Adapter(HTTPAdapter):
    """requests' adapter over a pool for one origin, without its per-request look-ups."""

    def __init__(self, pool: TimedHTTPConnectionPool | TimedHTTPSConnectionPool, *, origin: str) -> None:
        self._pool = pool
        self._path_at = len(origin)
        super().__init__(max_retries=0, pool_block=False)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        return self._pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """The pool was built with its authorities, and verification cannot be turned off."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return (request.url or "")[self._path_at :]

    def build_response(self, request: requests.PreparedRequest, resp: Any) -> requests.Response:
        """No cookies, no guessed encoding: the bytes, and headers that compare without case."""
        response = requests.Response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.raw = resp
        response.reason = resp.reason
        response.url = request.url or ""
        response.request = request
        return response

    def close(self) -> None:
        super().close()
        self._pool.retire()


class Client:
    """HTTP to one provider with one credential. Safe for use by many threads; knows no database.

    `headers` (with the credential) go with each request; nothing else does but what a call adds. Raises
    AddressRefused when `base_url` is one that may not be called.
    """

    def __init__(
        self,
        *,
        provider: str,
        base_url: str,
        headers: Mapping[str, str],
        allow_plain_http: bool = False,
        allow_private_address: bool = False,
        idle_connections: int = IDLE_CONNECTIONS,
        idle_s: float = IDLE_S,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        ca_bundle: str = "",
    ) -> None:
        address.check_base_url(
            base_url, allow_plain_http=allow_plain_http, allow_private_address=allow_private_address
        )
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self._max_answer_bytes = max_answer_bytes
        self._headers = {"User-Agent": "tollbook", "Content-Type": "application/json", **headers}
        parts = urlsplit(self.base_url)
        self._pool = open_pool(
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            idle_connections=idle_connections,
            idle_s=idle_s,
            allow_private_address=allow_private_address,
            ca_bundle=ca_bundle,
        )
        self._session, self._adapter = _session(self._pool, origin=f"{parts.scheme}://{parts.netloc}")

    def post(
        self,
        *,
        path: str,
        body: bytes,
        deadlines: Deadlines,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        line: Line | None = None,
    ) -> HttpExchange:
        """Send `body` (JSON) and return once the answer's headers are here, whatever their status but a redirect.

        Another thread may end the call by `line`.
        Raises NotSent, ConnectionFailed, Timeout, StreamInterrupted (cut within the headers), MalformedAnswer.
        """
        return self._send(
            "POST", path=path, body=body, deadlines=deadlines, headers=headers, stream=stream, line=line
        )

    def get(self, *, path: str, deadlines: Deadlines, headers: Mapping[str, str] | None = None) -> HttpExchange:
        """As `post`, without a body."""
        return self._send("GET", path=path, body=None, deadlines=deadlines, headers=headers, stream=False)

    def close(self) -> None:
        """Close idle connections and keep none from now on; exchanges in flight end undisturbed."""
        self._session.close()

    @property
    def idle_connections(self) -> int:
        return self._pool.idle_count()

    def _send(
        self,
        method: str,
        *,
        path: str,
        body: bytes | None,
        deadlines: Deadlines,
        headers: Mapping[str, str] | None,
        stream: bool,
        line: Line | None = None,
    ) -> HttpExchange:
        request = self._prepare(method, path=path, body=body, headers=headers, stream=stream)
        clock = Clock(deadlines, line=line)
        try:
            # The stubs of requests know urllib3's Timeout by another name.
            response = self._adapter.send(request, stream=True, timeout=clock)  # type: ignore[arg-type]
        except ProviderError as error:
            error.provider = self.provider
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            raise _translated(error, clock=clock, provider=self.provider) from None
        exchange = HttpExchange(
            response, clock=clock, provider=self.provider, max_answer_bytes=self._max_answer_bytes
        )
        if 300 <= exchange.status < 400:
            exchange.close()
            raise _redirected(exchange, provider=self.provider)
        return exchange

    def _prepare(
        self, method: str, *, path: str, body: bytes | None, headers: Mapping[str, str] | None, stream: bool
    ) -> requests.PreparedRequest:
        request = requests.PreparedRequest()
        request.method = method
        request.url = self.base_url + path
        # Compression makes some servers hold back the events of a stream.
        merged = {**self._headers, "Accept-Encoding": "identity" if stream else "gzip, deflate"}
        if headers:
            merged.update(headers)
        if body is not None:
            request.body = body
            merged["Content-Length"] = str(len(body))
        # A plain dict does where requests has its own: names are given once, and always in this spelling.
        request.headers = merged  # type: ignore[assignment]
        return request


def _session(
    pool: TimedHTTPConnectionPool | TimedHTTPSConnectionPool, *, origin: str
) -> tuple[requests.Session, _Adapter]:
    session = requests.Session()
    session.trust_env = False
    session.max_redirects = 0
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(pool, origin=origin)
    session.adapters.clear()
    session.mount(origin, adapter)
    return session, adapter


def _translated(error: Exception, *, clock: Clock, provider: str) -> ProviderError:
    """What requests, urllib3 or the socket raised before there was an answer, as one of ours.

    A connection that could not be made is not among it: the pool raises NotSent for that.
    """
    if clock.line.is_cut:
        return StreamInterrupted("The call was cut off by the gateway.", provider=provider)
    causes = list(_causes(error))
    # Those of requests are OSErrors all, whatever happened; a connection closed early is an HTTPException too.
    broken = any(isinstance(cause, OSError) and not isinstance(cause, requests.RequestException) for cause in causes)
    if not broken and any(isinstance(cause, http.client.HTTPException) for cause in causes):
        return MalformedAnswer("The provider's answer is not HTTP.", provider=provider)
    if clock.first_byte_at is not None:
        return StreamInterrupted("The provider's answer broke off within its headers.", provider=provider)
    return ConnectionFailed("The provider closed the connection before it answered.", provider=provider)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and the exceptions that urllib3 and requests put among its arguments, outermost first."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _redirected(exchange: HttpExchange, *, provider: str) -> UpstreamError:
    error = UpstreamError(
        f"The provider answered with a redirect ({exchange.status}), which is not followed: check its base URL.",
        provider=provider,
        status=exchange.status,
        upstream_request_id=exchange.upstream_request_id,
    )
    error.retryable = False
    return error


def _request_id(headers: Mapping[str, str] | CaseInsensitiveDict[str]) -> str:
    for name in _REQUEST_ID_HEADERS:
        value = headers.get(name)
        if value:
            return value[:200]
    return ""
