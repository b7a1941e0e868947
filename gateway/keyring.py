"""Who is calling: API keys, kept in memory, read anew when the snapshot number moves (a revocation: in seconds)."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import psycopg
from django.conf import settings
from msgspec import Struct

from gateway.errors import ApiError, ledger_unavailable
from ledger import database, keys

_QUERY = """
    SELECT k.id, k.secret_sha256, k.user_id, k.team_id, k.scopes, k.allowed_models,
      extract(epoch FROM k.expires_at)::float8, k.revoked_at IS NOT NULL, u.is_active, k.reads_cache
    FROM ledger_apikey k JOIN auth_user u ON u.id = k.user_id WHERE k.public_id = %s
"""
MAX_KEPT = 100_000


class Principal(Struct, frozen=True):
    """An API key that may be used now, and whose it is. `reads_cache`: unless a header says otherwise."""

    key_id: int
    user_id: int
    team_id: int | None
    scopes: frozenset[str]
    allowed_models: frozenset[str]
    reads_cache: bool = False


class _Kept(Struct, frozen=True):
    version: int
    sha256: str
    expires_at: float | None
    usable: bool
    principal: Principal


class Keyring:
    """`authenticate` a key's text. One query for a key that is new here or may have changed; none otherwise."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        # One at a time, on one connection; and whoever asks can stop waiting for it.
        self._reader = ThreadPoolExecutor(1, "keyring")
        self._connection: psycopg.Connection[Any] | None = None
        self._used: set[int] = set()
        self._closing = False

    def authenticate(self, text: str | None, *, version: int) -> Principal:
        """The caller behind `text`. Raises ApiError invalid_key, or ledger_unavailable when nobody can say."""
        parsed = keys.parse(text)
        if parsed is None:
            raise ApiError("invalid_key", "No valid API key was sent: use 'Authorization: Bearer tb_live_...'.")
        public_id, secret = parsed
        kept = self._kept.get(public_id)
        if kept is None or kept.version != version:
            kept = self._load(public_id, version=version)
        if kept is None or not keys.matches(secret=secret, sha256=kept.sha256):
            raise ApiError("invalid_key", "This API key does not exist.")
        if not kept.usable or (kept.expires_at is not None and kept.expires_at <= time.time()):
            raise ApiError("invalid_key", "This API key was revoked, has expired, or belongs to a disabled user.")
        self._used.add(kept.principal.key_id)
        return kept.principal

    def close(self) -> None:
        """Read no key any more. The connection is the reader's own: it closes it, after what it is at."""
        if not self._closing:
            self._closing = True
            self._reader.submit(self._disconnect)
            self._reader.shutdown(wait=False)

    def take_used(self) -> list[int]:
        """The keys used since the last take, for their last-used time."""
        used, self._used = self._used, set()
        return sorted(used)

    def _load(self, public_id: str, *, version: int) -> _Kept | None:
        """The key as it is now. Raises ApiError in time, however long a connection to nowhere takes to fail."""
        try:
            asked = self._reader.submit(self._read, public_id, version)
        except RuntimeError:  # closed: the process is stopping
            raise ledger_unavailable() from None
        try:
            return asked.result(settings.LEDGER_TIMEOUT_S)
        except (TimeoutError, CancelledError, psycopg.Error):
            asked.cancel()
            raise ledger_unavailable() from None

    # --- the reader's thread ------------------------------------------------------------------------------

    def _read(self, public_id: str, version: int) -> _Kept | None:
        if self._closing:
            raise psycopg.InterfaceError("the keyring is closed")
        known = self._kept.get(public_id)
        if known is not None and known.version == version:
            return known  # read for somebody else, who was first in the line
        row = self._fetch(public_id)
        if row is None:
            self._kept.pop(public_id, None)
            return None
        key_id, sha256, user_id, team_id, scopes, allowed, expires_at, revoked, active, reads_cache = row
        kept = _Kept(
            version=version,
            sha256=sha256,
            expires_at=expires_at,
            usable=active and not revoked,
            principal=Principal(key_id, user_id, team_id, frozenset(scopes), frozenset(allowed), reads_cache),
        )
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[public_id] = kept
        return kept

    def _fetch(self, public_id: str) -> tuple[Any, ...] | None:
        # A connection that idled through a restart of the database fails once: a second try tells.
        for attempt in (1, 2):
            try:
                if self._connection is None:
                    self._connection = database.connect(
                        application_name="tollbook keys", deadline_s=settings.LEDGER_TIMEOUT_S
                    )
                return self._connection.execute(_QUERY, (public_id,)).fetchone()
            except psycopg.Error:
                self._disconnect()
                if attempt == 2:
                    raise
        return None

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
