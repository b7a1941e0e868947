"""Access tokens of a Google service account: a signed assertion is exchanged for a token that lives an hour.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from msgspec import Struct

from providers.counts import decode
from providers.credentials import CredentialUnusable, header_text
from providers.errors import InvalidCredential, MalformedAnswer, ProviderError
from providers.http import Client, Deadlines, HttpExchange, NotSent
from providers.scrub import scrub

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION_S = 3600
# A token is not used in its last minute: a request may wait that long on its way.
SPARE_S = 60.0
_DEADLINES = Deadlines(connect_s=5, idle_s=10, total_s=10)
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class ServiceAccount(Struct, frozen=True):
    """The key file that Google hands out, as far as it is needed."""

    client_email: str
    private_key: str
    private_key_id: str = ""
    project_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

    def __repr__(self) -> str:
        return f"ServiceAccount(client_email={self.client_email!r})"


def read_account(credential: str, *, provider: str) -> ServiceAccount:
    """The service account in a credential, which is the text of its JSON key file. Raises CredentialUnusable."""
    try:
        return msgspec.json.decode(credential, type=ServiceAccount)
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise CredentialUnusable(
            f"The credential of provider {provider!r} must be the JSON key of a service account."
        ) from None


def signing_key(account: ServiceAccount, *, provider: str) -> rsa.RSAPrivateKey:
    """Raises CredentialUnusable."""
    try:
        key = serialization.load_pem_private_key(account.private_key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CredentialUnusable(f"The private key in the credential of provider {provider!r} is not an RSA key.")
    return key


class Tokens:
    """The current access token of one account. Safe for use by many threads: one fetches, the others wait for it."""

    def __init__(
        self, account: ServiceAccount, *, provider: str, client: Client, now: Callable[[], float] = time.time
    ) -> None:
        self._account = account
        self._key = signing_key(account, provider=provider)
        self._provider = provider
        self._client = client
        self._now = now
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def current(self) -> str:
        """A token with at least a minute to live. Raises InvalidCredential, or NotSent: nothing else was asked yet."""
        token, until = self._token, self._until
        if token and self._now() < until:
            return token
        with self._lock:
            if not self._token or self._now() >= self._until:
                self._fetch()
            return self._token

    def forget(self) -> None:
        """Fetch a new one next time."""
        with self._lock:
            self._until = 0.0

    def _fetch(self) -> None:
        issued_at = self._now()
        form = urlencode({"grant_type": GRANT, "assertion": self.assertion(issued_at=int(issued_at))})
        try:
            exchange = self._client.post(path="", body=form.encode(), deadlines=_DEADLINES, headers=_FORM)
            value = _decoded(exchange.body())
        except ProviderError as error:
            raise self._not_sent(f"No access token could be fetched: {error.message}") from error
        if exchange.status >= 300:
            raise self._refused(exchange, value)
        token, lifetime_s = value.get("access_token"), value.get("expires_in")
        if not isinstance(token, str) or not token:
            raise self._not_sent("The token endpoint answered without an access token.")
        usable_s = float(lifetime_s) if isinstance(lifetime_s, int) and lifetime_s > 0 else float(ASSERTION_S)
        self._until = issued_at + usable_s - SPARE_S
        self._token = header_text(token, what="The access token")

    def _refused(self, exchange: HttpExchange, value: dict[str, Any]) -> ProviderError:
        """{"error": "invalid_grant", "error_description": "..."}: the key is wrong; any other status passes."""
        said = scrub(" ".join(str(value[name]) for name in ("error", "error_description") if value.get(name)))
        if exchange.status not in (400, 401, 403):
            return self._not_sent(f"The token endpoint answered with status {exchange.status}.")
        return InvalidCredential(
            f"The token endpoint refused the service account: {said or exchange.status}.",
            provider=self._provider,
            status=401,
            upstream_request_id=exchange.upstream_request_id,
            upstream_code=scrub(str(value.get("error") or "")),
        )

    def _not_sent(self, message: str) -> NotSent:
        return NotSent(message, provider=self._provider)

    def assertion(self, *, issued_at: int) -> str:
        """A JWT signed with RS256, good for one exchange. `issued_at`: seconds since 1970."""
        head = {"alg": "RS256", "typ": "JWT"}
        if self._account.private_key_id:
            head["kid"] = self._account.private_key_id
        claims = {
            "iss": self._account.client_email,
            "scope": SCOPE,
            "aud": self._account.token_uri,
            "iat": issued_at,
            "exp": issued_at + ASSERTION_S,
        }
        signed = f"{_base64(msgspec.json.encode(head))}.{_base64(msgspec.json.encode(claims))}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64(signature)}"


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        value = decode(body)
    except ValueError:
        raise MalformedAnswer("The token endpoint's answer is not JSON.") from None
    return value if isinstance(value, dict) else {}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
