"""A text field that is encrypted at rest with the first of CREDENTIAL_KEYS and readable with any of them."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])


class UndecryptableCredential(Exception):
    """No key in CREDENTIAL_KEYS opens this value: restore the key it was encrypted with, or set it anew."""


class EncryptedTextField(models.TextField):  # type: ignore[type-arg]
    """Plain text in Python, a Fernet token in the database; the empty string stays empty."""

    def get_prep_value(self, value: Any) -> Any:
        plain = super().get_prep_value(value)
        if not plain:
            return plain
        return _fernet().encrypt(plain.encode()).decode()

    def from_db_value(self, value: str | None, expression: object, connection: object) -> str | None:
        if not value:
            return value
        try:
            return _fernet().decrypt(value.encode()).decode()
        except InvalidToken as error:
            raise UndecryptableCredential(
                "A stored credential cannot be decrypted with TOLLBOOK_CREDENTIAL_KEYS."
            ) from error


def rotate(token: str) -> str:
    """The same secret under the first key."""
    return _fernet().rotate(token.encode()).decode()
