"""The gateway's pages: how providers are, with a button that asks them; the batches and their files."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.timesince import timesince

from gateway import health_checks, provider_health
from gateway.batches import jobs
from gateway.desk.base import ReadOnlyAdmin
from gateway.desk.charts import health_chart
from gateway.models import BatchJob, StoredFile
from providers.admin import ProviderAdmin
from providers.admin_base import table
from providers.models import HealthCheck, Provider

CHECKS_SHOWN = 20
CHARTED = timedelta(hours=24)

# Importing its module registered the plain page; this one knows of the gateway, which providers must not.
admin.site.unregister(Provider)


@admin.register(Provider)
class CheckedProviderAdmin(ProviderAdmin):
    list_display = [*ProviderAdmin.list_display, "health"]
    readonly_fields = [*ProviderAdmin.readonly_fields, "chart", "checks"]
    fieldsets = [*ProviderAdmin.fieldsets, ("Health", {"fields": ["chart", "checks"]})]
    actions = ["check_now"]

    @admin.action(description="Check health now", permissions=["change"])
    def check_now(self, request: HttpRequest, chosen: QuerySet[Provider]) -> None:
        """Ask the chosen providers, all at once. A check may cost money where the provider's settings say so."""
        results = health_checks.check(list(Provider.objects.filter(pk__in=chosen.values("pk")).order_by("name")))
        for result in results:
            level = messages.SUCCESS if result.healthy else messages.ERROR
            messages.add_message(request, level, f"{result.provider.name}: {_told(result)}")

    @admin.display(description="health")
    def health(self, provider: Provider) -> str:
        newest = provider.health_checks.first()
        return f"{_told(newest)} ({timesince(newest.checked_at)} ago)" if newest is not None else "not checked"

    @admin.display(description="checks of the last 24 hours")
    def chart(self, provider: Provider) -> str:
        found = provider_health.points(provider_ids=[provider.pk], since=timezone.now() - CHARTED)
        return health_chart(found) if found else "not checked"

    @admin.display(description="newest checks")
    def checks(self, provider: Provider) -> str:
        """The newest checks, recent calls and this process's breakers, as tables."""
        if provider._state.adding:
            return "not checked"
        (report,) = provider_health.reports(names=[provider.name])
        recent, rate = report.recent, report.recent.success_rate
        calls = [
            ("successful calls of the last hour", f"{recent.ok} of {recent.calls}"),
            ("success rate", "unknown" if rate is None else f"{100 * rate:.1f} %"),
            ("median duration", "unknown" if recent.p50_ms is None else f"{recent.p50_ms:.0f} ms"),
            *((f"breaker of {name} in this process", state) for name, state in report.breakers.items()),
        ]
        rows: list[tuple[object, ...]] = [
            (f"{check.checked_at:%Y-%m-%d %H:%M:%S}", "yes" if check.healthy else "no", f"{check.latency_ms:.0f}",
             check.error)
            for check in provider.health_checks.all()[:CHECKS_SHOWN]
        ]  # fmt: skip
        return table(head=("Recent calls", ""), rows=list(calls)) + table(
            head=("Checked at (UTC)", "Healthy", "ms", "Error"), rows=rows
        )


def _told(check: HealthCheck) -> str:
    return f"healthy, {check.latency_ms:.0f} ms" if check.healthy else f"not healthy: {check.error}"


@admin.register(HealthCheck)
class HealthCheckAdmin(ReadOnlyAdmin):
    list_display = ["checked_at", "provider", "healthy", "latency_ms", "error"]
    list_filter = ["provider", "healthy"]
    list_select_related = ["provider"]
    date_hierarchy = "checked_at"


@admin.register(BatchJob)
class BatchJobAdmin(ReadOnlyAdmin):
    list_display = ["id", "user", "team", "endpoint", "state", "progress", "failed", "waits_for", "created_at"]
    list_filter = ["state", "endpoint"]
    search_fields = ["id", "user__username", "input_file_id"]
    list_select_related = ["user", "team"]
    actions = ["cancel"]

    @admin.display(description="done")
    def progress(self, job: BatchJob) -> str:
        done = job.completed + job.failed
        return f"{done} of {job.total} ({100 * done // job.total} %)" if job.total else ""

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("gateway.change_batchjob")

    @admin.action(description="Cancel: what is in flight ends, nothing more is sent", permissions=["cancel"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[BatchJob]) -> None:
        cancelled = sum(jobs.cancel(job.pk) for job in chosen)
        self.message_user(request, f"{cancelled} batches are being cancelled.")


@admin.register(StoredFile)
class StoredFileAdmin(ReadOnlyAdmin):
    """What there is and whose; what is in a file, this page does not show."""

    list_display = ["id", "filename", "purpose", "user", "team", "size", "created_at"]
    list_filter = ["purpose"]
    search_fields = ["id", "filename", "user__username"]
    list_select_related = ["user", "team"]

    @admin.display(description="size")
    def size(self, file: StoredFile) -> Any:
        return filesizeformat(file.size_bytes)
