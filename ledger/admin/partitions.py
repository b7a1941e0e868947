"""The months of the ledger: how large, archived or not; and the alarm for calls that found none."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from ledger import partitions
from ledger.models import ArchivedMonth
from providers.admin_base import ReadOnlyAdmin


@admin.register(ArchivedMonth)
class ArchivedMonthAdmin(ReadOnlyAdmin):
    """The list page shows every partition; a month's own page its archive."""

    fields = ["month", "calls", "path", "bytes", "sha256", "archived_at", "dropped_at"]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Months",
            "alarm": partitions.strays(),
            "rows": [
                {
                    "month": f"{each.month:%Y-%m}" if each.month else "none",
                    "name": each.name,
                    "calls": f"{'' if each.counted else 'about '}{each.calls:,}",
                    "size": f"{each.size_bytes / 2**20:,.1f}",
                    "state": each.state,
                    "archived": each.month if each.archived_at else None,
                }
                for each in partitions.partitions()
            ],
        }
        return render(request, "ledger/desk/partitions.html", context)
