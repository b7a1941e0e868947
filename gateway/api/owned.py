"""What the endpoints of files and batches share: who asks, what is not there, pages in OpenAI's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from django.db.models import Model, Q, QuerySet
from django.http import JsonResponse, QueryDict

from gateway.api.surface import SurfaceView, authenticate
from gateway.errors import ApiError
from gateway.keyring import Principal
from gateway.runtime import runtime
from providers.wire import openai_chat
from providers.wire.base import Wire

Row = TypeVar("Row", bound=Model)


class OwnedView(SurfaceView):
    """Errors in OpenAI's shape. What a key may not see does not exist for it: 404."""

    wire: ClassVar[Wire] = openai_chat.WIRE

    def caller(self) -> Principal:
        """Who asks, with the scope to call. Raises ApiError."""
        principal = authenticate(runtime(), self.request.META)
        if "call" not in principal.scopes:
            raise ApiError("scope_missing", "This API key may not call models: it lacks the scope 'call'.")
        return principal


def found(rows: QuerySet[Row], row_id: str, *, what: str) -> Row:
    """The row of this id. Raises ApiError not_found."""
    row = rows.filter(pk=row_id).first() if row_id.isascii() and "\0" not in row_id else None
    if row is None:
        raise ApiError("not_found", f"There is no {what} {row_id[:80]!r}.")
    return row


def page(
    query: QueryDict, rows: QuerySet[Row], *, shown: Callable[[Row], Mapping[str, Any]], usual: int, most: int
) -> JsonResponse:
    """A page as OpenAI's clients read it: newest first, `limit` rows `after` the one with that id."""
    limit = _limit(query.get("limit", str(usual)), most=most)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ApiError("invalid_request", f"'order' is asc or desc, not {order[:20]!r}.", param="order")
    after = query.get("after")
    if after:
        last: Any = rows.filter(pk=after).first() if "\0" not in after else None
        if last is None:
            raise ApiError("invalid_request", f"'after' names nothing here: {after[:80]!r}.", param="after")
        step = "gt" if order == "asc" else "lt"
        rows = rows.filter(
            Q(**{f"created_at__{step}": last.created_at}) | Q(created_at=last.created_at, **{f"pk__{step}": last.pk})
        )
    sign = "" if order == "asc" else "-"
    got = list(rows.order_by(f"{sign}created_at", f"{sign}pk")[: limit + 1])
    data = [shown(row) for row in got[:limit]]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return JsonResponse({"object": "list", "data": data, **ends, "has_more": len(got) > limit})


def _limit(text: str, *, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= most):
        raise ApiError("invalid_request", f"'limit' is a whole number from 1 to {most}.", param="limit")
    return int(text)


def unix_s(at: datetime | None) -> int | None:
    return int(at.timestamp()) if at is not None else None
