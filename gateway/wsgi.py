"""The WSGI application. What services call skips the middleware: there are no sessions, cookies or pages to guard."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django

django.setup(set_prefix=False)

from django.core.handlers.exception import convert_exception_to_response  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402

from gateway.slow_clients import TimedInput  # noqa: E402


class RelayHandler(WSGIHandler):
    """Django's handler with no middleware between the socket and the view."""

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        self._middleware_chain = convert_exception_to_response(self._get_response)  # type: ignore[attr-defined]  # not in the stubs


RELAYED = ("/v1/", "/v1beta/", "/v1alpha/", "/v2/")
_relay = RelayHandler()
_pages = WSGIHandler()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    handler = _relay if environ.get("PATH_INFO", "").startswith(RELAYED) else _pages
    sock = environ.get("gunicorn.socket")
    if sock is not None:
        environ["wsgi.input"] = TimedInput(environ["wsgi.input"], sock)
    response: Iterable[bytes] = handler(environ, start_response)
    return response
