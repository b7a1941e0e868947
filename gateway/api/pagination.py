"""Pages by key: the same cost for the first page and the thousandth, none twice and none missed while calls arrive."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework import exceptions
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request

from gateway.api.exceptions import InvalidParameter

MAX_PAGE_SIZE = 200


class CallPagination(CursorPagination):
    """Newest call first. A call's id is unique and grows with time, so it is all a cursor needs."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = MAX_PAGE_SIZE

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get("page_size", "")
        if not given:
            return self.page_size
        if not (given.isascii() and given.isdigit() and 1 <= int(given[:10]) <= MAX_PAGE_SIZE):
            raise InvalidParameter(f"'page_size' is 1 to {MAX_PAGE_SIZE}, not {given!r}.", param="page_size")
        return int(given)

    def decode_cursor(self, request: Request) -> Cursor | None:
        try:
            cursor = super().decode_cursor(request)
            if cursor is not None and cursor.position is not None:
                UUID(str(cursor.position))
        except (exceptions.NotFound, ValueError) as error:
            raise InvalidParameter(
                "'cursor' is not one of ours: take it from 'next' or 'previous' of a page.", param="cursor"
            ) from error
        return cursor

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {**super().get_paginated_response_schema(schema), "required": ["next", "previous", "results"]}
