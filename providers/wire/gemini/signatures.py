"""Thought signatures of other providers, on their way through a client of this wire.

Here a signature is bytes, which JSON shows as base64, and Google's own clients write it back in the URL's alphabet. The
text of another provider must come back letter for letter, so it travels inside: base64 of a mark and the text.
"""

from __future__ import annotations

import base64
import binascii

from providers.unified import Json, ReasoningPart

_SIGNED, _REDACTED = b"\xf7tb:s:", b"\xf7tb:r:"
# The base64 of what both marks begin with, in either alphabet.
_BEGINNING = ("93Ri", "9_Ri")
_TO_USUAL = str.maketrans("-_", "+/")


def carried(part: ReasoningPart) -> str:
    """What stands in `thoughtSignature` for another provider's signature or hidden thoughts; '' for neither."""
    if part.redacted:
        return base64.b64encode(_REDACTED + part.redacted.encode("utf-8", "surrogatepass")).decode()
    if part.signature:
        return base64.b64encode(_SIGNED + part.signature.encode("utf-8", "surrogatepass")).decode()
    return ""


def is_carried(value: Json) -> bool:
    """Whether a content part bears the signature of another provider."""
    signature = value.get("thoughtSignature")
    return isinstance(signature, str) and signature.startswith(_BEGINNING)


def read(text: str, signature: str) -> ReasoningPart:
    """The thought `text` with its signature, which is Google's own unless it bears our mark."""
    if signature.startswith(_BEGINNING):
        padded = signature.translate(_TO_USUAL) + "=" * (-len(signature) % 4)
        try:
            raw = base64.b64decode(padded, validate=True)
        except binascii.Error:
            raw = b""
        if raw.startswith(_SIGNED):
            return ReasoningPart(text=text, signature=raw[len(_SIGNED) :].decode("utf-8", "surrogatepass"))
        if raw.startswith(_REDACTED):
            return ReasoningPart(text=text, redacted=raw[len(_REDACTED) :].decode("utf-8", "surrogatepass"))
    return ReasoningPart(text=text, signature=signature)
