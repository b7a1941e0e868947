"""The usual tier, by all the names that clients have for it, at providers that have no other word for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from providers.errors import Unsupported
from providers.unified import Message, Request, TextPart
from providers.wire import cohere, gemini, ollama
from providers.wire.base import Wire

WIRES: dict[str, Wire] = {"cohere": cohere.WIRE, "gemini": gemini.WIRE, "ollama": ollama.WIRE}
USUAL_NAMES = ["auto", "default", "standard", "standard_only"]
every_wire = pytest.mark.parametrize("name", sorted(WIRES))


def body(name: str, tier: str, *, drop: bool = False) -> dict[str, Any]:
    asked = Request(model="m", messages=(Message("user", (TextPart("hi"),)),), service_tier=tier, wire="openai_chat")
    value: dict[str, Any] = msgspec.json.decode(WIRES[name].encode_request(asked, drop_unsupported=drop))
    return value


@every_wire
@pytest.mark.parametrize("tier", USUAL_NAMES)
def test_the_usual_tier_is_what_is_given_unasked(name: str, tier: str) -> None:
    assert body(name, tier) == body(name, "")


@every_wire
def test_a_tier_that_nobody_offers_is_refused_by_name_or_dropped_on_request(name: str) -> None:
    with pytest.raises(Unsupported) as refused:
        body(name, "scale")
    assert refused.value.param == "service_tier"
    assert body(name, "scale", drop=True) == body(name, "")
