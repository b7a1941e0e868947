"""Who changed which price, limit, key, provider, model, alias or team: when, from what, to what."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_datetime
from pghistory.models import Events

from ledger import history
from providers.admin_base import ReadOnlyAdmin

_PAGE = 50


@admin.register(Events)
class HistoryAdmin(ReadOnlyAdmin):
    """The list page is the history; its rows have no pages of their own."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_view_permission(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        kind = request.GET.get("kind", "")
        wanted = str(request.GET.get("id", ""))
        object_id = int(wanted) if wanted.isdecimal() and len(wanted) < 19 and kind in history.KINDS else None
        found = history.entries(
            kinds=[kind] if kind in history.KINDS else list(history.KINDS),
            object_id=object_id,
            before=_instant(request.GET.get("before", "")),
            most=_PAGE,
        )
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "title": "History", "entries": found,
            "kinds": list(history.KINDS), "kind": kind, "object_id": object_id,
            "older": found[-1].at.isoformat() if len(found) == _PAGE else "",
        }  # fmt: skip
        return render(request, "ledger/desk/history.html", context)


def _instant(text: str) -> Any:
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
