"""Addresses that nobody answers: an error in the shape of whoever asks, and the address that was probably meant."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.views.defaults import page_not_found

from gateway.api.surface import SurfaceView
from gateway.errors import ApiError
from providers.wire import anthropic_messages, cohere, openai_chat
from providers.wire.base import Wire

# Where people look at pages. Everything else is asked by programs.
_PAGES = ("/admin/", "/static/")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    if request.path.startswith(_PAGES):
        return page_not_found(request, exception)
    answer = NotFoundView.as_view()(request)
    assert isinstance(answer, HttpResponse)
    return answer


class NotFoundView(SurfaceView):
    wire: ClassVar[Wire] = openai_chat.WIRE
    surface: ClassVar[str] = "not_found"

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        self.request = request
        self.wire = _wire_of(request)  # type: ignore[misc]  # this request's error, in its client's shape
        meant = _meant(request.path)
        advice = f"did you mean {meant!r}?" if meant else "check the address."
        return self.refusal(
            ApiError("not_found", f"There is no {request.path[:200]!r} here: {advice}"), request_id=None
        )


def _wire_of(request: HttpRequest) -> Wire:
    if "HTTP_ANTHROPIC_VERSION" in request.META:
        return anthropic_messages.WIRE
    return cohere.WIRE if request.path.startswith("/v2/") else openai_chat.WIRE


def _meant(path: str) -> str:
    """The address without a slash too many, with the /v1 that a client's base URL lacks, or without its second one."""
    plain = "/" + path[:200].strip("/")
    for likely in (plain, f"/v1{plain}", plain.removeprefix("/v1")):
        try:
            resolve(likely)
        except Resolver404:
            continue
        if likely not in (path, "/"):
            return likely
    return ""
