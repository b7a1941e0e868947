"""Spend: what each user, team, key, model, provider or day cost, from the rollups."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from ledger import reports
from ledger.models import DailySpend
from providers.admin_base import CheckboxesWidget, ReadOnlyAdmin, TextWidget, exact

_MOST_ROWS = 1_000


class SpendForm(forms.Form):
    """Which days (both included, UTC) and how to group them."""

    start = forms.DateField(label="From", widget=TextWidget(attrs={"type": "date"}))
    end = forms.DateField(label="To", widget=TextWidget(attrs={"type": "date"}))
    group_by = forms.MultipleChoiceField(
        choices=[(name, name) for name in reports.DIMENSIONS], widget=CheckboxesWidget, label="Group by"
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if "start" in values and "end" in values and values["start"] > values["end"]:
            self.add_error("end", "The period ends before it begins.")
        return values


@admin.register(DailySpend)
class SpendAdmin(ReadOnlyAdmin):
    """The list page is the report; single rollup rows mean nothing to people."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_view_permission(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        today = timezone.now().date()
        default = {"start": today.replace(day=1), "end": today, "group_by": ["user"]}
        form = SpendForm(request.GET if request.GET else default)
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": "Spend", "form": form}
        if form.is_valid():
            try:
                context |= _report(**form.cleaned_data)
            except reports.UnknownReport as error:
                form.add_error(None, str(error))
        return render(request, "ledger/desk/spend.html", context)


def _report(*, start: date, end: date, group_by: list[str]) -> dict[str, Any]:
    """Rows, totals and links of one report; totals are those of all rows, also of the ones not listed."""
    rows = reports.spend(group_by=group_by, start=start, end=end, filters={})
    query = {"group_by": ",".join(group_by), "from": start.isoformat(), "to": end.isoformat(), "format": "csv"}
    return {
        "group_by": group_by,
        "rows": [_told(row, group_by=group_by) for row in rows[:_MOST_ROWS]],
        "hidden": max(0, len(rows) - _MOST_ROWS),
        "totals": _figures(reports.totals(rows)),
        "csv_url": f"/api/spend/?{urlencode(query)}",
        "before_url": _before(start=start, end=end, group_by=group_by),
    }


def _before(*, start: date, end: date, group_by: list[str]) -> str:
    """The address of the same report for the period of equal length that ends the day before."""
    days = (end - start).days + 1
    try:
        period = {"start": start - timedelta(days=days), "end": end - timedelta(days=days)}
    except OverflowError:
        return ""
    return f"?{urlencode({**period, 'group_by': group_by}, doseq=True)}"


def _told(row: reports.SpendRow, *, group_by: list[str]) -> dict[str, Any]:
    names = [getattr(row, name) for name in group_by]
    return {"names": [value if isinstance(value, date) else value.name or "none" for value in names], **_figures(row)}


def _figures(sums: reports.Sums) -> dict[str, Any]:
    """The numbers of a line; a group whose calls are all unpriced has no cost to show, which is not zero."""
    known = sums.cost_is_known
    return {
        "calls": f"{sums.calls:,}",
        "cache_hit_rate": f"{sums.cache_hit_rate:.1%}" if sums.cached_calls else "",
        "unpriced_calls": f"{sums.unpriced_calls:,}" if sums.unpriced_calls else "",
        "input_tokens": f"{sums.input_tokens:,}",
        "cache_read_tokens": f"{sums.cache_read_tokens:,}",
        "output_tokens": f"{sums.output_tokens:,}",
        "cost_usd": exact(sums.cost_usd) if known else "unknown",
        "adjustments_usd": exact(sums.adjustments_usd),
        "total_usd": exact(sums.total_usd) if known else "unknown",
    }
