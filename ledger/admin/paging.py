"""Pages of a list that may be fifty million rows long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
else:
    AnyPaginator = Paginator

MOST_ROWS = 1_000


class CappedPaginator(AnyPaginator):
    """Counts no further than MOST_ROWS: a list is for looking, filters are for finding."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return len(rows.values_list("pk")[:MOST_ROWS])
