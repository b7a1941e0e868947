"""Filters that never read the calls to learn what there is to choose from."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.auth import get_user_model
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from ledger import ids, reports, stated_costs
from ledger.models import ApiKey, DailySpend
from providers.models import Model

_RECENT_DAYS = 35
_MOST_CHOICES = 100


class SpenderFilter(SimpleListFilter):
    """Users, keys or models that spent in the last weeks: for each of them one look in an index of the rollup.

    To gather the different ones from the rollup itself would read weeks of it. Any other one can be asked for by its id
    in the address, as links from other pages do.
    """

    dimension = ""

    def everyone(self) -> QuerySet[Any]:
        """The rows there are to choose from."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        since = timezone.now().date() - timedelta(days=_RECENT_DAYS)
        spent = DailySpend.objects.filter(**{f"{self.dimension}_id": OuterRef("pk")}, day__gte=since)
        recent = self.everyone().filter(Exists(spent)).order_by("pk").values_list("pk", flat=True)
        wanted = set(recent[:_MOST_CHOICES])
        asked = str(request.GET.get(self.parameter_name or "", ""))
        if asked.isdecimal() and len(asked) < 19:
            wanted.add(int(asked))
        named = reports.names_of(self.dimension, wanted)
        choices = [(str(row.id), row.name) for row in named.values() if row.id is not None]
        return sorted(choices, key=lambda choice: choice[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        if not value.isdecimal() or len(value) > 18:
            return queryset.none()
        return queryset.filter(**{f"{self.dimension}_id": int(value)})


class UserFilter(SpenderFilter):
    title, parameter_name, dimension = "user", "user", "user"

    def everyone(self) -> QuerySet[Any]:
        return get_user_model().objects.all()


class KeyFilter(SpenderFilter):
    title, parameter_name, dimension = "key", "key", "key"

    def everyone(self) -> QuerySet[Any]:
        return ApiKey.objects.all()


class ModelFilter(SpenderFilter):
    title, parameter_name, dimension = "model", "model", "model"

    def everyone(self) -> QuerySet[Any]:
        return Model.objects.all()


class DayFilter(SimpleListFilter):
    """A range of the UUIDv7 primary key: other months' partitions are not opened. A search looks everywhere."""

    title, parameter_name = "day (UTC)", "day"
    _DAYS = {"today": 0, "7": 6, "31": 30}

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        asked = str(request.GET.get("day", ""))
        days = [("today", "today"), ("31", "last 31 days"), ("any", "any day")]
        return [*days, (asked, asked)] if _day(asked) else days

    def choices(self, changelist: Any) -> Any:
        for choice in super().choices(changelist):
            yield choice | ({"display": "last 7 days"} if choice["query_string"].find("day=") < 0 else {})

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value() or "7"
        if value == "any" or request.GET.get("q"):
            return queryset
        today = datetime.combine(timezone.now().astimezone(UTC).date(), time(), tzinfo=UTC)
        chosen = _day(value)
        if chosen:
            return queryset.filter(id__gte=ids.floor(chosen), id__lt=ids.floor(chosen + timedelta(days=1)))
        return queryset.filter(id__gte=ids.floor(today - timedelta(days=self._DAYS.get(value, 6))))


def _day(text: str) -> datetime | None:
    """Midnight of '2026-11-23'; None for anything else, or a day no id can name."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return day if 1970 <= day.year < 9999 else None


class StatedFilter(SimpleListFilter):
    """Calls whose provider states another cost than the price sheet gives."""

    title, parameter_name = "provider's own cost", "stated"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [("differs", "differs from ours"), ("any", "is stated")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "differs":
            return queryset.filter(stated_costs.differs())
        return queryset.filter(stated_cost_usd__isnull=False) if self.value() == "any" else queryset


class SheetModelFilter(SimpleListFilter):
    """One model's sheets, by its id in the address (model pages link here); the search box finds models by name."""

    title, parameter_name = "model", "model"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin[Any]) -> list[tuple[str, str]]:
        asked = str(request.GET.get("model", ""))
        if not asked.isdecimal() or len(asked) > 18:
            return []
        return [(asked, reports.names_of("model", [int(asked)])[int(asked)].name)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value is None:
            return queryset
        return queryset.filter(model_id=int(value)) if value.isdecimal() and len(value) < 19 else queryset.none()
