"""The fake provider as a process: `python -m tests.upstream --port 9000 --invoice invoice.jsonl`.

Modes: `named` (the model's name decides, see `shapes`), `fixed` (always the same short chat completion, nothing parsed
and nothing on the invoice: for measuring), `recorded` (plays --recordings, a file of one exchange a line).
Prints its address when it is ready and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import signal
import threading
from pathlib import Path

from tests.upstream import recorded, shapes
from tests.upstream.invoice import Invoice
from tests.upstream.server import Arrival, Handler, Upstream
from tests.upstream.steps import Reply, answer

_FIXED: Reply = answer(
    body=b'{"id":"chatcmpl-fixed","object":"chat.completion","created":1,"model":"fake-model","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}'
)


def _fixed(arrival: Arrival, invoice: Invoice) -> Reply:
    return _FIXED


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--invoice", type=Path)
    parser.add_argument("--mode", choices=["named", "fixed", "recorded"], default="named")
    parser.add_argument("--recordings", type=Path, help="with --mode recorded")
    options = parser.parse_args()
    handler: Handler = shapes.reply_to
    if options.mode == "fixed":
        handler = _fixed
    elif options.mode == "recorded":
        if options.recordings is None:
            parser.error("--mode recorded needs --recordings")
        handler = recorded.Player(recorded.load(options.recordings))
    upstream = Upstream(
        host=options.host, port=options.port, invoice=options.invoice, handler=handler, keep_arrivals=False
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(f"listening on {upstream.url}", flush=True)
    ended.wait()
    upstream.close()


if __name__ == "__main__":
    main()
