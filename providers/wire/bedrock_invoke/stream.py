"""Anthropic's stream as Bedrock hands it on: AWS's own exceptions, and its counts in the last event."""

from __future__ import annotations

from providers.sse import ServerEvent
from providers.unified import Event, Json, Usage
from providers.wire.anthropic_messages import stream
from providers.wire.base import Verdict
from providers.wire.bedrock_converse.errors import error_of_frame
from providers.wire.bedrock_invoke import usage as usages
from providers.wire.bedrock_invoke.frames import is_exception


class _Counted:
    """What AWS counted, for a stream whose model did not say. Where both do, the model's own counts are the bill's:
    AWS's leave out what a tool call wrote (a recorded stream has 98 where 130 were written and billed)."""

    def __init__(self) -> None:
        self._metrics: Json | None = None

    def note(self, event: ServerEvent) -> None:
        """Raises the error of an exception's frame."""
        if not event.raw and is_exception(event):
            raise error_of_frame(event=event.event, data=event.data)
        self._metrics = usages.metrics_of(event.data) or self._metrics

    def or_metrics(self, told: Usage) -> Usage:
        if told.source == "reported" or self._metrics is None:
            return told
        return usages.of_metrics(self._metrics)


class Meter(stream.Meter):
    def __init__(self) -> None:
        super().__init__()
        self._counted = _Counted()

    def see(self, event: ServerEvent) -> Verdict:
        self._counted.note(event)
        return super().see(event)

    @property
    def usage(self) -> Usage:
        return self._counted.or_metrics(super().usage)


class Reader(stream.Reader):
    def __init__(self) -> None:
        super().__init__()
        self._counted = _Counted()

    def feed(self, event: ServerEvent) -> list[Event]:
        self._counted.note(event)
        return super().feed(event)

    @property
    def usage(self) -> Usage:
        return self._counted.or_metrics(super().usage)
