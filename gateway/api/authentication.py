"""Who asks, on the /api/ endpoints: an API key, or else the session of someone logged in (Django REST framework's own).

Keys are read from the database here, so that a revocation holds at once. /v1/ has its own, cached way.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from ledger import keys
from ledger.models import ApiKey

# Compared with when no key has the public id, so that both answers take the same work.
_NOBODYS_SHA256 = "0" * 64


class FailedKeys:
    """How many wrong keys each client address sent lately; at most `limit` in any `window_s` seconds are answered.

    In this process only, in bounded memory: the address seen longest ago is forgotten first. A good key is never
    refused because a neighbour behind the same address sends bad ones: ask only once a key has failed.
    """

    def __init__(
        self,
        *,
        limit: int = 20,
        window_s: float = 60.0,
        max_addresses: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.window_s = window_s
        self.max_addresses = max_addresses
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def record(self, address: str) -> int:
        """Note one failure. Returns 0, or the seconds to wait when this address has had its share (not noted then)."""
        now = self._clock()
        with self._lock:
            times = self._failures.setdefault(address, deque(maxlen=self.limit))
            self._failures.move_to_end(address)
            while len(self._failures) > self.max_addresses:
                self._failures.popitem(last=False)
            if len(times) == self.limit and now - times[0] < self.window_s:
                return max(1, math.ceil(times[0] + self.window_s - now))
            times.append(now)
            return 0

    def __len__(self) -> int:
        return len(self._failures)

    def clear(self) -> None:
        with self._lock:
            self._failures.clear()


failed_keys = FailedKeys()


def client_address(meta: Mapping[str, Any]) -> str:
    """The address failures are counted under: the peer's, or behind a trusted proxy the last one the proxy wrote.

    One IPv6 customer has a /64 of addresses, so those count as one.
    """
    address = str(meta.get("REMOTE_ADDR", ""))
    if settings.SECURE_PROXY_SSL_HEADER:
        address = str(meta.get("HTTP_X_FORWARDED_FOR", "")).rpartition(",")[2].strip() or address
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, 64), strict=False).network_address)
    return str(parsed)


def key_text(meta: Mapping[str, Any]) -> str | None:
    """The key in `Authorization: Bearer ...`, `x-api-key` or `x-goog-api-key`; '' for another Authorization; None for
    none of these headers."""
    authorization = meta.get("HTTP_AUTHORIZATION")
    if authorization is None:
        header: str | None = meta.get("HTTP_X_API_KEY", meta.get("HTTP_X_GOOG_API_KEY"))
        return header.strip() if header is not None else None
    scheme, _, text = str(authorization).partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """Sets `request.user` to the key's user and `request.auth` to the `ApiKey`.

    No key header: not our concern, the session is asked next. A key that is wrong in any way is a 401 with one and the
    same message, so that nobody learns which part was wrong. A database error passes through: it is a 503, never a 401.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        text = key_text(request.META)
        if text is None:
            return None
        key = find_key(text)
        if key is None:
            wait_s = failed_keys.record(client_address(request.META))
            if wait_s:
                raise exceptions.Throttled(wait=wait_s, detail="Too many wrong API keys from this address.")
            raise exceptions.AuthenticationFailed("This API key is not valid: unknown, revoked or expired.")
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="tollbook"'


def find_key(text: str) -> ApiKey | None:
    """The active key, of an active user, that `text` is; None for anything else. Raises only database errors."""
    parsed = keys.parse(text)
    if parsed is None:
        return None
    public_id, secret = parsed
    key = ApiKey.objects.select_related("user", "team").filter(public_id=public_id).first()
    if not keys.matches(secret=secret, sha256=key.secret_sha256 if key else _NOBODYS_SHA256) or key is None:
        return None
    return key if key.user.is_active and keys.is_active(key, at=timezone.now()) else None


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # in the package
    """How the schema describes `ApiKeyAuthentication`: two headers, either of which does."""

    target_class = "gateway.api.authentication.ApiKeyAuthentication"
    name = ["bearerKey", "headerKey"]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        form = "An API key: tb_live_<id>_<secret>."
        return [
            {"type": "http", "scheme": "bearer", "bearerFormat": "tb_live_...", "description": form},
            {"type": "apiKey", "in": "header", "name": "x-api-key", "description": form},
        ]
