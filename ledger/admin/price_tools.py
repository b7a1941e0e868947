"""Many prices at once: the import of list prices with its differences, sheets to and from a spreadsheet."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from ledger import price_list, sheet_csv, sheet_import
from ledger.price_import import Plan, apply, make_plan
from ledger.price_import.costs import previews_of
from ledger.price_preview import said
from ledger.sheet_csv import SheetCsvError
from providers.admin_base import CheckboxWidget, TextWidget

_MOST_BYTES = 10 * 1024 * 1024
_MOST_SHOWN = 200
_KINDS = {
    "outlier": "Moved by more than three times: left out unless confirmed, then drafts",
    "seed": "Differ from the seed price: become drafts",
    "undated": "Changed without a date: become drafts",
    "changed": "Changed with a date: published from that date",
    "new": "First prices of a model: published",
    "pending": "Drafts of an earlier import, waiting to be published",
    "removed": "No longer in the data: the model is marked deprecated, its prices stay",
}


class ImportForm(forms.Form):
    confirm_outliers = forms.BooleanField(
        required=False, widget=CheckboxWidget, label="Take the outliers, too", help_text="As drafts, like the rest."
    )


class UploadForm(forms.Form):
    """A CSV file of sheets, and what to do with it."""

    file = forms.FileField(help_text="CSV in UTF-8, with the columns of the download.")
    publish = forms.BooleanField(required=False, widget=CheckboxWidget, help_text="Otherwise they become drafts.")
    confirm_outliers = forms.BooleanField(
        required=False, widget=CheckboxWidget, help_text="Take prices more than three times or less than a third."
    )
    reason = forms.CharField(required=False, max_length=500, widget=TextWidget, help_text="Kept in the books.")


def urls(page: ModelAdmin[Any]) -> list[URLPattern]:
    """The pages, under the list of price sheets. Who may add a sheet may use them; downloads need to see sheets."""
    wrap = page.admin_site.admin_view
    return [
        path("import/", wrap(partial(import_view, page)), name="ledger_pricesheet_import"),
        path("upload/", wrap(partial(upload_view, page)), name="ledger_pricesheet_upload"),
        path("download/", wrap(partial(download_view, page)), name="ledger_pricesheet_download"),
    ]


def import_view(page: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    """What the installed list prices would change; a POST writes it."""
    if not page.has_add_permission(request):
        raise PermissionDenied
    plan = make_plan(now=timezone.now())
    form = ImportForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        actor: Any = request.user
        apply(plan, actor=actor, confirm_outliers=form.cleaned_data["confirm_outliers"])
        messages.success(request, "The list prices are imported. Drafts wait to be published.")
        return HttpResponseRedirect(reverse("admin:ledger_pricesheet_changelist"))
    context = {**page.admin_site.each_context(request), "opts": page.opts, "title": "Import list prices"}
    return render(request, "ledger/desk/import_prices.html", {**context, "form": form, **_told(plan)})


def _told(plan: Plan) -> dict[str, Any]:
    previews = previews_of(plan)
    sources = {provider.provider: provider.source_url for provider in plan.providers}
    by_model = {id(model): provider.provider for provider in plan.providers for model in provider.models}
    groups = []
    for kind, heading in _KINDS.items():
        found = plan.changes(kind)
        rows = [
            {
                "model": model.name,
                "source": sources[by_model[id(model)]],
                "valid_from": change.valid_from,
                "rates": [f"{rate}{' - about x1000: the unit?' if rate.is_unit_slip else ''}" for rate in change.rates],
                "conflicts": [str(conflict) for conflict in change.conflicts],
                "preview": said(previews[id(change)]) if id(change) in previews else "",
            }
            for model, change in found[:_MOST_SHOWN]
        ]
        if found:
            groups.append({"heading": heading, "count": len(found), "rows": rows, "hidden": len(found) - len(rows)})
    return {"groups": groups, "new_models": len(plan.new_models), "unmapped": plan.unmapped}


def upload_view(page: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    """Sheets from a CSV file: all of them, or a list of what is wrong and none."""
    if not page.has_add_permission(request):
        raise PermissionDenied
    form = UploadForm(request.POST or None, request.FILES or None)
    faults: list[str] = []
    if request.method == "POST" and form.is_valid():
        faults = _carry_in(request, form)
        if not faults:
            return HttpResponseRedirect(reverse("admin:ledger_pricesheet_changelist"))
    context = {**page.admin_site.each_context(request), "opts": page.opts, "title": "Price sheets from a CSV file"}
    return render(request, "ledger/desk/upload_sheets.html", {**context, "form": form, "faults": faults})


def _carry_in(request: HttpRequest, form: UploadForm) -> list[str]:
    values = form.cleaned_data
    if values["file"].size > _MOST_BYTES:
        return [f"the file is larger than {_MOST_BYTES // 2**20} MiB"]
    actor: Any = request.user
    try:
        done = sheet_import.carry_in(
            sheet_csv.read(values["file"].read().decode("utf-8-sig")), now=timezone.now(), publish=values["publish"],
            reason=values["reason"], confirm_outliers=values["confirm_outliers"], actor=actor,
        )  # fmt: skip
    except UnicodeDecodeError as error:
        return [f"the file is not UTF-8: byte {error.start} is wrong"]
    except SheetCsvError as error:
        return error.faults
    messages.success(request, done.told(published=values["publish"]))
    return []


def download_view(page: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    """The sheets in force as CSV; with ?history=1 all that were published."""
    if not page.has_view_permission(request):
        raise PermissionDenied
    at = None if request.GET.get("history") else timezone.now()
    model_ids = price_list.models_named(None).values_list("pk", flat=True)
    text = sheet_csv.dump(price_list.sheets(model_ids=model_ids, at=at))
    headers = {"Content-Disposition": 'attachment; filename="tollbook-prices.csv"'}
    return HttpResponse(text, content_type="text/csv; charset=utf-8", headers=headers)
