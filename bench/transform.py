"""What the gateway does to a request before it is held and sent, without ledger and HTTP: microseconds a request.

    python bench/transform.py [--rounds 2000]

For each wire that our clients speak, a plain chat and a conversation of 100 messages (206 kB), passed through: `admit`
reads the body, `rewrite` makes the body for the provider. `checked`, which looks for broken UTF-8 and NUL before that,
is told apart. One thread, no network, no database; the median, and the best tenth for machines that do other work.
"""

from __future__ import annotations

import argparse
import os
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
# Prose with the escapes that a client writes: quotes, line ends, a letter beyond ASCII.
PAGE = ('The books balance today,\nsaid the "auditor" \u2014 and every call is in them. ' * 40)[:2000]


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


def timed_us(step: Callable[[], object], *, rounds: int) -> tuple[float, float]:
    """(median, best tenth) of one run of `step`, in microseconds."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        step()
        took.append(time.perf_counter_ns() - began)
    took.sort()
    return took[rounds // 2] / 1000, took[rounds // 10] / 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2000)
    rounds = parser.parse_args().rounds
    print(f"{'wire':20} {'bytes':>8} {'admit + rewrite us':>20} {'checked us':>16}   (median / best tenth)")
    for turns in (_turns(1, QUESTION), _turns(100, PAGE)):
        for wire, made in WIRES:
            body = msgspec.json.encode(made(turns))

            def transform(wire: Wire = wire, body: bytes = body) -> bytes:
                return wire.rewrite(wire.admit(body), model="upstream-model")

            def check(body: bytes = body) -> bytes:
                return checked(body)

            both, check_us = timed_us(transform, rounds=rounds), timed_us(check, rounds=rounds)
            told = f"{both[0]:.1f} / {both[1]:.1f}", f"{check_us[0]:.1f} / {check_us[1]:.1f}"
            print(f"{wire.name:20} {len(body):8} {told[0]:>20} {told[1]:>16}")


if __name__ == "__main__":
    main()
