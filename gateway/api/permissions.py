"""What a caller may see: everything, or its own."""

from __future__ import annotations

from typing import Any

import msgspec
from rest_framework.request import Request

from ledger.models import ApiKey

_SEES_EVERYTHING = {str(ApiKey.Scope.READ_SPEND), str(ApiKey.Scope.ADMIN)}


class Sight(msgspec.Struct, frozen=True):
    """Whose rows a caller sees. Both None: everyone's. `key_id`: this key's only. `user_id`: this user's only."""

    user_id: int | None = None
    key_id: int | None = None

    @property
    def is_everything(self) -> bool:
        return self.user_id is None and self.key_id is None

    def narrowed(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """`chosen` filters (name -> ids) with `user` or `key` replaced by the one this caller may see."""
        if self.key_id is not None:
            return {**chosen, "key": [self.key_id]}
        if self.user_id is not None:
            return {**chosen, "user": [self.user_id]}
        return chosen


def sight_of(request: Request) -> Sight:
    """The sight of an authenticated request.

    A key with the scope read-spend or admin, and logged-in staff, see everything. A plain key sees what it did itself,
    even when its user is staff: a service's key must not open the books because of who made it.
    """
    key = request.auth
    if isinstance(key, ApiKey):
        return Sight() if _SEES_EVERYTHING.intersection(key.scopes) else Sight(key_id=key.pk)
    user = request.user
    if user.is_staff or user.is_superuser:
        return Sight()
    # An anonymous user has no id: refused long before this, and 0 is nobody should that ever change.
    return Sight(user_id=user.pk or 0)
