"""Service accounts with a key of their own, made once a run."""

from __future__ import annotations

import functools
import json
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@functools.cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def service_account(token_uri: str, **changed: Any) -> str:
    """The JSON key file of a service account; None leaves a field out."""
    pem = private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fields = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "key-1",
        "private_key": pem.decode(),
        "client_email": "caller@my-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    return json.dumps({name: value for name, value in (fields | changed).items() if value is not None})
