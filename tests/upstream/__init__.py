"""A fake provider on raw sockets that keeps its own invoice.

In a test:

    upstream = Upstream()
    upstream.script(answer(status=429, headers={"Retry-After": "1"}, body=b"{}"), answer(body=b"{...}"))
    ... call upstream.url + "/v1/chat/completions" ...
    assert upstream.arrivals[0].headers["authorization"] == "Bearer k"
    upstream.close()

Each scripted reply answers one request, in order; when none is left, the model name decides (see `shapes`).
As a process of its own: `python -m tests.upstream --port 9000 --invoice var/invoice.jsonl`.
"""

from tests.upstream.server import Arrival, Upstream
from tests.upstream.steps import (
    Close,
    Hang,
    Pause,
    Reply,
    Reset,
    Send,
    Signal,
    Wait,
    answer,
    chunked,
    events,
    head,
    no_answer,
    trickle,
)

__all__ = [
    "Arrival",
    "Close",
    "Hang",
    "Pause",
    "Reply",
    "Reset",
    "Send",
    "Signal",
    "Upstream",
    "Wait",
    "answer",
    "chunked",
    "events",
    "head",
    "no_answer",
    "trickle",
]
