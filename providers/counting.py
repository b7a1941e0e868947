"""Token counts in unified form: a chat's request of which only what a model reads is looked at, and one number back.

A count is an answer, not usage: no provider bills it. Frozen, no Django, no I/O.
"""

from __future__ import annotations

import msgspec

from providers.unified import Answer, Choice, Request


class CountAnswer(Answer, frozen=True, kw_only=True):
    """`input_tokens`: how many tokens the request would be as a model's input."""

    choices: tuple[Choice, ...] = ()
    input_tokens: int


def countable(request: Request) -> Request:
    """The request without what says only how to answer it: no provider counts that, and some refuse it there."""
    return msgspec.structs.replace(
        request,
        stream=False,
        max_output_tokens=None,
        temperature=None,
        top_p=None,
        top_k=None,
        stop=(),
        n=1,
        seed=None,
        presence_penalty=None,
        frequency_penalty=None,
        logprobs=None,
        top_logprobs=None,
        user="",
        metadata={},
        service_tier="",
    )
