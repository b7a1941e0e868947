"""Re-rating: choose model, period and price, look at what would change for whom, apply."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ledger import rerate_runs
from ledger.models import PriceSheet, RerateRun
from ledger.reports import names_of
from ledger.rerate import RerateError, Selection
from providers.admin_base import ReadOnlyAdmin, TextWidget, exact, link, number, table
from providers.models import Model

_MOST_SHOWN = 200


class RerateForm(forms.Form):
    """Which calls (days in UTC, both included), and with which price."""

    model = forms.CharField(max_length=200, widget=TextWidget, help_text="A model's name.")
    start = forms.DateField(label="From", widget=TextWidget(attrs={"type": "date"}))
    end = forms.DateField(label="To", widget=TextWidget(attrs={"type": "date"}), help_text="Included.")
    sheet = forms.IntegerField(
        required=False, min_value=1, max_value=2**63 - 1, widget=TextWidget,
        help_text="The number of a published price sheet of this model. Empty: for each call the price now known to "
        "have been in force.",
    )  # fmt: skip
    reason = forms.CharField(max_length=500, widget=TextWidget, help_text="Kept in every adjustment.")

    def clean_model(self) -> Model:
        found = Model.objects.filter(name=self.cleaned_data["model"]).first()
        if found is None:
            raise forms.ValidationError(f"There is no model {self.cleaned_data['model']!r}.")
        return found

    def selection(self) -> Selection:
        values = self.cleaned_data
        start, end = (datetime.combine(values[name], time(), tzinfo=UTC) for name in ("start", "end"))
        sheet_id = values["sheet"]
        return Selection(model_id=values["model"].pk, start=start, end=end + timedelta(days=1), sheet_id=sheet_id)


@admin.register(RerateRun)
class RerateRunAdmin(ReadOnlyAdmin):
    """Runs are asked for on a page of their own; a run is looked at here while it goes on, and a preview applied."""

    list_display = ["id", "model", "period", "applies", "state", "calls", "corrected", "settled", "delta", "created_at"]
    list_filter = ["state", "applies"]
    list_select_related = ["model"]
    list_before_template = "ledger/desk/rerate_tools.html"
    sortable_by = ()
    fieldsets = [
        (None, {"fields": ["model", "period", "sheet", "reason", "actor", "applies", "next_step"]}),
        ("Progress", {"fields": ["state", "progress", "problem", "created_at", "finished_at"]}),
        ("Found", {"fields": ["corrected", "settled", "unpriced", "delta", "by_spender"]}),
    ]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("new/", wrap(self.new_view), name="ledger_reraterun_new"),
            path("<int:run_id>/apply/", wrap(self.apply_view), name="ledger_reraterun_apply"),
            *super().get_urls(),
        ]

    @admin.display(description="period (UTC)")
    def period(self, run: RerateRun) -> str:
        return f"{run.start:%Y-%m-%d} to {run.end - timedelta(microseconds=1):%Y-%m-%d}"

    @admin.display(description="change (USD)")
    def delta(self, run: RerateRun) -> SafeString:
        return number(exact(run.delta_usd))

    @admin.display(description="calls looked at")
    def progress(self, run: RerateRun) -> str:
        return f"{run.calls:,} of about {max(run.calls, rerate_runs.expected_calls(run)):,}"

    @admin.display(description="per user and team")
    def by_spender(self, run: RerateRun) -> SafeString | str:
        found = sorted(rerate_runs.tally_of(run).spenders.items())[:_MOST_SHOWN]
        pairs = [(spender.partition("/"), changed) for spender, changed in found]
        users = names_of("user", (int(user) for (user, _, _), _ in pairs))
        teams = names_of("team", (int(team) for (_, _, team), _ in pairs if team))
        rows: list[tuple[object, ...]] = [
            (users[int(user)].name, teams[int(team)].name if team else "", f"{calls:,}", exact(delta))
            for (user, _, team), (calls, delta) in pairs
        ]
        return table(head=("user", "team", "calls", "USD"), rows=rows, numbers_from=2) if rows else "nothing changes"

    @admin.display(description="next")
    def next_step(self, run: RerateRun) -> SafeString | str:
        if run.state != RerateRun.State.DONE:
            return "Wait: reload this page to see how far it is."
        if run.applies or not (run.corrected or run.settled):
            return "nothing"
        url = reverse("admin:ledger_reraterun_apply", args=[run.pk])
        return format_html("{}", link(url, "Write these changes as adjustments…"))

    def new_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a preview. It is counted in the background."""
        _allow(request)
        asked = {name: request.GET.get(name, "") for name in RerateForm.base_fields}
        form = RerateForm(request.POST if request.method == "POST" else None, initial=asked)
        if request.method == "POST" and form.is_valid():
            try:
                run = self._begin(request, form.selection(), applies=False, reason=form.cleaned_data["reason"])
            except (RerateError, OverflowError) as error:
                form.add_error(None, str(error))
            else:
                return HttpResponseRedirect(reverse("admin:ledger_reraterun_change", args=[run.pk]))
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": "Re-rate calls", "form": form}
        return render(request, "ledger/desk/rerate.html", {**context, "button": "Show what would change"})

    def apply_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Confirm a preview; what is written is worked out anew, so calls settled meanwhile are right, too."""
        _allow(request)
        preview = get_object_or_404(RerateRun, pk=run_id, state=RerateRun.State.DONE, applies=False)
        if request.method == "POST":
            run = self._begin(request, rerate_runs.selection_of(preview), applies=True, reason=preview.reason)
            messages.info(request, "The adjustments are being written; this page shows how far it is.")
            return HttpResponseRedirect(reverse("admin:ledger_reraterun_change", args=[run.pk]))
        title = f"Write {preview.corrected + preview.settled:,} adjustments of {exact(preview.delta_usd)} USD in all"
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": title}
        return render(request, "ledger/desk/rerate.html", {**context, "button": "Write them: this cannot be undone"})

    def _begin(self, request: HttpRequest, selection: Selection, *, applies: bool, reason: str) -> RerateRun:
        actor: Any = request.user
        run = rerate_runs.begin(selection, applies=applies, actor=actor, reason=reason)
        transaction.on_commit(rerate_runs.wake)
        return run


def rerate_url(sheet: PriceSheet) -> str:
    """The page that re-rates calls with this sheet's model and number filled in."""
    return _asked_url(model=sheet.model.name, sheet=sheet.pk, start=f"{sheet.valid_from:%Y-%m-%d}")


def correction_url(sheet: PriceSheet) -> str:
    """The page that re-rates the calls since a correction began, each with the price now known to have been in force.

    Not with the correction itself: another sheet may have followed it, or stand above it.
    """
    today = f"{timezone.now():%Y-%m-%d}"
    return _asked_url(model=sheet.model.name, start=f"{sheet.valid_from:%Y-%m-%d}", end=today, reason=sheet.reason)


def _asked_url(**asked: object) -> str:
    return f"{reverse('admin:ledger_reraterun_new')}?{urlencode(asked)}"


def _allow(request: HttpRequest) -> None:
    if not request.user.has_perm("ledger.add_reraterun"):
        raise PermissionDenied
