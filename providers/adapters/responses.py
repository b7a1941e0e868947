"""What the adapters of servers that speak OpenAI's responses wire share."""

from __future__ import annotations

from providers.adapters.base import ProviderConfig
from providers.credentials import CredentialUnusable
from providers.wire.base import Wire
from providers.wire.openai_responses import Dialect, OpenAIResponses


def responses_wire(config: ProviderConfig) -> Wire:
    """The wire in the dialect of the settings.

    `meter_tool_calls`: true to count web and file searches as meters, for sheets that price them. Without it they are
    told by a flag of the call, since a search that no sheet prices would leave the whole call without a cost.
    """
    return OpenAIResponses(dialect=Dialect(meter_tool_calls=flag_setting(config, "meter_tool_calls")))


def flag_setting(config: ProviderConfig, name: str, default: bool = False) -> bool:
    """A setting that is true or false. Raises CredentialUnusable for anything else."""
    value = config.settings.get(name, default)
    if not isinstance(value, bool):
        raise CredentialUnusable(f"The setting {name!r} of provider {config.name!r} must be true or false.")
    return value
