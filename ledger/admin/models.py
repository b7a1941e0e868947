"""The catalog's model page, with what the ledger knows: the price now, and the way to the next one."""

from __future__ import annotations

from django.contrib import admin
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ledger.admin.prices import new_price_url, rates_in_force
from providers.admin import ModelAdmin
from providers.admin_base import link
from providers.models import Model

admin.site.unregister(Model)


@admin.register(Model)
class PricedModelAdmin(ModelAdmin):
    list_display = [*ModelAdmin.list_display, "prices"]
    readonly_fields = ["price_now", "prices"]

    @admin.display(description="price now (USD per 1M)")
    def price_now(self, model: Model) -> SafeString | str:
        return "save the model first" if model._state.adding else rates_in_force(model, at=timezone.now())

    @admin.display(description="prices")
    def prices(self, model: Model) -> SafeString | str:
        if model._state.adding:
            return "save the model first"
        sheets = f"{reverse('admin:ledger_pricesheet_changelist')}?model={model.pk}"
        new = link(new_price_url(model.pk), "New price from…")
        return format_html("{} &middot; {}", link(sheets, "All sheets"), new)
