"""What vendors call a service tier in words of their own, and the words that price sheets use."""

from __future__ import annotations

from typing import Any

# What clients call the usual tier: a provider without tiers may be asked for it all the same.
USUAL = frozenset({"", "auto", "default", "standard", "standard_only"})


def of_traffic(kind: Any) -> str:
    """Vertex's kind of traffic as a tier: '' for the plain price, and for what says nothing.

    ON_DEMAND_PRIORITY is "priority" and PROVISIONED_THROUGHPUT itself in lower case; so is a kind that nobody knows
    yet, which then needs a rate of its own rather than the plain one.
    https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse#TrafficType
    """
    if not isinstance(kind, str) or kind.endswith("UNSPECIFIED"):
        return ""
    return kind.lower().removeprefix("on_demand").removeprefix("_")
