"""How requests to AWS are authorised: by an API key as a bearer token, or by signature version 4 (SigV4).

Signing is botocore's work, an optional requirement (requirements-bedrock.in): a provider with an API key needs none.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from providers.credentials import CredentialUnusable

SERVICE = "bedrock"
# AKIA..., ASIA...: the id of an access key, its secret, and for temporary ones the session's token.
_PAIR = re.compile(r"(A[KS]IA[A-Z0-9]{12,}):([^:\s]+)(?::(\S+))?")

# (method, url, body) -> headers
Authorise = Callable[[str, str, bytes], dict[str, str]]


class AccessKey(Struct, frozen=True):
    """Static keys, under the names that AWS's own configuration files use."""

    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str | None = None

    def __repr__(self) -> str:
        return f"AccessKey({self.aws_access_key_id!r})"


def read_access_key(credential: str, *, provider: str) -> AccessKey | None:
    """The access key in a credential: `ID:SECRET`, `ID:SECRET:TOKEN` or a JSON object; None for an API key."""
    pair = _PAIR.fullmatch(credential)
    if pair:
        return AccessKey(pair[1], pair[2], pair[3])
    if not credential.lstrip().startswith("{"):
        return None
    try:
        return msgspec.json.decode(credential, type=AccessKey)
    except msgspec.DecodeError:
        raise CredentialUnusable(
            f"The credential of provider {provider!r} is JSON, but not an access key: it needs aws_access_key_id and "
            "aws_secret_access_key."
        ) from None


def authoriser(credential: str, *, provider: str, region: str, profile: str = "") -> Authorise:
    """How each request gets its headers. Without a credential AWS's own chain finds one: environment, profile, role.

    Raises CredentialUnusable where signing lacks botocore, a region or a key.
    """
    key = read_access_key(credential, provider=provider)
    if credential and key is None:
        return lambda method, url, body: {"Authorization": f"Bearer {credential}"}
    if not region:
        raise CredentialUnusable(f"The provider {provider!r} needs the setting 'region', for its requests are signed.")
    return _signer(_credentials(key, provider=provider, profile=profile), provider=provider, region=region)


def _credentials(key: AccessKey | None, *, provider: str, profile: str) -> Any:
    """botocore's credentials: of a static key, or those that its chain finds and renews by itself."""
    if key is not None:
        credentials = _module("botocore.credentials", provider=provider)
        return credentials.Credentials(key.aws_access_key_id, key.aws_secret_access_key, key.aws_session_token)
    session = _module("botocore.session", provider=provider).Session(profile=profile or None)
    found = session.get_credentials()
    if found is None:
        raise CredentialUnusable(
            f"The provider {provider!r} has no credential, and AWS's own chain (environment, profile, role) finds none."
        )
    return found


def _signer(credentials: Any, *, provider: str, region: str) -> Authorise:
    auth, requests = _module("botocore.auth", provider=provider), _module("botocore.awsrequest", provider=provider)

    def sign(method: str, url: str, body: bytes) -> dict[str, str]:
        request = requests.AWSRequest(method=method, url=url, data=body)
        # Frozen: one consistent set, even while temporary keys are being renewed.
        auth.SigV4Auth(credentials.get_frozen_credentials(), SERVICE, region).add_auth(request)
        return {str(name): str(value) for name, value in request.headers.items()}

    return sign


def _module(name: str, *, provider: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise CredentialUnusable(
            f"Requests of provider {provider!r} are signed, which needs botocore: pip install -r "
            "requirements-bedrock.in. An API key for Bedrock as the credential needs none."
        ) from None
