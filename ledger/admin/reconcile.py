"""Reconciliation: upload a provider's export, look at what differs, post it, make drafts of the prices it implies."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from ledger.models import ReconcileRun
from ledger.reconcile import ExportError, Report, SourceFile, reconcile
from ledger.reconcile.matching import Class, Difference
from ledger.reconcile.posting import PostError
from ledger.reconcile.proposing import Proposal, make_drafts, proposals
from ledger.reconcile.reading import MAX_BYTES
from ledger.reconcile.runs import export_of, keep, post_run
from providers.admin_base import ReadOnlyAdmin, SelectWidget, TextareaWidget, TextWidget, exact, link
from providers.models import Provider

_MOST_ROWS = 500


class UploadForm(forms.Form):
    """Whose export, which files, and how to read them."""

    provider = forms.ModelChoiceField(Provider.objects.defer("credential_secret"), widget=SelectWidget)
    export = forms.FileField(help_text="Costs or usage, JSON or CSV.")
    other = forms.FileField(required=False, help_text="The usage export of the same days, where the first has amounts.")
    account = forms.CharField(
        required=False, max_length=200, widget=TextWidget, help_text="Only lines of this project, workspace or key."
    )
    mapping = forms.CharField(
        required=False, widget=TextareaWidget(attrs={"rows": 6}), help_text="YAML: columns of a CSV of another form."
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        for name in ("export", "other"):
            if values.get(name) and values[name].size > MAX_BYTES:
                self.add_error(name, f"At most {MAX_BYTES} bytes: split the file by days.")
        return values


@admin.register(ReconcileRun)
class ReconcileRunAdmin(ReadOnlyAdmin):
    list_display = ["created_at", "provider", "names", "created_by", "posted_at", "posted", "look"]
    list_display_links = None
    list_filter = ["provider"]
    list_select_related = ["provider", "created_by"]
    sortable_by = ()
    change_list_template = "ledger/desk/reconcile_list.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("upload/", wrap(self.upload_view), name="ledger_reconcilerun_upload"),
            path("<int:run_id>/report/", wrap(self.report_view), name="ledger_reconcilerun_report"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect("admin:ledger_reconcilerun_report", run_id=object_id)

    @admin.display(description="posted (USD)")
    def posted(self, run: ReconcileRun) -> str:
        return exact(run.posted_usd)

    @admin.display(description="report")
    def look(self, run: ReconcileRun) -> SafeString:
        return link(reverse("admin:ledger_reconcilerun_report", args=[run.pk]), "Look…")

    def upload_view(self, request: HttpRequest) -> HttpResponse:
        """Read the files; what is wrong with them is the form's error, and nothing is kept."""
        if not request.user.has_perm("ledger.add_reconcilerun"):
            raise PermissionDenied
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            try:
                run = _kept(form, request)
                return HttpResponseRedirect(reverse("admin:ledger_reconcilerun_report", args=[run.pk]))
            except ExportError as error:
                for problem in error.problems[:20]:
                    form.add_error(None, str(problem))
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": "Upload an export"}
        return render(request, "ledger/desk/reconcile_upload.html", context | {"form": form})

    def report_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """The classes, the differences, and the two buttons."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        run = get_object_or_404(ReconcileRun.objects.select_related("provider"), pk=run_id)
        try:
            if request.method == "POST":
                self._act(request, run)
                return HttpResponseRedirect(reverse("admin:ledger_reconcilerun_report", args=[run.pk]))
            report = reconcile(export=export_of(run, now=timezone.now()), provider=run.provider)
        except ExportError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:ledger_reconcilerun_changelist"))
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "title": f"Reconciliation: {run}", "run": run,
            **_told(report), "proposals": [_price(each) for each in proposals(report, provider=run.provider)],
            "may_post": request.user.has_perm("ledger.add_adjustment"),
            "may_draft": request.user.has_perm("ledger.add_pricesheet"),
        }  # fmt: skip
        return render(request, "ledger/desk/reconcile_report.html", context)

    def _act(self, request: HttpRequest, run: ReconcileRun) -> None:
        actor: Any = request.user
        if "draft" in request.POST and request.user.has_perm("ledger.add_pricesheet"):
            report = reconcile(export=export_of(run, now=timezone.now()), provider=run.provider)
            made = make_drafts(proposals(report, provider=run.provider), now=timezone.now(), actor=actor)
            messages.success(request, f"{len(made)} draft sheets made: check and publish them.")
        elif "post" in request.POST and request.user.has_perm("ledger.add_adjustment"):
            if request.POST.get("confirm") != "yes":
                messages.error(request, "Nothing was posted: tick the box that says so.")
                return
            try:
                posted = post_run(run, actor=actor, now=timezone.now())
            except PostError as error:
                messages.error(request, f"{error} Nothing was posted.")
                return
            self.log_change(request, run, f"Posted {posted.adjustments} adjustments: {exact(posted.total_usd)} USD.")
            messages.success(request, f"{posted.adjustments} adjustments, {exact(posted.total_usd)} USD.")
        else:
            raise PermissionDenied


def _kept(form: UploadForm, request: HttpRequest) -> ReconcileRun:
    values = form.cleaned_data
    actor: Any = request.user
    files = [SourceFile(str(upload.name), upload.read()) for upload in (values["export"], values["other"]) if upload]
    return keep(
        provider=values["provider"], files=files, now=timezone.now(), mapping=values["mapping"].strip() or None,
        account=values["account"].strip(), actor=actor,
    )  # fmt: skip


def _told(report: Report) -> dict[str, Any]:
    different = [each for each in report.differences if each.kind not in (Class.EQUAL, Class.ROUNDING)]
    percent = report.unexplained_percent
    return {
        "totals": [
            (kind.value, total.groups, _amount(total.theirs_usd), exact(total.ours_usd), _amount(total.apart_usd))
            for kind, total in report.totals.items()
        ],
        "differences": [_row(each, has_amounts=report.has_amounts) for each in different[:_MOST_ROWS]],
        "hidden": max(0, len(different) - _MOST_ROWS),
        "unexplained": "unknown" if percent is None else f"{exact(percent)} %",
    }


def _price(each: Proposal) -> str:
    old = "no rate" if each.old_usd is None else exact(each.old_usd)
    return f"{each.model} {each.meter} from {each.day}: {old} → {exact(each.amount_usd)}"


def _amount(usd: Decimal | None) -> str:
    return "unknown" if usd is None else exact(usd)


def _row(each: Difference, *, has_amounts: bool) -> dict[str, Any]:
    """What a side does not say is unknown, never 0."""
    theirs, ours = each.theirs, each.ours
    known = has_amounts and not each.ours_is_unknown
    calls = reverse("admin:ledger_call_changelist")
    return {
        "day": each.group.day, "model": each.group.model, "meter": each.group.meter, "key": each.group.key,
        "kind": each.kind.value, "note": each.note, "theirs": _amount(each.theirs_usd if has_amounts else None),
        "ours": _amount(None if each.ours_is_unknown else each.ours_usd),
        "diff": _amount(each.diff_usd if known else None), "their_units": exact(theirs.quantity) if theirs else "",
        "our_units": exact(ours.quantity) if ours else "", "calls_url": f"{calls}?day={each.group.day}",
    }  # fmt: skip
