"""Takes secrets and internals out of a provider's words before a client, a log or a row sees them.

Providers quote the refused key in full or in part, the account it belongs to, and addresses of their own network.
"""

from __future__ import annotations

import re

MASK = "[redacted]"
MAX_CHARS = 2000

# A value after a name that says "this is a secret". Up to the next space, quote or separator.
_NAMED = re.compile(
    r"""(?ix)
    ( \b(?: x-(?:goog-)?api-key | api[\s_-]?keys? | apikey | access[\s_-]?token
        | secret(?:[\s_-]?(?:access[\s_-]?)?key)? | subscription[\s_-]?key | password | authorization | token | key )
      (?: \s+ (?:provided|given|used|is) )?
      ["']? \s* [:=] \s* ["'`]? )
    ( (?: (?:bearer|basic) \s+ )? [^\s"'`,;&)}\]]+ )
    """
)
_SCHEME = re.compile(r"(?i)\b(bearer|basic)\s+[\w\-.~+/=*<>]{6,}")
_SHAPED = re.compile(
    r"""(?x)
    \b(?: sk|pk|rk|gsk|xai|pplx|fw|hf|tgp|nvapi|r8 )[-_][\w\-*.<>]{6,}   # keys with a mark at their beginning
    | \bAIza[\w\-*]{10,}
    | \bya29\.[\w\-.]{10,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}
    | \btb_[a-z]+_[\w\-]{4,}
    | \beyJ[\w\-]{8,}\.[\w\-]{4,}(?:\.[\w\-]*)?
    | \b[\w]{2,12}\*{4,}[\w]{0,12}                                       # keys the provider has half masked itself
    | \b(?:org|proj|user|acct)[-_](?=[A-Za-z]*\d)[A-Za-z0-9]{8,}\b
    | \b(?:10|127)(?:\.\d{1,3}){3}(?::\d+)?\b
    | \b192\.168(?:\.\d{1,3}){2}(?::\d+)?\b
    | \b172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2}(?::\d+)?\b
    """
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def scrub(text: str) -> str:
    """`text` with keys, tokens, account ids and private addresses masked, and cut at MAX_CHARS characters."""
    # Cut only after masking: a key cut in two would no longer look like one.
    text = _CONTROL.sub("", text[: 4 * MAX_CHARS])
    text = _NAMED.sub(_mask_value, text)
    text = _SCHEME.sub(rf"\1 {MASK}", text)
    text = _SHAPED.sub(MASK, text)
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"


def _mask_value(match: re.Match[str]) -> str:
    """The end of a sentence is not part of the secret."""
    value = match.group(2)
    tail = value[len(value.rstrip(".!?")) :]
    return match.group(1) + MASK + tail
