"""What is wrong with a provider row that the database cannot say: its adapter and its address."""

from __future__ import annotations

from providers.address import AddressRefused, check_base_url
from providers.models import Provider
from providers.registry import names


def provider_faults(provider: Provider) -> dict[str, str]:
    """Field name -> message for an administrator; empty when the row can be called.

    Resolves the host of `base_url`; a name that does not resolve now is not a fault.
    """
    found: dict[str, str] = {}
    if provider.adapter not in names():
        found["adapter"] = f"No adapter {provider.adapter!r}: use one of {', '.join(names())}."
    if provider.base_url:
        try:
            check_base_url(
                provider.base_url,
                allow_plain_http=provider.allow_plain_http,
                allow_private_address=provider.allow_private_address,
            )
        except AddressRefused as error:
            found["base_url"] = error.detail
    return found
