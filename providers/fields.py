"""A text field that is encrypted at rest with the first of CREDENTIAL_KEYS and readable with any of them."""

from __future__ import annotations

import logging
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

log = logging.getLogger("tollbook.providers")

def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])


class Undecryptable(str):
    """The empty text, standing for a token that no key opens: the provider has no credential until a key is restored.

    It keeps the token, so that saving the row for another reason does not lose the secret.
    """

    token: str

    def __new__(cls, token: str) -> Undecryptable:
        made = super().__new__(cls, "")
        made.token = token
        return made


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Plain text in Python, a Fernet token in the database; the empty string stays empty."""

    def get_prep_value(self, value: Any) -> Any:
        if isinstance(value, Undecryptable):
            return value.token
        plain = super().get_prep_value(value)
        if not plain:
            return plain
        return _fernet().encrypt(plain.encode()).decode()

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        if not value:
            return value
        try:
            return _fernet().decrypt(value.encode()).decode()
        except InvalidToken:
            log.error("a stored credential cannot be decrypted with TOLLBOOK_CREDENTIAL_KEYS: restore its key")
            return Undecryptable(value)


def encrypt(plain: bytes) -> str:
    """`plain` as a token that any of CREDENTIAL_KEYS opens."""
    return _fernet().encrypt(plain).decode()


def decrypt(token: str) -> bytes:
    """What `encrypt` was given. Raises InvalidToken when no key opens it."""
    return _fernet().decrypt(token.encode())


def rotate(token: str) -> str:
    """The same secret under the first key."""
    return _fernet().rotate(token.encode()).decode()
