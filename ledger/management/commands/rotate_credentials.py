"""manage.py rotate_credentials: providers' secrets under the first of TOLLBOOK_CREDENTIAL_KEYS."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import InvalidToken
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction

from providers.fields import rotate


class Command(BaseCommand):
    help = "Encrypt every stored provider credential anew with the first key, so that the older keys can be dropped."

    def handle(self, *args: Any, **options: Any) -> None:
        # Plain SQL: the field of the model shows the secret, never the token that is to be rotated.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT id, name, credential_secret FROM providers_provider WHERE credential_secret <> '' FOR UPDATE"
            )
            rows = cursor.fetchall()
            for provider_id, name, token in rows:
                cursor.execute(
                    "UPDATE providers_provider SET credential_secret = %s, updated_at = now() WHERE id = %s",
                    [_rotated(token, name=name), provider_id],
                )
        self.stdout.write(f"{len(rows)} credential(s) encrypted with the first key.")


def _rotated(token: str, *, name: str) -> str:
    try:
        return rotate(token)
    except InvalidToken:
        raise CommandError(
            f"The credential of provider {name!r} opens with none of TOLLBOOK_CREDENTIAL_KEYS: add the key it was"
            " encrypted with, or set the credential anew. Nothing was changed."
        ) from None
