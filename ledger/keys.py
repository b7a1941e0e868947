"""API keys: how their text is made, read and compared; how one is created, rotated, revoked.

    tb_live_<public_id>_<secret>

The public id finds the row; only the SHA-256 of the secret is stored, so the text exists once: in what `create_key`
and `rotate` return. A secret of 238 random bits needs no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from ledger.models import ApiKey, Limit, Team

PREFIX = "tb_live_"
_ALPHABET = string.ascii_letters + string.digits
_PUBLIC_ID_LENGTH = 12
_SECRET_LENGTH = 40
# Neither part holds a '_', so that the text splits in one way only.
_TEXT = re.compile(r"tb_live_([A-Za-z0-9]{12})_([A-Za-z0-9-]{32,128})")
_LONGEST = len(PREFIX) + _PUBLIC_ID_LENGTH + 1 + 128


class KeyNotActive(Exception):
    """The key is revoked or expired, so it cannot be rotated: create a new one."""


def parse(text: object) -> tuple[str, str] | None:
    """(public id, secret) of a key's text; None for anything else, whatever its type, size or characters."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        return None
    match = _TEXT.fullmatch(text)
    return (match[1], match[2]) if match else None


def hashed(secret: str) -> str:
    """The lower-case hexadecimal SHA-256 that is stored in place of the secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(*, secret: str, sha256: str) -> bool:
    """Whether `secret` has the stored hash, in a time that tells nothing about either."""
    return hmac.compare_digest(hashed(secret).encode(), sha256.encode())


def create_key(
    *,
    user: User,
    team: Team | None = None,
    name: str = "",
    scopes: Iterable[str] = (ApiKey.Scope.CALL,),
    allowed_models: Iterable[str] = (),
    reads_cache: bool = False,
    expires_at: datetime | None = None,
    replaces: ApiKey | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its text, which nobody can show again.

    Raises ValueError for an unknown scope, or none at all.
    """
    wanted = tuple(dict.fromkeys(str(scope) for scope in scopes))
    unknown = [scope for scope in wanted if scope not in ApiKey.Scope.values]
    if unknown or not wanted:
        known = ", ".join(ApiKey.Scope.values)
        raise ValueError(f"Unknown scope {unknown[0]!r}: use {known}." if unknown else f"Give a scope: {known}.")
    public_id, secret = _random(_PUBLIC_ID_LENGTH), _random(_SECRET_LENGTH)
    key = ApiKey.objects.create(
        public_id=public_id,
        secret_sha256=hashed(secret),
        name=name,
        user=user,
        team=team,
        scopes=list(wanted),
        allowed_models=list(dict.fromkeys(allowed_models)),
        reads_cache=reads_cache,
        expires_at=expires_at,
        replaces=replaces,
    )
    return key, f"{PREFIX}{public_id}_{secret}"


@transaction.atomic
def rotate(*, key: ApiKey, overlap_s: float = 86_400) -> tuple[ApiKey, str]:
    """A successor with the same rights and limits, and its text; the old key works for `overlap_s` seconds more.

    The limits set on the key itself are copied, so that a rotation cannot shake one off; the successor's count begins
    at zero, because what the old key spent stays in the old key's books. Raises KeyNotActive for a key that is
    revoked or expired.
    """
    now = timezone.now()
    old = ApiKey.objects.select_for_update(of=("self",)).select_related("user", "team").get(pk=key.pk)
    if not is_active(old, at=now):
        raise KeyNotActive(f"The key {old} is revoked or expired: create a new one instead of rotating it.")
    new, text = create_key(
        user=old.user,
        team=old.team,
        name=old.name,
        scopes=old.scopes,
        allowed_models=old.allowed_models,
        reads_cache=old.reads_cache,
        expires_at=old.expires_at,
        replaces=old,
    )
    _copy_limits(source=old, target=new)
    ends = now + timedelta(seconds=overlap_s)
    old.expires_at = min(old.expires_at, ends) if old.expires_at else ends
    old.save(update_fields=["expires_at"])
    return new, text


def revoke(*, key: ApiKey) -> None:
    """End the key now; a key already revoked keeps its first instant."""
    ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
    key.refresh_from_db(fields=["revoked_at"])


def is_active(key: ApiKey, *, at: datetime) -> bool:
    """Whether the key itself (not its user) may be used at that instant."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > at)


def _copy_limits(*, source: ApiKey, target: ApiKey) -> None:
    for limit in Limit.objects.filter(key=source):
        limit.pk = None
        limit.key = target
        limit._state.adding = True
        limit.save()


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
