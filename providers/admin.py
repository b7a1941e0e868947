"""The catalog's pages: providers (their credential is written, never read back), models and aliases."""

from __future__ import annotations

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from providers.admin_base import CheckboxWidget, DeskAdmin, DeskForm, DeskInline, PasswordWidget, SelectWidget
from providers.models import Alias, Model, Provider, Route, RouteTarget
from providers.registry import names
from providers.validation import provider_faults


class ProviderForm(DeskForm):
    """The stored secret is not a field of this form: nothing here reads it, so nothing can show it."""

    adapter = forms.ChoiceField(choices=lambda: [(name, name) for name in names()], widget=SelectWidget)
    new_credential = forms.CharField(
        required=False,
        strip=True,
        widget=PasswordWidget(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted and never shown again. Leave empty to keep what is stored.",
    )
    forget_credential = forms.BooleanField(required=False, widget=CheckboxWidget, help_text="Delete what is stored.")

    class Meta:
        model = Provider
        exclude = ["credential_secret"]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        for field, message in provider_faults(self.instance).items():
            self.add_error(field, message)

    def save(self, commit: bool = True) -> Provider:
        secret = self.cleaned_data["new_credential"]
        if secret or self.cleaned_data["forget_credential"]:
            self.instance.credential_secret = secret
        saved: Provider = super().save(commit)
        return saved


@admin.register(Provider)
class ProviderAdmin(DeskAdmin):
    form = ProviderForm
    undeletable = True
    list_display = ["name", "adapter", "base_url", "credential", "enabled"]
    list_filter = ["adapter", "enabled"]
    search_fields = ["name"]
    readonly_fields = ["credential"]
    fieldsets = [
        (None, {"fields": ["name", "adapter", "base_url", "enabled"]}),
        ("Credential", {"fields": ["credential", "credential_ref", "new_credential", "forget_credential"]}),
        ("Network", {"fields": ["allow_plain_http", "allow_private_address", "max_retries", "disconnect_policy"]}),
        (
            "Timeouts (seconds)",
            {
                "fields": [
                    "timeout_s",
                    "connect_timeout_s",
                    "first_byte_timeout_s",
                    "idle_timeout_s",
                    "stream_timeout_s",
                ]
            },
        ),
        ("Adapter settings", {"fields": ["settings"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        """Without the secret: no page decrypts it, and a lost key does not break the page that could replace it."""
        return Provider.objects.defer("credential_secret")

    @admin.display(description="stored credential")
    def credential(self, provider: Provider) -> str:
        if provider._state.adding:
            return "not set"
        if provider.credential_ref:
            return f"by reference: {provider.credential_ref}"
        is_set = Provider.objects.filter(~Q(credential_secret=""), pk=provider.pk).exists()
        return "set" if is_set else "not set"


class PublicNameForm(DeskForm):
    """A form whose `name` clients may ask for: models, aliases and routes share one name space."""

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        for kind, what in ((Model, "a model"), (Alias, "an alias"), (Route, "a route")):
            if kind is not self._meta.model and kind.objects.filter(name=name).exists():
                raise forms.ValidationError(f"{name!r} is the name of {what}.")
        return name


class AliasForm(PublicNameForm):
    class Meta:
        model = Alias
        fields = ["name", "model"]


class ModelForm(PublicNameForm):
    class Meta:
        model = Model
        fields = "__all__"


class RouteForm(PublicNameForm):
    class Meta:
        model = Route
        fields = "__all__"


class RouteTargetInline(DeskInline):
    model = RouteTarget
    autocomplete_fields = ["model"]
    extra = 1


class AliasInline(DeskInline):
    model = Alias
    form = AliasForm


@admin.register(Model)
class ModelAdmin(DeskAdmin):
    form = ModelForm
    undeletable = True
    list_display = ["name", "provider", "upstream_name", "enabled", "deprecated"]
    list_filter = ["provider", "enabled", "deprecated"]
    search_fields = ["name", "upstream_name", "aliases__name"]
    autocomplete_fields = ["provider"]
    inlines = [AliasInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        return Model.objects.select_related("provider").defer("provider__credential_secret")


@admin.register(Alias)
class AliasAdmin(DeskAdmin):
    form = AliasForm
    list_display = ["name", "model"]
    search_fields = ["name", "model__name"]
    autocomplete_fields = ["model"]
    list_select_related = ["model"]


@admin.register(Route)
class RouteAdmin(DeskAdmin):
    form = RouteForm
    list_display = ["name", "strategy", "enabled"]
    list_filter = ["strategy", "enabled"]
    search_fields = ["name", "targets__model__name"]
    inlines = [RouteTargetInline]
