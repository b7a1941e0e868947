"""What the gateway does to a request before it is held and sent, without ledger and HTTP: microseconds a request.

    python bench/transform.py [--rounds 2000]

For each wire that our clients speak, a plain chat and a conversation of 100 messages (206 kB), passed through: `admit`
reads the body, `rewrite` makes the body for the provider. `checked`, which looks for broken UTF-8 and NUL before that,
is told apart. The conversation once as plain text and once as prose with quotes, line ends and letters beyond ASCII.
One thread, no network, no database; the shortest, which a machine that does other work reaches too, and the median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django
import msgspec

django.setup()

from gateway.api.parsing import checked  # noqa: E402
from providers.wire import anthropic_messages, gemini, openai_chat, openai_responses  # noqa: E402
from providers.wire.base import Wire  # noqa: E402

QUESTION = "Does it balance?"
PLAIN = "The books balance today, said the auditor, and every call is in them. "
PROSE = 'The books balance today,\nsaid the "auditor" \u2014 and every call is in them. '
CONVERSATION_BYTES = 206_000


def _turns(count: int, text: str) -> list[tuple[str, str]]:
    return [("assistant" if n % 2 else "user", text) for n in range(count)]


def _chat(turns: list[tuple[str, str]]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for role, text in turns], "model": "m", "max_tokens": 100}


def _responses(turns: list[tuple[str, str]]) -> dict[str, Any]:
    items = [{"role": role, "content": text} for role, text in turns]
    return {"input": items, "model": "m", "max_output_tokens": 100}


def _gemini(turns: list[tuple[str, str]]) -> dict[str, Any]:
    roles = {"assistant": "model", "user": "user"}
    contents = [{"role": roles[role], "parts": [{"text": text}]} for role, text in turns]
    # The surface puts the model and the choice to stream in, from the path.
    return {"contents": contents, "generationConfig": {"maxOutputTokens": 100}, "model": "m", "stream": False}


WIRES: list[tuple[Wire, Callable[[list[tuple[str, str]]], dict[str, Any]]]] = [
    (openai_chat.WIRE, _chat),
    (anthropic_messages.WIRE, _chat),
    (openai_responses.WIRE, _responses),
    (gemini.WIRE, _gemini),
]


def conversation(made: Callable[[list[tuple[str, str]]], dict[str, Any]], text: str) -> bytes:
    """A body of 100 messages and exactly CONVERSATION_BYTES, each message a run of `text`."""
    frame = len(msgspec.json.encode(made(_turns(100, ""))))
    each = (CONVERSATION_BYTES - frame) // 100
    page = text * (each // len(msgspec.json.encode(text)) + 1)
    while len(msgspec.json.encode(page)) - 2 > each:
        page = page[:-1]
    turns = _turns(100, page)
    # What is left over stands at the end of the last message.
    left = CONVERSATION_BYTES - len(msgspec.json.encode(made(turns)))
    return msgspec.json.encode(made([*turns[:-1], (turns[-1][0], page + "." * left)]))


def timed_us(step: Callable[[], object], *, rounds: int) -> tuple[float, float]:
    """(shortest, median) of many runs of `step`, in microseconds."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        step()
        took.append(time.perf_counter_ns() - began)
    return min(took) / 1000, statistics.median(took) / 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    print(f"{'wire':20} {'body':16} {'bytes':>8} {'admit + rewrite us':>20} {'checked us':>16}   (shortest / median)")
    for kind, text in (("plain chat", ""), ("100, plain text", PLAIN), ("100, non-ASCII", PROSE)):
        for wire, made in WIRES:
            body = conversation(made, text) if text else msgspec.json.encode(made(_turns(1, QUESTION)))

            def transform(wire: Wire = wire, body: bytes = body) -> bytes:
                return wire.rewrite(wire.admit(body), model="upstream-model")

            def check(body: bytes = body) -> bytes:
                return checked(body)

            both, check_us = timed_us(transform, rounds=rounds), timed_us(check, rounds=rounds)
            told = f"{both[0]:.1f} / {both[1]:.1f}", f"{check_us[0]:.1f} / {check_us[1]:.1f}"
            print(f"{wire.name:20} {kind:16} {len(body):8} {told[0]:>20} {told[1]:>16}")


if __name__ == "__main__":
    main()
