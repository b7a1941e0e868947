"""Limits, and how much of each is used, held and left now."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString

from ledger import limit_reader
from ledger.models import Limit
from providers.admin_base import DeskAdmin, DeskForm, exact, number

_SUBJECTS = ("key", "user", "team", "model")


class LimitForm(DeskForm):
    class Meta:
        model = Limit
        fields = "__all__"

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        subject = values.get("subject")
        for name in _SUBJECTS:
            if name == subject and values.get(name) is None and name not in self.errors:
                self.add_error(name, f"Choose the {name} that this limit is for.")
            elif name != subject and values.get(name) is not None:
                self.add_error(name, f"Leave this empty: the subject is {subject!r}, not a {name}.")
        if values.get("metric") == Limit.Metric.CONCURRENCY and values.get("period") != Limit.Period.TOTAL:
            self.add_error("period", "A limit on concurrent calls has the period 'total'.")
        if values.get("amount") is not None and values["amount"] < 0:
            self.add_error("amount", "A limit cannot be negative.")
        return values


@admin.register(Limit)
class LimitAdmin(DeskAdmin):
    form = LimitForm
    list_display = ["whom", "metric", "period", "limit", "used", "held", "remaining", "resets", "action", "enabled"]
    list_filter = ["subject", "metric", "period", "action", "enabled"]
    search_fields = ["user__username", "team__name", "key__public_id", "key__name", "model__name"]
    autocomplete_fields = ["key", "user", "team", "model"]
    list_select_related = ["key", "user", "team", "model"]
    readonly_fields = ["used", "held", "remaining", "resets"]
    fieldsets = [
        (None, {"fields": ["subject", "key", "user", "team", "model"]}),
        ("Limit", {"fields": ["metric", "period", "amount", "action", "mode", "alert_thresholds", "enabled"]}),
        ("Now", {"fields": ["used", "held", "remaining", "resets"]}),
    ]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A limit that has counted something is switched off instead: its windows are part of the books."""
        if obj is not None and obj.windows.exists():
            return False
        return super().has_delete_permission(request, obj)

    @admin.display(description="whom")
    def whom(self, limit: Limit) -> str:
        return str(limit.key or limit.user or limit.team or limit.model or "everyone")

    @admin.display(description="limit")
    def limit(self, limit: Limit) -> SafeString:
        return number(exact(limit.amount))

    @admin.display(description="used")
    def used(self, limit: Limit) -> SafeString:
        return number(_state(limit, "used"))

    @admin.display(description="held")
    def held(self, limit: Limit) -> SafeString:
        return number(_state(limit, "held"))

    @admin.display(description="remaining")
    def remaining(self, limit: Limit) -> SafeString:
        return number(_state(limit, "remaining"))

    @admin.display(description="resets (UTC)")
    def resets(self, limit: Limit) -> str:
        state = _now(limit)
        return f"{state.resets_at:%Y-%m-%d %H:%M}" if state and state.resets_at else "never"


def _now(limit: Limit) -> limit_reader.LimitState | None:
    """The limit's state, read once for each row of a page."""
    if limit._state.adding:
        return None
    if not hasattr(limit, "_state_now"):
        [state] = limit_reader.states(Limit.objects.filter(pk=limit.pk))
        limit._state_now = state  # type: ignore[attr-defined]
    found: limit_reader.LimitState = limit._state_now  # type: ignore[attr-defined]
    return found


def _state(limit: Limit, name: str) -> str:
    state = _now(limit)
    return exact(getattr(state, name)) if state else ""
