"""Where a provider's credential comes from, and what may stand in a header."""

from __future__ import annotations

import json
import os
from pathlib import Path

from providers.errors import InvalidCredential


class CredentialUnusable(InvalidCredential):
    """The credential is not there, or cannot be sent. `detail` says why, for an administrator; the message, which a
    client may see, names neither the variable nor the file. Neither ever holds the value."""

    def __init__(self, detail: str) -> None:
        super().__init__("The credential of this provider is missing or unusable: its administrator must set it.")
        self.detail = detail


def resolve(*, ref: str, secret: str) -> str:
    """The credential that `ref` points at (`env:NAME` or `file:PATH`), else `secret`; empty when there is neither.

    Surrounding white space, such as a file's last newline, is stripped; a JSON key file becomes one line. Raises
    CredentialUnusable.
    """
    kind, _, name = ref.partition(":")
    if not ref:
        return header_text(_one_line(secret), what="The stored credential") if secret.strip() else ""
    if kind == "env" and name:
        value = os.environ.get(name, "")
    elif kind == "file" and name:
        value = _read(name)
    else:
        raise CredentialUnusable("A credential reference is env:NAME or file:PATH.")
    if not value.strip():
        raise CredentialUnusable(f"The credential {ref!r} is empty or not set.")
    return header_text(_one_line(value), what=f"The credential {ref!r}")


def _one_line(value: str) -> str:
    """A JSON key file, which is laid out over several lines, without its layout; any other text as it is."""
    if not value.lstrip().startswith("{"):
        return value
    try:
        return json.dumps(json.loads(value), separators=(",", ":"))
    except (ValueError, RecursionError):
        return value


def header_text(value: str, *, what: str) -> str:
    """`value` without surrounding white space, fit for an HTTP header. Raises CredentialUnusable naming `what`."""
    text = value.strip()
    if any(ord(character) < 32 or 127 <= ord(character) < 160 or ord(character) > 255 for character in text):
        raise CredentialUnusable(f"{what} holds a line break, a control character or one outside latin-1.")
    return text


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise CredentialUnusable(f"The credential file {path!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CredentialUnusable(f"The credential file {path!r} is not text.") from None
