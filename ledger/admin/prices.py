"""Price sheets: a draft is edited, published with a reason, and frozen; the next price begins as a copy of this one."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ledger import rating
from ledger.admin import price_tools
from ledger.admin.filters import SheetModelFilter
from ledger.admin.price_changes import RateChange, changes_of
from ledger.admin.rerating import correction_url, rerate_url
from ledger.meters import METERS
from ledger.models import PriceSheet, Rate
from ledger.price_preview import preview, said, usage_by_model
from ledger.prices import PRECEDENCE, RATE_FIELDS, compiled, get_pricing, sheets_in_force, unit_price_usd
from ledger.publishing import PublishError, draft_from, publish
from ledger.rating import Sheet, SheetError
from providers.admin_base import (
    CheckboxWidget,
    DateTimeWidget,
    DeskAdmin,
    DeskForm,
    DeskFormSet,
    DeskInline,
    SelectWidget,
    TextareaWidget,
    TextWidget,
    exact,
    link,
)
from providers.models import Model

_PER_MTOK = Decimal(1_000_000)


class RateForm(DeskForm):
    meter = forms.ChoiceField(choices=lambda: [(code, code) for code in sorted(METERS)], widget=SelectWidget)

    class Meta:
        model = Rate
        fields = [name for name in RATE_FIELDS if name != "id"]


class RateFormSet(DeskFormSet):
    def clean(self) -> None:
        """Refuse rates that contradict each other, in the words of the rating itself."""
        super().clean()
        if any(self.errors):
            return
        kept = [form.cleaned_data for form in self.forms if form.cleaned_data and not form.cleaned_data.get("DELETE")]
        try:
            Sheet(rates=tuple(rating.Rate(**{name: row[name] for name in RateForm.Meta.fields}) for row in kept))
        except SheetError as error:
            raise forms.ValidationError(str(error)) from None


class RateInline(DeskInline):
    model = Rate
    form = RateForm
    formset = RateFormSet
    readonly_fields = ["per_million"]
    fields = [*RateForm.Meta.fields, "per_million"]

    @admin.display(description="USD per 1M")
    def per_million(self, rate: Rate) -> str:
        # A refused form is shown again with what was typed, and that `per` may be no power of ten.
        told = not rate._state.adding and 10 ** (len(str(rate.per)) - 1) == rate.per
        return exact(unit_price_usd(rate) * _PER_MTOK) if told else ""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_draft(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_draft(obj) and super().has_delete_permission(request, obj)


class PriceSheetForm(DeskForm):
    # Declared, because the model's own form field would take http:// for an address without a scheme.
    source_url = forms.URLField(max_length=500, required=False, assume_scheme="https", widget=TextWidget)

    class Meta:
        model = PriceSheet
        fields = "__all__"


class StartForm(forms.Form):
    """From when, and in which book, a new price shall hold."""

    valid_from = forms.SplitDateTimeField(widget=DateTimeWidget, help_text="UTC.")
    book = forms.ChoiceField(choices=PriceSheet.Book.choices, initial=PriceSheet.Book.OVERRIDE, widget=SelectWidget)


class PublishForm(forms.Form):
    valid_from = forms.SplitDateTimeField(widget=DateTimeWidget, help_text="UTC. Now or later, unless a correction.")
    reason = forms.CharField(max_length=500, widget=TextareaWidget(attrs={"rows": 2}), help_text="Kept in the books.")
    correction = forms.BooleanField(
        required=False,
        widget=CheckboxWidget,
        help_text="It begins in the past. Calls already made keep their cost until they are re-rated.",
    )


@admin.register(PriceSheet)
class PriceSheetAdmin(DeskAdmin):
    form = PriceSheetForm
    list_display = ["model", "book", "valid_from", "status", "rates_per_million", "source", "next_step"]
    list_filter = ["status", "book", "source", SheetModelFilter]
    search_fields = ["model__name"]
    list_select_related = ["model"]
    autocomplete_fields = ["model"]
    date_hierarchy = "valid_from"
    ordering = ["model__name", "-valid_from"]
    inlines = [RateInline]
    actions = ["rerate"]
    list_before_template = "ledger/desk/price_tools.html"
    readonly_fields = ["status", "next_step", "created_by", "published_by", "published_at", "content_sha256"]
    fieldsets = [
        (None, {"fields": ["model", "book", "valid_from", "discontinued", "status", "next_step"]}),
        ("Why", {"fields": ["reason", "source", "source_url", "history_unknown"]}),
        ("History", {"fields": ["created_by", "published_by", "published_at", "content_sha256"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("rates")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_draft(obj) and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: PriceSheet, form: Any, change: bool) -> None:
        if not change:
            obj.created_by_id = request.user.pk
        super().save_model(request, obj, form, change)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("new/<int:model_id>/", wrap(self.new_price_view), name="ledger_pricesheet_new_price"),
            path("<int:sheet_id>/publish/", wrap(self.publish_view), name="ledger_pricesheet_publish"),
            *price_tools.urls(self),
            *super().get_urls(),
        ]

    @admin.action(description="Re-rate calls with this price…")
    def rerate(self, request: HttpRequest, queryset: QuerySet[PriceSheet]) -> HttpResponse | None:
        chosen = list(queryset.select_related("model")[:2])
        if len(chosen) != 1 or chosen[0].status != PriceSheet.Status.PUBLISHED:
            self.message_user(request, "Choose one published price sheet.", messages.ERROR)
            return None
        return HttpResponseRedirect(rerate_url(chosen[0]))

    @admin.display(description="USD per 1M")
    def rates_per_million(self, sheet: PriceSheet) -> str:
        base = [rate for rate in sheet.rates.all() if not rate.above_tokens and not rate.service_tier][:4]
        return ", ".join(f"{rate.meter} {exact(unit_price_usd(rate) * _PER_MTOK)}" for rate in base) or "none"

    @admin.display(description="next")
    def next_step(self, sheet: PriceSheet) -> SafeString | str:
        if sheet._state.adding:
            return "Save the draft, then publish it."
        if _is_draft(sheet):
            return link(reverse("admin:ledger_pricesheet_publish", args=[sheet.pk]), "Publish…")
        links = link(new_price_url(sheet.model_id), "New price from this…")
        if sheet.is_correction:
            return format_html("{} &middot; {}", links, link(correction_url(sheet), "Re-rate the calls since…"))
        return links

    def new_price_view(self, request: HttpRequest, model_id: int) -> HttpResponse:
        """Ask for a date, copy the sheet in force into a draft of that date, and open it."""
        model = get_object_or_404(Model, pk=model_id)
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = StartForm(request.POST or None, initial={"valid_from": _next_midnight()})
        if request.method == "POST" and form.is_valid():
            draft = draft_from(
                model=model,
                valid_from=form.cleaned_data["valid_from"],
                book=form.cleaned_data["book"],
                created_by=_actor(request),
            )
            self.log_addition(request, draft, "Copied from the price in force.")
            messages.info(request, "This is a draft: change its rates, save it, then publish it.")
            return HttpResponseRedirect(reverse("admin:ledger_pricesheet_change", args=[draft.pk]))
        context = self._context(request, title=f"New price for {model}", form=form, changes=[], model=model)
        return render(request, "ledger/desk/new_price.html", context)

    def publish_view(self, request: HttpRequest, sheet_id: int) -> HttpResponse:
        """Show old -> new, ask for the date and the reason, publish."""
        sheet = get_object_or_404(PriceSheet.objects.select_related("model"), pk=sheet_id)
        if not self.has_change_permission(request, sheet):
            raise PermissionDenied
        form = PublishForm(request.POST or None, initial={"valid_from": sheet.valid_from, "reason": sheet.reason})
        if request.method == "POST" and form.is_valid() and self._publish(request, sheet, form):
            return HttpResponseRedirect(reverse("admin:ledger_pricesheet_change", args=[sheet.pk]))
        context = self._context(
            request, title=f"Publish {sheet}", form=form, changes=_changes(sheet), preview=_preview(sheet),
            sheet=sheet, above=_above(sheet),
        )  # fmt: skip
        return render(request, "ledger/desk/publish.html", context)

    def _publish(self, request: HttpRequest, sheet: PriceSheet, form: PublishForm) -> bool:
        """Publish the draft as the form says; a refusal becomes the form's error."""
        values = form.cleaned_data
        drafts = PriceSheet.objects.filter(pk=sheet.pk, status=PriceSheet.Status.DRAFT)
        try:
            with transaction.atomic():
                drafts.update(valid_from=values["valid_from"])
                published = publish(
                    sheet=sheet,
                    actor=_actor(request),
                    reason=values["reason"],
                    now=timezone.now(),
                    correction=values["correction"],
                )
        except PublishError as error:
            form.add_error(None, str(error))
            return False
        self.log_change(request, published, f"Published: {values['reason']}")
        messages.success(request, f"Published: {published}. It is frozen now.")
        return True

    def _context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts, **values}


