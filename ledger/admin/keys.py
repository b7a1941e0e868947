"""API keys: made, rotated and revoked here; the text of a new key is on one page, once."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from ledger import keys
from ledger.models import ApiKey
from providers.admin_base import CheckboxesWidget, DeskAdmin, DeskForm
from providers.models import Alias, Model


class ApiKeyForm(DeskForm):
    scopes = forms.MultipleChoiceField(
        choices=ApiKey.Scope.choices, initial=[ApiKey.Scope.CALL], widget=CheckboxesWidget
    )

    class Meta:
        model = ApiKey
        fields = ["user", "team", "name", "scopes", "allowed_models", "reads_cache", "expires_at"]

    def clean_allowed_models(self) -> list[str]:
        names: list[str] = self.cleaned_data["allowed_models"] or []
        for name in names:
            if not (Model.objects.filter(name=name).exists() or Alias.objects.filter(name=name).exists()):
                raise ValidationError(f"There is no model or alias {name!r}.")
        return names


@admin.register(ApiKey)
class ApiKeyAdmin(DeskAdmin):
    form = ApiKeyForm
    undeletable = True
    list_display = ["public_id", "name", "user", "team", "scope_words", "state", "expires_at", "last_used_at"]
    list_filter = ["team", ("revoked_at", admin.EmptyFieldListFilter)]
    list_select_related = ["user", "team"]
    search_fields = ["public_id", "name", "user__username"]
    autocomplete_fields = ["user", "team"]
    actions = ["rotate_keys", "revoke_keys"]
    readonly_fields = ["public_id", "state", "created_at", "last_used_at", "revoked_at", "replaces"]
    fieldsets = [
        (None, {"fields": ["user", "team", "name", "scopes", "allowed_models", "reads_cache", "expires_at"]}),
        ("State", {"fields": ["public_id", "state", "created_at", "last_used_at", "revoked_at", "replaces"]}),
    ]

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> list[str]:
        """Whose key it is never changes: that is what the books say about its calls."""
        fields = list(super().get_readonly_fields(request, obj))
        return fields if obj is None else [*fields, "user"]

    @admin.display(description="scopes")
    def scope_words(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        if key._state.adding:
            return "not made yet"
        if key.revoked_at:
            return "revoked"
        return "active" if keys.is_active(key, at=timezone.now()) else "expired"

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        key, text = keys.create_key(**form.cleaned_data)
        obj.pk = key.pk
        obj.refresh_from_db()
        # Kept on this object only, until response_add shows it: not in a session, a cookie or a message.
        obj._key_text = text  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._shown_once(request, [(obj, obj._key_text)])  # type: ignore[attr-defined]

    @admin.action(description="Rotate: make a successor, end the old key in 24 hours", permissions=["change"])
    def rotate_keys(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        made: list[tuple[ApiKey, str]] = []
        for key in queryset:
            try:
                successor, text = keys.rotate(key=key)
            except keys.KeyNotActive as error:
                messages.error(request, str(error))
                continue
            self.log_change(request, key, f"Rotated: {successor.public_id} follows.")
            made.append((successor, text))
        return self._shown_once(request, made) if made else None

    @admin.action(description="Revoke: end the key now, for good", permissions=["change"])
    def revoke_keys(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            keys.revoke(key=key)
            self.log_change(request, key, "Revoked.")
            messages.success(request, f"Revoked: {key}.")

    def _shown_once(self, request: HttpRequest, made: list[tuple[ApiKey, str]]) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": "Copy it now", "made": made}
        # Admin pages are sent with no-store: a browser keeps no copy of this one.
        return render(request, "ledger/desk/key_text.html", context)
