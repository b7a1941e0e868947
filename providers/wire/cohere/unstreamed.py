"""What Cohere's operations that answer in one piece share: its errors."""

from __future__ import annotations

from collections.abc import Mapping

from providers.errors import ProviderError
from providers.wire.cohere import errors
from providers.wire.unstreamed import Unstreamed


class CohereUnstreamed(Unstreamed):
    """Errors in Cohere's shape, and no streams."""

    def encode_error(
        self, *, status: int, code: str, message: str, param: str = "", request_id: str = "", call_id: str = ""
    ) -> bytes:
        return errors.encode_error(
            status=status, code=code, message=message, param=param, request_id=request_id, call_id=call_id
        )

    def decode_error(self, *, status: int, body: bytes, headers: Mapping[str, str], provider: str) -> ProviderError:
        return errors.decode_error(status=status, body=body, headers=headers, provider=provider)
