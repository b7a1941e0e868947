"""How to treat what this wire cannot say: refused by name, or left out where the client asked for that."""

from __future__ import annotations

from msgspec import Struct

from providers.errors import Unsupported


class Refusal(Struct, frozen=True):
    """`own`: the request is made of this wire's own words, so fields of `extra` and opaque parts are Google's."""

    drop: bool
    own: bool

    def cannot(self, param: str, why: str) -> None:
        """Raises Unsupported(param), unless what cannot be said is to be left out."""
        if not self.drop:
            raise Unsupported(f'{param}: {why}. Leave it out, or set "drop_unsupported": true.', param=param)