def new_price_url(model_id: int) -> str:
    return reverse("admin:ledger_pricesheet_new_price", args=[model_id])


def rates_in_force(model: Model, *, at: datetime) -> SafeString | str:
    """The sheet that prices `model` at `at`, as a link with its rates per 1M."""
    sheet_id = sheets_in_force(at=at, model_ids=[model.pk]).get(model.pk)
    if sheet_id is None:
        return "no price"
    sheet = PriceSheet.objects.select_related("model").prefetch_related("rates").get(pk=sheet_id)
    rates = ", ".join(f"{rate.meter} {exact(unit_price_usd(rate) * _PER_MTOK)}" for rate in sheet.rates.all())
    url = reverse("admin:ledger_pricesheet_change", args=[sheet_id])
    return format_html("{} ({}, from {})", link(url, rates), sheet.book, f"{sheet.valid_from:%Y-%m-%d}")


def _changes(sheet: PriceSheet) -> list[RateChange]:
    """What publishing `sheet` would change against the sheet in force when it begins."""
    current = sheets_in_force(at=sheet.valid_from, model_ids=[sheet.model_id]).get(sheet.model_id)
    return changes_of(old=Rate.objects.filter(sheet_id=current), new=sheet.rates.all())


def _above(sheet: PriceSheet) -> PriceSheet | None:
    """The sheet of a higher book in force when `sheet` begins: while it lasts, `sheet` prices no call."""
    current = sheets_in_force(at=sheet.valid_from, model_ids=[sheet.model_id]).get(sheet.model_id)
    higher = PRECEDENCE[: PRECEDENCE.index(sheet.book)]
    return PriceSheet.objects.select_related("model").filter(pk=current or 0, book__in=higher).first()


def _preview(sheet: PriceSheet) -> str:
    """The last 30 days under the price in force then and under this one; '' for a model that was not called."""
    usage = usage_by_model([sheet.model_id], now=timezone.now()).get(sheet.model_id)
    if usage is None:
        return ""
    current = get_pricing(sheet.model, sheet.valid_from)
    try:
        new = compiled(sheet).rates
    except SheetError:
        return ""
    old = current.rates if current else ()
    return said(preview(usage, old=old, new=new, at=timezone.now()))


def _is_draft(obj: Any) -> bool:
    return not isinstance(obj, PriceSheet) or obj.status == PriceSheet.Status.DRAFT


def _actor(request: HttpRequest) -> Any:
    return request.user


def _next_midnight() -> datetime:
    return (timezone.now() + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
